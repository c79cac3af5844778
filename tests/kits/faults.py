"""Programs that are killed: the search, the parts of its Ray, a tracking server."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.kits.commands import command, environment

PATIENCE = 120.0


def until(holds: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"waited {patience:.0f} s for {what}"
        time.sleep(0.05)


class Program:
    """The command, in a folder, again and again."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.folder, self.overrides = folder, overrides
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        with (self.folder / "printed.txt").open("ab") as printed:
            self.process = subprocess.Popen(
                command(*self.overrides), cwd=self.folder, env=environment(), stdout=printed, stderr=subprocess.STDOUT
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for the end; return the exit code."""
        assert self.process is not None
        return self.process.wait(patience)

    def printed(self) -> str:
        return (self.folder / "printed.txt").read_text()

    def parts(self, name: str) -> list[psutil.Process]:
        """Return the program's own processes whose name or command line begins with or ends in `name`."""
        assert self.process is not None
        try:
            everyone = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [p for p in everyone if _is(p, name)]

    def kill(self, name: str) -> bool:
        """Kill the program, or one of its parts; tell whether it was there."""
        assert self.process is not None
        if name == "driver":
            self.process.kill()
            self.process.wait()
            return True
        found = self.parts(name)
        for process in found[:1]:
            process.kill()
        return bool(found)


def _is(process: psutil.Process, name: str) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return bool(words) and (words[0].startswith(name) or words[0].endswith(f"/{name}"))


class TrackingServer:
    """`mlflow server` on loopback over a SQLite file."""

    def __init__(self, folder: Path, store: str) -> None:
        self._folder, self._store = folder, store
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        words += ["--workers", "1", "--backend-store-uri", self._store]
        words += ["--artifacts-destination", str(self._folder / "artifacts")]
        env = {**environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "server.txt").open("ab") as printed:
            self._process = subprocess.Popen(
                words, cwd=self._folder, env=env, stdout=printed, stderr=printed, start_new_session=True
            )

    def wait(self) -> None:
        """Wait until it answers."""
        until(self._answers, "the tracking server")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Kill it with all that it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
