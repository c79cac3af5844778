from pathlib import Path

import pytest

from search.files import unfinished
from search.layout import CHECKPOINT, CONFIG, LOG, SNAPSHOTS, SPLITS, WEIGHTS, predictions_of
from search.records import Decision, Event, Outcome, Paused, Started, TrialState, Verdict
from search.sweep.disk import Disk
from search.sweep.journal import Journal, trial_folder
from search.sweep.study import Progress, Study
from tests.kits.bench import PROMOTION, SPACE, Bench
from tests.kits.doubles import outcome

OF_A_SNAPSHOT = {WEIGHTS, predictions_of("validation")}
OF_THE_BEST = {WEIGHTS, *map(predictions_of, SPLITS), *(f"{SNAPSHOTS}/0/{name}" for name in OF_A_SNAPSHOT)}
KEPT_ALWAYS = {CONFIG, LOG}
SIZE = 100


def fill(folder: Path, number: int) -> None:
    """Leave what a trial leaves at most."""
    for name in OF_THE_BEST | KEPT_ALWAYS | {CHECKPOINT}:
        path = trial_folder(folder, number) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * SIZE)


def left(folder: Path, name: str) -> list[int]:
    """Return the numbers of the trials that have a file."""
    return sorted(int(path.relative_to(folder).parts[1]) for path in folder.glob(f"trials/*/{name}"))


def ended(number: int, value: float | None, state: TrialState = TrialState.COMPLETE) -> Outcome:
    return outcome(number, state, value, 3)


def paused(number: int, value: float) -> Paused:
    return Paused(number=number, step=1, so_far=ended(number, value, TrialState.PRUNED), time=0.0)


def rests(number: int, value: float) -> tuple[Event, Event]:
    """Return what the driver records of a trial that the pruner pauses."""
    told = Decision(number=number, step=1, verdict=Verdict.PAUSE, reason="rung", time=0.0)
    return told, paused(number, value)


def disk(folder: Path, keep: int = 2, checkpoints: int = 100, maximize: bool = True) -> Disk:
    """Room for as many resting trials as `checkpoints`."""
    files = len(OF_THE_BEST | {CHECKPOINT})
    return Disk(folder, keep=keep, checkpoint_bytes=checkpoints * files * SIZE, maximize=maximize)


def tell(disk: Disk, folder: Path, *events: Event) -> None:
    for event in events:
        if isinstance(event, Paused | Outcome):
            fill(folder, event.number)
        disk(event, 0, Progress())


@pytest.mark.parametrize(("maximize", "best"), [(True, [1, 2]), (False, [0, 3])])
def test_only_the_best_keep_weights_and_predictions(tmp_path: Path, maximize: bool, best: list[int]) -> None:
    values = [0.1, 0.9, 0.5, 0.3]
    tell(disk(tmp_path, maximize=maximize), tmp_path, *(ended(n, value) for n, value in enumerate(values)))
    for name in OF_THE_BEST:
        assert left(tmp_path, name) == best
    assert left(tmp_path, SNAPSHOTS) == best
    for name in KEPT_ALWAYS:
        assert left(tmp_path, name) == [0, 1, 2, 3]
    assert left(tmp_path, CHECKPOINT) == []


def test_of_equals_the_earlier_are_kept(tmp_path: Path) -> None:
    tell(disk(tmp_path), tmp_path, *(ended(n, 0.5) for n in (3, 0, 2, 1)))
    assert left(tmp_path, WEIGHTS) == [0, 1]


def test_a_failed_trial_keeps_nothing(tmp_path: Path) -> None:
    tell(disk(tmp_path), tmp_path, ended(0, None, TrialState.FAILED), ended(1, 0.9, TrialState.FAILED), ended(2, 0.1))
    assert left(tmp_path, WEIGHTS) == [2]


def test_the_worst_paused_trials_lose_their_checkpoints_first(tmp_path: Path) -> None:
    watching = disk(tmp_path, checkpoints=2)
    tell(watching, tmp_path, *rests(0, 0.5), *rests(1, 0.1))
    assert left(tmp_path, CHECKPOINT) == [0, 1]
    tell(watching, tmp_path, *rests(2, 0.9))
    assert left(tmp_path, CHECKPOINT) == [0, 2]
    tell(watching, tmp_path, *rests(3, 0.2))
    assert left(tmp_path, CHECKPOINT) == [0, 2], "also where it is the newest"
    for name in OF_THE_BEST:
        assert left(tmp_path, name) == [0, 2], "all that they left counts and goes"


def test_an_interrupted_trial_keeps_its_checkpoint_whatever_it_costs(tmp_path: Path) -> None:
    watching = disk(tmp_path, checkpoints=0)
    tell(watching, tmp_path, paused(0, 0.5), paused(1, 0.1))
    assert left(tmp_path, CHECKPOINT) == [0, 1]
    tell(watching, tmp_path, Started(number=0, params={}, seed=0, time=0.0), *rests(0, 0.6))
    assert left(tmp_path, CHECKPOINT) == [1]


def test_what_a_worker_that_died_in_writing_left_goes_too(tmp_path: Path) -> None:
    fill(tmp_path, 0)
    half = unfinished(trial_folder(tmp_path, 0) / CHECKPOINT)
    half.write_bytes(b"x")
    tell(disk(tmp_path), tmp_path, ended(0, None, TrialState.FAILED))
    assert not half.exists()


def test_a_trial_whose_weights_were_taken_while_it_rested_is_none_of_the_best(tmp_path: Path) -> None:
    watching = disk(tmp_path, keep=1, checkpoints=0)
    tell(watching, tmp_path, ended(1, 0.2), *rests(0, 0.9))
    watching(ended(0, 0.9, TrialState.PRUNED), 0, Progress())
    assert left(tmp_path, WEIGHTS) == [1]


def test_a_paused_trial_that_goes_on_or_ends_makes_room(tmp_path: Path) -> None:
    watching = disk(tmp_path, checkpoints=2)
    tell(watching, tmp_path, *rests(0, 0.1), *rests(1, 0.2))
    tell(watching, tmp_path, Started(number=0, params={}, seed=0, time=0.0), *rests(2, 0.9))
    assert left(tmp_path, CHECKPOINT) == [0, 1, 2], "a running trial's is not counted"
    tell(watching, tmp_path, ended(1, 0.2), *rests(3, 0.1))
    assert left(tmp_path, CHECKPOINT) == [0, 2, 3]


def test_a_trial_that_pauses_again_counts_once(tmp_path: Path) -> None:
    watching = disk(tmp_path, checkpoints=2)
    tell(watching, tmp_path, *rests(0, 0.1), *rests(0, 0.2), *rests(0, 0.3), *rests(1, 0.5))
    assert left(tmp_path, CHECKPOINT) == [0, 1]


def test_a_paused_trial_without_a_checkpoint_costs_nothing(tmp_path: Path) -> None:
    watching = disk(tmp_path, checkpoints=0)
    for event in rests(0, 0.5):
        watching(event, 0, Progress())
    tell(watching, tmp_path, *rests(1, 0.5))
    assert left(tmp_path, CHECKPOINT) == []


def restored(folder: Path, *events: Event, keep: int = 2, checkpoints: int = 100) -> None:
    """Store events as a driver does, with all that trials leave, and restore as the next one does."""
    journal = Journal(folder, maximize=True)
    study = Study(journal, SPACE, {"data.digest": "one"}, maximize=True)
    for number in range(4):
        study.create({"optimizer.lr": 0.1})
        fill(folder, number)
    for event in events:
        study.record(event)
    watching = disk(folder, keep=keep, checkpoints=checkpoints)
    watching.restore(study)
    journal.close()


def test_what_a_killed_driver_did_not_clear_away_the_next_one_does(tmp_path: Path) -> None:
    restored(tmp_path, ended(0, 0.9), ended(1, 0.1), *rests(2, 0.5), *rests(3, 0.7), keep=1, checkpoints=1)
    assert left(tmp_path, WEIGHTS) == [0, 3]
    assert left(tmp_path, CHECKPOINT) == [3]


def test_trials_of_other_data_are_none_of_the_best(tmp_path: Path) -> None:
    journal = Journal(tmp_path, maximize=True)
    study = Study(journal, SPACE, {"data.digest": "one"}, maximize=True)
    for number in range(2):
        study.create({"optimizer.lr": 0.1})
        study.record(ended(number, 0.9))
        fill(tmp_path, number)
    study = Study(journal, SPACE, {"data.digest": "two"}, maximize=True, extend=True)
    study.restore()
    for event, _ in journal.events():
        study.replay(event)
    watching = disk(tmp_path, keep=1)
    watching.restore(study)
    tell(watching, tmp_path, ended(2, 0.1))
    journal.close()
    assert left(tmp_path, WEIGHTS) == [2]


def test_a_search_that_promotes_leaves_the_best_and_no_checkpoints(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "study")
    bench.curve = lambda number, params: {"values": [params["optimizer.lr"]] * 9}
    watching = disk(bench.folder, checkpoints=3)
    bench.simulate(20, slots=3, pruner=PROMOTION, epochs=9, watchers=[watching])
    assert bench.all_ended_once(20)
    assert left(bench.folder, CHECKPOINT) == []
