"""Which module looks at which row of the recipe. Imports none of them: they bring torch and scikit-learn."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.checks.check import Check

INSPECT = {
    "R01": "data.duplicates",
    "R02": "data.corrupt",
    "R03": "data.balance",
    "R04": "data.labels",
    "R05": "data.order",
    "R06": "data.scale",
    "R07": "data.outliers",
    "R08": "data.signal",
    "R09": "data.batch",
}
PREFLIGHT = {
    "R10": "setup.determinism",
    "R11": "setup.initial_loss",
    "R12": "setup.initial_bias",
    "R13": "baselines.dumb",
    "R14": "baselines.blind",
    "R15": "baselines.human",
    "R16": "setup.overfit",
    "R17": "baselines.learning",
    "R18": "setup.dependencies",
    "R19": "setup.gradients",
    "R20": "setup.loss",
    "R21": "setup.modes",
    "R22": "setup.odd_sizes",
    "R23": "setup.vectorised",
    "R36": "baselines.range_test",
}
STAGES = {"inspect": INSPECT, "preflight": PREFLIGHT}


def check_of(row: str) -> Check:
    """Return the check of a row."""
    module = next(rows[row] for rows in STAGES.values() if row in rows)
    check: Check = importlib.import_module(f"search.checks.{module}").CHECK
    return check
