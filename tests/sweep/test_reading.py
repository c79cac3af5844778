"""A study as it stands on disk, read while nobody or somebody else goes on with it."""

import dataclasses
import math
from pathlib import Path

import pytest

from search.errors import UsageError
from search.records import Event, FailureKind, Report, TrialState
from search.sweep.journal import Journal
from search.sweep.reading import ReadStudy, read_study
from search.sweep.study import COMPARABLE
from tests.kits.bench import ASHA, Bench
from tests.kits.doubles import outcome


@pytest.fixture
def bench(in_memory: Path) -> Bench:
    return Bench(in_memory / "study")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_trial_is_there_with_its_parameters_value_and_curve(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.1 * number, 0.2, 0.3 + number]}
    bench.simulate(3)
    study = read_study(bench.folder)
    assert (study.folder, study.maximize, [trial.number for trial in study.trials]) == (bench.folder, True, [0, 1, 2])
    for trial in study.trials:
        assert (trial.state, trial.steps, trial.failure) == (TrialState.COMPLETE, 3, None)
        assert trial.value == pytest.approx(0.3 + trial.number)
        assert [figures["objective"] for figures in trial.curve.values()] == [
            pytest.approx(v) for v in (0.1 * trial.number, 0.2, 0.3 + trial.number)
        ]
        assert list(trial.params) == ["optimizer.lr"]
        assert trial.directory == bench.folder / "trials" / f"{trial.number:05d}"
    assert study.best_trial.number == 2
    assert (study.best_value, study.best_params) == (study.trials[2].value, study.trials[2].params)


def test_reading_writes_nothing(bench: Bench) -> None:
    bench.simulate(2)
    before = contents(bench.folder)
    read_study(bench.folder).frame()
    read_study(bench.folder).optuna()
    assert contents(bench.folder) == before


def test_a_folder_may_be_named_by_a_word(bench: Bench) -> None:
    bench.simulate(1)
    assert read_study(str(bench.folder)) == read_study(bench.folder)


def test_the_first_of_equals_is_the_best(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.5 if number else 0.4]}
    bench.simulate(4)
    assert read_study(bench.folder).best_trial.number == 1


def test_a_failed_trial_keeps_its_cause_and_is_never_the_best(bench: Bench) -> None:
    bench.attempt = lambda number, _: {"end": "exception"} if number else {}
    bench.simulate(2)
    study = read_study(bench.folder)
    failed = study.trials[1]
    assert (failed.state, failed.failure, failed.value) == (TrialState.FAILED, FailureKind.EXCEPTION, None)
    assert failed.reason
    assert study.best_trial.number == 0


def test_a_study_of_failures_has_no_best(bench: Bench) -> None:
    bench.attempt = lambda number, _: {"end": "exception"}
    bench.simulate(2)
    with pytest.raises(ValueError, match="no trial has a value"):
        _ = read_study(bench.folder).best_trial


def test_a_stopped_trial_says_why(bench: Bench) -> None:
    bench.simulate(9, pruner=ASHA, epochs=9)
    pruned = [trial for trial in read_study(bench.folder).trials if trial.state is TrialState.PRUNED]
    assert pruned
    assert all(trial.reason and trial.steps < 9 for trial in pruned)


def test_a_trial_that_runs_is_there_with_its_curve_so_far(bench: Bench) -> None:
    seen: list[ReadStudy] = []

    def look(event: Event) -> None:
        if isinstance(event, Report) and (event.number, event.step) == (1, 2):
            seen.append(read_study(bench.folder))

    bench.on_event = look
    bench.simulate(2)
    (study,) = seen
    running = study.trials[1]
    assert (running.state, running.value, running.steps) == (TrialState.RUNNING, None, 0)
    assert list(running.curve) == [1, 2]
    assert study.best_trial.number == 0


def test_a_line_that_is_half_written_is_not_read(bench: Bench) -> None:
    bench.simulate(2)
    before = read_study(bench.folder)
    with (bench.folder / "events.jsonl").open("a") as events:
        events.write('{"event": "outc')
    assert read_study(bench.folder) == before


def test_the_table_has_a_row_a_trial(bench: Bench) -> None:
    bench.attempt = lambda number, _: {"end": "exception"} if number == 1 else {}
    bench.simulate(3)
    study = read_study(bench.folder)
    frame = study.frame()
    assert list(frame.columns) == ["number", "state", study.metric, "optimizer.lr", "seconds", "diagnosis"]
    assert frame["state"].tolist() == ["complete", "failed", "complete"]
    assert math.isnan(frame[study.metric][1])
    assert frame["optimizer.lr"].tolist() == [trial.params["optimizer.lr"] for trial in study.trials]


def test_optuna_knows_it_too(bench: Bench) -> None:
    bench.simulate(3)
    study = read_study(bench.folder)
    known = study.optuna()
    assert (known.best_trial.number, known.best_value) == (study.best_trial.number, study.best_value)


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_a_study_is_refused(tmp_path: Path, made: bool) -> None:
    folder = tmp_path if made else tmp_path / "nowhere"
    with pytest.raises(UsageError, match=f"{folder}: holds no study"):
        read_study(folder)
    assert not list(tmp_path.iterdir())


def test_trials_of_other_data_are_never_the_best(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.9 if number == 0 else number / 10]}
    bench.simulate(3)
    journal = Journal(bench.folder, maximize=True)
    journal.set_attribute(COMPARABLE, 1)
    journal.close()
    assert read_study(bench.folder).best_trial.number == 2


def test_several_objectives_have_no_best_but_all_their_values(tmp_path: Path) -> None:
    journal = Journal(tmp_path, maximize=[False, True])
    journal.create({}, {})
    journal.append(dataclasses.replace(outcome(0, TrialState.COMPLETE, None, 1), values=(0.25, 4.0)))
    journal.close()
    study = read_study(tmp_path)
    assert study.trials[0].values == (0.25, 4.0)
    assert [t.number for t in study.optuna().best_trials] == [0]
    with pytest.raises(ValueError, match="several objectives"):
        _ = study.best_trial
