"""R12: a new network says the class prior or the target's mean, and its signal lives through all layers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from search.checks.bench import Bench
from search.checks.check import Check, Found, worst
from search.checks.evidence import Bars, Sheet
from search.checks.setup.initial_loss import expected_loss
from search.records import CheckVerdict
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
    what = "the class prior" if bench.classifies else "the target's mean"
    sentence = f"the mean output of a new network costs {excess:.4f} more loss than {what}, {at_prior:.4f}"
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
    layers: list[_Layer] = field(default_factory=list)

    def on(self, name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def given(_: nn.Module, inputs: tuple[object, ...]) -> None:
            x = inputs[0] if inputs else None
            if isinstance(x, Tensor) and x.is_floating_point() and x.ndim >= 2 and len(x) > 1:
                self.layers.append(_layer(name, x.detach(), channels_last=not isinstance(module, _CONVOLUTIONS)))

        return module.register_forward_pre_hook(given)


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WEIGHTED = (nn.Linear, *_CONVOLUTIONS, nn.RNNBase)


def _layer(name: str, x: Tensor, *, channels_last: bool) -> _Layer:
    over_examples = x.float().std(dim=0, correction=0)
    unit = -1 if channels_last else 1
    others = [d for d in range(x.ndim) if d != unit % x.ndim]
    dead = (x == 0).float().amin(dim=others)
    return _Layer(name, float(over_examples.square().mean().sqrt()), float(dead.mean()))


def _layers(bench: Bench, batch: Batch) -> list[_Layer]:
    """Return the layers of a new network in the order in which they are called."""
    setup = bench.bare_setup()
    watch = _Watch()
    hooks = [watch.on(name, m) for name, m in setup.model.network.named_modules() if isinstance(m, _WEIGHTED)]
    setup.model.train()
    with torch.no_grad():
        setup.model(batch[0])
    for hook in hooks:
        hook.remove()
    return watch.layers


def _signal(layers: list[_Layer]) -> tuple[CheckVerdict, str]:
    """Judge what the layers after the first are given."""
    if len(layers) < 2:
        return CheckVerdict.PASS, "there are no hidden layers to look at"
    first, *rest = layers
    if first.spread < NO_SIGNAL:
        return CheckVerdict.PASS, "there is no signal to follow through the layers: all inputs are alike (see R09)"
    dead = max(rest, key=lambda layer: layer.dead)
    if dead.dead > MANY_DEAD:
        verdict = CheckVerdict.FAIL if dead.dead > DEAD else CheckVerdict.WARN
        return verdict, f"{dead.dead:.0%} of what {dead.name} is given is 0 for every input"
    start = first.spread
    last, most = rest[-1].spread / start, max(layer.spread for layer in rest) / start
    changed = last if last * most < 1 else most
    words = f"the signal at the last layer is {last:.3g} times that at the first"
    if not (last >= 1 / LOST and most <= LOST):
        return CheckVerdict.FAIL, f"{words}, and {most:.3g} times at the most"
    if not 1 / CHANGED <= changed <= CHANGED:
        return CheckVerdict.WARN, f"{words}, and {most:.3g} times at the most"
    return CheckVerdict.PASS, words


CHECK = Check(row="R12", title="initialisation: final bias, and the signal through the layers", look=look)
