"""What a squeezed search amounts to, as plain records kept in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.files import write_atomically

FILE = "results.json"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of merit with its 95 % interval over examples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One candidate for the champion: its members (folder names relative to the study) with weights, and figures.

    `validation` is cross-fitted for what was chosen on the validation split, None for what was trained on it.
    """

    name: str
    members: Mapping[str, float]
    validation: Figure | None
    test: Figure


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
    model: str | None = None
    problem: str | None = None

    def save(self, folder: Path) -> None:
        """Write the results into a study's folder."""
        write_atomically(folder / FILE, (json.dumps(asdict(self), indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> Results | None:
        """Return a study's stored results, or None where it has none; raise UsageError where they are damaged."""
        path = folder / FILE
        try:
            plain: dict[str, Any] = json.loads(path.read_text())
            contenders = tuple(
                Contender(**{**c, "validation": _figure(c["validation"]), "test": Figure(**c["test"])})
                for c in plain["contenders"]
            )
            return cls(**{**plain, "contenders": contenders})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: damaged; delete it, and the same command makes it again") from error


def _figure(plain: Mapping[str, float] | None) -> Figure | None:
    return None if plain is None else Figure(**plain)
