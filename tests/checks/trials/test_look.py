"""What is drawn of a trial that has ended: of networks over pictures, series and tables, and of one that failed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from search.checks.evidence import Bars, Curves, Pictures, Sheet
from search.checks.trials.look import look
from search.layout import DIAGNOSTICS
from search.records import Verdict
from search.reporting.figures import draw
from search.train.data.arrays import Dataset, Split
from search.train.estimator import Estimator
from search.train.setup import setup_of
from tests.kits.courses import COSINE, adamw, examples_of, network

CPU = torch.device("cpu")
CASES = {
    "digits": network("CNN", channels=4, blocks=2, kernel=3, dropout=0.1),
    "rings": network("Recurrent", kind="GRU"),
    "iris": network("MLP", width=8, depth=2, dropout=0.0),
    "diabetes": network("Linear"),
}


def trained(name: str, folder: Path) -> tuple[Dataset, Estimator]:
    """Return a network after two short epochs, whose table lies in the folder."""
    indices = np.random.default_rng(0).permutation(120)
    split = Split(train=indices[:64], validation=indices[64:], test=indices[:0])
    dataset = Dataset(examples=examples_of(name), split=split)
    config = {
        "model": CASES[name],
        "optimizer": adamw(1e-3),
        "schedule": COSINE,
        "metric": {"name": None, "mode": None},
        "trainer": {"epochs": 2, "batch_size": 32, "patience": None, "checkpoint_every": 1000},
    }
    setup = setup_of(config, dataset, CPU, seed=1)
    training = setup.training()
    training.fit(lambda *_: (Verdict.GO_ON, ""))
    assert training.diary is not None
    training.diary.table.save(folder / DIAGNOSTICS)
    return dataset, setup.model


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_trial_is_drawn(name: str, tmp_path: Path) -> None:
    dataset, model = trained(name, tmp_path)
    found = {piece.name: piece for piece in look(tmp_path, model, dataset, CPU)}
    lines = {"update-ratio", "activation-std", "gradient-norm", "weight-max", "predictions", "jitter", "weights"}
    assert set(found) >= lines | {"layers", "saliency"}
    assert isinstance(found["layers"], Sheet)
    assert all(isinstance(found[each], Curves) for each in lines)
    assert isinstance(found["saliency"], Bars if name in ("iris", "diabetes") else Pictures)
    assert ("first-layer" in found) == (name == "digits")
    assert any(each.startswith("maps-") for each in found) == (name == "digits")
    for piece in found.values():
        if not isinstance(piece, Sheet):
            assert draw(piece).startswith(b"\x89PNG")


def test_of_a_trial_without_weights_the_layers_are_drawn(tmp_path: Path) -> None:
    dataset, _ = trained("iris", tmp_path)
    found = {piece.name for piece in look(tmp_path, None, dataset, CPU)}
    assert "update-ratio" in found
    assert not {"weights", "saliency"} & found


def test_of_a_trial_that_nobody_looked_at_the_weights_are_drawn(tmp_path: Path) -> None:
    dataset, model = trained("iris", tmp_path)
    (tmp_path / DIAGNOSTICS).unlink()
    assert {piece.name for piece in look(tmp_path, model, dataset, CPU)} == {"weights", "saliency"}


def test_saliency_finds_the_column_that_decides(tmp_path: Path) -> None:
    dataset, model = trained("diabetes", tmp_path)
    weight = model.network.get_submodule("head").get_parameter("weight")
    with torch.no_grad():
        weight.zero_()
        weight[0, 3] = 1.0
    saliency = next(piece for piece in look(tmp_path, model, dataset, CPU) if piece.name == "saliency")
    assert isinstance(saliency, Bars)
    assert saliency.labels[0] == "column 3"
    assert all(values[0] == 1 and values[1:].max() == 0 for values in saliency.bars.values())
