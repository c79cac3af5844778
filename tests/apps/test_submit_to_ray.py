"""A search as a job of a real Ray cluster: submitted, stopped in the middle, submitted again."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.kits.commands import environment, events

TOKEN = "0123456789abcdef0123456789abcdef"
SMALL = (
    "name=mine",
    "stages=[search]",
    "budget.trials=8",
    "trainer.epochs=40",
    "model=mlp",
    "pruner=none",
    "tracking=none",
)


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Cluster:
    """A head of one node, with ports, a folder and a token of its own."""

    def __init__(self, folder: Path) -> None:
        port, dashboard, client = free_ports(3)
        self.folder = folder
        self.address = f"http://127.0.0.1:{dashboard}"
        self.environment = {**environment(), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        options = [
            *("--head", "--block", "--num-cpus=2", "--num-gpus=0", "--disable-usage-stats"),
            *("--node-ip-address=127.0.0.1", f"--port={port}", f"--ray-client-server-port={client}"),
            *(f"--temp-dir={folder}", f"--dashboard-port={dashboard}", "--dashboard-agent-listen-port=0"),
        ]
        with (folder / "start.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *options],
                env=self.environment,
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def submit(self, folder: Path, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "search.apps.submit", "ray", f"--address={self.address}", *arguments],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def output(self, submission_id: str) -> str:
        return (self.folder / "session_latest" / "logs" / f"job-driver-{submission_id}.log").read_text()

    def stop(self, submission_id: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "job", "stop", f"--address={self.address}", submission_id],
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=True,
        )

    def close(self) -> None:
        processes = [self.process, *psutil.Process(self.process.pid).children(recursive=True)]
        self.process.terminate()
        _, alive = psutil.wait_procs([p for p in processes if isinstance(p, psutil.Process)], timeout=15)
        for each in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait(10)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ray", ignore_cleanup_errors=True) as folder:  # a short path
        made = Cluster(Path(folder))
        try:
            yield made
        finally:
            made.close()


def wait_until(true, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def ended(study: Path) -> Counter[int]:
    """Return how often each trial's end is recorded."""
    return Counter(e["number"] for e in events(study, "outcome")) if (study / "events.jsonl").exists() else Counter()


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_a_stopped_job_that_is_submitted_again_finishes_without_repeating_trials(
    cluster: Cluster, tmp_path: Path
) -> None:
    study = tmp_path / "outputs" / "mine"
    wait_until(lambda: _answers(cluster.address), 60)

    out = cluster.submit(tmp_path, "--no-wait", "--", *SMALL)
    assert out.startswith(f"submitted mine to {cluster.address}; the study is in {study}")
    refused = cluster.submit(tmp_path, "--", *SMALL, code=2)
    assert refused == f"submit: mine: searches in {study} already; ray job stop mine ends it\n"
    wait_until(lambda: len(ended(study)) >= 1, 60)
    cluster.stop("mine")
    assert "search: interrupted; the same command goes on" in cluster.output("mine")  # it was not killed
    before = ended(study)
    assert 1 <= len(before) < 8  # it was in the middle

    out = cluster.submit(tmp_path, "--", *SMALL)
    assert out.startswith("submitted mine-2 to ")
    assert "8/8 trials" in out  # its output was followed
    assert out.endswith("mine-2: SUCCEEDED\n")
    assert ended(study) == Counter(range(8))
    started = Counter(e["number"] for e in events(study, "started"))
    assert {n: started[n] for n in before} == dict.fromkeys(before, 1)


def _answers(address: str) -> bool:
    host, _, port = address.removeprefix("http://").partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def test_a_token_is_never_part_of_what_is_submitted(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "search.apps.submit", "ray", "--dry-run"],
        env={**environment(), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert TOKEN not in done.stdout + done.stderr
