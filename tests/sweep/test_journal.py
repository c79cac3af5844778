"""The study on disk: what is damaged is said, what is torn is mended, what a full disk refuses is not half there."""

import contextlib
import dataclasses
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.errors import UsageError
from search.files import write_atomically
from search.records import Event, Params, Report, Started, TrialState, event_to_json
from search.space import Space
from search.sweep.journal import (
    EVENTS,
    LOCK,
    OPTUNA,
    Journal,
    holds_study,
    load_optuna,
    outcome_on_disk,
    read_events,
    read_trials,
)
from search.sweep.study import Study
from tests.kits.commands import environment, events
from tests.kits.doubles import outcome

SPACE = Space.of(OmegaConf.create({"optimizer": {"lr": 0.1, "space": {"lr": {"low": 0.0, "high": 1.0}}}, "choose": {}}))
DISTRIBUTIONS = {d.name: d.distribution() for d in SPACE.dimensions}


def report(step: int, number: int = 0) -> Report:
    return Report(number=number, step=step, metrics={"objective": step / 7}, time=float(step))


def started(number: int, params: Params | None = None) -> Started:
    return Started(number=number, params=params or {}, seed=number, time=0.0)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Journal]]:
    """Opens the study of the test's folder; at the end all are closed."""
    journals = []

    def open_() -> Journal:
        journals.append(Journal(tmp_path, maximize=True))
        return journals[-1]

    yield open_
    for journal in journals:
        journal.close()


def stored(folder: Path) -> list[Event]:
    return [event for event, _ in read_events(folder)]


def filled(folder: Path, trials: int = 3) -> list[Event]:
    """Leave a study of finished trials; return its events."""
    journal = Journal(folder, maximize=True)
    for number in range(trials):
        params: Params = {"optimizer.lr": number / 10}
        journal.create(params, DISTRIBUTIONS)
        journal.append(started(number, {"model": "mlp", **params}))
        journal.append(report(1, number))
        journal.append(outcome(number, TrialState.COMPLETE, 0.5, 1))
    journal.close()
    return stored(folder)


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_every_line_is_json_that_carries_its_checksum(tmp_path: Path) -> None:
    filled(tmp_path)
    plain = [json.loads(line) for line in lines_of(tmp_path / EVENTS)]
    assert [list(line)[-1] for line in plain] == ["crc"] * 9
    assert [e["number"] for e in events(tmp_path, "outcome")] == [0, 1, 2]


def test_any_damaged_byte_is_noticed_and_its_line_named(tmp_path: Path) -> None:
    filled(tmp_path, trials=1)
    whole = (tmp_path / EVENTS).read_bytes()
    for at in range(len(whole) - 1):  # without the last line's end that line is torn
        (tmp_path / EVENTS).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        line = 1 + whole[:at].count(b"\n")
        with pytest.raises(UsageError, match=rf"{EVENTS}: line {line} is damaged; nothing was changed; put"):
            stored(tmp_path)


@pytest.mark.parametrize("name", [EVENTS, OPTUNA])
@pytest.mark.parametrize("garbage", [b"\xff\xfe\x00garbage\n", b"\n", b'{"event": "report"\n', b"\0" * 64 + b"\n"])
def test_a_study_with_a_damaged_line_is_refused_and_left_as_it_is(name: str, garbage: bytes, tmp_path: Path) -> None:
    filled(tmp_path)
    lines = lines_of(tmp_path / name)
    (tmp_path / name).write_bytes(b"".join([*lines[:2], garbage, *lines[2:], b'{"torn": ']))
    before = (tmp_path / name).read_bytes()
    with pytest.raises(UsageError, match=rf"{name}: line 3 is damaged; nothing was changed; put the file back"):
        _ = Journal(tmp_path, maximize=True), stored(tmp_path)
    if name == OPTUNA:
        assert (tmp_path / name).read_bytes() == before


def test_what_optuna_cannot_make_sense_of_is_said_in_one_line(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / OPTUNA).write_bytes(b'{"op_code": 0}\n' + (tmp_path / OPTUNA).read_bytes())
    for read in (lambda: Journal(tmp_path, maximize=True), lambda: read_trials(tmp_path)):
        with pytest.raises(UsageError, match=rf"{OPTUNA}: damaged \(KeyError.*\); put it back from a copy"):
            read()


def test_without_the_damaged_line_the_study_goes_on(tmp_path: Path, opened: Callable[[], Journal]) -> None:
    """As the message says: how a trial ended is taken from its folder."""
    filled(tmp_path)
    (tmp_path / EVENTS).write_bytes(b"".join(lines_of(tmp_path / EVENTS)[:-1]))
    journal = opened()
    study = Study(journal, SPACE, {}, maximize=True)
    study.restore()
    for event, _ in journal.events():
        study.replay(event)
    assert study.unfinished() == [2]
    study.record(outcome(2, TrialState.COMPLETE, 0.5, 1))  # which Optuna's journal knows already
    assert [t.state for t in journal.trials()] == [TrialState.COMPLETE] * 3


def test_a_line_written_by_hand_needs_no_checksum(tmp_path: Path) -> None:
    before = filled(tmp_path, trials=1)
    with (tmp_path / EVENTS).open("a") as file:
        file.write(event_to_json(report(2)) + "\n")
    assert stored(tmp_path) == [*before, report(2)]


@pytest.mark.parametrize("name", [EVENTS, OPTUNA])
def test_a_torn_tail_is_cut_off_wherever_it_is_torn(name: str, tmp_path: Path) -> None:
    before = filled(tmp_path, trials=1)
    last = lines_of(tmp_path / name)[-1]
    for length in range(1, len(last), 7):
        with (tmp_path / name).open("ab") as file:
            file.write(last[:length])
        journal = Journal(tmp_path, maximize=True)
        number = journal.create({}, {})
        journal.append(started(number))
        journal.close()
        before.append(started(number))
    assert stored(tmp_path) == before
    assert len(read_trials(tmp_path)) == number + 1


def test_a_reader_leaves_a_line_that_is_being_written_for_later(tmp_path: Path) -> None:
    filled(tmp_path)
    whole = (tmp_path / EVENTS).read_bytes()
    *before, last = lines_of(tmp_path / EVENTS)
    for cut in range(1, len(last)):
        (tmp_path / EVENTS).write_bytes(b"".join(before) + last[:-cut])
        read = list(read_events(tmp_path))
        assert len(read) == len(before)
    (tmp_path / EVENTS).write_bytes(whole)
    assert [e for e, _ in read_events(tmp_path, read[-1][1])] == [outcome_of(whole)]


def outcome_of(log: bytes) -> Event:
    from search.records import event_from_json

    fields = json.loads(log.splitlines()[-1])
    del fields["crc"]
    return event_from_json(json.dumps(fields))


@pytest.mark.parametrize("position", [1, 10**6])
def test_a_position_in_another_log_means_the_front(position: int, tmp_path: Path) -> None:
    before = filled(tmp_path)
    assert [e for e, _ in read_events(tmp_path, position)] == before


def test_any_optuna_tool_reads_the_journal_while_it_is_written(tmp_path: Path, opened: Callable[[], Journal]) -> None:
    journal = opened()
    for number in range(3):
        journal.create({"optimizer.lr": 0.25}, DISTRIBUTIONS)
        journal.append(outcome(number, TrialState.PRUNED, 0.5, 1))
        storage = JournalStorage(JournalFileBackend(str(tmp_path / OPTUNA)))
        study = optuna.load_study(study_name="search", storage=storage)
        assert [t.params for t in study.trials] == [{"optimizer.lr": 0.25}] * (number + 1)
        assert [t.state.name for t in study.trials] == ["PRUNED"] * (number + 1)
    assert not (tmp_path / f"{OPTUNA}.lock").exists()


def test_the_disk_is_waited_for_now_and_then_and_at_the_end(
    tmp_path: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, now = opened(), [time.monotonic() + 10]
    synced: list[int] = []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("os.fsync", synced.append)
    journal.append(report(0))
    assert len(synced) == 1, "what comes after a rest is brought to the disk at once"
    for step in range(1, 101):
        now[0] += 0.01
        journal.append(report(step))
    assert len(synced) in (4, 5), "once in 0.3 s"
    journal.append(report(101))
    synced.clear()
    journal.close()
    assert len(synced) == 1
    assert len(stored(tmp_path)) == 102


WRITER = """
import resource, sys
from pathlib import Path
from search.sweep.journal import Journal
from tests.sweep.test_journal import report
journal = Journal(Path(sys.argv[1]), maximize=True)
print("open", flush=True)
for step in range(int(sys.argv[2])):
    journal.append(report(step))
print("written", flush=True)
sys.stdin.read()
"""


def writer(folder: Path, steps: int) -> subprocess.Popen[str]:
    """Start a process that writes so many events and then waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(steps)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_a_study_whose_driver_was_killed_opens_at_once(tmp_path: Path, opened: Callable[[], Journal]) -> None:
    process = writer(tmp_path, 50)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        with pytest.raises(UsageError, match=rf"in use by process {process.pid}; wait for it or choose another name"):
            opened()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    (tmp_path / f"{OPTUNA}.lock").symlink_to(tmp_path / OPTUNA)  # as Optuna's own tools leave it
    assert (tmp_path / LOCK).exists()
    journal = opened()
    journal.create({}, {})
    journal.append(started(0))
    assert stored(tmp_path) == [*(report(step) for step in range(50)), started(0)]


def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path: Path, opened: Callable[[], Journal]) -> None:
    limit = 5000  # in the middle of a line
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    done = subprocess.run(
        [sys.executable, "-c", code + WRITER, str(tmp_path), "1000"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "open\n"
    assert "OSError: [Errno 27] File too large" in done.stderr
    size = (tmp_path / EVENTS).stat().st_size
    assert limit - 200 < size < limit
    assert (tmp_path / EVENTS).read_bytes().endswith(b"}\n")
    written = stored(tmp_path)
    journal = opened()
    journal.append(report(0))
    assert journal.size() > limit
    assert stored(tmp_path) == [*written, report(0)]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO], ids=errno.errorcode.get)
def test_a_line_that_was_written_in_part_is_taken_back(
    code: int, tmp_path: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened()
    journal.create({}, {})
    journal.append(started(0))
    sizes = {name: (tmp_path / name).stat().st_size for name in (EVENTS, OPTUNA)}
    write, room = os.write, [10]

    def full(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(code, os.strerror(code))
        count = write(fd, data[: room[0]])
        room[0] -= count
        return count

    with monkeypatch.context() as patched:
        patched.setattr("os.write", full)
        for act in (lambda: journal.append(report(1)), lambda: journal.create({}, {})):
            room[0] = 10
            with pytest.raises(OSError, match=os.strerror(code)):
                act()
    assert {name: (tmp_path / name).stat().st_size for name in sizes} == sizes
    journal.append(report(1))
    assert stored(tmp_path) == [started(0), report(1)]


def test_a_file_that_finds_no_room_leaves_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically(tmp_path / "weights", b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]
    assert (tmp_path / "weights").read_bytes() == b"old"


def test_events_without_optunas_journal_are_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / OPTUNA).unlink()
    for content in (None, b"", b"torn"):
        if content is not None:
            (tmp_path / OPTUNA).write_bytes(content)
        with pytest.raises(UsageError, match=rf"{OPTUNA}: missing or empty; put it back from a copy, or choose"):
            Journal(tmp_path, maximize=True)


def test_optunas_journal_without_events_has_unfinished_trials(tmp_path: Path, opened: Callable[[], Journal]) -> None:
    filled(tmp_path)
    (tmp_path / EVENTS).unlink()
    study = Study(opened(), SPACE, {}, maximize=True)
    study.restore()
    assert study.unfinished() == [0, 1, 2]
    assert [p["optimizer.lr"] for p in study.params] == [0.0, 0.1, 0.2]


def test_trials_that_optunas_journal_lost_are_made_again(tmp_path: Path, opened: Callable[[], Journal]) -> None:
    """A power failure may take the end of one file and not of the other."""
    filled(tmp_path)
    lines = lines_of(tmp_path / OPTUNA)
    for kept in range(len(lines) - 1, 1, -1):
        (tmp_path / OPTUNA).write_bytes(b"".join(lines[:kept]))
        journal = opened()
        study = Study(journal, SPACE, {}, maximize=True)
        study.restore()
        assert [p["optimizer.lr"] for p in study.params] == [0.0, 0.1, 0.2]
        assert [t.state for t in journal.trials()] == [TrialState.COMPLETE] * 3
        journal.close()
    assert [t.params for t in read_trials(tmp_path)] == study.params


def test_a_trial_that_nobody_began_is_refused(tmp_path: Path, opened: Callable[[], Journal]) -> None:
    journal = opened()
    journal.append(report(1, number=4))
    with pytest.raises(UsageError, match=rf"{OPTUNA}: lacks trial 4, which {EVENTS} has; put both back from a copy"):
        Study(journal, SPACE, {}, maximize=True).restore()


def test_a_study_that_never_began_is_none(tmp_path: Path, opened: Callable[[], Journal]) -> None:
    assert not holds_study(tmp_path)
    journal = opened()
    assert (tmp_path / EVENTS).read_bytes() == b""
    assert not holds_study(tmp_path)
    journal.append(started(0))
    assert holds_study(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]", b'{"event": "outcome"}', b'{"event": "report", "num'])
def test_a_damaged_outcome_of_a_worker_is_none(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "outcome.json").write_bytes(damage)
    assert outcome_on_disk(tmp_path) is None


@pytest.mark.parametrize("name", ["", EVENTS, OPTUNA, LOCK])
def test_what_stands_in_the_way_is_named(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    if name:
        (folder / name).mkdir(parents=True)
    else:
        folder.write_text("a file")
    with pytest.raises(UsageError, match=r"output_dir=.*/study: cannot be written \((File exists|Is a directory)\)"):
        Journal(folder, maximize=True)


def test_a_trial_may_wait_before_it_runs(tmp_path: Path, opened: Callable[[], Journal]) -> None:
    journal = opened()
    for begun in (False, True, False):
        journal.create({"optimizer.lr": 0.25}, DISTRIBUTIONS, begun=begun)
    waiting, running = TrialState.WAITING, TrialState.RUNNING
    assert [t.state for t in journal.trials()] == [waiting, running, waiting]
    journal.begin(2)
    journal.append(started(2))
    journal.append(outcome(2, TrialState.COMPLETE, 0.5, 1))
    journal.append(outcome(0, TrialState.FAILED, None, 0))
    ended = load_optuna(tmp_path).trials[2]
    assert ended.datetime_start is not None
    assert [t.state for t in read_trials(tmp_path)] == [TrialState.FAILED, running, TrialState.COMPLETE]
    study = Study(journal, SPACE, {}, maximize=True)
    study.restore()
    assert study.unfinished() == [0, 1, 2], "the events are not replayed yet"
    assert not study.waiting


def test_a_start_that_optunas_journal_lost_is_told_to_it(tmp_path: Path, opened: Callable[[], Journal]) -> None:
    journal = opened()
    journal.create({"optimizer.lr": 0.25}, DISTRIBUTIONS, begun=False)
    journal.append(started(0, {"optimizer.lr": 0.25}))
    study = Study(journal, SPACE, {}, maximize=True)
    study.restore()
    assert (study.unfinished(), study.num_begun) == ([0], 1)
    assert [t.state for t in read_trials(tmp_path)] == [TrialState.RUNNING]


def test_trials_are_on_the_disk_before_their_events(
    tmp_path: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, synced, later = opened(), list[str](), time.monotonic() + 10
    monkeypatch.setattr("time.monotonic", lambda: later)
    monkeypatch.setattr("os.fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").resolve().name))
    journal.create({}, {})
    journal.append(started(0))
    assert synced == [OPTUNA, EVENTS]


def test_what_cannot_be_drawn_again_is_refused(tmp_path: Path, opened: Callable[[], Journal]) -> None:
    journal = opened()
    journal.append(started(2, {"optimizer.lr": 0.25}))
    with pytest.raises(UsageError, match=rf"{OPTUNA}: lacks trial 0, which {EVENTS} has; put both back from a copy"):
        Study(journal, SPACE, {}, maximize=True).restore()
    study = Study(journal, SPACE, {}, maximize=True)
    study.restore(lambda number, known: {"optimizer.lr": number / 10 + len(known) / 100})
    assert [p["optimizer.lr"] for p in study.params] == [0.01, pytest.approx(0.12), 0.25]
    assert list(study.waiting) == [0, 1]


# ------------------------------------------------------------------------------------------------------ directions


@pytest.mark.parametrize("maximize", [False, [True, True], [False, True]])
def test_a_study_keeps_its_directions(maximize: bool | list[bool], tmp_path: Path) -> None:
    filled(tmp_path)
    with (
        contextlib.closing(Journal(tmp_path, maximize=maximize)) as journal,
        pytest.raises(UsageError, match="the study is to maximize, which cannot change"),
    ):
        journal.require_directions()
    with contextlib.closing(Journal(tmp_path, maximize=True)) as journal:
        journal.require_directions()


def test_a_study_without_trials_may_become_another(tmp_path: Path) -> None:
    Journal(tmp_path, maximize=True).close()
    journal = Journal(tmp_path, maximize=[False, True])
    assert journal.create({"optimizer.lr": 0.5}, DISTRIBUTIONS) == 0
    journal.close()
    assert [d.name for d in load_optuna(tmp_path).directions] == ["MINIMIZE", "MAXIMIZE"]


def test_several_objectives_stand_in_optunas_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path, maximize=[False, True])
    journal.create({"optimizer.lr": 0.5}, DISTRIBUTIONS)
    several = dataclasses.replace(outcome(0, TrialState.COMPLETE, None, 1), values=(0.25, 4.0))
    journal.append(several)
    journal.close()
    assert load_optuna(tmp_path).trials[0].values == [0.25, 4.0]
    assert stored(tmp_path) == [several]


def test_a_trial_without_a_value_is_none_that_optuna_could_compare(tmp_path: Path) -> None:
    filled(tmp_path, trials=1)
    journal = Journal(tmp_path, maximize=True)
    journal.create({"optimizer.lr": 0.5}, DISTRIBUTIONS)
    journal.append(outcome(1, TrialState.COMPLETE, None, 1))
    journal.close()
    assert load_optuna(tmp_path).best_trial.number == 0
