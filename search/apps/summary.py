"""What MLflow is told of a search as a whole, from what the stages stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from search.apps.report import lines_of, rows_of, sentence_of, sizes_of
from search.apps.session import Session
from search.checks.rows import STAGES
from search.checks.stored import StageFindings, folder_of
from search.layout import LOOK
from search.post import data_curve as data_curves
from search.post import results as judgements
from search.post.comparison import ABLATION, REMATCH, Comparison
from search.post.data_curve import FACTORS, DataCurve
from search.post.results import Results
from search.records import CheckVerdict, worst
from search.reporting.findings import findings_markdown, summary_line
from search.reporting.tables import ablation_markdown, contenders_markdown, data_markdown, rematch_markdown
from search.sweep.journal import Journal
from search.tracking.outbox import delivered, summary_digest
from search.tracking.tracker import StageRun, Summary

_NOT_IN_KEYS = re.compile(r"[^\w\-./]")
"""What MLflow takes in no name of a metric."""


def tell(session: Session, journal: Journal) -> None:
    """Put what is stored on the search's run, unless it stands there."""
    uri, summary = session.tracking_uri, summary_of(session.folder)
    if uri is None or summary is None:
        return
    state = delivered(session.folder, uri)
    if state is None or state.told != summary_digest(summary):
        session.tracker(journal).summarize(summary)


def summary_of(folder: Path) -> Summary | None:
    """Return a study's stored results as MLflow is told of them; None where there are none."""
    parts = []
    stages = [s for stage in STAGES if (s := StageFindings.load(folder, stage)) is not None]
    if stages:
        parts.append(_of_stages(folder, stages))
    if (results := Results.load(folder)) is not None:
        parts.append(_of_results(results, folder / judgements.FILE))
    if (rematch := Comparison.load(folder / REMATCH)) is not None:
        parts.append(_of_rematch(rematch, folder / REMATCH))
    if (ablation := Comparison.load(folder / ABLATION)) is not None:
        parts.append(_of_ablation(ablation, folder / ABLATION))
    if (curve := DataCurve.load(folder)) is not None:
        parts.append(_of_data_curve(curve, folder))
    looks = {int(found.parent.name): found for found in sorted((folder / "trials").glob(f"*/{LOOK}"))}
    if not parts and not looks:
        return None
    return Summary(
        metrics={key: value for part in parts for key, value in part.metrics.items()},
        note="\n\n".join(part.note for part in parts),
        files=tuple(file for part in parts for file in part.files),
        time=max([part.time for part in parts] + [look.stat().st_mtime for look in looks.values()]),
        stages=tuple(stage for part in parts for stage in part.stages),
        looks=looks,
    )


def _of_stages(folder: Path, stages: Sequence[StageFindings]) -> Summary:
    return Summary(
        metrics={},
        note="\n\n".join(summary_line(stage.stage, stage.findings) for stage in stages),
        files=(),
        time=max(stage.ended for stage in stages),
        stages=tuple(_run_of(folder, stage) for stage in stages),
    )


def _run_of(folder: Path, stage: StageFindings) -> StageRun:
    """Return a stage as MLflow shows it: a tag a row, its numbers as `R11/loss`, of several setups `R11/cnn/loss`."""
    metrics: dict[str, float] = {}
    verdicts: dict[str, CheckVerdict] = {}
    for finding in stage.findings:
        verdicts[finding.row] = worst(verdicts.get(finding.row, CheckVerdict.PASS), finding.verdict)
        about = _NOT_IN_KEYS.sub("_", "/".join(word.rpartition("=")[2] for word in finding.subject.split()))
        prefix = f"{finding.row}/{about}" if about else finding.row
        metrics |= {f"{prefix}/{name}": value for name, value in finding.measured.items()}
        metrics |= {f"{prefix}/{name}_expected": value for name, value in finding.expected.items()}
    return StageRun(
        name=stage.stage,
        metrics=metrics,
        tags={f"search.{row}": verdict.value for row, verdict in verdicts.items()},
        note=findings_markdown(stage.stage, stage.findings),
        folder=folder_of(folder, stage.stage),
        began=stage.began,
        ended=stage.ended,
        well=not stage.failed,
    )


def _of_results(results: Results, file: Path) -> Summary:
    metrics: dict[str, float] = {}
    for contender in results.contenders:
        key = _NOT_IN_KEYS.sub("_", contender.name.split(" top ")[0])
        metrics[f"test/{key}"] = contender.test.value
        if contender.validation is not None:
            metrics[f"validation/{key}"] = contender.validation.value
        if contender.gain is not None:
            metrics[f"gain/{key}"] = contender.gain.value
    note = contenders_markdown(results.metric, rows_of(results))
    pictures = sorted((file.parent / judgements.FIGURES).glob("*.png"))
    return Summary(metrics=metrics, note=note, files=(file, *pictures), time=file.stat().st_mtime)


def _of_rematch(rematch: Comparison, file: Path) -> Summary:
    mean, deviation = rematch.best.spread or (None, None)
    metrics = {f"rematch/{name}": v for name, v in (("mean", mean), ("std", deviation)) if v is not None}
    note = f"{rematch_markdown(rematch.metric, lines_of(rematch))}\n\n{sentence_of(rematch)}"
    return Summary(metrics=metrics, note=note, files=(file,), time=file.stat().st_mtime)


def _of_ablation(ablation: Comparison, file: Path) -> Summary:
    gains = {f"ablation/{c.name}": c.gain for c in ablation.changes if c.gain is not None}
    note = ablation_markdown(ablation.metric, lines_of(ablation))
    return Summary(metrics=gains, note=note, files=(file,), time=file.stat().st_mtime)


def _of_data_curve(curve: DataCurve, folder: Path) -> Summary:
    metrics: dict[str, float] = {}
    if (law := curve.law) is not None:
        metrics = {"data_curve/floor": law.floor, "data_curve/exponent": law.exponent}
        expected = {factor: curve.expected(factor * law.most) for factor in (1, *FACTORS)}
        metrics |= {f"data_curve/times_{factor}": told[0] for factor, told in expected.items() if told is not None}
    note = f"{data_markdown(curve.metric, sizes_of(curve))}\n\n{curve.sentence()}"
    file = folder / data_curves.FILE
    there = tuple(path for path in (file, folder / data_curves.PICTURE) if path.exists())
    return Summary(metrics=metrics, note=note, files=there, time=file.stat().st_mtime)
