"""SIGKILL of driver, worker, raylet and tracking server at random moments: nothing is lost, little is repeated."""

import hashlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kits.commands import events
from tests.kits.faults import Program, TrackingServer, until
from tests.kits.mlflow_store import differences

ROUNDS = 12
TRIALS = 10
EPOCHS = 24
BETWEEN_CHECKPOINTS = 4
WORKERS = 2
VICTIMS = ("driver", "ray::Worker", "raylet", "server")

# Prints a line an epoch, which stays in the trial's log whatever happens to the worker.
MODEL = """
from search.train.models.cnn import CNN


class Counted(CNN):
    def train(self, mode=True):
        if mode:
            print("an epoch", flush=True)
        return super().train(mode)
"""
CONFIG = """
_target_: counted.Counted
channels: 16
blocks: 2
kernel: 3
dropout: 0.0
space:
  channels: {choices: [8, 16]}
  dropout: {low: 0.0, high: 0.4}
"""


def program(folder: Path, *overrides: str) -> Program:
    (folder / "counted.py").write_text(MODEL)
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "model" / "counted.yaml").write_text(CONFIG)
    return Program(
        folder,
        *("--config-dir", "mine", "model=counted", "pruner=none", "fused=off", "stages=[search]"),
        f"budget.trials={TRIALS}",
        *(f"trainer.epochs={EPOCHS}", f"trainer.checkpoint_every={BETWEEN_CHECKPOINTS}", f"cluster.workers={WORKERS}"),
        *("failures.retries.lost_worker=null", *overrides),
    )


def ended(study: Path) -> int:
    return len(events(study, "outcome")) if (study / "events.jsonl").exists() else 0


def epochs_trained(study: Path) -> int:
    return sum(log.read_text().count("an epoch") for log in study.glob("trials/*/log.txt"))


def weights(study: Path) -> dict[str, str]:
    return {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(study.glob("trials/*/weights.safetensors"))
    }


@pytest.fixture
def server(tmp_path: Path, store: str) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path, store)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The same search left alone: its study and how long it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    alone = program(folder, "tracking=none")
    began = time.monotonic()
    alone.start()
    assert alone.wait() == 0, alone.printed()
    return folder / "outputs" / "digits", time.monotonic() - began


def killed(
    seed: int, folder: Path, server: TrackingServer, *overrides: str, rounds: int = ROUNDS
) -> tuple[Path, Counter[str], float]:
    """Search to the end while somebody kills at random; return the study, who was killed, and the seconds it took."""
    rng = random.Random(seed)
    folder.mkdir()
    study = folder / "outputs" / "digits"
    search = program(folder, "tracking=server", f"tracking.uri={server.uri}", *overrides)
    server.wait()
    began = time.monotonic()
    search.start()
    kills: Counter[str] = Counter()
    while sum(kills.values()) < rounds:
        reports = _reports(study)
        until(lambda: not search.running or _reports(study) > reports, "a report")  # noqa: B023 - called at once
        time.sleep(rng.uniform(0.0, 1.5))
        if not search.running:
            if search.wait() == 0:
                break  # it was done before all the kills
            search.start()
            continue
        victim = rng.choice(VICTIMS)
        if victim == "server":
            server.kill()
            time.sleep(rng.uniform(0.0, 2.0))
            server.start()
            kills[victim] += 1
        elif search.kill(victim):
            kills[victim] += 1
    while (code := search.wait()) != 0:
        assert code in (-9, 1), search.printed()
        search.start()
    return study, kills, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_anywhere_every_trial_ends_once_and_as_if_undisturbed(
    seed: int, tmp_path: Path, store: str, server: TrackingServer, undisturbed: tuple[Path, float]
) -> None:
    study, kills, took = killed(seed, tmp_path / "search", server)
    assert sum(kills.values()) >= ROUNDS / 2, f"the search was over after {kills}"
    alone, undisturbed_seconds = undisturbed
    assert Counter(e["number"] for e in events(study, "outcome")) == Counter(range(TRIALS)), "each ends once"
    assert weights(study) == weights(alone), "bit for bit what an undisturbed search gives"
    assert figures(study) == figures(alone)
    assert differences(study, store, "digits") == [], "MLflow equals the study"
    harmful = sum(kills.values()) - kills["server"]
    assert epochs_trained(study) <= TRIALS * EPOCHS + harmful * WORKERS * BETWEEN_CHECKPOINTS
    repeated = (epochs_trained(study) / (TRIALS * EPOCHS) - 1) * undisturbed_seconds
    assert took <= undisturbed_seconds + repeated + 15 * sum(kills.values())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_anywhere_trials_that_share_a_program_end_once_and_as_good_as_alone(
    tmp_path: Path, store: str, server: TrackingServer, undisturbed: tuple[Path, float]
) -> None:
    study, kills, _ = killed(2, tmp_path / "search", server, "fused=4", rounds=ROUNDS // 3)
    assert sum(kills.values()) >= ROUNDS // 6, f"the search was over after {kills}"
    assert Counter(e["number"] for e in events(study, "outcome")) == Counter(range(TRIALS)), "each ends once"
    assert {e["failure"] for e in events(study, "outcome")} == {None}
    assert differences(study, store, "digits") == [], "MLflow equals the study"
    found, alone = ({e["number"]: e["value"] for e in events(of, "outcome")} for of in (study, undisturbed[0]))
    assert max(abs(found[number] - alone[number]) for number in range(TRIALS)) <= 0.03, (
        "rounding grows over the epochs, and no more than that"
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_worker_gives_what_two_give(tmp_path: Path, undisturbed: tuple[Path, float]) -> None:
    alone = program(tmp_path, "tracking=none", "cluster.workers=1")
    alone.start()
    assert alone.wait() == 0, alone.printed()
    study = tmp_path / "outputs" / "digits"
    assert weights(study) == weights(undisturbed[0]), "bit for bit"
    assert figures(study) == figures(undisturbed[0])


def figures(study: Path) -> dict[int, object]:
    return {e["number"]: (e["state"], e["value"], e["metrics"]) for e in events(study, "outcome")}


def _reports(study: Path) -> int:
    return len(events(study, "report")) if (study / "events.jsonl").exists() else 0
