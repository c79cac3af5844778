"""How long it takes until something happens: the help, a mistake's message, the first trial that trains.

The first trial's time is split by phases: the program's imports, the composed configuration, Ray, the workers. Beside
it stands `import torch` in as many fresh processes at once as there are workers, which no worker can go below.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import psutil
from rich.console import Console

from scripts.benchmarks.results import OURS, Goal, Record
from scripts.benchmarks.watching import progress
from search.records import Report, Started
from search.sweep.journal import read_events

WALL = "wall s"
TORCH = "import torch in all workers at once"
TRAINING = "from Ray to the first trial, beyond that import"
GOALS = (
    Goal(metric=WALL, case="--help", most=1.2),
    Goal(metric=WALL, case="a mistake", most=1.2),
    Goal(metric=WALL, case=f"local: {TRAINING}", most=1.0),
    Goal(metric=WALL, case=f"existing: {TRAINING}", most=1.0),
)
PROGRAM = [sys.executable, "-c", "import sys; from search.apps.cli import main; sys.exit(main())"]
"""What `search` is, in our environment."""
_IMPORTS = ("search.apps.cli", "search.apps.search", "ray", "optuna", "mlflow", "torch", "search.trial")
MARKS = "SEARCH_MARKS"
"""Names the file that `marked` writes to."""
_SECONDS = 180.0
_TINY = (
    *("model=linear", "budget.trials=2", "trainer.epochs=1", "stages=[search]", "pruner=none"),
    "tracking=sqlite",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the medians are shown")
    parser.add_argument("--searches", type=int, default=3, help="searches on each kind of cluster, likewise")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")


def run(options: argparse.Namespace, console: Console) -> list[Record]:
    """Measure everything in turn."""
    with tempfile.TemporaryDirectory(prefix="marks-") as folder:
        os.environ[MARKS] = str(Path(folder) / "marks.jsonl")  # of a cluster's workers, too, which start before
        return _measure(options, console)


def _measure(options: argparse.Namespace, console: Console) -> list[Record]:
    kinds = ("local", "existing")
    steps = options.repeats * (2 + len(_IMPORTS)) + options.searches * (len(kinds) + 1)
    with progress(console, "starting up", steps) as advance:

        def median_of(command: Sequence[str], code: int, repeats: int = options.repeats) -> float:
            seconds = []
            for _ in range(repeats):
                seconds.append(wall_of(command, code))
                advance(1)
            return median(seconds)

        found = {
            "--help": median_of([*PROGRAM, "--help"], 0),
            "a mistake (device=gpu)": median_of([*PROGRAM, "device=gpu"], 2),
        }
        for name in _IMPORTS:
            found[f"import {name}"] = median_of([sys.executable, "-c", f"import {name}"], 0)
        torch = []
        for _ in range(options.searches):
            torch.append(at_once([sys.executable, "-c", "import torch"], options.workers))
            advance(1)
        found[TORCH] = median(torch)
        for kind in kinds:
            with _cluster(kind, options.workers) as overrides:
                searches = []
                for _ in range(options.searches):
                    searches.append(phases([*overrides, f"cluster.workers={options.workers}"]))
                    advance(1)
            for phase in searches[0]:
                found[f"{kind}: {phase}"] = median(search[phase] for search in searches)
            to_training = found[f"{kind}: Ray there to first trial training"]
            found[f"{kind}: {TRAINING}"] = to_training - found[TORCH]
    return [Record(bench="startup", case=case, system=OURS, metric=WALL, value=value) for case, value in found.items()]


def wall_of(command: Sequence[str], code: int) -> float:
    """Return how long a command takes; raise RuntimeError where it ends with another code."""
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
        seconds = time.perf_counter() - begin
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(command[2:])} ended with {done.returncode}: {done.stderr[-1000:]}")
    return seconds


def at_once(command: Sequence[str], processes: int) -> float:
    """Return how long it takes until as many processes that begin at the same time are all done."""
    begin = time.perf_counter()
    running = [subprocess.Popen(command) for _ in range(processes)]
    codes = [process.wait(_SECONDS) for process in running]
    if any(codes):
        raise RuntimeError(f"{' '.join(command)} failed")
    return time.perf_counter() - begin


def phases(overrides: Sequence[str]) -> dict[str, float]:
    """Run a tiny search with marks; return how long each phase took until its first trial trained and reported."""
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        study, marks = Path(folder) / "study", Path(os.environ[MARKS])
        marks.unlink(missing_ok=True)
        command = [sys.executable, "-m", "scripts.benchmarks.marked", *_TINY, f"output_dir={study}", *overrides]
        begin = time.time()
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"a tiny search ended with {done.returncode}: {(done.stderr + done.stdout)[-2000:]}")
        return phases_of(begin, _marks(marks), study)


def _marks(path: Path) -> dict[str, float]:
    """Return the first time of each mark."""
    first: dict[str, float] = {}
    for line in path.read_text().splitlines():
        name, when = json.loads(line)
        first[name] = min(when, first.get(name, when))
    return first


def phases_of(begin: float, marks: dict[str, float], study: Path) -> dict[str, float]:
    """Return the seconds between marks, by what happened in them."""
    events = [event for event, _ in read_events(study)]
    handed = next(event.time for event in events if isinstance(event, Started))
    report = next(event.time for event in events if isinstance(event, Report))
    return {
        "Python and cli imported": marks["cli imported"] - begin,
        "configuration composed": marks["composed"] - marks["cli imported"],
        "up to Ray being wanted": marks["Ray wanted"] - marks["composed"],
        "import ray": marks["ray imported"] - marks["Ray wanted"],
        "ray.init": marks["Ray there"] - marks["ray imported"],
        "command to Ray there": marks["Ray there"] - begin,
        "worker's process begins": marks["worker's process"] - marks["Ray there"],
        "its imports, up to being equipped": marks["worker called"] - marks["worker's process"],
        "worker equipped": marks["worker equipped"] - marks["worker called"],
        "driver knows, first trial handed over": handed - marks["worker equipped"],
        "first trial begins in its worker": marks["trial begins"] - handed,
        "first report": report - marks["trial begins"],
        "Ray there to first trial training": marks["trial begins"] - marks["Ray there"],
        "command to first trial training": marks["trial begins"] - begin,
    }


@contextlib.contextmanager
def _cluster(kind: str, workers: int) -> Iterator[list[str]]:
    """Give the overrides for a kind of cluster; `existing` is a Ray that stands before the search begins."""
    if kind == "local":
        yield [f"cluster.cpus={workers}"]
        return
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    port = _free_port()
    ray = str(Path(sys.executable).with_name("ray"))
    before = os.environ.get("RAY_AUTH_MODE")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with (folder / "log").open("wb") as log:
        head = subprocess.Popen(
            [
                *(ray, "start", "--head", "--block", f"--port={port}", f"--num-cpus={workers}", "--num-gpus=0"),
                *(f"--temp-dir={folder}", "--include-dashboard=false", "--disable-usage-stats"),
                "--node-ip-address=127.0.0.1",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(port, head, folder / "log")
        yield ["cluster=existing", f"cluster.address=127.0.0.1:{port}"]
    finally:
        _end(head)
        if before is None:
            del os.environ["RAY_AUTH_MODE"]
        else:
            os.environ["RAY_AUTH_MODE"] = before
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, head: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the head has started everything: it says so in its output."""
    deadline = time.monotonic() + _SECONDS
    while b"Ray runtime started" not in log.read_bytes():
        if head.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"ray start on port {port} failed: {log.read_text()[-1000:]}")
        time.sleep(0.1)
    time.sleep(2.0)  # its first workers start idle meanwhile, as in a cluster that has been there for long


def _end(head: subprocess.Popen[bytes]) -> None:
    """End this head and what it started, by their process numbers: other people's Rays go on."""
    try:
        started = psutil.Process(head.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    head.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        head.wait(10)
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    head.kill()
    head.wait()
