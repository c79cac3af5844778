"""The stages inspect and preflight: the recipe's checks as work for the workers, what they found stored and told."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.apps.rates import narrow
from search.apps.subjects import Subject, subjects
from search.apps.summary import tell
from search.apps.training import TrainingSession
from search.checks import findings as finding_files
from search.checks.rows import STAGES
from search.checks.stored import StageFindings, folder_of
from search.errors import UnsoundError, UsageError
from search.keyed import keyed_int
from search.records import CheckSpec, CheckVerdict, Finding, Outcome
from search.reporting.findings import counts_line, findings_table
from search.reporting.progress import TrainingsDisplay
from search.sweep.batch import run_all
from search.sweep.journal import Journal

_CAUSES = ("R10", "R19", "R20", "R18", "R23", "R22", "R21", "R12", "R11", "R16", "R17", "R14", "R13")
"""Rows of the preflight, those that say what is wrong before those that say what comes of it."""


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
    if session.cfg.preflight.lr_bounds == "apply" and not journal.num_trials and "search" in session.cfg.stages:
        narrow(session, journal, _of_this_setup(session).findings)


def _is_wanted(session: TrainingSession, stage: str) -> bool:
    if stage not in session.cfg.stages:
        return False
    if stage == "preflight" and session.cfg.preflight.on_fail == "skip":
        session.console.print("preflight.on_fail=skip: the setup is not proved", style="dim")
        return False
    return True


def _of_this_setup(session: TrainingSession) -> StageFindings:
    """Return what a preflight of what is composed now found; raise UsageError where there is none."""
    stored = StageFindings.load(session.folder, "preflight")
    if stored is None or stored.made_from != _made_from(session, "preflight"):
        raise UsageError("preflight.lr_bounds=apply: there is no range test of this setup; add preflight to stages")
    return stored


def _stage(session: TrainingSession, journal: Journal, stage: str) -> StageFindings:
    """Return what the stage finds, or found before the first trial."""
    made_from = _made_from(session, stage)
    stored = StageFindings.load(session.folder, stage)
    if stored is None or stored.made_from != made_from or not journal.num_trials:
        began = time.time()
        StageFindings.remove(session.folder, stage)  # its evidence goes now
        shutil.rmtree(folder_of(session.folder, stage), ignore_errors=True)
        found = tuple(_look(session, stage))
        stored = StageFindings(stage=stage, made_from=made_from, began=began, ended=time.time(), findings=found)
        stored.save(session.folder)
    _show(session, stored)
    return stored


def _show(session: TrainingSession, done: StageFindings) -> None:
    """Print all findings where there are to be no trials, else those that ask for something."""
    alone = set(session.cfg.stages) <= STAGES.keys()
    shown = [f for f in done.findings if alone or f.verdict in (CheckVerdict.WARN, CheckVerdict.FAIL)]
    if shown:
        session.console.print(findings_table(done.stage, shown))
    where = folder_of(session.folder, done.stage)
    line = f"{counts_line(done.stage, done.findings)}; evidence is in {where}"
    session.console.print(line, markup=False, highlight=False)


def _made_from(session: TrainingSession, stage: str) -> str:
    text = json.dumps([dict(session.composed_identity), _settings(session, stage), list(STAGES[stage])], default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _settings(session: TrainingSession, stage: str) -> dict[str, Any]:
    """Return the stage's settings that findings depend on."""
    return {key: value for key, value in session.plain(stage).items() if key != "on_fail"}


def _look(session: TrainingSession, stage: str) -> list[Finding]:
    """Have the workers look at every row; return the findings, subject by subject in the order of the recipe."""
    session.require_importable()
    about = subjects(session.space) if stage == "preflight" else subjects(session.space)[:1]
    specs = [
        _spec(session, stage, row, subject, number)
        for number, (subject, row) in enumerate((s, row) for s in about for row in STAGES[stage])
    ]
    kinds = [spec.subject or "checks" for spec in specs]
    with TrainingsDisplay(session.console, stage, kinds) as display:
        outcomes = run_all(session.executor, specs, display, session.failures())
    return _collapsed(specs, [_finding(spec, outcome) for spec, outcome in zip(specs, outcomes, strict=True)])


def _spec(session: TrainingSession, stage: str, row: str, subject: Subject, number: int) -> CheckSpec:
    settings = _settings(session, stage)
    if subject.rate is not None:
        settings["lr_space"] = [subject.rate.low, subject.rate.high]
    folder = folder_of(session.folder, stage)
    whose = subject.name if stage == "preflight" else ""
    return CheckSpec(
        number=number,
        row=row,
        subject=whose,
        config=session.space.configure(subject.params, session.keys),
        settings=settings,
        seed=keyed_int(session.cfg.seed, stage),
        directory=str((folder / subject.folder if whose else folder) / row),
    )


def _finding(spec: CheckSpec, outcome: Outcome) -> Finding:
    """Return what the worker wrote; where it came to no end, that, and that nobody knows what is wrong."""
    if outcome.failure is None:
        return finding_files.load(Path(spec.directory))
    # What raises is turned into a finding by the worker, so this is about the process or the machine.
    return Finding(
        row=spec.row,
        title="(no answer)",
        verdict=CheckVerdict.WARN,
        sentence=f"the check did not come to an end: {outcome.failure.message}",
        subject=spec.subject,
        advice="a trial may end in the same way",
    )


def _collapsed(specs: Sequence[CheckSpec], found: Sequence[Finding]) -> list[Finding]:
    """Return the findings with one failure that all rows of a subject share said once."""
    said: dict[tuple[str, str], str] = {}
    kept: list[Finding] = []
    for spec, finding in zip(specs, found, strict=True):
        about = (finding.subject, finding.sentence)
        if finding.verdict is CheckVerdict.FAIL and about in said:
            words = f"for the reason that {said[about]} says"
            finding = dataclasses.replace(finding, verdict=CheckVerdict.SKIP, sentence=words, advice="")
            finding_files.save(finding, Path(spec.directory))
        said.setdefault(about, finding.row)
        kept.append(finding)
    return kept


def _refusal(stage: StageFindings) -> str:
    first = min(stage.failed, key=lambda f: _CAUSES.index(f.row) if f.row in _CAUSES else -1)
    where = f" ({first.subject})" if first.subject else ""
    advice = f" ({first.advice})" if first.advice else ""
    others = ", ".join(dict.fromkeys(f.row for f in stage.failed if f.row != first.row))
    more = f"; {others} fail, too" if others else ""
    return (
        f"{stage.stage}: {first.row} {first.title}{where}: {first.sentence}{advice}{more}; no trial was started; mend "
        f"it, or {stage.stage}.on_fail=warn to go on"
    )
