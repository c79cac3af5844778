"""The packaged champion, in a process of its own that refuses to unpickle."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from search.layout import WEIGHTS
from search.post.package import Champion, Member, export, log_champion
from search.train.checkpoint import save_state
from search.train.data import csv, digits
from search.train.data.arrays import Array, Dataset, Examples
from search.train.data.split import divide
from search.train.estimator import Estimator, build

MLP = {"_target_": "search.train.models.mlp.MLP", "width": 8, "depth": 1, "dropout": 0.5}
CNN = {"_target_": "search.train.models.cnn.CNN", "channels": 4, "blocks": 2, "kernel": 3, "dropout": 0.1}
LOAD = """
import json, sys, mlflow, numpy as np, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
predicted = []
for given in json.loads(sys.stdin.read()):
    rows = pd.DataFrame(given) if isinstance(given, dict) else np.array(given, dtype=np.uint8)
    predicted.append(np.asarray(model.predict(rows)).tolist())
print(json.dumps(predicted))
"""


def dataset_of(examples: Examples) -> Dataset:
    config = {"fractions": [0.6, 0.2, 0.2], "stratify": True, "seed": 0, "group": None, "time": None}
    return Dataset(examples=examples, split=divide(examples, config))


def champion_of(dataset: Dataset, folder: Path, models: list[dict[str, object]]) -> tuple[Champion, list[Estimator]]:
    """Untrained networks with their weights on disk, as trials leave them."""
    members, networks = [], []
    for i, config in enumerate(models):
        torch.manual_seed(i)
        network = build(config, dataset).eval()
        (folder / str(i)).mkdir()
        save_state(folder / str(i) / WEIGHTS, network.state_dict())
        members.append(Member(directory=folder / str(i), config={"model": config}, weight=(i + 1) / 3))
        networks.append(network)
    return Champion(name="greedy ensemble", dataset=dataset, members=members), networks


def loaded_predictions(store: str, address: str, *batches: object) -> list[Array]:
    """Load the registered model in a clean process and predict each batch."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, address],
        input=json.dumps(batches),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MLFLOW_TRACKING_URI": store, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
    )
    assert done.returncode == 0, done.stderr
    return [np.array(predicted) for predicted in json.loads(done.stdout.splitlines()[-1])]


def log(store: str, folder: Path, champion: Champion) -> str:
    client = MlflowClient(tracking_uri=store)
    experiment = client.create_experiment("e", artifact_location=(folder / "artifacts").as_uri())
    run = client.create_run(experiment)
    exported = export(champion, folder / "champion")
    return log_champion(exported, store, run.info.run_id, "mine", ["trials/00000", "trials/00001"])


def test_an_ensemble_of_pictures_predicts_as_its_members_do(store: str, tmp_path: Path) -> None:
    dataset = dataset_of(digits.load("digits"))
    champion, networks = champion_of(dataset, tmp_path, [MLP, CNN])
    address = log(store, tmp_path, champion)
    assert address == "models:/mine@champion"
    inputs = dataset.examples.inputs[:7]
    with torch.inference_mode():
        parts = [n(torch.from_numpy(inputs)).softmax(dim=1).numpy() for n in networks]
    expected = parts[0] / 3 + parts[1] * 2 / 3
    some, one = loaded_predictions(store, address, inputs.tolist(), inputs[:1].tolist())
    assert some == pytest.approx(expected, abs=1e-5)
    assert one == pytest.approx(expected[:1], abs=1e-5)
    version = MlflowClient(tracking_uri=store).get_model_version_by_alias("mine", "champion")
    assert str(version.version) == "1"


@pytest.mark.slow
def test_a_table_goes_in_as_it_came(store: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"size": generator.normal(size=60), "colour": ["red", "blue", "green"] * 20})
    table["price"] = 100 + 20 * table["size"]
    table.loc[3, "size"] = np.nan
    table.to_csv(tmp_path / "t.csv", index=False)
    dataset = dataset_of(csv.load("t", str(tmp_path / "t.csv"), "price", task="regression"))
    champion, networks = champion_of(dataset, tmp_path, [MLP])
    champion = Champion(
        name="single best",
        dataset=dataset,
        members=[Member(directory=champion.members[0].directory, config=champion.members[0].config, weight=1.0)],
    )
    address = log(store, tmp_path, champion)
    rows = {"colour": ["blue", "violet"], "size": [0.5, -1]}  # whole numbers and words nobody saw, in another order
    with torch.inference_mode():
        expected = networks[0](torch.tensor([[0.5, 1, 0, 0], [-1.0, 0, 0, 0]])).squeeze(1).numpy()
    (predicted,) = loaded_predictions(store, address, rows)
    assert predicted == pytest.approx(expected, rel=1e-5)
