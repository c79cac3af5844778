"""Trainings that are told by their folders: what ended is not trained again, what is another is."""

import dataclasses
import json
from pathlib import Path

import pytest

from search.layout import CHECKPOINT, CONFIG, OUTCOME
from search.records import Outcome, TrialSpec, TrialState, Work, event_to_json
from search.sweep.batch import run_all
from search.sweep.executor import InProcessExecutor, Talk
from search.sweep.failures import Failures
from search.sweep.repeat import run_missing
from tests.kits import doubles
from tests.kits.bench import POLICY


class Trainings:
    """Trains in this process as a worker does, and remembers what."""

    def __init__(self) -> None:
        self.trained: list[str] = []

    def __call__(self, specs: list[TrialSpec]) -> list[Outcome]:
        with InProcessExecutor(self._train) as executor:
            return run_all(executor, specs, lambda _: None, Failures(POLICY))

    def _train(self, work: Work, talk: Talk) -> Outcome:
        assert isinstance(work, TrialSpec)
        folder = Path(work.directory)
        self.trained.append(folder.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(work.config))
        outcome = doubles.run(work, talk)
        assert isinstance(outcome, Outcome)
        (folder / OUTCOME).write_text(event_to_json(outcome))
        return outcome


@pytest.fixture
def trainings() -> Trainings:
    return Trainings()


def specs(folder: Path) -> list[TrialSpec]:
    return [doubles.spec(i, [0.1 * i], str(folder / name)) for i, name in enumerate("abcd", start=3)]


def values(outcomes: list[Outcome]) -> list[float | None]:
    return [outcome.value for outcome in outcomes]


def test_what_ended_is_not_trained_again(trainings: Trainings, tmp_path: Path) -> None:
    first = run_missing(specs(tmp_path)[1:3], trainings)
    assert trainings.trained == ["b", "c"]
    all_four = run_missing(specs(tmp_path), trainings)
    assert trainings.trained == ["b", "c", "a", "d"]
    assert values(all_four) == [0.1 * i for i in range(3, 7)]
    assert values(first) == values(all_four)[1:3]
    assert values(run_missing(specs(tmp_path), trainings)) == values(all_four)
    assert len(trainings.trained) == 4


def test_a_killed_one_goes_on_alone_where_it_was(trainings: Trainings, tmp_path: Path) -> None:
    work = specs(tmp_path)

    def killed(missing: list[TrialSpec]) -> list[Outcome]:
        trainings(missing[:2])
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / CONFIG).write_text(json.dumps(work[2].config))
        (tmp_path / "c" / CHECKPOINT).write_text("0")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_missing(work, killed)
    run_missing(work, trainings)
    assert trainings.trained == ["a", "b", "c", "d"]
    assert (tmp_path / "c" / CHECKPOINT).exists(), "the folder was not emptied"


def test_another_configuration_is_trained_anew_in_an_empty_folder(trainings: Trainings, tmp_path: Path) -> None:
    run_missing(specs(tmp_path), trainings)
    (tmp_path / "b" / CHECKPOINT).write_text("1")
    other = specs(tmp_path)
    other[1] = dataclasses.replace(other[1], config={"values": [0.9]})
    trainings.trained.clear()
    assert values(run_missing(other, trainings))[1] == 0.9
    assert trainings.trained == ["b"]
    assert not (tmp_path / "b" / CHECKPOINT).exists()


@pytest.mark.parametrize("damage", ["", "[", '{"values": ', "\0"])
@pytest.mark.parametrize("file", [CONFIG, OUTCOME])
def test_a_damaged_file_is_as_good_as_none(trainings: Trainings, tmp_path: Path, file: str, damage: str) -> None:
    run_missing(specs(tmp_path), trainings)
    (tmp_path / "d" / file).write_text(damage)
    trainings.trained.clear()
    run_missing(specs(tmp_path), trainings)
    assert trainings.trained == ["d"]


def test_what_failed_is_tried_again(trainings: Trainings, tmp_path: Path) -> None:
    work = [*specs(tmp_path), doubles.spec(0, [0.1], str(tmp_path / "e"), end="exception")]
    assert [o.state is TrialState.FAILED for o in run_missing(work, trainings)] == [False] * 4 + [True]
    trainings.trained.clear()
    run_missing(work, trainings)
    assert trainings.trained == ["e"]
