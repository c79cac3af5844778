"""The search space: what may vary in a composed configuration, and what a choice of values makes of it.

A node's `space` mapping describes dimensions of its own keys; under `choose.<group>` the options of a group stand
side by side, each with its own space, and the choice between them is a dimension itself. A dimension's Optuna name
carries the option (`model.mlp.width`), its place in a trial's configuration does not (`model.width`).
"""

from search.space.changes import changed, changed_values, in_words, misfit
from search.space.dimension import Dimension
from search.space.earlier import renewed
from search.space.space import Space
from search.space.tree import Branch, branches, num_points
from search.space.trial_config import Settings, settings_of

__all__ = [
    "Branch",
    "Dimension",
    "Settings",
    "Space",
    "branches",
    "changed",
    "changed_values",
    "in_words",
    "misfit",
    "num_points",
    "renewed",
    "settings_of",
]
