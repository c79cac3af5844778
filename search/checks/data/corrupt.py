"""R02: inputs that cannot be what was meant: missing, constant, on another scale, turned, of the wrong type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.data.columns import channel_faults, column_faults
from search.checks.data.faults import Fault
from search.checks.data.remarks import failed, found_of, warned
from search.checks.data.turned import turned_faults
from search.checks.evidence import Array, Evidence, Pictures, Sheet

CHUNK_VALUES = 2**22
TRACE = 0.01
"""Share of the pictures or series that may have missing values before it is a failure."""
MANY_CONSTANT = {"picture": 0.1}
"""Share of the pictures; of series many may be: nothing is sold for weeks, nobody speaks."""
MOST_CONSTANT = 0.9
GAP = 8.0
"""Times: the widest gap between two neighbours, ordered by the size of their values, that is still one scale. Grey
values of 0 to 1 among such of 0 to 16 or 255 leave one of 16 and more."""
GAP_OF_FEW = 1000.0
FEW = 0.01
MANY_OFF = 0.05
EXPLAINED = 0.9
SLIPS = (16.0, 255.0, 257.0, 1000.0, 1023.0, 4095.0, 65535.0)
"""Times between two scales of pictures that no exposure but another type or unit makes, within a fifth."""
SPARSE = 0.9
"""Share of zeros in a usual picture above which an empty one is no wonder."""
SHOWN = 16


@dataclass(frozen=True, kw_only=True)
class _Extent:
    """Least and largest finite value of each example, and how many values are missing or infinite, all (N,)."""

    low: Array
    high: Array
    missing: Array
    infinite: Array

    @property
    def size(self) -> Array:
        """Largest absolute value of each example, 0 where it has none."""
        size: Array = np.nan_to_num(np.maximum(np.abs(self.low), np.abs(self.high)))
        return size


def look(bench: Bench) -> Found:
    """Look at each example by itself, at each column, and at the parts against each other."""
    examples = bench.examples
    if examples.inputs.dtype.kind not in "biuf":
        return found_of([failed(f"inputs are of type {examples.inputs.dtype}", "give numbers")], "")
    extent = _extent_of(examples.inputs)
    is_table = examples.kind == "table"
    faults = [*_infinite(extent), *_wrapped(bench)]
    if is_table:
        faults += column_faults(bench)
    else:
        faults += _missing(extent) if examples.kind == "picture" else channel_faults(bench)
        faults += [*_constant(bench, extent), *_scales(bench, extent), *turned_faults(bench)]
    parts = _parts_of(bench)
    rows = [(i, parts[i] if of_examples else "column", what, value) for i, of_examples, what, value in _rows(faults)]
    evidence: list[Evidence] = [Sheet(name="offenders", columns=("index", "part", "what", "value"), rows=rows)]
    offenders = [i for i, of_examples, _, _ in _rows(faults) if of_examples][:SHOWN]
    if offenders and examples.inputs.ndim in (3, 4):
        shown = np.nan_to_num(examples.inputs[offenders].astype(np.float64), posinf=0.0, neginf=0.0)
        captions = tuple(f"{i} ({parts[i]})" for i in offenders)
        evidence.append(
            Pictures(name="offenders", title="the first offenders", inputs=shown.astype(np.float32), captions=captions)
        )
    return found_of(
        [fault.remark for fault in faults],
        _fine(bench, extent),
        measured={
            "missing_values": float(extent.missing.sum() / max(1, examples.inputs.size)),
            "infinite_values": float(extent.infinite.sum()),
            "offenders": float(len(rows)),
        },
        evidence=tuple(evidence),
    )


def _fine(bench: Bench, extent: _Extent) -> str:
    inputs = bench.examples.inputs
    share = extent.missing.sum() / max(1, inputs.size)
    missing = f"{share:.2%} of the values missing, which become the training mean" if share else "no value missing"
    lowest, highest = np.fmin.reduce(extent.low), np.fmax.reduce(extent.high)
    return f"{len(inputs)} inputs, {inputs.dtype}, of {lowest:.4g} to {highest:.4g}, {missing}"


def _rows(faults: Sequence[Fault]) -> list[tuple[int, bool, str, float]]:
    return [
        (int(index), fault.of_examples, fault.what, float(f"{value:.6g}"))
        for fault in faults
        for index, value in zip(fault.indices, fault.values, strict=True)
    ]


def _parts_of(bench: Bench) -> Array:
    """Return the name of each example's part."""
    parts = np.full(len(bench.examples), "none", dtype=object)
    for part in ("train", "validation", "test"):
        parts[bench.split.of(part)] = part
    return parts


def _extent_of(inputs: Array) -> _Extent:
    step = max(1, CHUNK_VALUES // max(1, inputs[0].size))
    found = [_extent_of_chunk(inputs[i : i + step]) for i in range(0, len(inputs), step)]
    low, high, missing, infinite = (np.concatenate(column) for column in zip(*found, strict=True))
    return _Extent(low=low, high=high, missing=missing, infinite=infinite)


def _extent_of_chunk(chunk: Array) -> tuple[Array, Array, Array, Array]:
    flat = chunk.reshape(len(chunk), -1)
    none = np.zeros(len(flat), dtype=np.int64)
    if flat.dtype.kind != "f" or np.isfinite(flat).all():
        return flat.min(axis=1).astype(np.float64), flat.max(axis=1).astype(np.float64), none, none
    finite, missing = np.isfinite(flat), np.isnan(flat)
    low = np.where(finite, flat, np.inf).min(axis=1).astype(np.float64)
    high = np.where(finite, flat, -np.inf).max(axis=1).astype(np.float64)
    some = finite.any(axis=1)
    return (
        np.where(some, low, np.nan),
        np.where(some, high, np.nan),
        missing.sum(axis=1),
        (~finite & ~missing).sum(axis=1),
    )


def _infinite(extent: _Extent) -> list[Fault]:
    which = np.flatnonzero(extent.infinite)
    if not len(which):
        return []
    words = f"{len(which)} examples have infinite values ({extent.infinite.sum()} in all)"
    advice = "remove them, or look for a division by zero or a type that is too small"
    return [Fault(remark=failed(words, advice), indices=which, values=extent.infinite[which], what="infinite values")]


def _missing(extent: _Extent) -> list[Fault]:
    """Return a fault for pictures with missing values; elsewhere they are common, and looked at by column."""
    which = np.flatnonzero(extent.missing)
    if not len(which):
        return []
    words = f"{len(which)} of {len(extent.missing)} examples have missing values (NaN), {extent.missing.sum()} in all"
    made = failed if len(which) > TRACE * len(extent.missing) else warned
    remark = made(words, "look at how they were read; leave these examples out")
    return [Fault(remark=remark, indices=which, values=extent.missing[which], what="missing values")]


def _constant(bench: Bench, extent: _Extent) -> list[Fault]:
    if bench.examples.inputs[0].size < 2:
        return []
    is_constant = extent.low == extent.high
    which = np.flatnonzero(is_constant)
    if not len(which):
        return []
    zero = int(np.count_nonzero(extent.low[which] == 0))
    words = f"{len(which)} of {len(is_constant)} examples are constant, {zero} of them all zero"
    many = len(which) >= MANY_CONSTANT.get(bench.examples.kind, MOST_CONSTANT) * len(is_constant)
    many = many and not _sparse(bench, is_constant) and not _explained(bench, is_constant)
    many = many or len(which) == len(is_constant)
    remark = (failed if many else warned)(words, "look at how they were read; leave these examples out")
    return [Fault(remark=remark, indices=which, values=extent.low[which], what="constant")]


def _sparse(bench: Bench, is_constant: Array) -> bool:
    """Tell whether the other pictures are nearly empty as well."""
    others = np.flatnonzero(~is_constant)
    if not len(others):
        return False
    shown = bench.examples.inputs[others[:: max(1, len(others) // 500)]]
    return bool(np.median((shown == 0).reshape(len(shown), -1).mean(axis=1)) > SPARSE)


def _scales(bench: Bench, extent: _Extent) -> list[Fault]:
    """Return a fault where examples fall into two groups by the size of their values, and no class explains which."""
    size = extent.size
    used = np.flatnonzero((extent.low < extent.high) & (size > 0))
    if len(used) < 10:
        return []
    order = used[np.argsort(size[used], kind="stable")]
    gaps = size[order[1:]] / size[order[:-1]]
    few = max(3, int(np.ceil(FEW * len(order))))
    middle = int(gaps[few - 1 : len(gaps) - few + 1].argmax()) + few - 1
    for cut, least in ((middle, GAP), (int(gaps.argmax()), GAP_OF_FEW)):
        below, above = order[: cut + 1], order[cut + 1 :]
        is_below = np.isin(np.arange(len(size)), below)
        if gaps[cut] >= least and not _explained(bench, is_below):
            return [_two_scales(bench, size, below, above)]
    return []


def _two_scales(bench: Bench, size: Array, below: Array, above: Array) -> Fault:
    odd, rest = (below, above) if len(below) <= len(above) else (above, below)
    parts = [bench.split.of(part) for part in ("train", "validation", "test")]
    share = max(float(np.isin(part, odd).mean()) for part in parts)
    words = (
        f"{len(odd)} of {len(size)} examples are on another scale: values of up to {size[odd].max():.4g}, where the "
        f"others go up to {size[rest].max():.4g}"
    )
    advice = "bring all examples to one scale, e.g. divide all of them by 255 or none"
    if bench.examples.kind != "picture":
        advice = "look whether both are meant; else bring all examples to one scale"
    times = float(np.median(size[above]) / np.median(size[below]))
    slipped = times >= GAP_OF_FEW or any(abs(times / slip - 1) < 0.2 for slip in SLIPS)
    # a few that are far larger than all others set the standard deviation for them
    is_bad = bench.examples.kind == "picture" and slipped and (share >= MANY_OFF or odd is above)
    made = failed if is_bad else warned
    return Fault(remark=made(words, advice), indices=odd, values=size[odd], what="largest value")


def _explained(bench: Bench, group: Array) -> bool:
    """Tell whether targets say who is of a group: then it is a property of the data, not of how it was read."""
    known = np.concatenate([bench.split.train, bench.split.validation])
    member, targets = group[known], bench.examples.targets[known]
    if 2 * np.count_nonzero(member) > len(member):  # of most examples every class has many
        member = ~member
    if not member.any():
        return False
    if bench.classifies:
        share = np.bincount(targets, weights=member) / np.maximum(np.bincount(targets), 1)
        return bool(share[targets[member]].mean() >= EXPLAINED)
    from scipy.stats import rankdata

    ranks = rankdata(targets)
    num = np.count_nonzero(member)
    area = (ranks[member].sum() - num * (num + 1) / 2) / (num * np.count_nonzero(~member))
    return bool(max(area, 1 - area) >= EXPLAINED)


def _wrapped(bench: Bench) -> list[Fault]:
    """Return a fault for pictures in bytes with a sign, which 128 to 255 do not fit in."""
    inputs = bench.examples.inputs
    if bench.examples.kind != "picture" or inputs.dtype != np.int8:
        return []
    lowest: Callable[[Array], Array] = partial(np.min, axis=tuple(range(1, inputs.ndim)))
    which = np.flatnonzero(lowest(inputs) < 0)
    if not len(which) or inputs.max() < 64:
        return []
    words = f"pictures are int8 and {len(which)} have negative values: grey values above 127 do not fit"
    remark = warned(words, "keep them as uint8")
    return [Fault(remark=remark, indices=which, values=lowest(inputs)[which], what="least value")]


CHECK = Check(row="R02", title="corrupt inputs", look=look)
