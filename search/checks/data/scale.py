"""R06: inputs are on one scale, set by the training split alone, and the parts are alike."""

from __future__ import annotations

import numpy as np
import torch

from search.checks.bench import Bench, minibatches
from search.checks.check import Check, Found, skipped
from search.checks.data.batch import received
from search.checks.data.moments import CHUNK_VALUES, Moments, apart, chunks, merged, moments_of
from search.checks.data.remarks import Remark, failed, found_of, listed, warned
from search.checks.data.start import loaded, of_start
from search.checks.data.vectors import feature_names
from search.checks.evidence import Array, Sheet
from search.layout import SPLITS
from search.train.estimator import Estimator
from search.train.pretrained import node_of
from search.train.setup import Setup

SAMPLED = 20_000
"""Training examples from twice as many of which on the model's statistics are those of every second, third, ..."""
TINY = 1e-7
"""Standard deviations under which inputs may be taken for constants."""
EXACT, FAR = 1e-3, 0.05
"""How far, in standard deviations, statistics may be off by rounding; and how far without doing much harm."""
COMPARED = 5000
"""Examples of a part that are compared with training."""
SHIFT = 0.5
"""Standard deviations between the means of two parts; less is a medium effect at most (Cohen 1988)."""
P_VALUE = 1e-5
FIRST_LAYER = (0.01, 30.0)
"""Standard deviations of a first layer's inputs that initialisations of unit variance still cope with."""


def look(bench: Bench) -> Found:
    """Compare the parts' statistics with each other, and the model's own with those of the training split."""
    inputs = bench.examples.inputs
    if inputs.dtype.kind == "f" and _has_infinities(inputs, bench.split.train):
        return skipped("training inputs have infinite values, and so no mean, see R02")
    moments = {part: moments_of(inputs, bench.split.of(part)) for part in SPLITS}
    setup = bench.setup()
    names = _names(bench)
    reference = _reference(bench, moments["train"], setup.model)
    shifts = {part: _shift(bench, part) for part in SPLITS[1:]}
    from_file = (node_of(bench.config) or {}).get("preprocessing") == "file"
    if from_file:
        remarks, off = list[Remark](), apart(*_own(setup.model), reference)
        whose = "as the pretrained weights had them"
    else:
        remarks, off = _of_statistics(setup.model, moments, reference)
        remarks += _of_standardised(setup.model, bench, reference, names)
        remarks += _of_tiny_units(setup.model, moments["train"], names)
        whose = "by the training split's mean and standard deviation"
    remarks += [*of_start(setup.started, reference, from_file=from_file), *_of_shifts(shifts, names)]
    std = _first_std(setup)
    remarks += _of_first_layer(std)
    largest = max((float(d.max(initial=0.0)) for d, _ in shifts.values()), default=0.0)
    return found_of(
        remarks,
        f"inputs are standardised {whose}; train, validation and test means differ by at most {largest:.3f} standard "
        f"deviations{loaded(setup.started)}",
        measured={"statistics_off": off, "largest_shift": largest, "first_layer_std": std},
        evidence=(_sheet(names, moments, shifts),),
    )


def _names(bench: Bench) -> tuple[str, ...]:
    number = bench.examples.inputs.shape[1]
    if bench.examples.kind == "table":
        return tuple(f"feature {name}" for name in feature_names(bench.examples, number))
    return tuple(f"channel {c}" for c in range(number))


def _has_infinities(inputs: Array, indices: Array) -> bool:
    return any(bool(np.isinf(chunk).any()) for chunk in chunks(inputs, indices))


def _reference(bench: Bench, train: Moments, model: Estimator) -> Moments:
    """Return the statistics of the training split, or of the part of a large one that the model's are nearer to.

    Of values with heavy tails those of a sample may be far off.
    """
    every = len(bench.split.train) // SAMPLED
    mean, std = _own(model)
    if every < 2 or len(mean) != len(train.mean):
        return train
    sampled = moments_of(bench.examples.inputs, bench.split.train[::every])
    return min(train, sampled, key=lambda moments: apart(mean, std, moments))


def _own(model: Estimator) -> tuple[Array, Array]:
    mean, std = (t.detach().double().cpu().numpy().ravel() for t in (model.mean, model.std))
    return mean, std


def _of_statistics(model: Estimator, moments: dict[str, Moments], train: Moments) -> tuple[list[Remark], float]:
    """Return remarks on the model's mean and standard deviation, and how far off they are, in standard deviations."""
    mean, std = _own(model)
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        words = "the mean or standard deviation that the model standardises inputs with is not finite"
        return [failed(words, "remove NaN and infinities from the inputs, see R02")], float("nan")
    if len(mean) != len(train.mean):
        words = f"the model standardises {len(mean)} channels of {len(train.mean)}"
        return [failed(words, "statistics are per channel, or per feature of a table")], float("nan")
    off = apart(mean, std, train)
    if off <= EXACT:
        return [], off
    everything = apart(mean, std, merged(list(moments.values())))
    leaks = everything < min(off / 2, FAR)
    why = f"those of all parts together ({everything:.2g} off them)" if leaks else "not those of the training split"
    words = f"inputs are standardised with a mean and standard deviation that are {why}: {off:.3g} standard deviations"
    advice = "compute the statistics of inputs on the training split alone"
    return [(failed if off > FAR else warned)(f"{words} off the training split's", advice)], off


def _of_tiny_units(model: Estimator, train: Moments, names: tuple[str, ...]) -> list[Remark]:
    """Return a remark on inputs that vary, but so little that the model takes them for constants."""
    _, std = _own(model)
    if len(std) != len(train.std):
        return []
    rounding = 32 * np.finfo(np.float32).eps * np.abs(train.mean)
    tiny = np.flatnonzero((std == 1.0) & (train.std > rounding) & (train.std <= TINY) & (train.std > 0))
    if not len(tiny):
        return []
    told = listed([f"{names[c]} ({train.std[c]:.3g})" for c in tiny])
    words = f"inputs are not standardised where they vary too little for it, their standard deviations: {told}"
    return [warned(words, "give these inputs in a larger unit")]


def _of_standardised(model: Estimator, bench: Bench, train: Moments, names: tuple[str, ...]) -> list[Remark]:
    """Return remarks on training inputs that the model does not bring to mean 0 and standard deviation 1."""
    most = min(COMPARED, max(100, 2 * CHUNK_VALUES // max(1, int(np.prod(bench.examples.inputs.shape[1:])))))
    inputs = bench.examples.inputs[bench.sample("train", most)]
    with torch.no_grad():
        given = model.standardised(torch.as_tensor(inputs).to(bench.device)).cpu().numpy()
    if given.shape != inputs.shape:
        return []  # R09 tells it
    if inputs.dtype.kind == "f":  # a missing value was made a mean, and would narrow the spread
        given = np.where(np.isfinite(inputs), given, np.nan)
    got = moments_of(given, np.arange(len(given)))
    sampled = moments_of(inputs, np.arange(len(inputs)))
    unit = np.where(train.std > 1e-7, train.std, 1.0)
    # what this sample should have, were it standardised with the training split's statistics
    mean, std = (sampled.mean - train.mean) / unit, sampled.std / unit
    varies = (train.std > 1e-7) & (sampled.std > 1e-7) & (sampled.count > 1)
    ratio = np.abs(np.log(np.maximum(got.std, 1e-12) / np.where(varies, std, 1.0)))
    off = np.where(varies, np.maximum(np.abs(got.mean - mean) / 3, ratio / np.log(30)), 0.0)
    if off.max(initial=0.0) <= 0.1:
        return []
    worst = int(off.argmax())
    words = (
        f"standardised training inputs of {names[worst]} have mean {got.mean[worst]:.3g} and standard deviation "
        f"{got.std[worst]:.3g}, not 0 and 1"
    )
    advice = "subtract a constant from inputs whose digits 32 bits do not hold, and look at what standardises them"
    for_most = np.count_nonzero(off > 1) * 2 >= np.count_nonzero(varies)
    return [(failed if for_most else warned)(words, advice)]


def _shift(bench: Bench, part: str) -> tuple[Array, Array]:
    """Return for each channel or feature how far a part lies from train, (C,), and Welch's p-value, (C,).

    An example counts once, by its mean and, of pictures and series, its spread: values within one are alike. The
    distance is in standard deviations of these over the training examples.
    """
    from scipy.stats import t

    inputs = bench.examples.inputs
    a, b = (
        np.concatenate([_units(chunk) for chunk in chunks(inputs, bench.sample(name, COMPARED))])
        for name in ("train", part)
    )
    na, nb = (np.isfinite(x).sum(axis=0) for x in (a, b))
    (ma, va), (mb, vb) = (_mean_and_variance(x) for x in (a, b))
    ea, eb = va / np.maximum(na, 1), vb / np.maximum(nb, 1)
    error = np.maximum(ea + eb, 1e-12 * (1e-12 + ma**2))
    freedom = error**2 / np.maximum(ea**2 / np.maximum(na - 1, 1) + eb**2 / np.maximum(nb - 1, 1), 1e-300)
    enough = np.minimum(na, nb) >= 5
    p = np.where(enough, 2 * t.sf(np.abs(ma - mb) / np.sqrt(error), np.clip(freedom, 1, 1e9)), 1.0)
    spread = np.sqrt(np.where(va > 1e-14 * (1 + ma**2), va, np.maximum(vb, 1e-14 * (1 + ma**2))))
    distance = np.where(enough, np.abs(ma - mb) / spread, 0.0)
    channels = inputs.shape[1]
    distance, p = distance.reshape(-1, channels), p.reshape(-1, channels)
    which = np.where(p < P_VALUE / p.size, distance, 0.0).argmax(axis=0)
    return distance[which, np.arange(channels)], np.minimum(1.0, p[which, np.arange(channels)] * p.size)


def _units(inputs: Array) -> Array:
    """Return one number a channel and example: values of tables, (N, F), else means and spreads, (N, 2 C)."""
    values = inputs.astype(np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    if values.ndim == 2:
        return values
    values = values.reshape(*values.shape[:2], -1)
    known = np.isfinite(values)
    number = np.maximum(known.sum(axis=2), 1)
    mean = np.where(known, values, 0.0).sum(axis=2) / number
    variance = (np.where(known, values - mean[..., None], 0.0) ** 2).sum(axis=2) / number
    units = np.concatenate([mean, np.sqrt(variance)], axis=1)
    return np.where(np.concatenate([known.any(axis=2)] * 2, axis=1), units, np.nan)


def _mean_and_variance(values: Array) -> tuple[Array, Array]:
    known = np.isfinite(values)
    number = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / number
    squares = np.where(known, values - mean, 0.0) ** 2
    return mean, squares.sum(axis=0) / np.maximum(number - 1, 1)


def _of_shifts(shifts: dict[str, tuple[Array, Array]], names: tuple[str, ...]) -> list[Remark]:
    remarks = []
    for part, (distance, p) in shifts.items():
        shifted = np.flatnonzero((p < P_VALUE) & (distance > SHIFT))
        if not len(shifted):
            continue
        shifted = shifted[np.argsort(-distance[shifted], kind="stable")]
        told = [f"{names[c]} ({distance[c]:.3g})" for c in shifted]
        words = f"inputs of {part} lie elsewhere than those of train, in standard deviations: {listed(told)}"
        advice = "find out why the parts differ; a figure on one says little of the other"
        remarks.append(warned(words, advice))
    return remarks


def _first_std(setup: Setup) -> float:
    """Return the standard deviation of what the first layer with parameters is given, NaN where it is unknown."""
    inputs, _, _ = next(minibatches(setup, 1))
    _, first, _ = received(setup, inputs)
    return float("nan") if first is None or first.numel() < 2 else float(first.double().std())


def _of_first_layer(std: float) -> list[Remark]:
    if np.isnan(std) or FIRST_LAYER[0] <= std <= FIRST_LAYER[1]:
        return []
    words = f"the network's first layer receives inputs with a standard deviation of {std:.3g}"
    return [warned(words, "leave inputs as they come, standardised, or normalise them again inside the model")]


def _sheet(names: tuple[str, ...], moments: dict[str, Moments], shifts: dict[str, tuple[Array, Array]]) -> Sheet:
    """Return the statistics, the channels first whose parts differ most."""
    order = np.argsort(-np.max([distance for distance, _ in shifts.values()], axis=0), kind="stable")
    rows = [
        (
            names[c],
            part,
            int(m.count[c]),
            *(float(f"{values[c]:.6g}") for values in (m.mean, m.std, m.low, m.high)),
            float(f"{shifts[part][0][c]:.4g}") if part in shifts else 0.0,
        )
        for c in order
        for part, m in moments.items()
    ]
    return Sheet(
        name="statistics", columns=("input", "part", "values", "mean", "std", "min", "max", "shift"), rows=rows
    )


CHECK = Check(row="R06", title="scale of the inputs", look=look)
