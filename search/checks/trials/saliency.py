"""R49: what a trained network looks at: maps of its first activations, and which inputs its answers hang on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from search.checks.data.vectors import given_names
from search.checks.evidence import Array, Bars, Evidence, Pictures
from search.train.data.arrays import Dataset
from search.train.diagnostics.layers import output_of
from search.train.estimator import Estimator

_EXAMPLES = 8
_CANDIDATES = 512
_MAPS = 32
_COLUMNS = 30
_WINDOWS = 8
"""An occluding window is an eighth of the input long."""


def evidence_of(model: Estimator, dataset: Dataset, device: torch.device, micro_batches: int = 1) -> Iterator[Evidence]:
    """Yield the saliency of some validation examples, the worst ones and the first.

    Saliency is |d score / d input| (Simonyan et al. 2014), and by how much the score falls where a window of the input
    is replaced by the mean (Zeiler and Fergus 2014). The score is that of the predicted class, or the value.
    The worst are found in so many `micro_batches`.
    """
    indices = dataset.split.validation[:_CANDIDATES]
    standardised = _given(model, dataset, indices, device)
    targets = dataset.examples.targets[indices]
    with torch.no_grad():
        parts = standardised.split(max(1, _CANDIDATES // micro_batches))  # type: ignore[no-untyped-call]
        outputs = torch.cat([model.judged(part) for part in parts])
    chosen = _chosen(outputs, targets)
    captions = _captions(outputs[chosen], targets[chosen], dataset)
    target = outputs[chosen].argmax(dim=1) if outputs.shape[1] > 1 else 0
    some = standardised[chosen]
    gradient, occlusion = _attributed(model, some, target)
    if some.ndim == 2:
        yield _columns(gradient, occlusion, given_names(dataset.examples, model))
        return
    for name, title, shown in (
        ("inputs", "validation examples, those with the largest error first", _array(some)),
        ("saliency", "saliency by gradient of the same examples", gradient),
        ("occlusion", "saliency by occlusion: how far the score falls", occlusion),
    ):
        yield Pictures(name=name, title=title, inputs=shown, captions=captions)


def maps_of(model: Estimator, dataset: Dataset, device: torch.device) -> Iterator[Pictures]:
    """Yield activation maps of the first validation example."""
    yield from _maps(model, _given(model, dataset, dataset.split.validation[:1], device))


def _given(model: Estimator, dataset: Dataset, indices: Array, device: torch.device) -> Tensor:
    """Return examples as the network is given them; it is put onto the device and judges."""
    inputs = torch.as_tensor(np.array(dataset.examples.inputs[indices])).to(device)
    with torch.no_grad():
        return model.to(device).eval().standardised(inputs)


def _chosen(outputs: Tensor, targets: Array) -> list[int]:
    """Return the half with the largest errors, then the first of the others."""
    if outputs.shape[1] > 1:
        true = torch.as_tensor(targets, device=outputs.device)
        errors = nn.functional.cross_entropy(outputs, true, reduction="none")
    else:
        errors = (outputs.squeeze(1) - torch.as_tensor(targets, device=outputs.device)).abs()
    worst = errors.argsort(descending=True)[: _EXAMPLES // 2].tolist()
    return [*worst, *(i for i in range(len(targets)) if i not in worst)][:_EXAMPLES]


def _captions(outputs: Tensor, targets: Array, dataset: Dataset) -> tuple[str, ...]:
    if outputs.shape[1] == 1:
        values = outputs.squeeze(1).tolist()
        return tuple(f"{target:.3g}, said {value:.3g}" for target, value in zip(targets, values, strict=True))
    names, said = dataset.examples.classes, outputs.argmax(dim=1).tolist()
    return tuple(f"{names[target]}, said {names[c]}" for target, c in zip(targets, said, strict=True))


def _attributed(model: Estimator, inputs: Tensor, target: Tensor | int) -> tuple[Array, Array]:
    from captum.attr import Occlusion, Saliency

    windows = (inputs.shape[1], *(max(1, size // _WINDOWS) for size in inputs.shape[2:]))
    if inputs.ndim == 2:
        windows = (1,)
    strides = tuple(max(1, size // 2) for size in windows[1:])
    with torch.backends.cudnn.flags(enabled=False):  # its recurrent networks have no gradient in evaluation mode
        gradient = Saliency(model.judged).attribute(inputs.clone().requires_grad_(), target=target)
    with torch.no_grad():
        occlusion = Occlusion(model.judged).attribute(
            inputs, sliding_window_shapes=windows, strides=(windows[0], *strides), target=target, baselines=0.0
        )
    if inputs.ndim == 2:
        return _array(gradient), _array(occlusion)
    return _array(gradient).max(axis=1, keepdims=True), _array(occlusion).mean(axis=1, keepdims=True)


def _columns(gradient: Array, occlusion: Array, names: tuple[str, ...]) -> Bars:
    """Return how much each column of a table counts, over the examples; the most important ones first."""
    sizes = {"by gradient": np.abs(gradient).mean(axis=0), "by occlusion": np.abs(occlusion).mean(axis=0)}
    sizes = {name: size / (size.max() or 1.0) for name, size in sizes.items()}
    order = np.argsort(-sizes["by occlusion"])[:_COLUMNS]
    return Bars(
        name="saliency",
        title="what the answers hang on, relative to the most important column",
        y="saliency",
        labels=tuple(f"column {names[i]}" if names[i].isdigit() else names[i] for i in order),
        bars={name: size[order] for name, size in sizes.items()},
    )


def _maps(model: Estimator, one: Tensor) -> Iterator[Pictures]:
    """Yield the outputs of the first and of the last layer that keep the input's dimensions, for one input."""
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> None:
        def hook(_: nn.Module, __: object, made: object) -> None:
            output = output_of(made)
            if output is not None and output.ndim == one.ndim and output.shape[-1] > 1:
                seen.append((name, output))

        handles.append(convolutions[name].register_forward_hook(hook))

    convolutions = {n: m for n, m in model.network.named_modules() if isinstance(m, nn.Conv1d | nn.Conv2d)}
    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name in convolutions:
        note(name)
    with torch.no_grad():
        model.judged(one)
    for handle in handles:
        handle.remove()
    for name, output in dict([*seen[:1], *seen[-1:]]).items():
        maps = _array(output[0])[:_MAPS, None]
        yield Pictures(name=f"maps-{name}", title=f"outputs of {name} for the first of the examples", inputs=maps)


def _array(values: Tensor) -> Array:
    found: Array = values.detach().float().cpu().numpy()
    return found
