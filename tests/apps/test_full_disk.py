"""A disk that takes no more, played by a limit on the size of files: one line, exit code 75, nothing lost."""

import errno
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from search.errors import NoRoomError
from search.records import FailureKind, Work
from search.space import Space
from search.sweep import pruners, samplers
from search.sweep.batch import run_all
from search.sweep.driver import Budget, Driver
from search.sweep.executor import InProcessExecutor, LastWord, Talk
from search.sweep.failures import FailurePolicy, Failures
from search.sweep.journal import Journal, read_trials
from search.sweep.study import Study
from tests.kits import doubles
from tests.kits.commands import command, environment, events, search

OVERRIDES = [
    "budget.trials=8",
    "trainer.epochs=12",
    "model=mlp",
    "pruner=none",
    "stages=[search]",
    "tracking=none",
    "cluster.workers=2",
]


def interrupted_by(folder: Path, limit: Callable[[psutil.Process], None]) -> str:
    """Search, limit the driver or its workers once a trial ended, and return the last that it said."""
    study = folder / "outputs" / "digits"
    begun = len(events(study, "started")) if (study / "events.jsonl").exists() else 0
    driver = subprocess.Popen(
        command(*OVERRIDES), cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and driver.poll() is None:
        if (study / "events.jsonl").exists() and len(events(study, "started")) >= begun + 3:  # two workers
            break
        time.sleep(0.02)
    limit(psutil.Process(driver.pid))
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 75, said
    assert "Traceback" not in said
    return [line for line in said.splitlines() if line.startswith("search: ")][-1]  # Ray complains of its own logs


def limit_driver(driver: psutil.Process) -> None:
    study = Path(driver.cwd()) / "outputs" / "digits"
    size = (study / "events.jsonl").stat().st_size + 300  # in the middle of a line that is to come
    resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def limit_workers(driver: psutil.Process) -> None:
    workers = [p for p in driver.children(recursive=True) if "ray::Worker" in " ".join(p.cmdline())]
    assert workers
    for worker in workers:
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_search_whose_disk_fills_up_goes_on_once_there_is_room(tmp_path: Path) -> None:
    study = tmp_path / "outputs" / "digits"
    rest = "; what has ended is stored, and the same command goes on once there is room"
    line = interrupted_by(tmp_path, limit_driver)
    assert line == f"search: output_dir=outputs/digits: cannot be written (File too large){rest}"
    assert (study / "events.jsonl").read_bytes().endswith(b"}\n")
    before = {e["number"] for e in events(study, "outcome")}
    assert before

    line = interrupted_by(tmp_path, limit_workers)
    assert line.startswith("search: output_dir=outputs/digits: cannot be written (trial ")
    assert line.endswith(f": OSError: [Errno 27] File too large){rest}")
    assert before < {e["number"] for e in events(study, "outcome")}

    search(tmp_path, *OVERRIDES)
    ended = Counter(e["number"] for e in events(study, "outcome"))
    assert ended == Counter(range(8)), "each trial has ended once"
    assert {e["state"] for e in events(study, "outcome")} == {"complete"}
    assert [t.number for t in read_trials(study)] == list(range(8))


def full(work: Work, talk: Talk) -> LastWord | tuple[LastWord, ...]:
    """Fail as a worker does whose disk is full, in trial 1."""
    if work.number == 1:
        raise RuntimeError("the user's own words") from OSError(errno.ENOSPC, "No space left on device")
    return doubles.run(work, talk)


def test_work_that_finds_no_room_is_not_tried_again_and_again() -> None:
    failures = Failures(FailurePolicy(retries=dict.fromkeys(FailureKind)))
    with (
        InProcessExecutor(full) as executor,
        pytest.raises(NoRoomError, match="the user's own words"),
    ):
        run_all(executor, [doubles.spec(n, [0.5]) for n in range(3)], lambda _: None, failures)


def test_a_trial_that_finds_no_room_has_not_ended_and_leaves_no_outcome(tmp_path: Path) -> None:
    """Nor do the others: each pauses, and the next driver goes on with all of them."""
    journal = Journal(tmp_path, maximize=True)
    space = Space.of(OmegaConf.create({"optimizer": {"lr": 0.1, "space": {"lr": {"low": 0, "high": 1}}}, "choose": {}}))
    study = Study(journal, space, {}, maximize=True)

    def driver() -> Driver:
        return Driver(
            study=study,
            make_sampler=lambda taken: samplers.make("random", space, 0, taken, 4),
            pruner=pruners.make({"kind": "none"}, most_steps=3, history=None, maximize=True),
            budget=Budget(trials=4),
            failures=Failures(FailurePolicy(retries={})),
            first=[],
            make_spec=lambda number, params: doubles.spec(number, [0.1, 0.2, 0.3], sleep=0.05),
            planned_steps=lambda _: 3,
            shown=space.shown,
            clock=time.time,
            stopwatch=time.monotonic,
        )

    stopped = driver()
    with InProcessExecutor(full, 3) as executor:
        progress = stopped.run(executor)
    assert stopped.no_room is not None
    assert stopped.no_room.startswith("trial 1: RuntimeError: the user's own words")
    assert (stopped.broken, progress.finished) == (None, 0)
    assert sorted(study.paused) == [0, 2]
    assert study.unfinished() == [0, 1, 2]
    journal.close()
