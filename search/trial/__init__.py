"""Work as a worker does it: a specification in, reports on the way, one Outcome at the end, whatever happens."""

from search.trial.folder import load_model, save_array, weights_in
from search.trial.runner import Runner

__all__ = ["Runner", "load_model", "save_array", "weights_in"]
