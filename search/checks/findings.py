"""Findings as files: what a worker writes, and the driver reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.files import write_atomically
from search.records import CheckVerdict, Finding

FILE = "finding.json"


def to_plain(finding: Finding) -> dict[str, Any]:
    """Return the finding as JSON can hold it."""
    return dataclasses.asdict(finding)


def from_plain(plain: Mapping[str, Any]) -> Finding:
    """Return the finding of `to_plain`; raise ValueError for anything else."""
    try:
        verdict, evidence = CheckVerdict(plain["verdict"]), tuple(plain["evidence"])
        return Finding(**{**plain, "verdict": verdict, "evidence": evidence})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a finding: {str(plain)[:80]}") from error


def save(finding: Finding, folder: Path) -> None:
    """Write the finding into its folder."""
    write_atomically(folder / FILE, json.dumps(to_plain(finding), indent=1).encode())


def load(folder: Path) -> Finding:
    """Return the finding that a folder holds; raise OSError or ValueError where there is none."""
    return from_plain(json.loads((folder / FILE).read_bytes()))
