"""Ctrl-C and SIGTERM: the first time in order, the second time at once; the same command goes on."""

import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.kits.commands import events
from tests.kits.faults import Program, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GRACE = 10.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    folder = tmp_path_factory.mktemp("user")
    settings = ("model=cnn", "pruner=none", "trainer.epochs=16", "trainer.checkpoint_every=100")
    return Program(folder, *settings, "budget.trials=4", "stages=[search]")


@pytest.fixture
def study(program: Program) -> Path:
    return program.folder / "outputs" / "digits"


def reports(study: Path) -> int:
    return len(events(study, "report")) if (study / "events.jsonl").exists() else 0


def test_the_first_signal_pauses_what_runs_and_leaves(program: Program, study: Path) -> None:
    program.start()
    assert program.process is not None
    until(lambda: reports(study) >= 6, "reports")
    workers = program.parts("ray::Worker")
    began = time.monotonic()
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == 75
    assert time.monotonic() - began < GRACE
    assert "search: interrupted; the same command goes on where it stopped" in program.printed()
    paused = events(study, "paused")
    ended = {e["number"] for e in events(study, "outcome")}
    assert {e["number"] for e in paused} == {e["number"] for e in events(study, "started")} - ended
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == [], "no worker survives its driver"


def test_paused_trials_go_on_from_where_they_were(program: Program, study: Path) -> None:
    """And the second signal ends the program at once, which costs what came after the last checkpoint."""
    before = {e["number"]: e["step"] for e in events(study, "paused")}
    log = study / "trials" / f"{min(before):05d}" / "log.txt"
    known = reports(study)
    program.start()
    assert program.process is not None
    until(lambda: reports(study) > known, "a report")
    first_new = events(study, "report")[known]
    assert first_new["step"] == before.get(first_new["number"], 0) + 1, "no epoch is trained again"
    assert log.exists()
    program.process.send_signal(signal.SIGINT)
    program.process.send_signal(signal.SIGTERM)
    assert program.wait(5) == 75


def test_in_the_end_every_trial_ended_once(program: Program, study: Path) -> None:
    program.start()
    assert program.wait() == 0, program.printed()
    assert Counter(e["number"] for e in events(study, "outcome")) == Counter(range(4))
    steps = Counter((e["number"], e["step"]) for e in events(study, "report"))
    assert set(steps.values()) == {1}, "no figure stands there twice"
    assert len(steps) == 4 * 16
