"""Axes that are swapped in one part of the data: height and width, or channels and the rest."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from search.checks.bench import Bench
from search.checks.data.faults import Fault
from search.checks.data.remarks import failed
from search.checks.evidence import Array

COMPARED = 5000
FAR = 6.0
"""Standard errors beyond the middle between both readings; examples read alike lie on the other side of it."""
CLEARLY = 0.2
"""Of the way from the middle to the mean of the other reading."""
_AXES = {2: ("channels", "length"), 3: ("channels", "height", "width")}


def turned_faults(bench: Bench) -> list[Fault]:
    """Return a fault for each part whose mean lies where that of train would with swapped axes.

    Along the line from train's mean picture to the same with swapped axes, examples that were read alike lie nearer to
    the former; where both are equal, as for noise, nobody can tell.
    """
    inputs = bench.examples.inputs
    others = readings(inputs.shape[1:])
    train = _flat(inputs[bench.sample("train", COMPARED)]).mean(axis=0)
    faults = []
    for part in ("validation", "test"):
        indices = bench.sample(part, COMPARED)
        if len(indices) < 10:
            continue
        values = _flat(inputs[indices])
        places = ((_place(values, train, train[order]), name) for name, order in others.items())
        place, name = min(places, default=(0.0, ""))
        if place > -FAR:
            continue
        words = f"inputs of {part} look like those of train with {name} ({-place:.3g} standard errors)"
        remark = failed(words, "read all parts alike, and look at the order of the axes")
        everyone = bench.split.of(part)
        faults.append(Fault(remark=remark, indices=everyone, values=np.full(len(everyone), -place), what=name))
    return faults


def readings(shape: tuple[int, ...]) -> Mapping[str, Array]:
    """Return the ways to read inputs (C, H, W) or (C, L) wrongly: by name the place that each value comes from."""
    names = _AXES.get(len(shape))
    if names is None:
        return {}
    places = np.arange(np.prod(shape)).reshape(shape)
    seen = {places.tobytes()}
    found: dict[str, Array] = {}
    for axes in itertools.permutations(range(len(shape))):
        moved, back = tuple(shape[a] for a in axes), np.argsort(axes)
        name = f"{' and '.join(names[i] for i, a in enumerate(axes) if i != a)} swapped"
        for kind, order in (("", places.transpose(axes)), (" back", places.reshape(moved).transpose(back))):
            key = np.ascontiguousarray(order).tobytes()
            if key not in seen:  # axes of one entry, and squares, give the same more than once
                seen.add(key)
                found[name + kind] = order.ravel()
    return found


def _flat(inputs: Array) -> Array:
    values = inputs.reshape(len(inputs), -1).astype(np.float64)
    return values if inputs.dtype.kind != "f" else np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _place(values: Array, here: Array, there: Array) -> float:
    """Return where examples (N, F) lie between two points, in standard errors: above 0 nearer to `here`."""
    along = here - there
    whole = float(along @ along)
    if whole <= 1e-12 * float(here @ here):
        return 0.0
    places = values @ along - (here + there) @ along / 2
    mean = float(places.mean())
    if mean > -CLEARLY * whole / 2:
        return 0.0
    return mean / max(float(places.std(ddof=1)) / float(np.sqrt(len(places))), 1e-12 * whole)
