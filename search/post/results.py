"""What a squeezed search amounts to, as plain records kept in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from search.errors import UsageError
from search.files import write_atomically

FILE, FIGURES = "results.json", "judgement"
"""In a study's folder: the record, and the folder of pictures of where the champion is wrong."""
STUDENT, ALONE = "student", "student alone"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of merit with its 95 % interval over examples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The expected calibration error and the log loss of class probabilities, before and after their temperature."""

    error_before: float
    error: float
    loss_before: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One candidate for the champion: its members (folder names relative to the study) with weights, and figures.

    The rematch mean is none, and no ensemble: its figures are the means of its members' own.

    `validation` is cross-fitted for what was chosen on the validation split, None for what was trained on it.
    `gain` is by how much the contender is better than the single best on test, over the same examples. Members'
    probabilities are at their own of the `temperatures`, or 1, their mean at the `temperature`; `calibration`, by
    split, is what the latter did, and empty for values.
    """

    name: str
    members: Mapping[str, float]
    validation: Figure | None
    test: Figure
    gain: Figure | None = None
    temperatures: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    calibration: Mapping[str, Calibration] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What an ensemble's members are to each other, on validation.

    `disagreement` is the share of examples on which two members name different classes, `correlation` that of two
    members' errors where they predict values: means over pairs. `contributions` is by how much the ensemble would be
    worse without each member.
    """

    name: str
    metric: str
    contributions: Mapping[str, float]
    disagreement: float | None = None
    correlation: float | None = None


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An example that the champion has wrong: its index into the data set, and for a class, how sure it was."""

    index: int
    true: str | float
    predicted: str | float
    probability: float | None = None


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """Where the champion is wrong on test: the worst, and how many of a true class (row) were taken for each.

    `confusion` is None for values, and for more classes than anybody looks through.
    """

    wrong: int | None
    worst: tuple[Mistake, ...]
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Results:
    """The stored judgement.

    `made_from` is a digest of the finished trials and the settings it was made from. `model` is the registered
    champion's address; `problem` says why there can be none.
    """

    metric: str
    maximize: bool
    made_from: str
    test_looks: int
    test_size: int
    champion: str
    contenders: tuple[Contender, ...]
    anatomy: Anatomy | None = None
    mistakes: Mistakes | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    problem: str | None = None

    def kept_by_student(self, ensemble: str) -> float | None:
        """Return the share of the ensemble's gain over the student alone that the student has too, on test.

        None where there is no gain to speak of: where the student alone lies within the ensemble's interval.
        """
        test = {contender.name: contender.test for contender in self.contenders}
        if not {STUDENT, ALONE, ensemble} <= test.keys():
            return None
        whole, alone = test[ensemble], test[ALONE].value
        if alone >= whole.low if self.maximize else alone <= whole.high:
            return None
        return (test[STUDENT].value - alone) / (whole.value - alone)

    def save(self, folder: Path) -> None:
        """Write the results into a study's folder."""
        write_atomically(folder / FILE, (json.dumps(asdict(self), indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> Results | None:
        """Return a study's stored results, or None where it has none; raise UsageError where they are damaged."""
        path = folder / FILE
        try:
            text = path.read_text()
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _damaged(path) from error
        from pydantic import TypeAdapter

        try:
            return TypeAdapter(cls).validate_python(json.loads(text))
        except ValueError as error:
            raise _damaged(path) from error


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path}: damaged; delete it, and the same command makes it again")
