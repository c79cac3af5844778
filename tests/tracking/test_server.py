"""The delivery to a real tracking server that goes away in mid-search, and to one that never answers."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from search.records import Event, Report, Started, TrialState
from search.sweep.journal import Journal
from search.tracking import outbox
from search.tracking.outbox import MlflowTracker
from search.tracking.projection import _SETTINGS, Projection
from search.tracking.tracker import SearchInfo
from tests.kits.commands import environment
from tests.kits.mlflow_store import compared
from tests.tracking.conftest import ended


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """A real MLflow server over `folder`, ended at once at the end, as a crash does."""
    arguments = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    arguments += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *arguments],
        env={**environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except (URLError, OSError):
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def write(journal: Journal, numbers: range) -> None:
    for number in numbers:
        journal.create({}, {})
        begun = 1_700_000_000.0 + number
        reports: list[Event] = [
            Report(number=number, step=s, metrics={"objective": s / 7, "loss": float("nan")}, time=begun + s / 1000)
            for s in range(1, 4)
        ]
        started = Started(number=number, params={"lr": 0.1}, seed=number, time=begun)
        for event in [started, *reports, ended(number, TrialState.COMPLETE, 0.5, begun + 0.5)]:
            journal.append(event)


@pytest.mark.slow
def test_a_server_that_goes_and_comes_back_has_everything_once(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in _SETTINGS.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(outbox, "_RETRY_SECONDS", 0.2)
    journal = Journal(tmp_path / "study", maximize=True)
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    info = SearchInfo(uid=journal.uid, name="mine", maximize=True, params={"seed": 0})
    tracker = MlflowTracker(
        lambda: Projection(uri, "experiment", tmp_path, info), journal.events, uri, tmp_path / "study"
    )
    with server(tmp_path, port):
        write(journal, range(10))
        assert tracker.parent_run() is not None
        time.sleep(0.5)  # in the middle of the delivery
    write(journal, range(10, 20))
    time.sleep(1.0)
    with server(tmp_path, port):
        write(journal, range(20, 25))
        assert tracker.finish("FINISHED") is None
        done = compared(tmp_path / "study", uri, "experiment")
        assert done.differences == [], "read from the server"
    assert compared(tmp_path / "study", store, "experiment").points == done.points == 25 * (2 * 3 + 6)
    journal.close()


HANGING = """
import time
from pathlib import Path
from search.tracking import outbox
from search.tracking.projection import Projection
from search.tracking.tracker import SearchInfo

outbox._PATIENCE_SECONDS = 1.0
folder = Path("{folder}")
info = SearchInfo(uid="u1", name="mine", maximize=True, params={{}})
tracker = outbox.MlflowTracker(lambda: Projection("{uri}", "e", folder, info), lambda start: [], "{uri}", folder)
time.sleep({wait})  # it hangs in a request
began = time.monotonic()
print(tracker.finish("KILLED", {patience}))
print(f"{{time.monotonic() - began:.1f}}")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("patience", "timeout"), [(1.0, 60), (None, 2)], ids=["interrupted", "at its end"])
def test_a_program_leaves_though_the_server_accepts_and_never_answers(
    tmp_path: Path, patience: float | None, timeout: int
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", HANGING.format(folder=tmp_path, uri=uri, wait=4, patience=patience)],
            env={**environment(), **_SETTINGS, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout)},
            stdout=subprocess.PIPE,
            text=True,
            timeout=50,  # the end of the process, too, waits for no thread
            check=True,
        )
    problem, seconds = done.stdout.splitlines()
    assert problem.endswith("; the same command delivers it later")
    assert float(seconds) < (2 if patience else 20)
