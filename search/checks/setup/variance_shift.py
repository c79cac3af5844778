"""R32, looked at with R21: dropout ahead of batch norm, which then knows another variance than evaluation has."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from search.checks.setup.parts import PASS, WARN, Part, listed, outputs_of, tracked_norms

FAR = 1.5
"""Variance in training over that in evaluation; outputs are then a fifth smaller in evaluation than in training.
The bundled ConvNet has 1.2 with its dropout of 0.1, and 2.4 with one of 0.4."""
_ROUNDING = 1e-3


def look(model: nn.Module, inputs: Tensor) -> list[Part]:
    """Compare the variance of what batch norm is given with dropout and without (Li et al. 2019).

    Dropout keeps the mean of its inputs and raises their variance; batch norm's running statistics are of the raised
    one, and evaluation divides by it all the same. Returns nothing where no dropout comes before a batch norm.
    """
    model.train()
    dropouts = [m for m in model.modules() if isinstance(m, _DropoutNd) and m.p > 0 and m.training]
    if not dropouts:
        return []
    with_dropout = _variances(model, inputs)
    for module in dropouts:
        module.eval()
    without = _variances(model, inputs)
    for module in dropouts:
        module.train()
    shared = with_dropout.keys() & without.keys()  # a layer may be left out at random
    shifts = {name: with_dropout[name] / without[name] for name in without if name in shared and without[name] > 0}
    behind = {name: shift for name, shift in shifts.items() if shift > 1 + _ROUNDING}
    if not behind:
        return []
    name = max(behind, key=behind.__getitem__)
    is_far = behind[name] >= FAR
    words = (
        f"dropout before batch norm: at {listed([name])} the variance is {behind[name]:.2g} times as large in training "
        "as in evaluation"
    )
    advice = "put dropout behind the last batch norm, or lower it" if is_far else ""
    return [Part(what="variance shift", verdict=WARN if is_far else PASS, words=words, advice=advice)]


def _variances(model: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Return the variance of each batch norm's inputs, the mean over its channels, in the mode that the model is in."""
    found: dict[str, float] = {}

    def measure(_: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor], *, name: str) -> None:
        values = given[0] if given else named["input"]
        found[name] = values.detach().transpose(0, 1).flatten(1).var(dim=1).mean().item()

    norms = {name: norm for name, norm in tracked_norms(model).items() if norm.training}
    handles = [
        norm.register_forward_pre_hook(partial(measure, name=name), with_kwargs=True) for name, norm in norms.items()
    ]
    try:
        outputs_of(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found
