"""Where a champion comes from: study, data, figures, and the run of each member."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from search.post.results import Figure

FILE = "lineage.json"
_TRIAL = re.compile(r"(?:trials|rematch)/(\d+)(?:/|$)")
_LONGEST_TAG = 5000  # what MLflow's databases hold of one


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What a champion was made from.

    `champion` and `made_from` are those of the results. `members` are weights by folder, `teachers` those of the
    ensemble that a student learned from; `runs` has the MLflow run of each folder that is known to have one.
    `validation` is None for what was trained on that split.
    """

    study: str
    uid: str
    commit: str | None
    data: str
    data_digest: str
    made_from: str
    champion: str
    metric: str
    validation: Figure | None
    test: Figure
    test_size: int
    test_looks: int
    members: Mapping[str, float]
    teachers: Mapping[str, float] = field(default_factory=dict)
    runs: Mapping[str, str] = field(default_factory=dict)

    def tags(self) -> dict[str, str]:
        """Return tags for a registered version; members that are too many for one are only counted."""
        told = {
            "search.study": self.study,
            "search.uid": self.uid,
            "search.commit": self.commit,
            "search.contender": self.champion,
            "search.data": self.data,
            "search.data.digest": self.data_digest,
            "search.metric": self.metric,
            "search.validation": None if self.validation is None else figure_text(self.validation),
            "search.test": figure_text(self.test),
            "search.members": self._listed(self.members),
            "search.teachers": self._listed(self.teachers) if self.teachers else None,
        }
        return {key: value for key, value in told.items() if value}

    def to_plain(self) -> dict[str, Any]:
        """Return all of it as it is stored."""
        return asdict(self)

    def _listed(self, weights: Mapping[str, float]) -> str:
        members = [{"folder": f, "weight": round(w, 6), "run": self.runs.get(f)} for f, w in weights.items()]
        text = json.dumps(members, separators=(",", ":"))
        return text if len(text) <= _LONGEST_TAG else f"{len(weights)}, listed in {FILE}"


def trial_of(folder: str) -> int | None:
    """Return the number of the trial that a member's folder is, or is a snapshot or a rematch of; None for others."""
    found = _TRIAL.match(folder)
    return None if found is None else int(found[1])


def exported_from(folder: Path) -> tuple[str, str] | None:
    """Return (what it was made from, its name) of the champion in `folder`; None where there is none of this kind."""
    try:
        plain = json.loads((folder / FILE).read_text())
        return str(plain["made_from"]), str(plain["champion"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def figure_text(figure: Figure) -> str:
    """Return a figure with its interval."""
    return f"{figure.value:.4g} [{figure.low:.4g}, {figure.high:.4g}]"
