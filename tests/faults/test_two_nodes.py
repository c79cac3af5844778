"""A cluster that loses a node in mid-search."""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.kits.commands import command, environment, events
from tests.kits.faults import until

SETTINGS: Mapping[str, str] = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


@pytest.fixture
def cluster() -> Iterator[tuple[str, int]]:
    """The address of two nodes with a CPU each, and the process of the second one's raylet."""
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,  # sockets need a short path
        subprocess.Popen(
            [sys.executable, "-m", "tests.kits.two_nodes", folder],
            env={**environment(), **SETTINGS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as nodes,
    ):
        assert nodes.stdout is not None
        address, raylet = nodes.stdout.readline().split()[-2:]
        yield address, int(raylet)
        nodes.communicate(timeout=60)  # closes its input


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_node_that_dies_in_mid_search_loses_nothing(tmp_path: Path, cluster: tuple[str, int]) -> None:
    address, raylet = cluster
    study = tmp_path / "outputs" / "digits"
    overrides = ("budget.trials=8", "model=cnn", "pruner=none", "trainer.epochs=12", "trainer.checkpoint_every=2")
    with (tmp_path / "printed.txt").open("wb") as printed:
        search = subprocess.Popen(
            command(*overrides, "cluster=existing", f"cluster.address={address}", "stages=[search]", "tracking=none"),
            cwd=tmp_path,
            env={**environment(), **SETTINGS},
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        until(lambda: _ended(study) >= 2 or search.poll() is not None, "two trials")
        os.kill(raylet, signal.SIGKILL)
        code = search.wait(200)
    said = (tmp_path / "printed.txt").read_text()
    assert code == 0, said
    assert "with 2 workers" in said
    assert Counter(e["number"] for e in events(study, "outcome")) == Counter(range(8))
    assert {e["state"] for e in events(study, "outcome")} == {"complete"}
    assert [e["failure"]["kind"] for e in events(study, "retried")] == ["lost-worker"]


def _ended(study: Path) -> int:
    return len(events(study, "outcome")) if (study / "events.jsonl").exists() else 0
