"""R01: the same example twice, within a split and across splits."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.data.vectors import Vectors, learnable, part_of, pictures, vectors, words_of
from search.checks.evidence import Evidence, Sheet
from search.layout import SPLITS
from search.records import CheckVerdict
from search.train.data.arrays import Array, Examples
from search.train.data.table import TableEncoder

LEAKED_FAIL, LEAKED_WARN = 0.05, 0.01
"""Shares of the validation or test split that have a copy in an earlier split."""
FEWEST_FAIL, FEWEST_WARN = 3, 2
REPEATED_WARN = 0.01
"""Share of all examples; Fashion-MNIST has 0.0007, iris one pair of 150, the other bundled data none."""
NEIGHBOURS = 5
NEAR = 0.15
"""Near duplicates are nearer than this times the usual distance of a fifth neighbour, and by more than chance."""
NEAR_CHANCE = 0.01
"""Chance that one of all distances is as small as the smallest, were it none."""
DIMENSIONS = (1.0, 30.0)
HONEST = 0.999
"""Quantile of the pairs expected by chance, up to five times over: features agree more often together than in twos."""
MOST_FEATURES = 40
MOST_PAIRS = 100
"""Pairs of features that are looked at; of more the first of every few."""
MOSTLY_DISCRETE = 0.5
"""Share of a table's columns with few values above which rows of one kind are near each other anyway."""
FEW_VALUES = 20
FEW_WHOLE_NUMBERS = 100
"""Different values of all inputs, or of a column, that make honest copies likely."""
EXCESS = 4.0
"""Standard errors by which copies are more frequent across splits than within training."""
LOOKED_AT = 2000
MOST_REFERENCES = 200_000
LISTED, PICTURED = 1000, 12


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """An example and an earlier copy of it; of a near copy the distance, as a share of the usual."""

    kind: str
    index: int
    copy_of: int
    distance: float = 0.0


def fingerprints(bench: Bench) -> Array:
    """Return a number for each example's inputs, uint64 (N,): the same for the same values."""
    return bench.once("fingerprints", lambda: _fingerprints(bench.examples.inputs))


def look(bench: Bench) -> Found:
    """Find equal inputs among all examples, and inputs that are nearly equal among a sample of them."""
    prints, parts = fingerprints(bench), part_of(bench)
    exact = _exact(prints, np.where(_constant(bench.examples.inputs), -1, parts))
    near, compared, usual = _near(bench, prints, parts)
    honest = bool(exact) and _by_chance(bench.examples, prints)
    conflicts = _conflicts(bench, exact)
    leaked = {name: _leaked(parts, number, [] if honest else exact, near, compared) for number, name in _LATER}
    verdict = _verdict(leaked, repeated=0 if honest else len(exact), examples=len(prints))
    alike = verdict is CheckVerdict.FAIL and _as_within_train(bench.examples, prints, parts)
    if alike:
        only_near = {name: _leaked(parts, number, [], near, compared) for number, name in _LATER}
        verdict = max(CheckVerdict.WARN, _verdict(only_near, 0, len(prints)), key=[*CheckVerdict].index)
    shares = {f"leaked_{name}_share": share for name, (_, share) in leaked.items()}
    counts = {f"leaked_{name}": count for name, (count, _) in leaked.items()}
    return Found(
        verdict=verdict,
        sentence=_sentence(exact, near, leaked, conflicts, len(compared), len(prints)) + _why(honest, alike, exact),
        advice="" if verdict is CheckVerdict.PASS else _advice(verdict),
        expected=dict.fromkeys(shares, LEAKED_WARN),
        measured={
            **shares,
            **counts,
            "exact": len(exact),
            "near": len(near),
            "conflicting": conflicts,
            "compared": len(compared),
            "usual_distance": usual,
        },
        evidence=_evidence(bench, [*exact, *near], parts),
    )


def _fingerprints(inputs: Array) -> Array:
    prints = np.empty(len(inputs), dtype=np.uint64)
    for i, values in enumerate(inputs):
        same_zero = values + 0.0 if np.issubdtype(values.dtype, np.floating) else values  # -0.0 is 0.0
        digest = hashlib.blake2b(np.ascontiguousarray(same_zero).tobytes(), digest_size=8).digest()
        prints[i] = int.from_bytes(digest, "little")
    return prints


def _constant(inputs: Array) -> Array:
    """Return which examples (N,) have one value throughout, e.g. 0: R02 tells of them, and nobody learns them."""
    if inputs[0].size < 4:
        return np.zeros(len(inputs), dtype=bool)
    first = inputs[(slice(None), *[slice(0, 1)] * (inputs.ndim - 1))]
    chunks = (slice(start, start + 4096) for start in range(0, len(inputs), 4096))
    every = tuple(range(1, inputs.ndim))
    return np.concatenate([(inputs[chunk] == first[chunk]).all(axis=every) for chunk in chunks])


def _as_within_train(examples: Examples, prints: Array, parts: Array) -> bool:
    """Tell whether inputs are of few values, and repeat training examples no more than those repeat each other.

    Then copies are a property of the data, and no division of it would be without.
    """
    if not _of_few_values(examples):
        return False
    train, counts = np.unique(prints[parts == 0], return_counts=True)
    within = float(counts[counts > 1].sum() / max(counts.sum(), 1))
    for part, _ in _LATER:
        its = prints[parts == part]
        if not len(its):
            continue
        both = within + 1 / counts.sum()
        error = np.sqrt(2 * both * (1 - within) * (1 / len(its) + 1 / counts.sum()))  # 2: copies come in clusters
        if np.isin(its, train).mean() > within + EXCESS * error:
            return False
    return True


def _of_few_values(examples: Examples) -> bool:
    values = np.unique(examples.inputs[:: max(1, len(examples) // LOOKED_AT)])
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if examples.kind == "picture":
        return len(values) <= FEW_VALUES
    return len(values) <= FEW_VALUES or (len(values) <= FEW_WHOLE_NUMBERS and bool(np.all(values == np.round(values))))


def _mostly_discrete(examples: Examples) -> bool:
    """Tell whether most columns of a table have few values: rows with the same ones differ in little else."""
    if examples.kind != "table":
        return False
    sample = examples.inputs[:: max(1, len(examples) // LOOKED_AT)]
    few = [len(np.unique(column)) <= min(FEW_VALUES, len(sample) // 4) for column in sample.T]
    return bool(np.mean(few) > MOSTLY_DISCRETE)


def _exact(prints: Array, parts: Array) -> list[_Pair]:
    """Return each example that repeats an earlier one; train comes before validation, that before test."""
    order = np.lexsort((np.arange(len(prints)), parts, prints))
    order = order[parts[order] >= 0]
    same = prints[order][1:] == prints[order][:-1]
    first, pairs = order[:1], []
    for at in np.flatnonzero(same) + 1:
        if at == 1 or not same[at - 2]:
            first = order[at - 1]
        pairs.append(_Pair(kind="exact", index=int(order[at]), copy_of=int(first)))
    return pairs


def _near(bench: Bench, prints: Array, parts: Array) -> tuple[list[_Pair], Array, float]:
    """Return near duplicates, the indices that were compared with all others, and the usual distance.

    Where d is the data's dimension, the distances to the first and fifth neighbour have a ratio whose d-th power is
    Beta(1, 4); d is estimated as in Facco et al., "Estimating the intrinsic dimension of datasets by a minimal
    neighborhood information", 2017. Near copies have a ratio far below.
    """
    from sklearn.neighbors import NearestNeighbors

    _, first = np.unique(prints, return_index=True)
    among = np.sort(first[parts[first] >= 0])
    if len(among) > MOST_REFERENCES:
        among = np.sort(bench.generator("duplicates", "among").choice(among, MOST_REFERENCES, replace=False))
    compared = _compared(bench, among, parts)
    if len(among) <= NEIGHBOURS + 1 or not len(compared) or _mostly_discrete(bench.examples):
        return [], compared, 0.0
    made = vectors(bench)
    compact = made.compact(among)
    nearest = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(compact)
    found = among[nearest.kneighbors(compact[np.searchsorted(among, compared)], return_distance=False)]
    found, distances = _by_distance(made, compared, found)
    first_one, second, last = distances[:, 0], distances[:, 1], distances[:, -1]
    usual = float(np.median(last))
    spread = float(np.median(np.log(np.maximum(second, 1e-12) / np.maximum(first_one, 1e-12))))
    dimension = float(np.clip(np.log(2) / max(spread, 1e-12), *DIMENSIONS))
    ratio = np.minimum(first_one / np.maximum(last, 1e-12), 1.0)
    chance = -np.expm1((NEIGHBOURS - 1) * np.log1p(-np.minimum(ratio**dimension, 1 - 1e-12)))
    close = np.flatnonzero((chance < NEAR_CHANCE / len(compared)) & (first_one < NEAR * usual))
    pairs = {}
    for at in close[np.argsort(first_one[close], kind="stable")]:
        earlier, later = sorted((int(compared[at]), int(found[at, 0])), key=lambda i: (parts[i], i))
        distance = float(first_one[at] / usual)
        pairs[earlier, later] = _Pair(kind="near", index=later, copy_of=earlier, distance=distance)
    return list(pairs.values()), compared, usual


def _compared(bench: Bench, among: Array, parts: Array) -> Array:
    """Return the indices of `among` to be compared with all others: as many of each split where not all can be."""
    most = int(bench.settings["examples"])
    queries = max(1000, 2 * most**2 // max(len(among), 1))
    if len(among) <= queries:
        return among
    chosen = []
    for part in range(len(SPLITS)):
        its = among[parts[among] == part]
        number = min(len(its), queries // len(SPLITS))
        chosen.append(bench.generator("duplicates", part).choice(its, number, replace=False))
    return np.sort(np.concatenate(chosen))


def _by_distance(made: Vectors, indices: Array, found: Array) -> tuple[Array, Array]:
    """Return neighbours and their distances (N, 5) in all values, nearest first, without the examples themselves."""
    neighbours, distances = np.empty_like(found[:, 1:]), np.empty((len(found), found.shape[1] - 1))
    step = max(16, min(1024, 2**20 // max(1, made.width)))
    for start in range(0, len(indices), step):
        rows = slice(start, start + step)
        at = indices[rows]
        needed, where = np.unique(np.concatenate([at, found[rows].ravel()]), return_inverse=True)
        values = made.of(needed)
        own, others = values[where[: len(at)]], values[where[len(at) :]].reshape(*found[rows].shape, -1)
        distance = np.linalg.norm(others - own[:, None], axis=2)
        distance[found[rows] == at[:, None]] = np.inf
        order = np.argsort(distance, axis=1, kind="stable")[:, :-1]
        neighbours[rows] = np.take_along_axis(found[rows], order, axis=1)
        distances[rows] = np.take_along_axis(distance, order, axis=1)
    return neighbours, distances


def _by_chance(examples: Examples, prints: Array) -> bool:
    """Tell whether so many equal examples are to be expected: a table of a few small numbers has them.

    Pairs that differ in one feature, and in two, tell how many would differ in none, were features to agree as they
    do where another one differs. Copies make pairs that differ in none, and no others.
    """
    from scipy.stats import poisson

    codes = _codes(examples)
    if codes is None:
        return False
    mixed = _mixed(codes)
    whole = mixed.sum(axis=1, dtype=np.uint64)
    equal, number = _pairs(prints), codes.shape[1]
    ones = [_pairs(whole - mixed[:, f]) - equal for f in range(number)]
    one, two = sum(ones), 0
    combinations = [*itertools.combinations(range(number), 2)]
    looked_at = combinations[:: -(-len(combinations) // MOST_PAIRS)]
    for f, g in looked_at:
        two += _pairs(whole - mixed[:, f] - mixed[:, g]) - equal - ones[f] - ones[g]
    two = two * len(combinations) // max(len(looked_at), 1)
    if one == 0:
        return equal <= two  # columns that change in twos: words as one-hot columns
    expected = max(0.5, one**2 / max(2 * two, 1) * (number - 1) / number)
    return bool(equal <= poisson.ppf(HONEST, 3 * expected) + 2 * expected)


def _codes(examples: Examples) -> Array | None:
    """Return the values of a table as small numbers, a column of words as one (N, F); None where that is not to be."""
    if examples.kind != "table" or examples.inputs.shape[1] < 2:
        return None
    inputs, columns = examples.inputs, []
    encoder = None if examples.table is None else TableEncoder.from_plain(examples.table)
    widths = [1] * inputs.shape[1] if encoder is None else [1 if w is None else len(w) for _, w in encoder.columns]
    if sum(widths) != inputs.shape[1]:
        widths = [1] * inputs.shape[1]
    if len(widths) > MOST_FEATURES:
        return None
    for start, width in zip(np.cumsum([0, *widths[:-1]]), widths, strict=True):
        values = inputs[:, start] if width == 1 else inputs[:, start : start + width].argmax(axis=1)
        columns.append(np.unique(values, return_inverse=True)[1])
    codes = np.unique(np.stack(columns, axis=1), axis=1)  # a column that repeats another would never differ alone
    return np.asarray(codes[:, np.ptp(codes, axis=0) > 0])


def _mixed(codes: Array) -> Array:
    """Return a random number for each value of each feature, uint64: sums of them tell rows apart."""
    generator = np.random.default_rng(0)
    mixed = np.empty(codes.shape, dtype=np.uint64)
    for f in range(codes.shape[1]):
        mixed[:, f] = generator.integers(0, 2**64, int(codes[:, f].max()) + 1, dtype=np.uint64)[codes[:, f]]
    return mixed


def _pairs(keys: Array) -> int:
    counts = np.unique(keys, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def _conflicts(bench: Bench, exact: Sequence[_Pair]) -> int:
    """Return how many copies within train and validation have another target than what they repeat."""
    known = np.zeros(len(bench.examples), dtype=bool)
    known[learnable(bench)] = True
    targets = bench.examples.targets
    both = [(p.index, p.copy_of) for p in exact if known[p.index] and known[p.copy_of]]
    if bench.classifies:
        return sum(int(targets[a]) != int(targets[b]) for a, b in both)
    apart = 0.5 * float(targets[bench.split.train].std())
    return sum(abs(float(targets[a]) - float(targets[b])) > apart for a, b in both)


_LATER = ((1, "validation"), (2, "test"))


def _leaked(
    parts: Array, part: int, exact: Sequence[_Pair], near: Sequence[_Pair], compared: Array
) -> tuple[int, float]:
    """Return how many examples of a split have a copy in an earlier one, and their share of the split.

    Near copies were looked for in a sample; their share is that of the sample.
    """
    copied = {p.index for p in exact if parts[p.index] == part and parts[p.copy_of] < part}
    nearly = {p.index for p in near if parts[p.index] == part and parts[p.copy_of] < part} - copied
    size, sampled = int(np.sum(parts == part)), int(np.sum(parts[compared] == part))
    nearly &= set(compared.tolist())
    return len(copied) + len(nearly), len(copied) / max(size, 1) + len(nearly) / max(sampled, 1)


def _verdict(leaked: Mapping[str, tuple[int, float]], repeated: int, examples: int) -> CheckVerdict:
    if any(count >= FEWEST_FAIL and share > LEAKED_FAIL for count, share in leaked.values()):
        return CheckVerdict.FAIL
    if any(count >= FEWEST_WARN and share > LEAKED_WARN for count, share in leaked.values()):
        return CheckVerdict.WARN
    if repeated >= FEWEST_FAIL and repeated > REPEATED_WARN * examples:
        return CheckVerdict.WARN
    return CheckVerdict.PASS


def _sentence(
    exact: Sequence[_Pair],
    near: Sequence[_Pair],
    leaked: Mapping[str, tuple[int, float]],
    conflicts: int,
    compared: int,
    examples: int,
) -> str:
    sampled = "" if compared >= examples - len(exact) else f" among a sample of {compared}"
    sentence = f"{len(exact)} of {examples} examples repeat an earlier one exactly, {len(near)} nearly{sampled}"
    across = [f"{share:.1%} of the {name} split" for name, (_, share) in leaked.items() if share]
    if across:
        sentence += f"; {' and '.join(across)} {'has' if len(across) == 1 else 'have'} a copy in an earlier split"
    if conflicts:
        sentence += f"; {conflicts} copies have another target than their first"
    return sentence


def _why(honest: bool, alike: bool, exact: Sequence[_Pair]) -> str:
    if alike:
        return "; no more than training examples have copies among each other, as inputs of few different values may"
    return "; as many as are to be expected of so few different values" if honest and len(exact) > 1 else ""


def _advice(verdict: CheckVerdict) -> str:
    if verdict is CheckVerdict.FAIL:
        return "drop the copies, or keep them in one split (split.group): a score on them rewards memory"
    return "look at the pairs; drop the copies, or keep them in one split (split.group)"


def _evidence(bench: Bench, pairs: Sequence[_Pair], parts: Array) -> tuple[Evidence, ...]:
    """Return the pairs, those across splits first, as a table and as pictures."""
    pairs = sorted(pairs, key=lambda p: (parts[p.index] == parts[p.copy_of], p.kind, p.distance))
    columns = ("kind", "index", "part", "target", "copy_of", "its_part", "its_target", "distance")
    rows = [
        (
            p.kind,
            *(p.index, SPLITS[parts[p.index]], words_of(bench, p.index, parts[p.index])),
            *(p.copy_of, SPLITS[parts[p.copy_of]], words_of(bench, p.copy_of, parts[p.copy_of])),
            round(p.distance, 5),
        )
        for p in pairs[:LISTED]
    ]
    indices = np.array([i for p in pairs[:PICTURED] for i in (p.copy_of, p.index)], dtype=np.int64)
    captions = [f"{i}, {SPLITS[parts[i]]}" for i in indices]
    return Sheet(name="pairs", columns=columns, rows=rows), *pictures(
        bench, "pairs", "copies beside what they repeat", indices, captions
    )


CHECK = Check(row="R01", title="duplicate examples", look=look)
