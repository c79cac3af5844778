"""What is drawn of a trial that has ended: of networks over pictures, series and tables, and of one that failed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from search.checks.evidence import Bars, Curves, Evidence, Pictures, Sheet
from search.checks.trials.look import look
from search.layout import DIAGNOSTICS
from search.records import Verdict
from search.reporting.figures import draw
from search.train.data.arrays import Dataset, Examples, Split
from search.train.estimator import Estimator, build
from search.train.setup import setup_of
from tests.kits.courses import COSINE, adamw, examples_of, network

CPU = torch.device("cpu")
CASES = {
    "digits": network("CNN", channels=4, blocks=2, kernel=3, dropout=0.1),
    "rings": network("Recurrent", kind="GRU"),
    "iris": network("MLP", width=8, depth=2, dropout=0.0),
    "diabetes": network("Linear"),
}


def seen(folder: Path, model: Estimator | None, dataset: Dataset, micro_batches: int = 1) -> dict[str, Evidence]:
    parts = look(folder, model, dataset, CPU, micro_batches)
    return {piece.name: piece for _, pieces in parts for piece in pieces}


def trained(name: str, folder: Path, examples: Examples | None = None, **inputs: int) -> tuple[Dataset, Estimator]:
    """Return a network after two short epochs, whose table lies in the folder."""
    indices = np.random.default_rng(0).permutation(120)
    split = Split(train=indices[:64], validation=indices[64:], test=indices[:0])
    dataset = Dataset(examples=examples or examples_of(name), split=split)
    config = {
        "model": CASES[name],
        "optimizer": adamw(1e-3),
        "schedule": COSINE,
        "metric": {"name": None, "mode": None},
        "inputs": {"resolution": None, "features": None, **inputs},
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
    found = seen(tmp_path, model, dataset)
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
    found = set(seen(tmp_path, None, dataset))
    assert "update-ratio" in found
    assert not {"weights", "saliency"} & found


def test_of_a_trial_that_nobody_looked_at_the_weights_are_drawn(tmp_path: Path) -> None:
    dataset, model = trained("iris", tmp_path)
    (tmp_path / DIAGNOSTICS).unlink()
    assert set(seen(tmp_path, model, dataset)) == {"weights", "saliency"}


def test_saliency_finds_the_column_that_decides(tmp_path: Path) -> None:
    dataset, model = trained("diabetes", tmp_path)
    weight = model.network.get_submodule("head").get_parameter("weight")
    with torch.no_grad():
        weight.zero_()
        weight[0, 3] = 1.0
    saliency = seen(tmp_path, model, dataset)["saliency"]
    assert isinstance(saliency, Bars)
    assert saliency.labels[0] == "column 3"
    assert all(values[0] == 1 and values[1:].max() == 0 for values in saliency.bars.values())


def test_columns_have_their_names_whichever_were_selected(tmp_path: Path) -> None:
    plain = examples_of("iris")
    names = ("sepal length", "sepal width", "petal length", "petal width")
    examples = dataclasses.replace(plain, table={"columns": [(name, None) for name in names]})
    dataset, model = trained("iris", tmp_path, examples, features=2)
    saliency = seen(tmp_path, model, dataset)["saliency"]
    assert isinstance(saliency, Bars)
    assert set(saliency.labels) == {"petal length", "petal width"}


def test_the_first_layer_is_shown_in_the_shape_that_the_network_is_given(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = examples_of("digits")
    split = Split(train=np.arange(64), validation=np.arange(64, 96), test=np.arange(0))
    dataset = Dataset(examples=whole, split=split)
    model = build(network("MLP", width=8, depth=1, dropout=0.0), dataset, inputs={"resolution": 4, "features": None})
    first = seen(tmp_path, model, dataset)["first-layer"]
    assert isinstance(first, Pictures)
    assert first.inputs.shape == (8, 1, 4, 4)


def test_memory_that_was_short_makes_smaller_batches(tmp_path: Path) -> None:
    dataset, model = trained("iris", tmp_path)
    sizes: list[int] = []
    model.network.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    seen(tmp_path, model, dataset, micro_batches=32)
    assert max(sizes) == 16
