"""Examples as vectors that scikit-learn can take: standardised, small, without gaps."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from search.checks.bench import Bench
from search.checks.evidence import Pictures
from search.layout import SPLITS
from search.train.data.arrays import Array, Examples
from search.train.estimator import Estimator
from search.train.reduce import Selected

MOST_VALUES = 1024
"""Larger pictures and series are averaged over neighbouring positions until they have about so few values."""
COMPONENTS = 48
_FITTED_ON = 4000
_FITTED_VALUES = 2**22
_CHUNK_VALUES = 2**22


class Vectors:
    """Vectors of the examples; mean, deviation and principal components are those of the training split alone."""

    def __init__(self, examples: Examples, train: Array, generator: np.random.Generator) -> None:
        self._examples = examples
        most = min(_FITTED_ON, max(500, _FITTED_VALUES // max(1, self.width)))
        self._fitted_on = np.sort(generator.choice(train, most, replace=False) if len(train) > most else train)
        self._mean, self._std = self._statistics()

    def of(self, indices: Array) -> Array:
        """Return vectors (N, D), float32: missing and infinite values are the mean, 0."""
        return np.concatenate([*self._chunks(indices), np.zeros((0, self.width), np.float32)])

    def compact(self, indices: Array) -> Array:
        """Return vectors (N, at most 48) that keep the distances of the most telling directions."""
        if self._axes is None:
            return self.of(indices)
        axes = self._axes
        return np.concatenate([chunk @ axes for chunk in self._chunks(indices)])

    @cached_property
    def _axes(self) -> Array | None:
        """Principal axes (D, K), where the vectors are longer than that."""
        if self.width <= COMPONENTS:
            return None
        fitted = self.of(self._fitted_on)
        small = len(fitted) < self.width  # the smaller of both Gram matrices
        product = fitted @ fitted.T if small else fitted.T @ fitted
        values, axes = np.linalg.eigh(product.astype(np.float64))
        values, axes = values[-COMPONENTS:], axes[:, -COMPONENTS:]
        axes = fitted.T @ axes / np.sqrt(np.maximum(values, 1e-12)) if small else axes
        return np.asarray(axes[:, values > 1e-9 * max(values[-1], 1e-12)], dtype=np.float32)

    @property
    def width(self) -> int:
        """How many values a vector has."""
        return int(np.prod(self._pooled(self._examples.inputs[:1]).shape[1:]))

    def _chunks(self, indices: Array) -> Iterator[Array]:
        for values in self._raw(indices):
            standard = (values - self._mean) / self._std
            yield np.nan_to_num(standard, nan=0.0, posinf=0.0, neginf=0.0).reshape(len(values), -1)

    def _raw(self, indices: Array) -> Iterator[Array]:
        each = max(1, int(np.prod(self._examples.inputs.shape[1:])))
        step = max(1, _CHUNK_VALUES // each)
        for start in range(0, len(indices), step):
            values = self._examples.inputs[indices[start : start + step]].astype(np.float32)
            values[~np.isfinite(values)] = np.nan
            yield self._pooled(values)

    def _pooled(self, values: Array) -> Array:
        """Average over blocks of positions; a table keeps its features."""
        places = values.shape[2:]
        if not places:
            return values
        most = max(1, MOST_VALUES // values.shape[1])
        block = int(np.ceil((np.prod(places) / most) ** (1 / len(places)) - 1e-9))
        if block <= 1:
            return values
        for axis, length in enumerate(places, start=2):
            whole = length // block * block or length
            kept = np.take(values, range(whole), axis=axis)
            shape = (*kept.shape[:axis], max(1, whole // block), -1, *kept.shape[axis + 1 :])
            values = kept.reshape(shape).mean(axis=axis + 1)
        return values

    def _statistics(self) -> tuple[Array, Array]:
        """Return mean and deviation per feature of a table, else per channel, shaped to broadcast."""
        values = np.concatenate([*self._raw(self._fitted_on)]).astype(np.float64)
        axes = (0, *range(2, values.ndim))
        with warnings.catch_warnings():  # a feature without a value has neither
            warnings.simplefilter("ignore", RuntimeWarning)
            mean = np.nan_to_num(np.nanmean(values, axis=axes, keepdims=True))
            std = np.nan_to_num(np.nanstd(values, axis=axes, keepdims=True))
        std[std < 1e-12 + 1e-7 * np.abs(mean)] = 1.0
        return mean.astype(np.float32), std.astype(np.float32)


def spectra(inputs: Array, indices: Array) -> Array:
    """Return what does not change as a picture or series is shifted (N, D), float32.

    Per channel the mean, the deviation, the largest and smallest value, and along each axis the amplitudes of the
    frequencies, averaged over the other axis and in up to 32 bands.
    """
    rows = []
    step = max(1, _CHUNK_VALUES // 4 // max(1, int(np.prod(inputs.shape[1:]))))
    for start in range(0, len(indices), step):
        values = np.nan_to_num(inputs[indices[start : start + step]].astype(np.float32), posinf=0, neginf=0)
        axes = tuple(range(2, values.ndim))
        parts = [values.mean(axis=axes), values.std(axis=axes), values.max(axis=axes), values.min(axis=axes)]
        for axis in axes:
            amplitude = np.abs(np.fft.rfft(values - values.mean(axis=axis, keepdims=True), axis=axis))
            amplitude = amplitude.mean(axis=tuple(a for a in axes if a != axis))
            parts += [band.mean(axis=-1) for band in np.array_split(amplitude, min(32, amplitude.shape[-1]), axis=-1)]
        rows.append(np.concatenate(parts, axis=1).astype(np.float32))
    return np.concatenate(rows)


def vectors(bench: Bench) -> Vectors:
    """Return the vectors of a bench's examples."""
    return bench.once("vectors", lambda: Vectors(bench.examples, bench.split.train, bench.generator("vectors")))


def learnable(bench: Bench) -> Array:
    """Return the indices of train and validation, in rising order: those whose targets may be looked at."""
    return np.sort(np.concatenate([bench.split.train, bench.split.validation]))


def part_of(bench: Bench) -> Array:
    """Return the part of each example, (N,): 0 train, 1 validation, 2 test, -1 none."""
    parts = np.full(len(bench.examples), -1, dtype=np.int8)
    for number, name in enumerate(SPLITS):
        parts[bench.split.of(name)] = number
    return parts


def words_of(bench: Bench, index: int, part: int) -> str:
    """Return an example's target in words; of the test split none."""
    if part == SPLITS.index("test"):
        return ""
    target = bench.examples.targets[index]
    return bench.examples.classes[int(target)] if bench.classifies else f"{float(target):.4g}"


def pictures(bench: Bench, name: str, title: str, indices: Array, captions: Sequence[str]) -> tuple[Pictures, ...]:
    """Return the examples side by side; nothing where they are neither pictures nor series."""
    if bench.examples.kind not in ("picture", "series") or not len(indices):
        return ()
    inputs = np.nan_to_num(bench.examples.inputs[indices].astype(np.float32))
    return (Pictures(name=name, title=title, inputs=inputs, captions=tuple(captions)),)


def feature_names(examples: Examples, number: int) -> tuple[str, ...]:
    """Return the names of a table's features; their indices where they have none."""
    if examples.table is not None:
        columns = examples.table["columns"]
        names = [w for c, words in columns for w in ([c] if words is None else [f"{c}={word}" for word in words])]
        if len(names) == number:
            return tuple(names)
    return tuple(map(str, range(number)))


def given_names(examples: Examples, model: Estimator) -> tuple[str, ...]:
    """Return the names of the numbers of an input as the network is given it."""
    if isinstance(model.reduction, Selected):
        names = feature_names(examples, examples.inputs.shape[1])
        return tuple(names[i] for i in model.reduction.features.tolist())
    return feature_names(examples, math.prod(model.shape_of(tuple(examples.inputs.shape[1:]))))
