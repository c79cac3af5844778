"""The stages inspect and preflight: the recipe's checks as work for the workers, what they found stored and told."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.apps.summary import tell
from search.apps.training import TrainingSession
from search.checks import findings as finding_files
from search.checks.rows import STAGES
from search.checks.stored import StageFindings, folder_of
from search.errors import UnsoundError
from search.keyed import keyed_int
from search.records import CheckSpec, CheckVerdict, FailureKind, Finding, Outcome, Params
from search.reporting.findings import counts_line, findings_table
from search.reporting.progress import TrainingsDisplay
from search.space import Dimension
from search.sweep.batch import run_all
from search.sweep.journal import Journal

_RATE = "optimizer.lr"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One of the setups that a search would vary: a choice of options at their defaults."""

    name: str
    params: Params
    rate: Dimension | None
    """The dimension of its learning rate, where it varies over a range."""


def check(session: TrainingSession, journal: Journal) -> None:
    """Run those of the two stages that the configuration names, then narrow the space where that is asked for.

    What was found before trials began is not looked for again. Raises UnsoundError where a verdict forbids going on.
    """
    done = [_stage(session, journal, stage) for stage in STAGES if _is_wanted(session, stage)]
    if done:
        tell(session, journal)
    for stage in done:
        node = session.cfg.inspect if stage.stage == "inspect" else session.cfg.preflight
        if stage.failed and node.on_fail == "stop":
            raise UnsoundError(_refusal(stage))
    if session.cfg.preflight.lr_bounds == "apply":
        _narrow(session)


def _is_wanted(session: TrainingSession, stage: str) -> bool:
    return stage in session.cfg.stages and not (stage == "preflight" and session.cfg.preflight.on_fail == "skip")


def _stage(session: TrainingSession, journal: Journal, stage: str) -> StageFindings:
    """Return what the stage finds, or found before the first trial."""
    made_from = _made_from(session, stage)
    stored = StageFindings.load(session.folder, stage)
    if stored is not None and stored.made_from == made_from and not stored.failed and journal.num_trials:
        _show(session, stored)
        return stored
    began = time.time()
    found = _collapsed(_look(session, stage))
    done = StageFindings(stage=stage, made_from=made_from, began=began, ended=time.time(), findings=tuple(found))
    done.save(session.folder)
    _show(session, done)
    return done


def _show(session: TrainingSession, done: StageFindings) -> None:
    """Print all findings where there are to be no trials, else those that ask for something."""
    alone = set(session.cfg.stages) <= STAGES.keys()
    shown = [f for f in done.findings if alone or f.verdict in (CheckVerdict.WARN, CheckVerdict.FAIL)]
    if shown:
        session.console.print(findings_table(done.stage, shown))
    where = f"; evidence is in {folder_of(session.folder, done.stage)}" if shown else ""
    session.console.print(f"{counts_line(done.stage, done.findings)}{where}", markup=False, highlight=False)


def _made_from(session: TrainingSession, stage: str) -> str:
    text = json.dumps([dict(session.identity), _settings(session, stage), list(STAGES[stage])], default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _settings(session: TrainingSession, stage: str) -> dict[str, Any]:
    """Return the stage's settings that findings depend on."""
    return {key: value for key, value in session.plain(stage).items() if key != "on_fail"}


def subjects(session: TrainingSession) -> list[Subject]:
    """Return the composed default, then each other option of a choice in its place."""
    space = session.space
    default = space.default()
    choices = {d.name: d.choices for d in space.dimensions if d.name in space.base.choose}
    sets = [default]
    for group, options in choices.items():
        sets += [space.complete({group: option}) for option in options if option != default[group]]
    several = [group for group, options in choices.items() if len(options) > 1]
    return [
        Subject(
            name=" ".join(f"{group}={params[group]}" for group in several),
            params=params,
            rate=next((d for d in space.dimensions if d.path == _RATE and d.name in params and not d.choices), None),
        )
        for params in sets
    ]


def _look(session: TrainingSession, stage: str) -> list[Finding]:
    """Have the workers look at every row; return the findings, subject by subject in the order of the recipe."""
    about = subjects(session) if stage == "preflight" else subjects(session)[:1]
    specs = [
        _spec(session, stage, row, subject, number)
        for number, (subject, row) in enumerate((s, row) for s in about for row in STAGES[stage])
    ]
    kinds = [spec.subject or "checks" for spec in specs]
    shutil.rmtree(folder_of(session.folder, stage), ignore_errors=True)  # of an earlier look
    with TrainingsDisplay(session.console, stage, kinds) as display:
        outcomes = run_all(session.executor, specs, display, session.failures())
    return [_finding(spec, outcome) for spec, outcome in zip(specs, outcomes, strict=True)]


def _spec(session: TrainingSession, stage: str, row: str, subject: Subject, number: int) -> CheckSpec:
    settings = _settings(session, stage)
    if subject.rate is not None:
        settings["lr_space"] = [subject.rate.low, subject.rate.high]
    folder = folder_of(session.folder, stage)
    name = subject.name if stage == "preflight" else ""
    if name:
        folder /= re.sub(r"[^\w.=+-]", "_", name)
    return CheckSpec(
        number=number,
        row=row,
        subject=name,
        config=session.space.configure(subject.params, session.keys),
        settings=settings,
        seed=keyed_int(session.cfg.seed, stage),
        directory=str(folder / row),
    )


def _finding(spec: CheckSpec, outcome: Outcome) -> Finding:
    """Return what the worker wrote; where it came to no end, that."""
    if outcome.failure is None:
        return finding_files.load(Path(spec.directory))
    # What raises is turned into a finding by the worker, so this is about the process or the machine.
    dies = outcome.failure.kind in (FailureKind.LOST_WORKER, FailureKind.HANG, FailureKind.TIMEOUT)
    return Finding(
        row=spec.row,
        title="",
        verdict=CheckVerdict.WARN if dies else CheckVerdict.SKIP,
        sentence=f"the check did not come to an end: {outcome.failure.message}",
        subject=spec.subject,
    )


def _collapsed(found: Sequence[Finding]) -> list[Finding]:
    """Return the findings with one failure that all rows of a subject share said once."""
    seen: set[tuple[str, str]] = set()
    kept: list[Finding] = []
    for finding in found:
        about = (finding.subject, finding.sentence)
        if finding.verdict is CheckVerdict.FAIL and about in seen:
            first = next(f for f in kept if (f.subject, f.sentence) == about)
            words = {"verdict": CheckVerdict.SKIP, "sentence": f"for the reason that {first.row} says", "advice": ""}
            finding = Finding(**{**vars(finding), **words})
        seen.add(about)
        kept.append(finding)
    return kept


def _refusal(stage: StageFindings) -> str:
    first = stage.failed[0]
    where = f" ({first.subject})" if first.subject else ""
    more = f"; {len(stage.failed) - 1} more fail" if len(stage.failed) > 1 else ""
    return (
        f"{stage.stage}: {first.row} {first.title}{where}: {first.sentence}{more}; no trial was started; mend it, or "
        f"{stage.stage}.on_fail=warn to go on"
    )


def suggested_rates(session: TrainingSession) -> dict[str, tuple[float, float]]:
    """Return the range test's bounds by dimension: of several subjects that share one, the widest."""
    stored = StageFindings.load(session.folder, "preflight")
    if stored is None:
        return {}
    bounds: dict[str, tuple[float, float]] = {}
    by_subject: Mapping[str, Finding] = {f.subject: f for f in stored.findings if f.row == "R36"}
    for subject in subjects(session):
        measured = by_subject[subject.name].measured if subject.name in by_subject else {}
        if subject.rate is None or not {"lr_low", "lr_high"} <= measured.keys():
            continue
        low, high = _rounded(measured["lr_low"]), _rounded(measured["lr_high"])
        before = bounds.get(subject.rate.name, (low, high))
        bounds[subject.rate.name] = min(low, before[0]), max(high, before[1])
    return bounds


def _narrow(session: TrainingSession) -> None:
    """Cut the space of each learning rate down to what the range test suggests, where the two meet."""
    for name, (low, high) in suggested_rates(session).items():
        dimension = next(d for d in session.space.dimensions if d.name == name)
        kept = max(low, dimension.low), min(high, dimension.high)
        if kept[0] >= kept[1]:
            note = f"{name}: the range test's {low:g} to {high:g} do not meet {dimension.describe()}, which stays"
        else:
            session.narrow(name, *kept)
            note = f"{name}: {kept[0]:g} to {kept[1]:g} by the range test, was {dimension.describe()}"
        session.console.print(f"note: {note}", style="dim", markup=False, highlight=False)


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
