"""R36: which learning rates are worth searching, by a range test."""

from __future__ import annotations

import numpy as np

from search.checks.baselines.pace import in_words, mini_batches
from search.checks.baselines.short_run import CLEAR, longer_run, short_run
from search.checks.bench import Bench, minibatches
from search.checks.check import Check, Found, skipped
from search.checks.evidence import Curves
from search.records import CheckVerdict
from search.train.range_test import RangeTest, range_test

SOME = 10.0
"""Times under the rate where the loss begins to fall in the ramp: a training of ten times the steps stays there too."""


def look(bench: Bench) -> Found:
    """Ramp the learning rate up, and hold the composed one and the space against what the loss does."""
    bounds = bench.settings.get("lr_bounds", "suggest")
    if bounds in ("off", False):
        return skipped("preflight.lr_bounds=off")
    rate = bench.config["optimizer"].get("lr")
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        return skipped("the optimiser's configuration has no learning rate, lr")
    setup = bench.setup(key="range test")
    steps = max(20, mini_batches(bench))
    test = range_test(setup, minibatches(setup, steps), steps=steps)
    curves = _curves(bench, test, float(rate))
    if test.low is None or test.high is None or test.steepest is None:
        return _without_fall(bench, test, float(rate), curves)
    outside, advice = _outside(bench, test, float(rate))
    learns, shown = _trains(bench, float(rate)) if outside else (True, "")
    measured = {"lr_low": test.low, "lr_high": test.high, "lr_steepest": test.steepest, "lr": float(rate)}
    if test.diverged is not None:
        measured["lr_diverged"] = test.diverged
    return Found(
        verdict=CheckVerdict.PASS if learns else CheckVerdict.WARN,
        sentence=_sentence(bench, test, float(rate)) + (f"; {outside}, {shown}" if outside else ""),
        advice="" if learns else advice,
        expected={},
        measured=measured,
        evidence=(curves,),
    )


def _trains(bench: Bench, rate: float) -> tuple[bool, str]:
    """Tell whether training learns at the composed rate, with its words: a ramp of few steps passes each too quickly.

    A run that has moved, but not below what a constant prediction has, may go on.
    """
    run = short_run(bench)
    learns = run.moves and not run.stuck
    if run.moves and run.stuck:
        longer = longer_run(bench)
        learns = not longer.stuck and longer.fit >= CLEAR
        run = longer if learns else run
    words = "yet training learns" if learns else "and training does not learn"
    end = f"{run.before.mean():.4g} to {run.after.mean():.4g} in {in_words(bench, len(run.losses))}"
    return learns, f"{words} at {rate:.3g}: the loss goes from {end}"


def _without_fall(bench: Bench, test: RangeTest, rate: float, curves: Curves) -> Found:
    """Return what is to be said of a ramp in which the loss falls nowhere."""
    learns, shown = _trains(bench, rate)
    advice = "see R13 and R14" if short_run(bench).moves else "see R17: the setup does not learn"
    return Found(
        verdict=CheckVerdict.PASS if learns else CheckVerdict.WARN,
        sentence=(
            f"in the ramp the loss falls at no learning rate from {test.rates[0]:.3g} to {test.rates[-1]:.3g}, {shown}"
        ),
        advice="" if learns else advice,
        evidence=(curves,),
    )


def _sentence(bench: Bench, test: RangeTest, rate: float) -> str:
    diverged = "does not diverge" if test.diverged is None else f"diverges from {test.diverged:.3g}"
    space = _space(bench)
    searched = "" if space is None else f"; the search tries {space[0]:.3g} to {space[1]:.3g}"
    return (
        f"the loss begins to fall at a learning rate of {test.low:.3g}, falls fastest at {test.steepest:.3g} and "
        f"{diverged}: {test.low:.3g} to {test.high:.3g} are worth searching; your default is {rate:.3g}{searched}"
    )


def _outside(bench: Bench, test: RangeTest, rate: float) -> tuple[str, str]:
    """Return how the composed rate or the space lies outside what the ramp suggests, and what to do; empty if not."""
    assert test.low is not None
    assert test.high is not None
    if test.diverged is not None and rate > test.diverged:
        return (
            "your default is above where it diverges",
            f"lower optimizer.lr: the loss diverges from {test.diverged:.3g}",
        )
    if rate < test.low / SOME:
        advice = f"raise optimizer.lr: under {test.low:.3g} the loss hardly moves"
        return "your default is less than a tenth of where it begins to fall", advice
    space = _space(bench)
    if space is not None and (space[1] < test.low or test.high < space[0]):
        advice = f"search optimizer.lr from {test.low:.2g} to {test.high:.2g}"
        return "what is worth searching lies outside the searched range", advice
    return "", ""


def _space(bench: Bench) -> tuple[float, float] | None:
    """Return the lowest and highest learning rate that is searched, where it is a parameter."""
    space = bench.settings.get("lr_space")
    return None if space is None else (float(space[0]), float(space[1]))


def _curves(bench: Bench, test: RangeTest, rate: float) -> Curves:
    space = _space(bench)
    marks = {
        "suggested: from": test.low,
        "steepest": test.steepest,
        "suggested: to": test.high,
        "diverges": test.diverged,
        "your default": rate,
        "search: from": None if space is None else space[0],
        "search: to": None if space is None else space[1],
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
