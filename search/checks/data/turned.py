"""Axes that are swapped in one part of the data: height and width, or channels and the rest."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from search.checks.bench import Bench
from search.checks.data.faults import Fault
from search.checks.data.remarks import failed
from search.checks.evidence import Array

COMPARED = 5000
CHUNK_VALUES = 2**21
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
    others = readings(bench.examples.inputs.shape[1:])
    if not others:
        return []
    train = _mean(bench, bench.sample("train", COMPARED))
    lines = np.stack([train - train[order] for order in others.values()])
    middles = np.array([line @ (train + train[order]) / 2 for line, order in zip(lines, others.values(), strict=True)])
    faults = []
    for part in ("validation", "test"):
        indices = bench.sample(part, COMPARED)
        if len(indices) < 10:
            continue
        places = np.concatenate([chunk @ lines.T for chunk in _chunks(bench, indices)]) - middles
        wholes, least = (lines**2).sum(axis=1), 1e-12 * float(train @ train)
        judged = (_place(*each, least) for each in zip(places.T, wholes, strict=True))
        place, name = min(zip(judged, others, strict=True))
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


def _chunks(bench: Bench, indices: Array) -> Iterator[Array]:
    """Yield the examples as vectors (n, F), float64, some at a time; missing and infinite values are 0."""
    inputs = bench.examples.inputs
    step = max(1, CHUNK_VALUES // max(1, int(np.prod(inputs.shape[1:]))))
    for start in range(0, len(indices), step):
        values = inputs[indices[start : start + step]]
        flat = values.reshape(len(values), -1).astype(np.float64)
        yield flat if inputs.dtype.kind != "f" else np.nan_to_num(flat, nan=0.0, posinf=0.0, neginf=0.0)


def _mean(bench: Bench, indices: Array) -> Array:
    return np.asarray(sum(chunk.sum(axis=0) for chunk in _chunks(bench, indices)) / len(indices))


def _place(places: Array, whole: float, least: float) -> float:
    """Return where examples lie between two readings, in standard errors: above 0 nearer to that of train.

    `places` (N,) are along the line between both, from its middle, times its length; `whole` is that squared.
    """
    mean = float(places.mean())
    if whole <= least or mean > -CLEARLY * whole / 2:
        return 0.0
    return mean / max(float(places.std(ddof=1)) / float(np.sqrt(len(places))), 1e-12 * whole)
