"""What a stage of checks found, as it is stored with the study."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from search.checks.findings import from_plain, to_plain
from search.files import write_atomically
from search.records import CheckVerdict, Finding

FOLDER = "checks"


@dataclass(frozen=True, kw_only=True)
class StageFindings:
    """Findings in the order of the recipe; `made_from` is a digest of what was checked, times are in seconds."""

    stage: str
    made_from: str
    began: float
    ended: float
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """Those that forbid going on."""
        return tuple(finding for finding in self.findings if finding.verdict is CheckVerdict.FAIL)

    def save(self, study: Path) -> None:
        """Write them into the study's folder, with what they were made from."""
        plain = {**vars(self), "findings": [to_plain(finding) for finding in self.findings]}
        write_atomically(_file(study, self.stage), json.dumps(plain, indent=1).encode())

    @staticmethod
    def remove(study: Path, stage: str) -> None:
        """Take away what the study holds of a stage."""
        _file(study, stage).unlink(missing_ok=True)

    @classmethod
    def load(cls, study: Path, stage: str) -> Self | None:
        """Return what the study holds of a stage; None where there is nothing, or nothing that can be read."""
        try:
            plain = json.loads(_file(study, stage).read_bytes())
            return cls(**{**plain, "findings": tuple(map(from_plain, plain["findings"]))})
        except (OSError, ValueError, TypeError, KeyError):
            return None


def folder_of(study: Path, stage: str) -> Path:
    """Return the folder of a stage's evidence."""
    return study / FOLDER / stage


def _file(study: Path, stage: str) -> Path:
    return study / FOLDER / f"{stage}.json"
