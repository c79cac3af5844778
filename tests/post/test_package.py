"""The registered champion: in a process of its own that refuses to unpickle, and served over HTTP."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from search.post.package import is_registered, log_champion
from search.post.program import Champion, export
from search.train.data import digits
from tests.kits.champions import CNN, MLP, averaged, champion_of, dataset_of, lineage_of, prices

LOAD = """
import json, sys, mlflow, numpy as np, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
predicted = []
for given in json.loads(sys.stdin.read()):
    rows = pd.DataFrame(given) if isinstance(given, dict) else np.array(given, dtype=np.uint8)
    predicted.append(model.predict(rows).to_dict(orient="list"))
print(json.dumps(predicted))
"""
CLASSES = [f"p_{i}" for i in range(10)]


def environment(store: str) -> dict[str, str]:
    return {**os.environ, "MLFLOW_TRACKING_URI": store, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}


def loaded_predictions(store: str, folder: Path, address: str, *batches: object) -> list[pd.DataFrame]:
    """Load the registered model in a clean process, which stands elsewhere, and predict each batch."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, address],
        input=json.dumps(batches),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment(store),
    )
    assert done.returncode == 0, done.stderr
    return [pd.DataFrame(predicted) for predicted in json.loads(done.stdout.splitlines()[-1])]


def log(store: str, folder: Path, champion: Champion) -> str:
    client = MlflowClient(tracking_uri=store)
    experiment = client.create_experiment("e", artifact_location=(folder / "artifacts").as_uri())
    run = client.create_run(experiment)
    lineage = lineage_of(champion)
    exported = export(champion, lineage, folder / "champion")
    return log_champion(exported, lineage, store, run.info.run_id, "mine")


@pytest.mark.slow
def test_an_ensemble_of_pictures_predicts_as_its_members_do(store: str, tmp_path: Path) -> None:
    dataset = dataset_of(digits.load("digits"))
    champion = champion_of(dataset, tmp_path, [MLP, CNN], temperature=1.3)
    address = log(store, tmp_path, champion)
    assert address == "models:/mine@champion"
    assert is_registered(store, address)
    inputs = dataset.examples.inputs[:7]
    expected, spread = averaged(champion, inputs)
    some, one = loaded_predictions(store, tmp_path, address, inputs.tolist(), inputs[:1].tolist())
    assert list(some) == ["prediction", *CLASSES, "entropy", "spread"]
    assert some[CLASSES].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert some["spread"].to_numpy() == pytest.approx(spread, abs=1e-5)
    assert one[CLASSES].to_numpy() == pytest.approx(expected[:1], abs=1e-5)
    assert list(some["prediction"]) == list(expected.argmax(axis=1)), "digits, as the data has them"
    version = MlflowClient(tracking_uri=store).get_model_version_by_alias("mine", "champion")
    assert str(version.version) == "1"
    assert version.tags == lineage_of(champion).tags()
    assert version.description == (tmp_path / "champion" / "README.md").read_text()
    kept = {path.name for path in (tmp_path / "artifacts").rglob("artifacts/*")}
    assert kept >= {"program.pt2", "program.onnx", "description.json", "lineage.json", "README.md"}
    assert not list((tmp_path / "artifacts").rglob("*.pkl"))


@pytest.mark.slow
def test_a_table_goes_in_as_it_came(store: str, tmp_path: Path) -> None:
    dataset = prices(tmp_path)
    champion = champion_of(dataset, tmp_path, [MLP])
    address = log(store, tmp_path, champion)
    rows = {"colour": ["blue", "violet"], "size": [0.5, -1]}  # whole numbers and words nobody saw, in another order
    expected, _ = averaged(champion, np.array([[0.5, 1, 0, 0], [-1.0, 0, 0, 0]]))
    (predicted,) = loaded_predictions(store, tmp_path, address, rows)
    assert predicted["prediction"].to_numpy() == pytest.approx(expected, rel=1e-5)
    assert (predicted["spread"] == 0).all()


@contextlib.contextmanager
def served(store: str, folder: Path, address: str) -> Iterator[str]:
    """Have `mlflow models serve` answer on this machine; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = Path(sys.executable).parent  # of MLflow, and of the server that it looks for
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "server.txt").open("w") as said:
        server = subprocess.Popen(
            [str(programs / "mlflow"), "models", "serve", "-m", address, *options],
            cwd=folder,
            env={**environment(store), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
            stdout=said,
            stderr=said,
            start_new_session=True,  # it has children
        )
        try:
            await_answer(server, f"http://127.0.0.1:{port}/ping", folder)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def await_answer(server: "subprocess.Popen[bytes]", address: str, folder: Path) -> None:
    while True:
        assert server.poll() is None, (folder / "server.txt").read_text()
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)


def asked(address: str, given: dict[str, Any]) -> pd.DataFrame:
    request = urllib.request.Request(address, json.dumps(given).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return pd.DataFrame(json.load(answer)["predictions"])


@pytest.mark.slow
def test_a_served_champion_of_pictures_answers_as_its_members_do(store: str, tmp_path: Path) -> None:
    dataset = dataset_of(digits.load("digits"))
    champion = champion_of(dataset, tmp_path, [MLP, CNN], temperature=0.8)
    inputs = dataset.examples.inputs[:50]
    expected, spread = averaged(champion, inputs)
    with served(store, tmp_path, log(store, tmp_path, champion)) as address:
        answer = asked(address, {"inputs": inputs.tolist()})
    assert answer[CLASSES].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert answer["spread"].to_numpy() == pytest.approx(spread, abs=1e-5)


@pytest.mark.slow
def test_a_served_champion_of_a_table_answers_as_its_members_do(store: str, tmp_path: Path) -> None:
    dataset = prices(tmp_path)
    champion = champion_of(dataset, tmp_path, [MLP, {**MLP, "width": 4}])
    rows = pd.DataFrame({"size": [0.5, None, 2.0], "colour": ["blue", "red", "violet"]})
    expected, spread = averaged(champion, np.array([[0.5, 1, 0, 0], [np.nan, 0, 0, 1], [2.0, 0, 0, 0]]))
    with served(store, tmp_path, log(store, tmp_path, champion)) as address:
        answer = asked(address, {"dataframe_split": json.loads(rows.to_json(orient="split", index=False))})
    assert answer["prediction"].to_numpy() == pytest.approx(expected, rel=1e-5)
    assert answer["spread"].to_numpy() == pytest.approx(spread, rel=1e-4, abs=1e-5)


def test_a_card_that_is_too_long_for_mlflow_ends_with_a_whole_line() -> None:
    from search.post.package import _shortened

    long = "\n".join(f"line {i}" for i in range(1000))
    kept = _shortened(long)
    assert len(kept) <= 5000
    first, last = kept.split("\n... ")
    assert long.startswith(first + "\n")
    assert "README.md" in last
    assert _shortened("short") == "short"
