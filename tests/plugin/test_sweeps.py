"""An application that knows nothing of the sweeper, swept on a real Ray, killed and taken up again."""

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.kits.commands import environment, events
from tests.kits.faults import until
from tests.kits.sweeps import environment_of_applications

JOBS = 24
FINISHED = 6
"""Jobs that have ended before the sweep is killed."""
ROOT = Path(__file__).parents[2]

PROGRAM = """
import math
import time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    with Path(cfg.ran).open("a") as file:
        file.write(f"{HydraConfig.get().job.num}\\n")
    time.sleep(0.05 + cfg.optimizer.lr * 1e6 % 1 / 2)  # some take ten times as long as others
    return (math.log10(cfg.optimizer.lr) + 2) ** 2 + cfg.model.offset


if __name__ == "__main__":
    main()
"""
FILES: dict[str, dict[str, Any]] = {
    "config": {"defaults": ["_self_", {"model": "mlp"}, {"optimizer": "sgd"}], "ran": "${hydra:runtime.cwd}/ran.txt"},
    "model/mlp": {"offset": 1},
    "model/cnn": {"offset": 0, "channels": 3},
    "optimizer/sgd": {"lr": 0.1, "momentum": 0.9},
    "optimizer/adam": {"lr": 0.1},
}
OFFSETS = {"mlp": 1, "cnn": 0}
WORDS = (
    *("-m", "hydra/sweeper=ray_optuna", "hydra.sweep.dir=sweep", "hydra.sweeper.n_jobs=2"),
    *("model=mlp,cnn", "optimizer=glob(*)", "optimizer.lr=tag(log,interval(1e-4,1))", "model.channels=range(2,9)"),
    *("optimizer.momentum=interval(0,1)", f"hydra.sweeper.n_trials={JOBS}"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(PROGRAM)
    for name, node in FILES.items():
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(node)))
    return tmp_path


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    with (folder / "printed.txt").open("ab") as printed:
        return subprocess.Popen(
            [sys.executable, "app.py", *words],
            cwd=folder,
            env=environment_of_applications(),
            stdout=printed,
            stderr=subprocess.STDOUT,
        )


def value(params: dict[str, Any]) -> float:
    """Return what the program returns."""
    distance = math.log10(float(params["optimizer.lr"])) + 2
    return float(distance**2) + OFFSETS[str(params["model"])]


def busy_share(outcomes: list[dict[str, Any]], first: float, last: float) -> float:
    """Return which share of the time of two slots jobs ran in."""
    spans = [(max(o["time"] - o["seconds"], first), min(o["time"], last)) for o in outcomes]
    share: float = sum(max(0.0, end - begin) for begin, end in spans) / (2 * (last - first))
    return share


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_where_it_was(folder: Path) -> None:
    study, ran = folder / "sweep" / "study", folder / "ran.txt"

    def ended() -> list[int]:
        return [e["number"] for e in events(study, "outcome")] if (study / "events.jsonl").exists() else []

    killed = start(folder, *WORDS)
    until(lambda: len(ended()) >= FINISHED or killed.poll() is not None, "some jobs")
    killed.kill()
    killed.wait()
    finished, earlier = ended(), len(events(study, "started"))
    assert FINISHED <= len(finished) < JOBS, (folder / "printed.txt").read_text()

    again = start(folder, *WORDS)
    assert again.wait(120) == 0, (folder / "printed.txt").read_text()

    outcomes, started = events(study, "outcome"), events(study, "started")
    assert sorted(outcome["number"] for outcome in outcomes) == list(range(JOBS)), "each ends once"
    times = Counter(map(int, ran.read_text().split()))
    assert {times[number] for number in finished} == {1}, "what had finished is not run again"
    assert times.total() <= JOBS + 2, "what ran is run again at most"
    params = {event["number"]: event["params"] for event in started}
    assert {o["number"]: o["value"] for o in outcomes} == {n: pytest.approx(value(p)) for n, p in params.items()}
    best = OmegaConf.load(folder / "sweep" / "optimization_results.yaml")
    assert best.best_value == pytest.approx(min(map(value, params.values())))
    assert {("model.channels" in p, p["model"]) for p in params.values()} == {(True, "cnn"), (False, "mlp")}
    assert {("optimizer.momentum" in p, p["optimizer"]) for p in params.values()} == {(True, "sgd"), (False, "adam")}
    for number in range(JOBS):
        assert (folder / "sweep" / str(number) / ".hydra" / "overrides.yaml").exists()

    mine = [event["time"] for event in started[earlier:]]
    assert busy_share(outcomes, mine[0], mine[-1]) > 0.5, "no slot waits for the slowest job"


# ------------------------------------------------------------------------------------------------- discovery


def run(folder: Path, path: str, *words: str) -> str:
    """Return what Python prints with that PYTHONPATH."""
    env = {**environment(), "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return done.stdout


def plugins(folder: Path, path: str) -> str:
    return run(folder, path, "app.py", "--info", "plugins")


@pytest.mark.slow
def test_hydra_finds_the_sweeper_of_a_checkout_once(folder: Path) -> None:
    said = plugins(folder, environment_of_applications()["PYTHONPATH"])
    assert said.count("RayOptunaSweeper") == said.count("ExplainedNull") == 1


@pytest.mark.slow
def test_hydra_finds_the_sweeper_of_an_installed_wheel_once(folder: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path / "wheels", ROOT], check=True)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    there = tmp_path / "there"
    subprocess.run([*pip, "install", "--no-deps", "--target", there, wheel], check=True)
    assert not (there / "search" / "_plugins").exists()
    assert (there / "search" / "conf" / "search.yaml").exists()
    assert (there / "hydra_plugins" / "ray_optuna_sweeper" / "sweeper.py").exists()
    assert not list((there / "hydra_plugins").glob("*.py")), "it is a namespace that others share"

    assert plugins(folder, str(there)).count("RayOptunaSweeper") == 1
    code = "import search, hydra_plugins.ray_optuna_sweeper.sweeper as s; print(search.__file__, s.__file__)"
    assert all(Path(file).is_relative_to(there) for file in run(folder, str(there), "-c", code).split())
    shown = run(folder, str(there), "app.py", "--cfg", "hydra", "hydra/sweeper=ray_optuna")
    assert "_target_: hydra_plugins.ray_optuna_sweeper.sweeper.RayOptunaSweeper" in shown
