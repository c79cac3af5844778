"""R07: how values are distributed, per example and per feature or channel, and those that are far outside."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search.checks.bench import Bench
from search.checks.check import Check, Found, skipped
from search.checks.data.vectors import feature_names, part_of, pictures, vectors, words_of
from search.checks.evidence import Curves, Evidence, Sheet
from search.layout import SPLITS
from search.records import CheckVerdict
from search.train.data.arrays import Array, Examples

FEWEST = 20
FAR = 20.0
"""Times the deviation of the 95th percentile; measured: the bundled data's tables up to 7."""
FAR_IN_LOGS = 2.4
"""The same of the deviations' inverse hyperbolic sine, which heavy tails pass seldom: log-normal columns (sigma 2) 5
in 1000 with 500 examples, Student's t with 3 degrees 9 in 1000."""
MORE_IN_LOGS = 0.2
"""Added to that for each tenfold of 500 examples."""
USUAL = 0.95
MOST_VALUES = 2**23
LISTED = 100_000
COLUMNS = 50
CHANNELS = 8
PICTURES = 24
DRAWN = 500
BINS = 50
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_CHUNK_VALUES = 2**22
_STATISTICS = ("mean", "std", "min", "max")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Profile:
    """What is known of each example: `values` (N, K) by `names`, how far out each is (N, K), and whether grossly."""

    names: tuple[str, ...]
    values: Array
    far: Array
    gross: Array


def look(bench: Bench) -> Found:
    """Compare each example's features, or its statistics per channel, with those of all others."""
    parts = part_of(bench)
    whole = np.flatnonzero(parts >= 0)
    indices = _sampled(bench, whole)
    if len(indices) < FEWEST:
        return skipped(f"{len(indices)} examples are too few to say what is usual")
    profile = _profile(bench.examples, indices)
    gross = profile.gross.any(axis=1)
    number = int(gross.sum())
    farthest = np.where(profile.gross.any(), profile.gross, True) * profile.far
    at, column = np.unravel_index(int(farthest.argmax()), farthest.shape)
    far, name, index = float(farthest[at, column]), profile.names[column], int(indices[at])
    which = f"example {index}: its {name} is {profile.values[at, column]:.4g}, {far:.1f} usual deviations from the rest"
    sampled = "" if len(indices) == len(whole) else f" (sampled from {len(whole)})"
    sentence = f"{number} of {len(indices)} examples{sampled} are far outside; the most unusual is {which}"
    unusual = _unusual(bench, indices)
    order = np.lexsort((-unusual, -np.where(gross, profile.far.max(axis=1), 0.0)))
    return Found(
        verdict=CheckVerdict.WARN if number else CheckVerdict.PASS,
        sentence=sentence,
        advice="look for slips of unit, scale or decoding; correct, drop or clip them: they rule the normalisation"
        if number
        else "",
        expected={"farthest": FAR},
        measured={"gross": number, "farthest": far},
        evidence=_evidence(bench, indices, profile, unusual, order),
    )


def _sampled(bench: Bench, indices: Array) -> Array:
    """Return as many of the indices as may be compared, the same share of each part."""
    each = bench.examples.inputs.shape[1] if bench.examples.inputs.ndim == 2 else 1
    most = max(FEWEST, min(int(bench.settings["examples"]), MOST_VALUES // max(1, each)))
    if len(indices) <= most:
        return indices
    return np.sort(bench.generator("outliers").choice(indices, most, replace=False))


def _profile(examples: Examples, indices: Array) -> _Profile:
    names, values = _values(examples, indices)
    far, gross = np.zeros(values.shape), np.zeros(values.shape, dtype=bool)
    for k in range(values.shape[1]):
        far[:, k], gross[:, k] = _deviations(values[:, k])
    return _Profile(names=names, values=values, far=far, gross=gross)


def _deviations(values: Array) -> tuple[Array, Array]:
    """Return how far each value is from the median, in usual deviations, and whether that is gross, both (N,).

    Values at the median are left out of what is usual, so that rare values of a mostly constant feature are not far.
    A heavy tail has far values too, but not when logarithms are compared.
    """
    finite = np.isfinite(values)
    known = values[finite]
    deviation = np.zeros(len(values))
    deviation[finite] = np.abs(known - np.median(known)) if len(known) else 0.0
    some = deviation[finite & (deviation > 0)]
    if len(some) < FEWEST:
        return np.zeros(len(values)), np.zeros(len(values), dtype=bool)
    least = 1e-6 * float(np.abs(np.median(known)))  # below is the rounding of float32
    half, usual = max(float(np.median(some)), least), max(float(np.quantile(some, USUAL)), least)
    far = deviation / usual
    limit = FAR_IN_LOGS + MORE_IN_LOGS * max(0.0, float(np.log10(len(known) / 500)))
    in_logs = np.arcsinh(deviation / half) / np.arcsinh(usual / half)
    return far, (far > FAR) & (in_logs > limit)


def _values(examples: Examples, indices: Array) -> tuple[tuple[str, ...], Array]:
    """Return a table's features, or of other inputs statistics per channel, as names (K) and values (N, K)."""
    if examples.inputs.ndim == 2:
        return _features(examples), examples.inputs[indices].astype(np.float64)
    channels = examples.inputs.shape[1]
    each = channels if channels <= CHANNELS and examples.inputs.ndim > 2 else 1
    names = tuple(f"{name}_{c}" if each > 1 else name for name in _STATISTICS for c in range(each))
    return names, np.concatenate([*_statistics(examples, indices, each)])


def _statistics(examples: Examples, indices: Array, channels: int) -> Iterator[Array]:
    step = max(1, _CHUNK_VALUES // max(1, int(np.prod(examples.inputs.shape[1:]))))
    for start in range(0, len(indices), step):
        values = examples.inputs[indices[start : start + step]].astype(np.float32)
        values = values.reshape(len(values), channels, -1)
        values[~np.isfinite(values)] = np.nan  # R02 tells of them
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of an example without a value
            parts = [f(values, axis=2) for f in (np.nanmean, np.nanstd, np.nanmin, np.nanmax)]
        yield np.concatenate(parts, axis=1).astype(np.float64)


def _features(examples: Examples) -> tuple[str, ...]:
    names = feature_names(examples, examples.inputs.shape[1])
    return names if examples.table is not None else tuple(f"feature {name}" for name in names)


def _unusual(bench: Bench, indices: Array) -> Array:
    """Return how far each example is from the mean over its principal components, each in its own deviation (N,)."""
    compact = vectors(bench).compact(indices)
    spread = np.maximum(compact.std(axis=0), 1e-6)
    return np.sqrt(np.mean(np.square(compact / spread), axis=1, dtype=np.float64))


def _evidence(bench: Bench, indices: Array, profile: _Profile, unusual: Array, order: Array) -> tuple[Evidence, ...]:
    """Return the table of all examples, those far outside first, the distributions, and the first ones' pictures."""
    parts = part_of(bench)
    farthest, shown = profile.far.argmax(axis=1), profile.names[:COLUMNS]
    columns = ("index", "part", "target", "far_outside", "deviation", "in", "unusual", *shown)
    gross = np.asarray(profile.gross.any(axis=1))
    rows = []
    for at in order[:LISTED]:
        index, column = int(indices[at]), int(farthest[at])
        known = (index, SPLITS[parts[index]], words_of(bench, index, parts[index]), bool(gross[at]))
        numbers = (round(float(profile.far[at, column]), 3), profile.names[column], round(float(unusual[at]), 4))
        rows.append((*known, *numbers, *(float(f"{v:.6g}") for v in profile.values[at, : len(shown)])))
    first = order[:PICTURES]
    captions = [f"{indices[at]}: {profile.names[farthest[at]]}, {profile.far[at].max():.1f} times" for at in first]
    seen = pictures(bench, "unusual", "the most unusual examples", indices[first], captions)
    return Sheet(name="examples", columns=columns, rows=rows), _distribution(bench, profile), *seen


def _distribution(bench: Bench, profile: _Profile) -> Curves:
    """Return quantiles of each feature in robust units, or of pictures and series the values of each channel."""
    if bench.examples.inputs.ndim == 2:
        return _quantiles(profile)
    each = max(1, int(np.prod(bench.examples.inputs.shape[1:])))
    drawn = bench.sample("train", min(DRAWN, max(20, _CHUNK_VALUES // each)))
    values = bench.examples.inputs[drawn].astype(np.float32)
    values = np.where(np.isfinite(values), values, np.nan)
    low, high = float(np.nanmin(values, initial=np.inf)), float(np.nanmax(values, initial=-np.inf))
    edges = (
        np.linspace(low, high if high > low else low + 1.0, BINS + 1) if low <= high else np.linspace(0, 1, BINS + 1)
    )
    lines = {}
    for c in range(min(values.shape[1], CHANNELS)):
        known = values[:, c][np.isfinite(values[:, c])]
        share = np.histogram(known, edges)[0] / max(known.size, 1)
        lines[f"channel {c}"] = np.stack([(edges[1:] + edges[:-1]) / 2, share])
    return Curves(name="values", title="values of each channel, train", x="value", y="share", lines=lines)


def _quantiles(profile: _Profile) -> Curves:
    values = np.where(np.isfinite(profile.values), profile.values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a feature without a value
        levels = np.nan_to_num(np.nanquantile(values, _QUANTILES, axis=0))
    middle, spread = levels[3:4], levels[4] - levels[2]
    scaled = (levels - middle) / np.where(spread > 0, spread, 1.0)
    x = np.arange(values.shape[1], dtype=np.float64)
    lines = {f"{q:.0%}": np.stack([x, line]) for q, line in zip(_QUANTILES, scaled, strict=True)}
    return Curves(
        name="features",
        title="quantiles of each feature, less its median, in interquartile ranges",
        x="feature",
        y="interquartile ranges",
        lines=lines,
    )


CHECK = Check(row="R07", title="distributions and outliers", look=look)
