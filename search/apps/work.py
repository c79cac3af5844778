"""What a worker of a search over networks can do: trials, predictions, checks. Brings torch."""

from __future__ import annotations

from pathlib import Path

from search.checks.run import Checker
from search.train.equipment import Equipment
from search.trial import Runner


def runner(equipment: Equipment) -> Runner:
    """Return what does any piece of work."""
    return Runner(equipment, lambda dataset, device, batches: Checker(dataset, device, batches, _draw))


def _draw(figure: Path) -> Path:
    from search.reporting.figures import draw_file  # brings matplotlib, which no trial needs

    return draw_file(figure)
