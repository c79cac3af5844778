"""The whole path, as a user walks it: real data, Ray, Optuna's storage, MLflow."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.kits.commands import command, environment, events, mlflow_runs, results, search


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """SIGKILL of the driver after the fourth outcome: nothing finished is trained again, the total is the budget."""
    overrides = ["budget.trials=12", "trainer.epochs=6", "model=mlp", "pruner=none", "stages=[search]"]
    study = tmp_path / "outputs" / "digits"
    driver = subprocess.Popen(
        command(*overrides),
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and driver.poll() is None:
        if (study / "events.jsonl").exists() and len(events_whole(study)) >= 4:
            break
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = events_whole(study)
    assert 4 <= len(before) < 12
    search(tmp_path, *overrides)
    ended = Counter(e["number"] for e in events(study, "outcome"))
    assert ended == Counter(range(12))
    again = Counter(e["number"] for e in events(study, "started"))
    assert all(again[number] == 1 for number in before)
    (_,), trials = mlflow_runs(study)
    assert sorted(int(t.data.tags["search.number"]) for t in trials) == list(range(12))
    assert {t.data.tags["search.state"] for t in trials} == {"complete"}


def events_whole(study: Path) -> list[int]:
    """Return the numbers of the trials with an outcome, while somebody writes."""
    lines = (study / "events.jsonl").read_text().split("\n")[:-1]
    return [e["number"] for e in map(json.loads, lines) if e["event"] == "outcome"]


@pytest.mark.slow
def test_a_multirun_is_one_search_a_job_each_with_its_own_model(tmp_path: Path) -> None:
    small = ("budget.trials=2", "trainer.epochs=1", "cluster.workers=1", "squeeze.register=null")
    search(tmp_path, "-m", "data=digits", "model=mlp,linear", *small)
    base = tmp_path / "outputs" / "digits"
    parents, trials = mlflow_runs(base)
    assert sorted(p.data.params["model"] for p in parents) == ["linear", "mlp"]
    for parent in parents:
        own = [t for t in trials if t.data.tags["mlflow.parentRunId"] == parent.info.run_id]
        assert [t.data.params["model"] for t in own] == [parent.data.params["model"]] * 2
        width = {"model.width" in t.data.params for t in own}
        assert width == {parent.data.params["model"] == "mlp"}
    assert len(list(base.glob("*/results.json"))) == 2


@pytest.mark.slow
def test_a_table_of_numbers_and_words_without_tracking(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [(x, "red" if x > 0.2 else "blue") for x in generator.normal(size=80)]
    lines = [f"{x:.4f},{word},{3 * x + generator.normal() / 10:.4f}" for x, word in rows]
    (tmp_path / "t.csv").write_text("size,colour,price\n" + "\n".join(lines) + "\n")
    printed = search(
        tmp_path,
        "data=csv",
        "data.path=t.csv",
        "data.target=price",
        "model=mlp",
        "budget.trials=3",
        "trainer.batch_size=8",
        "tracking=none",
    )
    study = tmp_path / "outputs" / "csv"
    assert results(study)["metric"] == "rmse"
    assert not (study / "mlflow.db").exists()
    assert "mlflow" not in printed
    assert results(study)["contenders"][0]["test"]["value"] < 1.0, "the noise is 0.1, the spread of the prices 3"


@pytest.mark.slow
def test_pictures_from_idx_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for part, size in (("train", 120), ("t10k", 40)):
        labels = generator.integers(0, 10, size).astype(np.uint8)
        pictures = np.repeat(labels * 25, 28 * 28).reshape(size, 28, 28).astype(np.uint8)
        header = bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in pictures.shape)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(header + pictures.tobytes())
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(
            bytes((0, 0, 8, 1)) + size.to_bytes(4, "big") + labels.tobytes()
        )
    overrides = ["data=fashion_mnist", f"data.root={tmp_path}", "model=linear", "budget.trials=2", "trainer.epochs=2"]
    search(tmp_path, *overrides, "tracking=none")
    assert results(tmp_path / "outputs" / "fashion_mnist")["test_size"] == 40


MODEL = """
import torch

class Net(torch.nn.Module):
    def __init__(self, in_shape, num_outputs, hidden):
        super().__init__()
        size = torch.Size(in_shape).numel()
        self.net = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(size, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, num_outputs)
        )

    def forward(self, x):
        print("user code was here")
        {fault}
        return self.net(x)
"""
CONF = """
_target_: my_models.Net
hidden: 16
space:
  hidden: {choices: [16, 32]}
"""


def bring_own_model(folder: Path, fault: str = "pass") -> list[str]:
    (folder / "my_models.py").write_text(MODEL.replace("{fault}", fault))
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "model" / "net.yaml").write_text(CONF)
    small = ["budget.trials=2", "trainer.epochs=2", "pruner=none", "tracking=none"]
    return ["--config-dir", "mine", "model=net", *small]


@pytest.mark.slow
def test_a_users_own_model_from_the_working_folder(tmp_path: Path) -> None:
    search(tmp_path, *bring_own_model(tmp_path))
    study = tmp_path / "outputs" / "digits"
    assert events(study, "outcome")[0]["state"] == "complete"
    assert "user code was here" in (study / "trials" / "00000" / "log.txt").read_text()


@pytest.mark.slow
def test_a_users_model_that_always_fails_is_told_in_one_line(tmp_path: Path) -> None:
    faulty = bring_own_model(tmp_path, "raise ValueError('too bad')")
    proved = search(tmp_path, *faulty, code=3).splitlines()[-1]
    assert proved.startswith("search: preflight: R10 ")
    assert "the setup does not train: ValueError: too bad (my_models.py:" in proved
    printed = search(tmp_path, *faulty, "stages=[search]", code=4)
    last = printed.splitlines()[-1]
    study = tmp_path / "outputs" / "digits"
    first = min(e["number"] for e in events(study, "outcome"))
    assert last.startswith(f"search: all 2 trials failed; the first was trial {first}: ValueError: too bad")
    assert last.endswith(f"(see {study}/trials/{first:05d}/log.txt)")
    assert "my_models.py" in (study / "trials" / "00000" / "log.txt").read_text()
