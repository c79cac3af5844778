"""R14: a net that cannot see its inputs must be clearly worse."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from search.checks.baselines.dumb import beats, few_in_words
from search.checks.baselines.pace import in_words, left_out
from search.checks.baselines.short_run import CLEAR, UNCLEAR, InputsOf, Run, better_rate, longer_run, short_run, trained
from search.checks.baselines.simple import finds
from search.checks.bench import Bench
from search.checks.check import Check, Found, skipped
from search.checks.evidence import Curves
from search.records import CheckVerdict
from search.train.metrics import metrics_of

TIMES = 0.5
"""Of the short run: a blind net starts at the classes' shares, and has nothing else to learn."""
FAR = 10.0
"""Standard errors that are more than clear."""
LEAST = 20
"""Validation examples without which no difference is clear."""


def look(bench: Bench) -> Found:
    """Hold a short run against the same one with inputs zeroed, and with those of other examples.

    On validation, predictions from an example's own input must fit its target better than predictions from another's:
    a permutation test, for the net may also be right by knowing the shares of the classes.
    """
    run = short_run(bench)
    blind = {"zeroed": trained(bench, inputs_of=_zeroed(run), times=TIMES)}
    blind["shuffled"] = trained(bench, inputs_of=_shuffled, times=TIMES)
    if not _is_better(run, blind) and run.moves:
        run = longer_run(bench)
    if not _is_better(run, blind):
        if len(run.targets) < LEAST:
            return skipped(f"{len(run.targets)} validation examples are too few to compare by")
        if not run.finite or better_rate(bench) is not None:
            return skipped("the setup does not learn at this learning rate, see R17")
        if run.too_few and not run.same:
            return skipped(few_in_words(run))
    verdict, says, advice = _judged(bench, run, blind)
    losses = {"real": _loss(run), **{name: _loss(other) for name, other in blind.items()}}
    return Found(
        verdict=verdict,
        sentence=says,
        advice=advice,
        expected={"standard_errors": CLEAR},
        measured={f"loss_{name}": value for name, value in losses.items()} | {"standard_errors": run.fit},
        evidence=(_curves({"real": run, **blind}),),
    )


def _zeroed(run: Run) -> InputsOf:
    """Return what gives the training mean for each input: zero, as the network sees it."""
    mean = run.setup.model.mean
    return lambda inputs: mean.expand_as(inputs).to(inputs.dtype)


def _shuffled(inputs: Tensor) -> Tensor:
    """Return the inputs with each moved to another example: noise that looks as inputs do."""
    order = torch.randperm(len(inputs))
    return inputs[order.roll(1)[torch.argsort(order)].to(inputs.device)]


def _is_better(run: Run, blind: Mapping[str, Run]) -> bool:
    return run.fit >= CLEAR and all(beats(run, other.predictions) for other in blind.values())


def _judged(bench: Bench, run: Run, blind: Mapping[str, Run]) -> tuple[CheckVerdict, str, str]:
    """Return verdict, sentence and advice."""
    errors = f"({run.fit:.2g} standard errors; {CLEAR:g} are needed)"
    if _is_better(run, blind):
        chance = "does no better than chance" if all(b.fit < CLEAR for b in blind.values()) else "does worse"
        far = "far" if run.fit >= FAR else "clearly"
        says = f"with its inputs replaced the network {chance}, with the real ones {far} better {errors}"
        return CheckVerdict.PASS, says, ""
    after = f"after {in_words(bench, len(run.losses))}"
    if run.same:
        return CheckVerdict.FAIL, f"{after} the network predicts the same for all inputs", _IGNORED
    if run.fit <= -CLEAR:
        says = f"{after} predictions follow the inputs, but fit their targets worse than chance does {errors}"
        return (
            CheckVerdict.WARN,
            says,
            "see R05 and R06, or raise preflight.steps: some targets are learned late",
        )
    says = f"{after} predictions from the real inputs are not clearly better than from replaced ones {errors}"
    if not finds(bench):
        return CheckVerdict.WARN, f"{says}, and neither are those of a linear model", _UNCLEAR
    if run.fit >= UNCLEAR:
        return CheckVerdict.WARN, says, _UNCLEAR
    if left_out(bench):
        return CheckVerdict.WARN, f"{says}; other learning rates and a longer run {left_out(bench)}", _UNCLEAR
    return CheckVerdict.FAIL, f"{says}, while simple models find what these say", _IGNORED


def _loss(run: Run) -> float:
    """Return the task's own loss on validation."""
    return metrics_of(run.setup.dataset.examples.task)["loss"](run.predictions, run.targets)


def _curves(runs: Mapping[str, Run]) -> Curves:
    return Curves(
        name="blind",
        title="training loss with and without inputs",
        x="mini-batch",
        y="loss",
        lines={name: np.stack([np.arange(1, len(run.losses) + 1), run.losses]) for name, run in runs.items()},
        levels={"constant prediction": runs["real"].constant},
    )


_IGNORED = "follow one example from the data to the first layer, and look whether shuffling parted inputs from targets"
_UNCLEAR = (
    "what the inputs say about the targets is little, or learned late: see R08, and raise preflight.steps or the "
    "number of examples"
)

CHECK = Check(row="R14", title="input-independent baseline", look=look)
