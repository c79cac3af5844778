"""What a worker of a search over networks can do: trials, predictions, checks. Brings torch."""

from __future__ import annotations

from search.checks.run import Checker
from search.reporting.figures import draw_file
from search.train.equipment import Equipment
from search.trial import Runner


def runner(equipment: Equipment) -> Runner:
    """Return what does any piece of work."""
    return Runner(equipment, lambda dataset, device: Checker(dataset, device, draw_file))
