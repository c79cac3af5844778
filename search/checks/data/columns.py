"""Faults of a table's columns: missing, constant, on another scale in one part, marked by a number far away."""

from __future__ import annotations

import warnings

import numpy as np

from search.checks.bench import Bench
from search.checks.data.faults import Fault
from search.checks.data.remarks import Remark, failed, listed, warned
from search.checks.data.vectors import feature_names
from search.checks.evidence import Array

COMPARED, COMPARED_VALUES = 10_000, 2**23
MOSTLY = 0.5
MORE_MISSING = 0.2
"""Difference between the shares of missing values in two parts."""
P_VALUE = 1e-6
SCALE, FAR_SCALE = 8.0, 50.0
"""Times between a column's quartiles in two parts: another distribution, another unit."""
AWAY = 5.0
"""Times the range of all others lie between them and a number that stands for "missing"."""
QUARTILES = (0.25, 0.5, 0.75)


def column_faults(bench: Bench) -> list[Fault]:
    """Return the faults of a table."""
    parts = {p: _values(bench, p) for p in ("train", "validation", "test")}
    names = feature_names(bench.examples, bench.examples.inputs.shape[1])
    return [
        *_empty_rows(bench),
        *_missing({p: np.isnan(v).mean(axis=0) for p, v in parts.items()}, _sizes(parts), names, "columns"),
        *_constant(bench, names),
        *_odd_rows(bench),
        *_rescaled(parts, names, _in_order(bench)),
        *_markers(parts["train"], names),
    ]


def channel_faults(bench: Bench) -> list[Fault]:
    """Return the faults of missing values in series, which training replaces by the channel's mean."""
    if bench.examples.inputs.dtype.kind != "f":
        return []
    parts = {p: bench.examples.inputs[_sample(bench, p)] for p in ("train", "validation", "test")}
    shares = {p: np.isnan(v).mean(axis=(0, *range(2, v.ndim))) for p, v in parts.items()}
    names = tuple(map(str, range(bench.examples.inputs.shape[1])))
    return [*_empty_rows(bench), *_missing(shares, _sizes(parts), names, "channels")]


def _sizes(parts: dict[str, Array]) -> dict[str, int]:
    return {part: len(values) for part, values in parts.items()}


def _in_order(bench: Bench) -> bool:
    """Tell whether all of train comes before all of validation, as in a split by time: columns may grow over it."""
    return bool(bench.split.train.max() < bench.split.validation.min())


def _sample(bench: Bench, part: str) -> Array:
    each = max(1, int(np.prod(bench.examples.inputs.shape[1:])))
    return bench.sample(part, min(COMPARED, max(500, COMPARED_VALUES // each)))


def _values(bench: Bench, part: str) -> Array:
    values = bench.examples.inputs[_sample(bench, part)].astype(np.float64)
    return np.where(np.isinf(values), np.nan, values)


def _fault(remark: Remark, columns: Array, values: Array, what: str) -> Fault:
    return Fault(remark=remark, indices=columns, values=values[columns], what=what, of_examples=False)


def _named(names: tuple[str, ...], columns: Array, noun: str = "columns") -> str:
    return f"{len(columns)} of {len(names)} {noun} ({listed([names[c] for c in columns])})"


def _empty_rows(bench: Bench) -> list[Fault]:
    inputs = bench.examples.inputs
    if inputs.dtype.kind != "f":
        return []
    which = np.flatnonzero(np.isnan(inputs).reshape(len(inputs), -1).all(axis=1))
    if not len(which):
        return []
    made, noun = failed if len(which) > 0.1 * len(inputs) else warned, "rows" if inputs.ndim == 2 else "examples"
    remark = made(f"{len(which)} of {len(inputs)} {noun} have no value at all", f"leave these {noun} out")
    return [Fault(remark=remark, indices=which, values=np.full(len(which), np.nan), what="no value")]


def _missing(shares: dict[str, Array], sizes: dict[str, int], names: tuple[str, ...], noun: str) -> list[Fault]:
    """Return faults of columns that are mostly missing, or much more so in one part than in train."""
    train = shares["train"]
    faults = []
    mostly = np.flatnonzero(train > MOSTLY)
    if len(mostly):
        of = "rows" if noun == "columns" else "values"
        words = f"{_named(names, mostly, noun)} are missing in more than {MOSTLY:.0%} of the training {of}"
        faults.append(_fault(warned(words, f"leave such {noun} out"), mostly, train, "share missing in train"))
    for part in ("validation", "test"):
        numbers = sizes["train"], sizes[part]
        both = (train * numbers[0] + shares[part] * numbers[1]) / sum(numbers)
        error = np.sqrt(np.maximum(both * (1 - both), 1e-12) * (1 / numbers[0] + 1 / numbers[1]))
        difference = np.abs(shares[part] - train)
        more = np.flatnonzero((difference > MORE_MISSING) & (difference > 6 * error))  # standard errors
        if len(more):
            words = f"{_named(names, more, noun)} are missing in another share of the rows of {part} than of train"
            remark = warned(words, "find out why; what is missing in one part is no help")
            faults.append(_fault(remark, more, shares[part], f"share missing in {part}"))
    return faults


def _constant(bench: Bench, names: tuple[str, ...]) -> list[Fault]:
    train = bench.examples.inputs[bench.split.train]
    with warnings.catch_warnings():  # a column without a value has no least one
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nanmin(train, axis=0), np.nanmax(train, axis=0)
    columns = np.flatnonzero(low == high)
    if not len(columns):
        return []
    words = f"{_named(names, columns)} are constant in training"
    made = failed if len(columns) == len(names) else warned
    return [_fault(made(words, "leave constant columns out"), columns, low.astype(np.float64), "constant")]


def _odd_rows(bench: Bench) -> list[Fault]:
    """Return a fault for rows of one number throughout that hardly any other row has, e.g. a sensor's zeros."""
    inputs = bench.examples.inputs
    if inputs.shape[1] < 4:
        return []
    which = np.flatnonzero((inputs == inputs[:, :1]).all(axis=1))
    odd = []
    rest = np.setdiff1d(np.arange(len(inputs)), which)
    rest = rest[:: max(1, len(rest) // COMPARED)]
    if not len(rest) or not len(which):
        return []
    for value in np.unique(inputs[which, 0]):
        rare = (inputs[rest] == value).mean(axis=0) < 0.01
        if rare.mean() >= 0.5:
            odd.append(which[inputs[which, 0] == value])
    if not odd:
        return []
    rows = np.concatenate(odd)
    words = f"{len(rows)} of {len(inputs)} rows hold one number throughout, in columns where it is rare"
    made = failed if len(rows) > 0.1 * len(inputs) else warned
    remark = made(words, "look at how these rows were read; leave them out")
    return [Fault(remark=remark, indices=rows, values=inputs[rows, 0], what="one number throughout")]


def _rescaled(parts: dict[str, Array], names: tuple[str, ...], in_order: bool) -> list[Fault]:
    """Return faults of columns whose values are many times larger or smaller in one part than in train."""
    from scipy.stats import ks_2samp

    quartiles = {part: _quartiles(values) for part, values in parts.items()}
    faults = []
    for part in ("validation", "test"):
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(quartiles[part] / quartiles["train"])
        logs = np.where(np.isfinite(logs), logs, 0.0)
        # two quartiles of three, one way: a median of 0 says nothing of the scale
        times = np.exp(np.maximum(np.sort(logs, axis=0)[1], np.sort(-logs, axis=0)[1]))
        suspects = np.flatnonzero(times >= SCALE)
        found = [c for c in suspects if _tested(ks_2samp, parts["train"][:, c], parts[part][:, c]) < P_VALUE]
        if not found:
            continue
        columns = np.array(found)[np.argsort(-times[found], kind="stable")]
        told = listed([f"{names[c]}: {times[c]:.4g} times" for c in columns])
        words = f"columns are on another scale in {part} than in train ({told})"
        made = failed if times[columns].max() >= FAR_SCALE and not in_order else warned
        advice = "bring them to one unit"
        if in_order:  # growth is no slip of the unit, and no help to a network either
            advice += "; of columns that grow over time take differences, ratios or logarithms"
        faults.append(_fault(made(words, advice), columns, times, f"times the scale, in {part}"))
    return faults


def _quartiles(values: Array) -> Array:
    with warnings.catch_warnings():  # a column without a value has none
        warnings.simplefilter("ignore", RuntimeWarning)
        quartiles: Array = np.nanquantile(np.abs(values), QUARTILES, axis=0)
    return quartiles


def _tested(test: object, first: Array, second: Array) -> float:
    first, second = first[~np.isnan(first)], second[~np.isnan(second)]
    if min(len(first), len(second)) < 5:
        return 1.0
    return float(test(first, second, method="asymp").pvalue)  # type: ignore[operator]


def _markers(train: Array, names: tuple[str, ...]) -> list[Fault]:
    """Return a fault of columns where one number, again and again, lies far from all others: -999, say."""
    columns, markers = [], np.full(train.shape[1], np.nan)
    for c in range(train.shape[1]):
        values = np.unique(train[~np.isnan(train[:, c]), c])
        if len(values) < 10:
            continue
        for marker, nearest, rest in ((values[0], values[1], values[1:]), (values[-1], values[-2], values[:-1])):
            is_far = abs(marker - nearest) > AWAY * np.ptp(rest)
            if is_far and np.count_nonzero(train[:, c] == marker) >= 3:
                columns.append(c)
                markers[c] = marker
    if not columns:
        return []
    which = np.unique(columns)
    told = listed([f"{names[c]}: {markers[c]:.6g}" for c in which])
    words = f"{len(which)} columns repeat one number far from all others, as if it stood for a missing value ({told})"
    return [_fault(warned(words, "make such numbers missing values (NaN)"), which, markers, "repeated far away")]
