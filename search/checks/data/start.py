"""What R06 says of a network that starts from weights of an earlier training: whether it gets the inputs it knows."""

from __future__ import annotations

from search.checks.data.moments import Moments, apart
from search.checks.data.remarks import Remark, listed, warned
from search.train.pretrained import Started

LITTLE = 0.5
"""Share of a network's parameters under which it hardly starts from what it loads."""
OTHER = 0.5
"""Standard deviations, or logarithm of their ratio, between the data and what weights were trained on before: more is
no longer the inputs that they know."""


def of_start(started: Started | None, train: Moments, *, from_file: bool) -> list[Remark]:
    """Return remarks where little was loaded, or the data lies elsewhere than what the weights were trained on."""
    if started is None:
        return []
    remarks = []
    if started.share < LITTLE:
        words = f"of the network's parameters only {started.share:.0%} are in the file of pretrained weights"
        remarks.append(warned(f"{words}: as they were drawn stay {listed(started.left)}", "build the same network"))
    return [*remarks, *_of_features(started, from_file=from_file), *_of_inputs(started, train, from_file=from_file)]


def _of_features(started: Started, *, from_file: bool) -> list[Remark]:
    if started.features is None:
        return []
    words = f"the pretrained weights had other features of the table, those with the indices {listed(started.features)}"
    keep = "" if from_file else " and pretrained.preprocessing=file"
    return [warned(words, f"take the same columns, inputs.features as they had it{keep}; or let all layers train")]


def _of_inputs(started: Started, train: Moments, *, from_file: bool) -> list[Remark]:
    if started.mean is None or started.std is None:
        return []
    mean, std = (value.double().cpu().numpy().ravel() for value in (started.mean, started.std))
    off = apart(mean, std, train)
    if not off > OTHER:
        return []
    words = f"the pretrained weights had inputs whose mean or standard deviation is {off:.3g} off the training split's"
    if from_file:
        advice = "give inputs in the unit that the weights were trained with, or pretrained.preprocessing=data"
        return [warned(f"{words}, and inputs are standardised with theirs", advice)]
    advice = "pretrained.preprocessing=file gives them inputs as they had them; or let all layers train"
    return [warned(f"{words}, with which inputs are standardised", advice)]


def loaded(started: Started | None) -> str:
    """Return what was loaded and what was not, as the end of a sentence."""
    if started is None:
        return ""
    left = f"; as they were drawn: {listed(started.left)}" if started.left else ""
    unused = f"; without a place in the network: {listed(started.unused)}" if started.unused else ""
    return f"; of the network's tensors {len(started.loaded)} are loaded{left}{unused}"
