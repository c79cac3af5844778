"""Cohorts in a worker: each trial of one has its own reports, decisions, files and end, as if it were alone."""

import dataclasses
import errno
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search.files import write_atomically
from search.layout import CHECKPOINT, OUTCOME
from search.records import (
    CohortSpec,
    Decision,
    FailureKind,
    MeasureSpec,
    Outcome,
    Paused,
    Report,
    TrialSpec,
    TrialState,
    Verdict,
    event_from_json,
)
from search.sweep.executor import Answer, Talk, Words
from search.train.fused import Stack
from search.trial import Runner, folder
from tests.test_trial import configured, left_in, runner
from tests.test_trial import run as run_alone


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def spec(where: Path, number: int, config: Mapping[str, Any] | None = None, **fields: Any) -> TrialSpec:
    config = dict(configured() if config is None else config)
    config["optimizer"] = {**config["optimizer"], "lr": 1e-3 * (1 + number % 5)}
    return TrialSpec(
        number=number,
        params={},
        config=config,
        seed=100 + number,
        directory=str(where / f"{number}"),
        **fields,
    )


def with_model(name: str, **arguments: Any) -> Mapping[str, Any]:
    return {**configured(), "model": {"_target_": f"{__name__}.{name}", **arguments}}


class Company:
    """Answers a cohort: stops or pauses a trial at a step, lets others join at an exchange; keeps all words."""

    def __init__(
        self,
        verdicts: Mapping[tuple[int, int], Verdict] | None = None,
        joining: Mapping[int, Sequence[TrialSpec]] | None = None,
    ) -> None:
        self.words: list[Words] = []
        self._verdicts, self._joining = verdicts or {}, joining or {}

    def __call__(self, words: Words) -> Answer:
        self.words.append(words)
        decisions = tuple(self._decision(said) for said in words if isinstance(said, Report))
        assert decisions, "an exchange has a report"
        return Answer(decisions, tuple(self._joining.get(len(self.words), ())))

    def _decision(self, report: Report) -> Decision:
        verdict = self._verdicts.get((report.number, report.step), Verdict.GO_ON)
        return Decision(number=report.number, step=report.step, verdict=verdict, reason="told so", time=report.time)

    def reports(self, number: int) -> list[Report]:
        return [said for words in self.words for said in words if isinstance(said, Report) and said.number == number]


def run(
    trials: Sequence[TrialSpec], company: Company | None = None, worker: Runner | None = None
) -> tuple[dict[int, Paused | Outcome], Company]:
    company = company or Company()
    work = CohortSpec(trials=tuple(trials))
    left = (worker or runner())(work, Talk(work, company))
    assert isinstance(left, tuple)
    said = [said for words in (*company.words, left) for said in words if isinstance(said, Paused | Outcome)]
    assert len({last.number for last in said}) == len(said), "one last word each"
    return {last.number: last for last in said}, company


def figures(reports: Sequence[Report]) -> list[tuple[float, float]]:
    return [(report.metrics["train/loss"], report.metrics["val/loss"]) for report in reports]


@cache
def alone(where: Path, number: int) -> tuple[Outcome, list[tuple[float, float]]]:
    outcome, driver = run_alone(spec(where / "alone", number))
    return outcome, figures(driver.reports)


def test_each_trial_of_a_cohort_is_the_trial_that_it_is_alone(tmp_path: Path) -> None:
    ended, company = run([spec(tmp_path, number) for number in range(3)])
    for number in range(3):
        outcome, reported = alone(tmp_path, number)
        last = ended[number]
        assert isinstance(last, Outcome)
        assert (last.state, last.steps, last.reason) == (outcome.state, outcome.steps, outcome.reason)
        assert last.best_step == outcome.best_step
        np.testing.assert_allclose(figures(company.reports(number)), reported, rtol=1e-4)
        here, there = tmp_path / f"{number}", tmp_path / "alone" / f"{number}"
        assert left_in(here) == left_in(there)
        np.testing.assert_allclose(np.load(here / "validation.npy"), np.load(there / "validation.npy"), atol=1e-5)
        stored = event_from_json((here / OUTCOME).read_text())
        assert stored == last


def test_the_trials_of_one_form_are_run_as_one_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = Stack.run_epoch

    def counted(self: Stack) -> Any:
        sizes.append(len(self.members))
        return whole(self)

    monkeypatch.setattr(Stack, "run_epoch", counted)
    verdicts = {(0, 1): Verdict.STOP, (1, 2): Verdict.STOP, (2, 2): Verdict.STOP}
    run([spec(tmp_path, number) for number in range(4)], Company(verdicts))
    assert sizes == [4, 3], "the stack shrinks as trials leave, and the last one runs alone"


def test_decisions_are_each_trials_own(tmp_path: Path) -> None:
    ended, company = run(
        [spec(tmp_path, number) for number in range(3)], Company({(0, 2): Verdict.STOP, (2, 1): Verdict.PAUSE})
    )
    assert {number: type(last) for number, last in ended.items()} == {0: Outcome, 1: Outcome, 2: Paused}
    states = {number: last.state for number, last in ended.items() if isinstance(last, Outcome)}
    assert states == {0: TrialState.PRUNED, 1: TrialState.COMPLETE}
    assert [len(company.reports(number)) for number in range(3)] == [2, 4, 1]
    assert (tmp_path / "2" / CHECKPOINT).exists()
    assert not (tmp_path / "0" / CHECKPOINT).exists()
    np.testing.assert_allclose(figures(company.reports(1)), alone(tmp_path, 1)[1], rtol=1e-4)


@pytest.mark.parametrize("in_a_cohort", [True, False])
def test_a_paused_trial_goes_on_alone_or_in_another_cohort(tmp_path: Path, in_a_cohort: bool) -> None:
    _, before = run([spec(tmp_path, number) for number in range(3)], Company({(n, 2): Verdict.PAUSE for n in range(3)}))
    if in_a_cohort:
        _, company = run([spec(tmp_path, 1), spec(tmp_path, 7)])
        after = company.reports(1)
        assert [report.step for report in company.reports(7)] == [1, 2, 3, 4]
    else:
        after = run_alone(spec(tmp_path, 1))[1].reports
    assert [report.step for report in after] == [3, 4]
    np.testing.assert_allclose(figures([*before.reports(1), *after]), alone(tmp_path, 1)[1], rtol=1e-4)


def test_trials_join_at_a_report(tmp_path: Path) -> None:
    company = Company({(0, 1): Verdict.STOP}, {1: [spec(tmp_path, 5)], 2: [spec(tmp_path, 6)]})
    ended, _ = run([spec(tmp_path, 0), spec(tmp_path, 1)], company)
    assert sorted(ended) == [0, 1, 5, 6]
    assert [sorted(said.number for said in words if isinstance(said, Report)) for words in company.words[:3]] == [
        [0, 1],
        [1, 5],
        [1, 5, 6],
    ]
    for number in (5, 6):
        np.testing.assert_allclose(figures(company.reports(number)), alone(tmp_path, number)[1], rtol=1e-4)


def test_trials_of_other_forms_run_beside_the_stack(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    narrow = {**configured(), "model": {**configured()["model"], "width": 16}}
    trials = [
        spec(tmp_path, 0),
        spec(tmp_path, 1),
        spec(tmp_path, 2, narrow),
        spec(tmp_path, 3, with_model("Changing")),
    ]
    ended, company = run([*trials, spec(tmp_path, 4, with_model("Changing"))])
    assert all(isinstance(last, Outcome) and last.state is TrialState.COMPLETE for last in ended.values())
    assert "trained alone: 3, 4; its network draws random numbers" in capfd.readouterr().out
    np.testing.assert_allclose(figures(company.reports(1)), alone(tmp_path, 1)[1], rtol=1e-4)


def test_what_fails_in_one_trial_is_its_own(tmp_path: Path) -> None:
    wild = {**configured(), "optimizer": {"_target_": "torch.optim.SGD"}}
    trials = [spec(tmp_path, 0), spec(tmp_path, 1), spec(tmp_path, 2, with_model("Broken")), spec(tmp_path, 3, wild)]
    trials[3] = dataclasses.replace(trials[3], config={**wild, "optimizer": {**wild["optimizer"], "lr": 1e30}})
    ended, company = run(trials)
    kinds = {n: last.failure.kind for n, last in ended.items() if isinstance(last, Outcome) and last.failure}
    assert kinds == {2: FailureKind.EXCEPTION, 3: FailureKind.NON_FINITE}
    last = ended[3]
    assert isinstance(last, Outcome)
    assert "the training loss became" in last.reason
    for number in (0, 1):
        np.testing.assert_allclose(figures(company.reports(number)), alone(tmp_path, number)[1], rtol=1e-4)


def test_an_exception_in_a_stack_is_its_trials_own_once_each_is_alone(tmp_path: Path) -> None:
    moody = [spec(tmp_path, number, with_model("Moody", bad=float(number == 1))) for number in range(3)]
    ended, company = run(moody)
    kinds = {n: last.failure.kind for n, last in ended.items() if isinstance(last, Outcome) and last.failure}
    assert kinds == {1: FailureKind.EXCEPTION}
    assert {report.step for report in company.reports(0)} == {1, 2, 3, 4}


def test_a_cohort_that_needs_too_much_memory_fails_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Stack) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Stack, "run_epoch", full)
    ended, _ = run([spec(tmp_path, number) for number in range(2)])
    assert {last.failure.kind for last in ended.values() if isinstance(last, Outcome) and last.failure} == {
        FailureKind.OUT_OF_MEMORY
    }
    assert not list(tmp_path.glob(f"*/{OUTCOME}")), "a driver that is started again tries them again"


def test_a_disk_that_is_full_for_one_trial_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.parent.name == "1":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(folder, "write_atomically", full)
    ended, company = run([spec(tmp_path, number) for number in range(3)], Company({(2, 2): Verdict.STOP}))
    kinds = {n: last.failure.kind for n, last in ended.items() if isinstance(last, Outcome) and last.failure}
    assert kinds == {1: FailureKind.DISK_FULL}
    assert sorted(path.parent.name for path in tmp_path.glob(f"*/{OUTCOME}")) == ["0", "2"], "it has not ended"
    np.testing.assert_allclose(figures(company.reports(0)), alone(tmp_path, 0)[1], rtol=1e-4)


def test_last_words_that_nobody_heard_stand_on_disk_when_user_code_ends_the_process(tmp_path: Path) -> None:
    """The trial that was stopped has left, its Outcome waits for the next exchange, and the process is told to end."""
    outcome = str(tmp_path / "0" / OUTCOME)
    trials = [spec(tmp_path, 0), spec(tmp_path, 1, with_model("Leaving", behind=outcome)), spec(tmp_path, 2)]
    with pytest.raises(SystemExit):
        run(trials, Company({(0, 2): Verdict.STOP}))
    assert (tmp_path / "0" / OUTCOME).exists()
    assert not (tmp_path / "2" / OUTCOME).exists()


def test_trials_that_train_on_some_of_the_examples_have_each_their_own(tmp_path: Path) -> None:
    fewer = configured("trainer.examples=200")
    ended, company = run([spec(tmp_path, number, fewer) for number in range(3)])
    assert len(ended) == 3
    for number in range(3):
        _, driver = run_alone(spec(tmp_path / "alone", number, fewer))
        np.testing.assert_allclose(figures(company.reports(number)), figures(driver.reports), rtol=1e-4)


def test_snapshots_are_each_trials_own(tmp_path: Path) -> None:
    cycles = configured("schedule=sgdr", "schedule.cycle=0.5", "schedule.multiplier=1.0")
    ended, _ = run([spec(tmp_path, number, cycles, snapshots=True) for number in range(2)])
    assert len(ended) == 2
    for number in range(2):
        assert sorted(p.name for p in (tmp_path / f"{number}" / "snapshots").iterdir()) == ["0", "1"]


def test_a_trials_seconds_are_its_share(tmp_path: Path) -> None:
    ended, _ = run([spec(tmp_path, number) for number in range(4)])
    seconds = [last.seconds for last in ended.values() if isinstance(last, Outcome)]
    assert max(seconds) < 2 * min(seconds)


def test_measuring_says_how_many_are_worth_it_and_leaves_nothing(tmp_path: Path) -> None:
    trials = tuple(spec(tmp_path, number) for number in range(9))
    found = runner()(MeasureSpec(number=0, shape="s", trials=trials, waiting=len(trials)), _unused)
    assert not isinstance(found, tuple | Paused | Outcome)
    assert (found.number, found.shape) == (0, "s")
    assert set(found.rates) >= {"1", "8"}
    assert found.size in (1, 8, 9)
    assert found.reason.startswith("MLP(width=128, depth=2): ")
    assert "steps a second alone" in found.reason
    assert not list(tmp_path.iterdir())


def test_a_trial_that_cannot_be_made_does_not_keep_others_from_being_measured(tmp_path: Path) -> None:
    trials = [spec(tmp_path, number) for number in range(6)]
    trials[0] = spec(tmp_path, 0, {**configured(), "model": {"_target_": "search.train.models.mlp.MLPP"}})
    found = runner()(MeasureSpec(number=0, shape="s", trials=tuple(trials), waiting=6), _unused)
    assert not isinstance(found, tuple | Paused | Outcome)
    assert set(found.rates) == {"1", "6"}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (with_model("Changing"), "its network draws random numbers"),
        ({**configured(), "optimizer": {"_target_": "torch.optim.Adagrad"}}, "its optimiser is Adagrad"),
    ],
)
def test_what_cannot_be_stacked_is_measured_as_alone_with_the_reason(
    tmp_path: Path, config: Mapping[str, Any], reason: str
) -> None:
    trials = tuple(spec(tmp_path, number, config) for number in range(4))
    found = runner()(MeasureSpec(number=0, shape="s", trials=trials, waiting=len(trials)), _unused)
    assert not isinstance(found, tuple | Paused | Outcome)
    assert (found.size, found.rates) == (1, {})
    assert reason in found.reason


def _unused(report: Report) -> Decision:
    raise AssertionError(json.dumps(dict(report.metrics)))


class Net(nn.Module):
    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(in_shape).numel(), num_outputs))

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


class Changing(Net):
    """Draws from torch's generator: no two networks can share a program."""

    def forward(self, x: Tensor) -> Any:
        return nn.functional.dropout(self.net(x), 0.1, self.training)


class Broken(Net):
    """Cannot be made."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__(in_shape, num_outputs)
        raise ValueError("a mistake")


class Leaving(Net):
    """Ends the process once a file is there."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, behind: str) -> None:
        super().__init__(in_shape, num_outputs)
        self.behind = behind

    def forward(self, x: Tensor) -> Any:
        if Path(self.behind).exists():
            sys.exit("enough")
        return self.net(x)


class Moody(Net):
    """Raises after some steps where a buffer, in which alike networks may differ, says so."""

    calls = 0

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, bad: float) -> None:
        super().__init__(in_shape, num_outputs)
        self.register_buffer("bad", torch.tensor(bad))

    def forward(self, x: Tensor) -> Any:
        if self.training:
            type(self).calls += 1
            if type(self).calls > 5 and (torch._C._functorch.is_batchedtensor(x) or bool(self.bad)):
                raise ValueError("in a bad mood")
        return self.net(x)
