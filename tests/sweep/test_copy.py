"""The copy of a study in an Optuna storage of the user's, which may be away."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf

from search.records import Outcome, Report, TrialState
from search.space import Space
from search.sweep.copy import StorageCopy, without_password
from search.sweep.journal import Journal
from search.sweep.study import Progress, Study

SPACE = Space.of(OmegaConf.create({"choose": {}, "x": 1, "space": {"x": {"low": 1, "high": 9}}}))


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with contextlib.closing(Journal(tmp_path / "study", maximize=False)) as journal:
        yield Study(journal, SPACE, {}, maximize=False)


def ended(study: Study, value: float) -> Outcome:
    number = study.create({"x": 2})
    outcome = Outcome(
        number=number,
        state=TrialState.COMPLETE,
        value=value,
        best_step=None,
        steps=0,
        reason="",
        seconds=1.0,
        time=1.0,
    )
    study.record(outcome)
    return outcome


class Away:
    """Stands in for Optuna's function where no storage answers; notes when it was asked."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[float] = []

    def __call__(self, **_: Any) -> None:
        self.asked.append(self.now)
        raise OSError("away")


def test_a_storage_that_is_away_is_asked_again_after_a_while_and_at_the_end(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"sqlite:///{tmp_path}/copy.db"
    ended(study, 0.5)
    away = Away()
    with monkeypatch.context() as patched:
        patched.setattr(optuna, "create_study", away)
        copy = StorageCopy(address, "mine", [False], study, stopwatch=lambda: away.now)
        for now in (1.0, 29.0, 30.0, 31.0, 59.0, 60.0, 61.0):
            away.now = now
            copy(ended(study, now), 0, Progress())
        assert copy.finish() == f"storage={address}: lacks trials, which the same command delivers later (away)"
    assert away.asked == [0.0, 30.0, 60.0, 61.0]

    away.now = 91.0
    copy(ended(study, 91.0), 0, Progress())
    trials = optuna.load_study(storage=address, study_name="mine").trials
    assert [trial.values for trial in trials] == [[v] for v in (0.5, 1.0, 29.0, 30.0, 31.0, 59.0, 60.0, 61.0, 91.0)]
    assert {trial.user_attrs["uid"] for trial in trials} == {study.journal.uid}
    copy(ended(study, 92.0), 0, Progress())
    assert len(optuna.load_study(storage=address, study_name="mine").trials) == 10


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:pw@host/db", "postgresql://host/db"),
        ("mysql+pymysql://u:p@w/d@host:1/db", "mysql+pymysql://host:1/db"),
        ("no such 'postgresql://u:pw@host/db' here", "no such 'postgresql://host/db' here"),
        ("postgresql:///db?user=u&password=pw&x=1", "postgresql:///db?user=u&password=...&x=1"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)
def test_an_address_is_shown_without_who_may_enter(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_what_a_job_reported_is_copied_with_it_also_what_another_process_heard(study: Study, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/copy.db"
    study.create({"x": 2})
    study.record(Report(number=0, step=1, metrics={"objective": 0.5}, time=0.0))
    copy = StorageCopy(address, "mine", [False], study)
    later = Report(number=0, step=2, metrics={"objective": 0.25}, time=0.0)
    study.record(later)
    copy(later, 0, Progress())
    outcome = Outcome(
        number=0, state=TrialState.COMPLETE, value=0.25, best_step=2, steps=2, reason="", seconds=1.0, time=1.0
    )
    study.record(outcome)
    copy(outcome, 0, Progress())
    assert optuna.load_study(storage=address, study_name="mine").trials[0].intermediate_values == {1: 0.5, 2: 0.25}
