"""Findings as files: what a worker writes, and the driver reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.files import write_atomically
from search.records import CheckVerdict, Finding

FILE = "finding.json"


def to_plain(finding: Finding) -> dict[str, Any]:
    """Return the finding as JSON can hold it."""
    return {
        **vars(finding),
        "verdict": str(finding.verdict),
        "expected": dict(finding.expected),
        "measured": dict(finding.measured),
        "evidence": list(finding.evidence),
    }


def from_plain(plain: Mapping[str, Any]) -> Finding:
    """Return the finding of `to_plain`; raise ValueError for anything else."""
    try:
        verdict, evidence = CheckVerdict(plain["verdict"]), tuple(plain["evidence"])
        finding = Finding(**{**plain, "verdict": verdict, "evidence": evidence})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a finding: {str(plain)[:80]}") from error
    if isinstance(plain["evidence"], str) or not _sound(finding):
        raise ValueError(f"not a finding: {str(plain)[:80]}")
    return finding


def save(finding: Finding, folder: Path) -> None:
    """Write the finding into its folder."""
    write_atomically(folder / FILE, json.dumps(to_plain(finding), indent=1).encode())


def load(folder: Path) -> Finding:
    """Return the finding that a folder holds; raise OSError or ValueError where there is none."""
    return from_plain(json.loads((folder / FILE).read_bytes()))


def _sound(finding: Finding) -> bool:
    """Tell whether the fields have the types they say; a file may hold anything."""
    words = (finding.row, finding.title, finding.sentence, finding.subject, finding.advice, *finding.evidence)
    numbers = (finding.expected, finding.measured)
    return all(isinstance(word, str) for word in words) and all(
        isinstance(of, dict) and all(isinstance(value, int | float) for value in of.values()) for of in numbers
    )
