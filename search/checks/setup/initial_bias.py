"""R12: a new network says the class prior or the target's mean, and its signal lives through all layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.evidence import Bars, Sheet
from search.checks.setup.initial_loss import expected_loss
from search.records import CheckVerdict, worst
from search.train.batches import Batch
from search.train.setup import Setup

FAIL, WARN = 0.5, 0.15
"""Loss that the mean output alone costs over the plain constant's: R11's limits of 1.5 and 1.15."""
SHIFT = 3.0
"""A mean over all logits: cross-entropy does not see it, but no initialisation is meant to give it."""
CHANGED, LOST = 1e2, 1e4
"""Times the signal may grow or shrink from the first layer to the last; 5 layers with torch's defaults shrink by 90."""
DEAD, MANY_DEAD = 0.9, 0.5
"""Share of a layer's units that are 0 for every input; of ReLU units after He et al. 2015 hardly any."""


def look(bench: Bench) -> Found:
    """Look at the mean output of new networks, then at the activations of one, layer by layer."""
    batch, outputs = bench.new_outputs()
    bias, excess, relative, sentence = _bias(bench, batch, outputs)
    layers = _layers(bench, batch)
    signal, words = _signal(layers)
    verdict = worst(bias, signal)
    advice = {
        bias: "initialise the last layer's bias with 0: the class prior or the target's mean is added to its outputs",
        signal: "initialise hidden layers after He or Xavier with a bias of 0, or put a norm between them",
    }
    shares = tuple(layer.spread for layer in layers)
    figure = Bars(
        name="activations",
        title="spread over examples of what each layer is given",
        y="standard deviation",
        labels=tuple(layer.name for layer in layers),
        bars={"standard deviation": np.array(shares)},
    )
    sheet = Sheet(
        name="layers",
        columns=("layer", "standard deviation of its inputs", "share of dead inputs"),
        rows=tuple((layer.name, layer.spread, layer.dead) for layer in layers),
    )
    return Found(
        verdict=verdict,
        sentence=f"{sentence}; {words}",
        advice="" if verdict is CheckVerdict.PASS else advice[verdict] if bias is not signal else advice[bias],
        expected={"excess_loss": 0.0},
        measured={"excess_loss": excess, "excess_over_expected": relative},
        evidence=(figure, sheet) if layers else (),
    )


def _bias(bench: Bench, batch: Batch, outputs: Tensor) -> tuple[CheckVerdict, float, float, str]:
    """Return the verdict on the mean output of the median network, what it costs, the same over the scale, and words.

    The cost is the loss of giving every example the mean output, less that of giving it the prior.
    """
    _, targets, indices = batch
    setup = bench.setup()
    low, high, _ = expected_loss(setup, batch)
    prior = setup.model.target_mean.expand_as(outputs[0])
    means = outputs.mean(dim=1, keepdim=True).expand_as(outputs)
    at_prior, *at_means = (_loss(setup, one, targets, indices) for one in (prior, *means))
    excess = float(np.median(at_means)) - at_prior
    relative = excess / max(abs(high), abs(low), 1e-12)
    shift = float((outputs - prior).mean(dim=(1, 2)).median()) if bench.classifies else 0.0
    what = "the class frequencies" if bench.classifies else "the target's mean"
    sentence = f"a new network's mean prediction costs {excess:.4f} over {what} ({at_prior:.4f})"
    if not relative <= FAIL:
        return CheckVerdict.FAIL, excess, relative, sentence
    if relative > WARN:
        return CheckVerdict.WARN, excess, relative, sentence
    if abs(shift) > SHIFT:
        return CheckVerdict.WARN, excess, relative, f"{sentence}, and all its logits lie around {shift:.3g}"
    return CheckVerdict.PASS, excess, relative, sentence


def _loss(setup: Setup, outputs: Tensor, targets: Tensor, indices: Tensor) -> float:
    """Return the loss of logits as log-probabilities, which a loss of either takes, or of values."""
    given = outputs.log_softmax(dim=1) if setup.dataset.examples.task == "classification" else outputs
    return float(setup.loss(given, targets, indices))


NO_SIGNAL = 1e-6
"""Standard deviation of standardised inputs over examples."""


@dataclass
class _Layer:
    """What a layer with weights is given: its spread over examples, and the share of units that are always 0."""

    name: str
    spread: float
    dead: float


@dataclass
class _Watch:
    """Collects what layers are given, each over all its calls: a recurrent layer is called once a step."""

    number: int = 0
    _seen: dict[str, list[tuple[float, Tensor]]] = field(default_factory=dict)

    def on(self, name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        """Watch a module."""

        def given(_: nn.Module, inputs: tuple[object, ...]) -> None:
            x = inputs[0] if inputs else None
            # what has another first axis than the examples' has them somewhere else
            if isinstance(x, Tensor) and x.is_floating_point() and x.ndim >= 2 and len(x) == self.number > 1:
                self._seen.setdefault(name, []).append(
                    _call(x.detach(), channels_last=not isinstance(module, _CONVOLUTIONS))
                )

        return module.register_forward_pre_hook(given)

    @property
    def layers(self) -> list[_Layer]:
        """The layers in the order of their first calls."""
        return [_layer(name, calls) for name, calls in self._seen.items()]


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WEIGHTED = (nn.Linear, *_CONVOLUTIONS, nn.RNNBase)


def _call(x: Tensor, *, channels_last: bool) -> tuple[float, Tensor]:
    """Return the spread over examples of what a layer is given once, and which of its units (U,) are 0 for all."""
    spread = x.float().std(dim=0, correction=0).square().mean().sqrt()
    unit = -1 if channels_last else 1
    return float(spread), (x == 0).movedim(unit, 0).flatten(1).all(dim=1)


def _layer(name: str, calls: Sequence[tuple[float, Tensor]]) -> _Layer:
    """Put the calls of a layer together; a unit is dead where it is 0 in each: a first hidden state is 0 by design."""
    zeros = [zero for _, zero in calls]
    same = all(zero.shape == zeros[0].shape for zero in zeros)
    dead = [torch.stack(zeros).all(dim=0)] if same else zeros
    share = min(float(zero.float().mean()) for zero in dead)
    return _Layer(name, math.sqrt(float(np.mean([spread**2 for spread, _ in calls]))), share)


def _layers(bench: Bench, batch: Batch) -> list[_Layer]:
    """Return the layers of a new network in the order in which they are called."""
    setup = bench.bare_setup()
    watch = _Watch()
    hooks = [watch.on(name, m) for name, m in setup.model.network.named_modules() if isinstance(m, _WEIGHTED)]
    setup.model.train()
    try:
        for inputs in bench.in_parts(batch[0]):
            watch.number = len(inputs)
            with torch.no_grad():
                setup.model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return watch.layers


def _signal(layers: list[_Layer]) -> tuple[CheckVerdict, str]:
    """Judge what the layers after the first are given."""
    if len(layers) < 2:
        return CheckVerdict.PASS, "there are no hidden layers to look at"
    start = next((i for i, layer in enumerate(layers) if layer.spread >= NO_SIGNAL), None)
    if start is None:
        return CheckVerdict.PASS, "there is no signal to follow through the layers: all inputs are alike (see R09)"
    first, *rest = layers[start:]  # before it stands what is no signal, a Perceiver's learned queries, say
    if not rest:
        return CheckVerdict.PASS, "only the last layer is given a signal"
    dead = max(rest, key=lambda layer: layer.dead)
    if dead.dead > MANY_DEAD:
        verdict = CheckVerdict.FAIL if dead.dead > DEAD else CheckVerdict.WARN
        return verdict, f"{dead.dead:.0%} of what {dead.name} is given is 0 for every input"
    last, most = rest[-1].spread / first.spread, max(layer.spread for layer in rest) / first.spread
    changed = last if last * most < 1 else most
    words = f"the signal at the last layer is {last:.3g} times that at the first"
    if not (last >= 1 / LOST and most <= LOST):
        return CheckVerdict.FAIL, f"{words}, and {most:.3g} times at the most"
    if not 1 / CHANGED <= changed <= CHANGED:
        return CheckVerdict.WARN, f"{words}, and {most:.3g} times at the most"
    return CheckVerdict.PASS, words


CHECK = Check(row="R12", title="initialisation: final bias, and the signal through the layers", look=look)
