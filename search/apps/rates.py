"""What a range test leaves of the learning rates' space, where `preflight.lr_bounds=apply` asks for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.apps.subjects import Subject, subjects
from search.apps.training import TrainingSession
from search.records import Finding
from search.sweep.journal import Journal

RECORDED = "lr_bounds"
"""Under this name the study stores the bounds that its first trial was drawn from, by dimension, with the old ones."""


def narrow_as_recorded(session: TrainingSession, attributes: Mapping[str, Any]) -> None:
    """Go on with the bounds that the study began with: another range test would give others."""
    if session.cfg.preflight.lr_bounds != "apply":
        return
    known = {d.name for d in session.space.dimensions}
    for name, bounds in attributes.get(RECORDED, {}).items():
        if name in known:
            session.narrow(name, bounds["low"], bounds["high"])


def narrow(session: TrainingSession, journal: Journal, findings: Sequence[Finding]) -> None:
    """Cut the space of each learning rate down to what the range test suggests, where the two meet; record that."""
    recorded = {}
    suggested = _suggested(subjects(session.space), findings)
    for dimension in session.space.dimensions:
        if dimension.name not in suggested:
            continue
        low, high = suggested[dimension.name]
        kept = max(low, dimension.low), min(high, dimension.high)
        was = dimension.describe()
        if kept[0] < kept[1]:
            session.narrow(dimension.name, *kept)
            recorded[dimension.name] = {"low": kept[0], "high": kept[1], "was": [dimension.low, dimension.high]}
            note = f"{kept[0]:g} to {kept[1]:g} by the range test, was {was}"
        else:
            place = dimension.name.rpartition(".")
            asked = f"{place[0]}.space.{place[2]}.low={low:g} {place[0]}.space.{place[2]}.high={high:g}"
            note = f"the range test's {low:g} to {high:g} lie outside {was}, which stays; to search them: {asked}"
        session.console.print(f"note: {dimension.name}: {note}", style="dim", markup=False, highlight=False)
    if not suggested:
        session.console.print("note: the range test suggests no learning rates; the space stays", style="dim")
    journal.set_attribute(RECORDED, recorded)


def _suggested(about: Sequence[Subject], findings: Sequence[Finding]) -> dict[str, tuple[float, float]]:
    """Return the range test's bounds by dimension: of several subjects that share one, the widest."""
    measured = {finding.subject: finding.measured for finding in findings if finding.row == "R36"}
    bounds: dict[str, tuple[float, float]] = {}
    for subject in about:
        found = measured.get(subject.name, {})
        if subject.rate is None or not {"lr_low", "lr_high"} <= found.keys():
            continue
        low, high = _rounded(found["lr_low"]), _rounded(found["lr_high"])
        before = bounds.get(subject.rate.name, (low, high))
        bounds[subject.rate.name] = min(low, before[0]), max(high, before[1])
    return bounds


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
