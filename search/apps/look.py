"""The stage look: figures of trials from inside, of the best and of those that failed, or of one that is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from search.apps.summary import tell
from search.apps.training import TrainingSession
from search.errors import StrandedError, UsageError
from search.layout import DIAGNOSIS, DIAGNOSTICS, LOOK, NOT_DRAWN, WEIGHTS
from search.records import LookSpec, TrialState
from search.reporting.progress import TrainingsDisplay
from search.sweep.batch import run_all
from search.sweep.study import Study

_BEST = 3
_FAILED = 3


def look_inside(session: TrainingSession, study: Study) -> None:
    """Have the workers draw what is not drawn yet; say where it is. Raises UsageError for a trial that is not there."""
    asked = session.cfg.trial
    if asked is not None:
        if asked not in study.outcomes:
            raise UsageError(f"trial={asked}: has not ended in {session.folder}")
        _say(session, study, asked)
    numbers = (
        [asked] if asked is not None else [n for n in _worth_it(study) if not (study.directory(n) / LOOK).exists()]
    )
    specs = list(_specs(session, study, numbers))
    if not specs:
        return
    with TrainingsDisplay(session.console, "looking into trials", ["trials"] * len(specs)) as display:
        numbered = [dataclasses.replace(spec, number=i) for i, spec in enumerate(specs)]
        outcomes = run_all(session.executor, numbered, display, session.failures())
    drawn: list[LookSpec] = []
    for spec, outcome in zip(specs, outcomes, strict=True):
        if outcome.failure is not None:
            _note(session, f"trial {spec.number} cannot be drawn: {outcome.reason}")
            continue
        drawn.append(spec)
        if (missing := Path(spec.directory) / LOOK / NOT_DRAWN).exists():
            for line in missing.read_text().splitlines():
                _note(session, f"trial {spec.number}: cannot draw its {line}")
    if not drawn:
        return
    listed = ", ".join(str(spec.number) for spec in drawn)
    where = study.directory(drawn[0].number) / LOOK
    session.console.print(f"what trials {listed} look like inside is in {where} and its like", highlight=False)
    tell(session, study.journal)


def _note(session: TrainingSession, text: str) -> None:
    session.console.print(text, style="dim", markup=False)


def _say(session: TrainingSession, study: Study, number: int) -> None:
    """Print what ails a trial."""
    folder = study.directory(number)
    if (folder / DIAGNOSIS).exists():
        text = (folder / DIAGNOSIS).read_text().strip()
    elif (folder / DIAGNOSTICS).exists():
        text = "nothing ails it that is looked for"
    else:
        text = "was not looked into while it trained"
    session.console.print(f"trial {number}: {text}", markup=False, highlight=False)


def _worth_it(study: Study) -> list[int]:
    """Return the best trials and the last of those that failed while they trained."""
    sign = -1.0 if study.maximize else 1.0
    ended = [o for n, o in study.outcomes.items() if n >= study.comparable_from]
    good = [o for o in ended if o.value is not None and o.state is not TrialState.FAILED]
    good.sort(key=lambda o: (sign * (o.value or 0.0), o.number))
    failed = [o for o in ended if o.state is TrialState.FAILED and (study.directory(o.number) / DIAGNOSTICS).exists()]
    return [o.number for o in good[:_BEST]] + [o.number for o in failed[-_FAILED:]]


def _specs(session: TrainingSession, study: Study, numbers: list[int]) -> Iterator[LookSpec]:
    for number in numbers:
        folder = study.directory(number)
        if not (folder / DIAGNOSTICS).exists() and not (folder / WEIGHTS).exists():
            _note(session, f"trial {number} cannot be drawn: neither {DIAGNOSTICS} nor {WEIGHTS} is in {folder}")
            continue
        try:
            config = session.trained(number, study.params[number], study.composed_from)
        except StrandedError as error:
            _note(session, f"note: {error}")
            continue
        yield LookSpec(number=number, config=config, directory=str(folder))
