"""R13: what a setup has to beat: the majority class or the target's mean, a linear model, the nearest neighbour."""

from __future__ import annotations

import numpy as np

from search.checks.baselines.pace import in_words, left_out
from search.checks.baselines.sampled import others
from search.checks.baselines.short_run import CLEAR, UNCLEAR, Run, better_rate, longer_run, short_run
from search.checks.baselines.simple import constant, finds, is_better, simple
from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.evidence import Bars
from search.records import CheckVerdict
from search.train.data.arrays import Array

LEAST = 20
"""Validation examples without which no difference is clear."""


def look(bench: Bench) -> Found:
    """Score the dumb baselines and a short run on the validation split."""
    run = short_run(bench)
    metric, targets = run.setup.metric, run.targets
    dumb = constant(bench)
    word = "majority" if bench.classifies else "mean"
    predictions = {word: dumb, **simple(bench)}
    if not _is_clear(run, dumb) and run.moves:
        run = longer_run(bench)
    measured = {name: metric(p, targets) for name, p in predictions.items()}
    measured["short_run"] = metric(run.predictions, targets) if run.finite else np.nan
    verdict, says, advice = _judged(bench, run, dumb)
    return Found(
        verdict=verdict,
        sentence=says + _scores(bench, run, measured, word),
        advice=advice,
        expected={"short_run": measured[word]},
        measured=measured,
        evidence=(
            Bars(
                name="baselines",
                title="dumb baselines and a short run, on validation",
                y=metric.name,
                labels=tuple(measured),
                bars={metric.name: np.array(list(measured.values()))},
                levels={word: measured[word]},
            ),
        ),
    )


def beats(run: Run, dumb: Array) -> bool:
    """Tell whether the run is better than these predictions, by the metric or by the task's own loss."""
    return run.finite and is_better(run.setup, run.predictions, dumb, run.targets)


def few_in_words(run: Run) -> str:
    """Return how few examples of the rare classes there were."""
    examples = run.setup.dataset.examples
    return (
        f"too few examples of the rare classes to tell: {others(examples, run.validation)} of {len(run.validation)} "
        f"validation examples and {others(examples, run.seen)} of the {len(run.seen)} training examples in "
        f"{len(run.losses)} mini-batches are not of the largest class"
    )


def _is_clear(run: Run, dumb: Array) -> bool:
    """Tell whether the run is better than knowing nothing, and not by chance."""
    return beats(run, dumb) and run.fit >= CLEAR


def _judged(bench: Bench, run: Run, dumb: Array) -> tuple[CheckVerdict, str, str]:
    """Return the verdict, the beginning of the sentence and the advice.

    Where a linear model and the nearest neighbour find nothing either, the signal may be too weak for a short run, or
    of a kind that is learned late: that is no reason to stop a search.
    """
    if _is_clear(run, dumb):
        return CheckVerdict.PASS, "", ""
    if len(run.targets) < LEAST:
        return CheckVerdict.SKIP, "too few validation examples to compare by; ", ""
    if run.too_few:
        return CheckVerdict.SKIP, f"{few_in_words(run)}; ", ""
    name = "the largest class" if bench.classifies else "the target's mean"
    says = f"this setup is not clearly better than {name}"
    better = better_rate(bench)
    if better is not None:
        advice = f"set the learning rate right first: at {better[0]:g} times your default a short run learns"
        return CheckVerdict.WARN, f"{says}; ", advice
    if not finds(bench):
        return CheckVerdict.WARN, f"{says}, and neither is a linear model or the nearest neighbour; ", _UNCLEAR
    if run.fit >= UNCLEAR:
        return CheckVerdict.WARN, f"{says}; ", _UNCLEAR
    if left_out(bench):
        return CheckVerdict.WARN, f"{says} (other learning rates and a longer run {left_out(bench)}); ", _UNCLEAR
    return CheckVerdict.FAIL, f"{says}, simple models are; ", _WRONG


def _scores(bench: Bench, run: Run, measured: dict[str, float], word: str) -> str:
    name = "largest class" if bench.classifies else "the target's mean"
    first = len(short_run(bench).losses)
    longer = f" ({first} were not enough to tell)" if run is not short_run(bench) else ""
    return (
        f"{run.setup.metric.name} on {len(run.targets)} validation examples: {name} {measured[word]:.4g}, linear model "
        f"{measured['linear']:.4g}, nearest neighbour {measured['nearest']:.4g}, this setup after "
        f"{in_words(bench, len(run.losses))}{longer} {measured['short_run']:.4g}"
    )


_UNCLEAR = "where you know that the signal is weak or learned late, raise preflight.steps; else see R08"
_WRONG = (
    "look for inputs that the network does not see or that are not those of their labels, or a loss that does not fit"
)

CHECK = Check(row="R13", title="dumb baselines", look=look)
