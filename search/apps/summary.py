"""What MLflow is told of a search as a whole, from what the stages stored."""

from __future__ import annotations

from pathlib import Path

from search.apps.report import lines_of, rows_of
from search.apps.session import Session
from search.post import ablation as ablations
from search.post import results as judgements
from search.post.ablation import Ablation
from search.post.results import Results
from search.reporting.tables import ablation_markdown, contenders_markdown
from search.sweep.journal import Journal
from search.tracking.outbox import delivered, summary_digest
from search.tracking.tracker import Summary


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
    if (results := Results.load(folder)) is not None:
        parts.append(_of_results(results, folder / judgements.FILE))
    if (ablation := Ablation.load(folder)) is not None:
        parts.append(_of_ablation(ablation, folder / ablations.FILE))
    if not parts:
        return None
    return Summary(
        metrics={key: value for part in parts for key, value in part.metrics.items()},
        note="\n\n".join(part.note for part in parts),
        files=tuple(file for part in parts for file in part.files),
        time=max(part.time for part in parts),
    )


def _of_results(results: Results, file: Path) -> Summary:
    metrics: dict[str, float] = {}
    for contender in results.contenders:
        key = contender.name.split(" top ")[0].replace(" ", "_")
        metrics |= {f"validation/{key}": contender.validation.value, f"test/{key}": contender.test.value}
    note = contenders_markdown(results.metric, rows_of(results))
    return Summary(metrics=metrics, note=note, files=(file,), time=file.stat().st_mtime)


def _of_ablation(ablation: Ablation, file: Path) -> Summary:
    gains = {f"ablation/{c.name}": c.gain for c in ablation.changes if c.gain is not None}
    note = ablation_markdown(ablation.metric, lines_of(ablation))
    return Summary(metrics=gains, note=note, files=(file,), time=file.stat().st_mtime)
