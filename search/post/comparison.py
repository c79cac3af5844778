"""Configurations that were trained over the same seeds: what single changes are worth, whether winners differ."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from search.errors import UsageError
from search.files import write_atomically

ABLATION, REMATCH = "ablation.json", "rematch.json"
"""Where the stages of these names keep theirs."""
BASE = "base"
NO_CHANGE, WITHIN_NOISE = "no change", "within noise"
_ALIKE = 1e-9
"""Gains that differ by less are equal but for their rounding."""
_TAIL = 0.975
"""Quantile of Student's t that bounds a two-sided 95 % interval."""

Values = Sequence[float | None]
"""The metric by seed; None where a training failed."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The base, or the base with one change; `what` says it in words.

    `values` are the metric's by seed, None where a training failed. `spread` is their (mean, standard deviation),
    `gain` the mean over the `pairs` seeds that base and change have in common of how much better the change is, and
    `interval` its 95 % interval (Student's t). What too few trainings leave open is None.
    """

    name: str
    what: str
    values: tuple[float | None, ...] = ()
    spread: tuple[float, float | None] | None = None
    pairs: int = 0
    gain: float | None = None
    interval: tuple[float, float] | None = None
    verdict: str = ""


def base_of(what: str, values: Values, name: str = BASE) -> Variant:
    """Return the base as others are compared with it."""
    return Variant(name=name, what=what, values=tuple(values), spread=_spread(values))


def change_of(name: str, what: str, values: Values, base: Variant, *, maximize: bool) -> Variant:
    """Return a change, compared with the base seed by seed."""
    sign = 1.0 if maximize else -1.0
    gains = [
        sign * (ours - theirs)
        for ours, theirs in zip(values, base.values, strict=True)
        if ours is not None and theirs is not None
    ]
    interval = _interval(gains)
    return Variant(
        name=name,
        what=what,
        values=tuple(values),
        spread=_spread(values),
        pairs=len(gains),
        gain=float(np.mean(gains)) if gains else None,
        interval=interval,
        verdict=_verdict(interval),
    )


def rival_of(name: str, what: str, values: Values, base: Variant, *, maximize: bool) -> Variant:
    """Return another configuration, compared with the base seed by seed."""
    found = change_of(name, what, values, base, maximize=maximize)
    words = {"helps": "better", "hurts": "worse", "no difference shown": WITHIN_NOISE}
    return dataclasses.replace(found, verdict=words.get(found.verdict, found.verdict))


def unchanged(name: str) -> Variant:
    """Return a change that the base has already."""
    return Variant(name=name, what="the base has it", verdict=NO_CHANGE)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The stored comparison of a base with changes to it, or with others."""

    metric: str
    maximize: bool
    seeds: int
    base: Variant
    changes: tuple[Variant, ...]

    @property
    def best(self) -> Variant:
        """The one with the best mean; the base where none is better."""
        sign = 1.0 if self.maximize else -1.0
        return max((self.base, *self.changes), key=lambda v: -np.inf if v.spread is None else sign * v.spread[0])

    def save(self, path: Path) -> None:
        """Write the comparison into a file."""
        write_atomically(path, (json.dumps(asdict(self), indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Comparison | None:
        """Return what was stored in a file, or None where there is none; raise UsageError where it is damaged."""
        try:
            plain: dict[str, Any] = json.loads(path.read_text())
            changes = tuple(_variant(change) for change in plain["changes"])
            return cls(**{**plain, "base": _variant(plain["base"]), "changes": changes})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path}: damaged; delete it, and the same command makes it again") from error


def _variant(plain: dict[str, Any]) -> Variant:
    there: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
    return Variant(**there)


def _spread(values: Values) -> tuple[float, float | None] | None:
    there = [value for value in values if value is not None]
    if not there:
        return None
    return float(np.mean(there)), float(np.std(there, ddof=1)) if len(there) > 1 else None


def _interval(gains: Sequence[float]) -> tuple[float, float] | None:
    pairs = len(gains)
    if pairs < 2 or (gains[0] and np.ptp(gains) < _ALIKE):  # a few equal steps of a coarse metric are no certainty
        return None
    mean, half = np.mean(gains), stdtrit(pairs - 1, _TAIL) * np.std(gains, ddof=1) / np.sqrt(pairs)
    return float(mean - half), float(mean + half)


def _verdict(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return "too few pairs"
    low, high = interval
    return "helps" if low > 0 else "hurts" if high < 0 else "no difference shown"
