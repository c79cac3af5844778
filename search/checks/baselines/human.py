"""R15: what people reach, to hold results against."""

from __future__ import annotations

import math

from search.checks.bench import Bench
from search.checks.check import Check, Found, skipped
from search.records import CheckVerdict
from search.train.metrics import objective


def look(bench: Bench) -> Found:
    """Show the number that the user gives."""
    human = bench.settings.get("human")
    if isinstance(human, bool) or not isinstance(human, int | float) or not math.isfinite(human):
        return skipped("no human figure given (preflight.human=0.95)")
    node = bench.config["metric"]
    metric = objective(node["name"], node["mode"], bench.examples.task)
    direction = "higher" if metric.maximize else "lower"
    return Found(
        verdict=CheckVerdict.PASS,
        sentence=f"people reach {float(human):.4g} in {metric.name}; {direction} is better",
        measured={"human": float(human)},
    )


CHECK = Check(row="R15", title="human baseline", look=look)
