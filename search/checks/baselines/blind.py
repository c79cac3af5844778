"""R14: a net that cannot see its inputs must be clearly worse."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from search.checks.baselines.dumb import beats
from search.checks.baselines.short_run import CLEAR, UNCLEAR, Run, better_rate, longer_run, short_run, trained
from search.checks.bench import Bench, InputsOf
from search.checks.check import Check, Found, skipped
from search.checks.evidence import Curves
from search.records import CheckVerdict
from search.train.metrics import metrics_of

TIMES = 0.5
"""Of the short run: a blind net starts at the classes' shares, and has nothing else to learn."""
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
    verdict = _verdict(run, blind)
    losses = {"real": _loss(run), **{name: _loss(other) for name, other in blind.items()}}
    return Found(
        verdict=verdict,
        sentence=(
            f"validation loss after a short run: {losses['real']:.4g}; with inputs zeroed {losses['zeroed']:.4g}, with "
            f"those of other examples {losses['shuffled']:.4g}; predictions fit their own targets by {run.fit:.1f} "
            f"standard errors better than those of others"
        ),
        advice="" if verdict is CheckVerdict.PASS else _advice(verdict),
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


def _verdict(run: Run, blind: Mapping[str, Run]) -> CheckVerdict:
    if _is_better(run, blind):
        return CheckVerdict.PASS
    return CheckVerdict.WARN if run.fit >= UNCLEAR else CheckVerdict.FAIL


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


def _advice(verdict: CheckVerdict) -> str:
    if verdict is CheckVerdict.FAIL:
        return (
            "the network ignores its inputs, or the targets have nothing to do with them: follow one example from the "
            "data to the first layer, and look whether shuffling parted inputs from targets"
        )
    return (
        "what the inputs say about the targets is little: see R08, and raise preflight.steps or the number of examples"
    )


CHECK = Check(row="R14", title="input-independent baseline", look=look)
