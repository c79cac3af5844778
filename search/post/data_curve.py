"""What more data would bring: a configuration trained on growing parts of the training split, and where that leads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from search.checks.evidence import Curves
from search.errors import UsageError
from search.files import write_atomically
from search.post.power_law import PowerLaw, fit

FILE = "data_curve.json"
PICTURE = "data_curve.png"
FACTORS = (2, 4)
"""How many times the data is asked about."""
_FEWEST = 3
"""Sizes that a curve of three parameters needs."""
_SMALLEST = 10
_FLAT = 0.05
"""Twice the data that lowers the error by less than this share is not worth its collection."""

Array = np.ndarray[Any, Any]


def sizes_of(wanted: int | Sequence[int], most: int, num_classes: int) -> tuple[int, ...]:
    """Return numbers of training examples, rising to `most` at most.

    A number asks for at most so many sizes, each twice the one before, up to all. `num_classes` is 0 for a regression.
    Raises UsageError where fewer than three sizes are left, or one is too large or too small to hold every class.
    """
    if isinstance(wanted, int):
        least = max(_SMALLEST, 2 * num_classes)
        sizes = [size for i in range(wanted) if (size := most >> i) >= least][::-1]
        if len(sizes) < _FEWEST:
            raise UsageError(
                f"data_curve.sizes={wanted}: {most} training examples are too few to be halved twice; "
                f"at least {4 * least} are needed"
            )
        return tuple(sizes)
    least = max(2, num_classes)
    for size in wanted:
        if not least <= size <= most:
            raise UsageError(f"data_curve.sizes={list(wanted)}: {size} must lie in {least} to {most}")
    return tuple(wanted)


@dataclass(frozen=True)
class DataCurve:
    """A metric on validation by number of training examples.

    `base` says in words what was trained. `values` has a row for each of `sizes`, with a value for each seed, None
    where a training failed or its figure is not finite. `hold` is what was the same for all sizes, steps or epochs.
    """

    metric: str
    maximize: bool
    base: str
    hold: str
    sizes: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]

    @property
    def seeds(self) -> int:
        """How often each size was trained."""
        return len(self.values[0])

    @cached_property
    def law(self) -> PowerLaw | None:
        """How the error falls, from the seeds that no training failed of; None where there is none or no error."""
        columns = [[v for v in column if v is not None] for column in zip(*self.values, strict=True)]
        whole = [column for column in columns if len(column) == len(self.sizes)]
        return fit(np.array(self.sizes), self.error(np.array(whole))) if whole else None

    def error(self, values: Array) -> Array:
        """Return the metric as an error, or an error as the metric: those that should be large are at most 1."""
        return 1 - values if self.maximize else values

    def spread(self, row: int) -> tuple[float, float | None] | None:
        """Return (mean, standard deviation) of a size's values; None in place of what too few leave open."""
        there = [value for value in self.values[row] if value is not None]
        if not there:
            return None
        return float(np.mean(there)), float(np.std(there, ddof=1)) if len(there) > 1 else None

    def expected(self, size: int) -> tuple[float, tuple[float, float] | None] | None:
        """Return what the law says of the metric at a size, with its 95 % interval."""
        if self.law is None:
            return None
        at = np.array([float(size)])
        around = self.law.interval(at)
        value = float(self.error(self.law.at(at))[0])
        if around is None:
            return value, None
        low, high = sorted(map(float, self.error(np.maximum(around[:, 0], 0))))
        return value, (low, high)

    @property
    def verdict(self) -> str:
        """Say whether more data would help."""
        if self.law is None:
            return "nothing can be told: no error is left to fall, or no seed has all its trainings"
        if self.law.follows is False:
            return "the points lie on no power law, so nothing is promised: look at the curve, or leave small sizes out"
        gain, interval = self.law.gain(FACTORS[0])
        if interval is None:
            return "one seed has all its trainings, which is too few to tell"
        if interval[1] < _FLAT:
            return "it flattens: more data of this kind would bring little"
        if interval[0] > 0 and gain >= _FLAT:
            return "more data helps"
        return "whether more data helps cannot be told from these seeds"

    def sentence(self) -> str:
        """Return the law and the verdict in words."""
        if self.law is None:
            return self.verdict
        law, (gain, interval) = self.law, self.law.gain(FACTORS[0])
        formula = f"error = {law.floor:.3g} + {law.fall:.3g} (n / {law.most})^-{law.exponent:.2g}"
        between = "" if interval is None else f" [{interval[0]:.0%}, {interval[1]:.0%}]"
        return f"{formula}; twice the data would lower it by {gain:.0%}{between}; {self.verdict}"

    def figure(self) -> Curves:
        """Return the errors, the law, and where it leads."""
        sizes = np.array(self.sizes, dtype=np.float64)
        means = [np.nan if (spread := self.spread(i)) is None else spread[0] for i in range(len(sizes))]
        lines = {"mean over seeds": np.stack([sizes, self.error(np.array(means))])}
        if self.law is not None:
            dense = np.geomspace(sizes[0], sizes[-1] * FACTORS[-1], 60)
            lines["power law"] = np.stack([dense, self.law.at(dense)])
            if (around := self.law.interval(dense)) is not None:
                lines["95 %, low"], lines["95 %, high"] = (np.stack([dense, edge]) for edge in around)
        return Curves(
            name="data_curve",
            title=f"error against data size: {self.base}",
            x="training examples",
            y=f"1 - {self.metric}" if self.maximize else self.metric,
            lines=lines,
            marks={"all": float(sizes[-1])},
            log_x=True,
            log_y=True,
        )

    def save(self, folder: Path) -> None:
        """Write the curve into a study's folder, with what it says for those who read it there."""
        told = {"law": self._law_in_plain(), "sentence": self.sentence()}
        write_atomically(folder / FILE, (json.dumps({**asdict(self), **told}, indent=2) + "\n").encode())

    def _law_in_plain(self) -> Mapping[str, object] | None:
        law = self.law
        if law is None:
            return None
        expected = {str(factor * law.most): self.expected(factor * law.most) for factor in FACTORS}
        return {"floor": law.floor, "fall": law.fall, "exponent": law.exponent, "expected": expected}

    @classmethod
    def load(cls, folder: Path) -> DataCurve | None:
        """Return a study's stored curve, or None where it has none; raise UsageError where it is damaged."""
        path = folder / FILE
        try:
            plain = json.loads(path.read_text())
            return cls(
                metric=str(plain["metric"]),
                maximize=bool(plain["maximize"]),
                base=str(plain["base"]),
                hold=str(plain["hold"]),
                sizes=tuple(map(int, plain["sizes"])),
                values=tuple(tuple(None if v is None else float(v) for v in row) for row in plain["values"]),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path}: damaged; delete it, and the same command makes it again") from error
