"""R36: which learning rates are worth searching, by a range test."""

from __future__ import annotations

import numpy as np

from search.checks.baselines.short_run import short_run
from search.checks.bench import Bench, minibatches
from search.checks.check import Check, Found, skipped
from search.checks.evidence import Curves
from search.records import CheckVerdict
from search.train.range_test import RangeTest, range_test

FAR = 100.0
"""Times under the rate where the loss begins to fall in the ramp: a training of ten times the steps stays there too."""
SOME = 10.0
"""The same, where a short run hardly moves."""
ABOVE = 3.0
"""Times the rate of divergence: between the two a net that came there slowly may still learn."""
HARDLY = 0.04
"""Fall of the training loss over a short run, of itself."""


def look(bench: Bench) -> Found:
    """Ramp the learning rate up, and hold the composed one and the space against what the loss does."""
    bounds = bench.settings.get("lr_bounds", "suggest")
    if bounds in ("off", False):
        return skipped("preflight.lr_bounds=off")
    rate = bench.config["optimizer"].get("lr")
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        return skipped("the optimiser's configuration has no learning rate, lr")
    setup = bench.setup(key="range test")
    steps = max(20, int(bench.settings["steps"]))
    test = range_test(setup, minibatches(setup, steps), steps=steps)
    curves = _curves(bench, test, float(rate))
    if test.low is None or test.high is None or test.steepest is None:
        return Found(
            verdict=CheckVerdict.WARN,
            sentence=f"the loss falls at no learning rate from {test.rates[0]:.3g} to {test.rates[-1]:.3g}",
            advice="see R17: the setup does not learn, whatever the learning rate",
            evidence=(curves,),
        )
    verdict, advice = _verdict(bench, test, float(rate))
    measured = {"lr_low": test.low, "lr_high": test.high, "lr_steepest": test.steepest, "lr": float(rate)}
    if test.diverged is not None:
        measured["lr_diverged"] = test.diverged
    return Found(
        verdict=verdict,
        sentence=_sentence(bench, test, float(rate)),
        advice=advice,
        expected={},
        measured=measured,
        evidence=(curves,),
    )


def _sentence(bench: Bench, test: RangeTest, rate: float) -> str:
    diverged = "does not diverge" if test.diverged is None else f"diverges from {test.diverged:.3g}"
    space = _space(bench)
    searched = "" if space is None else f"; searched are {space[0]:.3g} to {space[1]:.3g}"
    return (
        f"the loss begins to fall at a learning rate of {test.low:.3g}, falls fastest at {test.steepest:.3g} and "
        f"{diverged}: {test.low:.3g} to {test.high:.3g} are worth searching; composed is {rate:.3g}{searched}"
    )


def _verdict(bench: Bench, test: RangeTest, rate: float) -> tuple[CheckVerdict, str]:
    """Return the verdict on the composed rate, and what to do.

    A ramp of few steps passes each rate quickly: rates near its borders are judged by a short run at them.
    """
    assert test.low is not None
    far = test.diverged is not None and rate > ABOVE * test.diverged
    if far or (test.diverged is not None and rate > test.diverged and short_run(bench).stuck):
        return CheckVerdict.WARN, f"lower optimizer.lr: the loss diverges from {test.diverged:.3g}"
    low = f"raise optimizer.lr: under {test.low:.3g} the loss hardly moves"
    if rate < test.low / FAR:
        return CheckVerdict.WARN, low
    if rate < test.low / SOME:
        run = short_run(bench)
        if run.fall < HARDLY * abs(float(run.before.mean())):
            return CheckVerdict.WARN, low
    return CheckVerdict.PASS, ""


def _space(bench: Bench) -> tuple[float, float] | None:
    """Return the lowest and highest learning rate that is searched, where it is a parameter."""
    space = bench.settings.get("lr_space")
    return None if space is None else (float(space[0]), float(space[1]))


def _curves(bench: Bench, test: RangeTest, rate: float) -> Curves:
    space = _space(bench)
    marks = {
        "begins to fall": test.low,
        "steepest": test.steepest,
        "highest": test.high,
        "diverges": test.diverged,
        "composed": rate,
        "space from": None if space is None else space[0],
        "space to": None if space is None else space[1],
    }
    shown = np.minimum(np.nan_to_num(test.losses, nan=np.inf, posinf=np.inf), 1.2 * test.smoothed.max())
    return Curves(
        name="range-test",
        title="range test of the learning rate",
        x="learning rate",
        y="training loss",
        lines={"mini-batch": np.stack([test.rates, shown]), "smoothed": np.stack([test.rates, test.smoothed])},
        marks={word: value for word, value in marks.items() if value is not None},
        log_x=True,
    )


CHECK = Check(row="R36", title="range test of the learning rate", look=look)
