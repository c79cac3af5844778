"""The stage train: one trial again, alone, in this process, so that a debugger stops in it."""

from __future__ import annotations

import dataclasses
import time

from search.apps.rates import narrow_as_recorded
from search.apps.session import Session
from search.apps.training import TrainingSession
from search.errors import UsageError
from search.records import Decision, Outcome, Report, TrialState, Verdict
from search.sweep.executor import Answer, Talk, Words
from search.sweep.identity import require_same
from search.sweep.journal import read_attributes, read_trials
from search.sweep.study import COMPOSED, IDENTITY
from search.traces import told, user_traceback

FAILED = 1


def train_again(session: Session) -> int:
    """Train trial `cfg.trial` as the search did, to its planned end, into a folder of its own; return the exit code."""
    number = session.cfg.trial
    assert number is not None  # checked with the configuration
    trials = read_trials(session.folder)
    if number >= len(trials):
        there = f"it has trials 0 to {len(trials) - 1}" if trials else "it holds no study"
        raise UsageError(f"trial={number}: not in {session.folder}; {there}")
    attributes, params = read_attributes(session.folder), trials[number].params
    if isinstance(session, TrainingSession):
        narrow_as_recorded(session, attributes)
    require_same(attributes.get(IDENTITY), session.identity, session.folder)
    spec = session.spec(number, params, session.trained(number, params, int(attributes.get(COMPOSED, 0))))
    spec = dataclasses.replace(spec, directory=str(session.folder / "again" / f"{number:05d}-{time.time():.0f}"))
    for key, value in session.space.shown(spec.params).items():
        session.console.print(f"{key}: {value}", highlight=False)

    def answered(words: Words) -> Answer:
        (said,) = words
        assert isinstance(said, Report)
        figures = "  ".join(f"{key} {value:.4f}" for key, value in said.metrics.items())
        session.console.print(f"epoch {said.step}: {figures}", highlight=False)
        go_on = Decision(number=number, step=said.step, verdict=Verdict.GO_ON, reason="", time=said.time)
        return Answer((go_on,))

    try:
        outcome = session.run_here()(spec, Talk(spec, answered))
    except SystemExit as error:  # of the user's code: this program goes its own way
        session.console.print(user_traceback(error) or told(error), markup=False, highlight=False)
        return FAILED
    assert isinstance(outcome, Outcome)  # it was never told to pause
    if outcome.state is TrialState.FAILED:
        assert outcome.failure is not None
        session.console.print(outcome.failure.traceback or outcome.reason, markup=False, highlight=False)
        return FAILED
    session.console.print(f"{session.metric.name} {outcome.value:.6f} at epoch {outcome.best_step}; {spec.directory}")
    return 0
