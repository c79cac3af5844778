"""The exported champion: what its programs say is what its members say, and its folder is whole or absent."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from search.post import lineage, onnx, program
from search.post.contenders import Candidate
from search.post.predictor import Predictor
from search.post.program import Ensemble, export
from search.train.data import digits
from search.train.data.arrays import Dataset, Examples
from search.train.estimator import Estimator
from tests.kits.champions import CNN, MLP, averaged, champion_of, dataset_of, lineage_of, prices

GRU = {"_target_": "search.train.models.gru.GRU", "hidden": 4, "layers": 2, "dropout": 0.1}
LINEAR = {"_target_": "search.train.models.linear.Linear"}
RESNET = {"_target_": "search.train.models.resnet.ResNet", "channels": 4, "stages": 2, "blocks": 1, "dropout": 0.0}
TRANSFORMER = {
    "_target_": "search.train.models.transformer.Transformer",
    "width": 8,
    "depth": 1,
    "heads": 2,
    "patch": 2,
    "dropout": 0.1,
}


@pytest.fixture(scope="module")
def pictures() -> Dataset:
    return dataset_of(digits.load("digits"))


def test_both_programs_say_what_the_members_say(pictures: Dataset, tmp_path: Path) -> None:
    champion = champion_of(pictures, tmp_path, [MLP, CNN], temperature=1.7)
    folder = tmp_path / "champion"
    assert export(champion, lineage_of(champion), folder).without == ()
    inputs = pictures.examples.inputs[:7].astype(np.float32)
    expected, spread = averaged(champion, inputs)
    assert spread.max() > 0.01
    torches = torch.export.load(folder / "program.pt2").module()
    session = onnxruntime.InferenceSession(str(folder / "program.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["probabilities", "spread"]
    for rows in (inputs, inputs[:1]):
        with torch.inference_mode():
            ours = [output.numpy() for output in torches(torch.from_numpy(rows))]
        assert ours[0] == pytest.approx(expected[: len(rows)], abs=1e-5)
        assert ours[1] == pytest.approx(spread[: len(rows)], abs=1e-5)
        for one, other in zip(session.run(None, {"inputs": rows}), ours, strict=True):
            assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model", [LINEAR, GRU, RESNET, TRANSFORMER], ids=["linear", "gru", "resnet", "transformer"])
def test_every_bundled_network_has_both_programs(pictures: Dataset, tmp_path: Path, model: dict[str, object]) -> None:
    champion = champion_of(pictures, tmp_path, [model])
    assert export(champion, lineage_of(champion), tmp_path / "champion").without == ()
    inputs = pictures.examples.inputs[:5].astype(np.float32)
    expected, _ = averaged(champion, inputs)
    session = onnxruntime.InferenceSession(str(tmp_path / "champion" / onnx.FILE), providers=["CPUExecutionProvider"])
    probabilities, spread = session.run(None, {"inputs": inputs})
    assert probabilities == pytest.approx(expected, abs=1e-5)
    assert (spread == 0).all(), "one member agrees with itself"


def test_numbers_have_their_standard_deviation(tmp_path: Path) -> None:
    dataset = prices(tmp_path)
    champion = champion_of(dataset, tmp_path, [MLP, {**MLP, "width": 4}])
    exported = export(champion, lineage_of(champion), tmp_path / "champion")
    rows = dataset.examples.inputs[dataset.split.train[:4]]
    expected, spread = averaged(champion, rows)
    assert list(exported.output_example) == ["prediction", "spread"]
    assert exported.output_example["prediction"].to_numpy() == pytest.approx(expected, rel=1e-5)
    assert exported.output_example["spread"].to_numpy() == pytest.approx(spread, rel=1e-4)


class Fixed(torch.nn.Module):
    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(inputs), -1)


def fixed(logits: list[float]) -> Estimator:
    return Estimator(Fixed(logits), torch.zeros(1), torch.ones(1), torch.zeros(len(logits)))


def test_members_that_contradict_each_other_spread_by_the_logarithm_of_two() -> None:
    ensemble = Ensemble([fixed([200.0, 0.0]), fixed([0.0, 200.0])], [0.5, 0.5], "classification", temperature=2.0)
    probabilities, spread = ensemble(torch.zeros(3, 1))
    assert probabilities.numpy() == pytest.approx(0.5)
    assert spread.numpy() == pytest.approx(np.log(2))


def test_a_temperature_sharpens_where_a_class_has_no_probability_left() -> None:
    ensemble = Ensemble([fixed([300.0, 299.0, 0.0])], [1.0], "classification", temperature=0.5)
    probabilities, _ = ensemble(torch.zeros(1, 1))
    exact = 1 / (1 + np.exp(-2.0))
    assert probabilities[0].numpy() == pytest.approx([exact, 1 - exact, 0.0], abs=1e-6)


def test_what_is_shipped_predicts_as_the_candidate_that_was_judged() -> None:
    """Also of networks so sure that probabilities become 0, which a temperature raises again."""
    logits = 40 * np.random.default_rng(0).normal(size=(2, 16, 5)).astype(np.float32)
    left = torch.from_numpy(logits).softmax(dim=2).numpy()
    assert (left == 0).any()
    candidate = Candidate(
        name="x",
        weights={"a": 0.3, "b": 0.7},
        validation=None,
        temperatures={"a": 4.0, "b": 0.5},
        temperature=2.5,
    )
    judged = candidate.predict(dict(zip("ab", left, strict=True)))
    for row, expected in enumerate(judged):
        shipped = Ensemble([fixed(one[row].tolist()) for one in logits], [0.3, 0.7], "classification", 2.5, [4.0, 0.5])
        np.testing.assert_allclose(shipped(torch.zeros(1, 1))[0][0].numpy(), expected, atol=1e-5)


def test_without_onnx_the_rest_is_there(pictures: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    champion = champion_of(pictures, tmp_path, [LINEAR])
    exported = export(champion, lineage_of(champion), tmp_path / "champion")
    assert exported.without == ("no program.onnx: the package onnx is not installed (pip install 'search[onnx]')",)
    assert {path.name for path in exported.folder.iterdir()} == {
        "program.pt2",
        "description.json",
        "lineage.json",
        "README.md",
    }
    assert "ONNX" not in (exported.folder / "README.md").read_text()


def test_what_onnx_cannot_say_is_said(pictures: Dataset, tmp_path: Path) -> None:
    class Exotic(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j1(inputs)  # type: ignore[no-any-return]

    made = torch.export.export(Exotic(), (torch.zeros(2),))
    why = onnx.to_onnx(made, "values", tmp_path)
    assert why is not None
    assert why.startswith("no program.onnx: ")
    assert "\n" not in why
    assert list(tmp_path.iterdir()) == []


def test_a_champion_replaces_the_one_before_it_whole(
    pictures: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "to_onnx", lambda *_: "no program.onnx: not here")
    champion, folder = champion_of(pictures, tmp_path, [LINEAR]), tmp_path / "champion"
    export(champion, lineage_of(champion), folder)
    before = (folder / "program.pt2").read_bytes()

    def fails(*_: object) -> None:
        raise RuntimeError("no more")

    with monkeypatch.context() as broken:
        broken.setattr(program, "card", fails)
        with pytest.raises(RuntimeError):
            export(champion, replace(lineage_of(champion), made_from="m2"), folder)
    assert lineage.exported_from(folder) == ("m1", "greedy ensemble")
    assert (folder / "program.pt2").read_bytes() == before
    export(champion, replace(lineage_of(champion), made_from="m2"), folder)
    assert lineage.exported_from(folder) == ("m2", "greedy ensemble")


def test_a_table_of_predictions_names_the_classes(pictures: Dataset, tmp_path: Path) -> None:
    examples = Examples(
        name="animals",
        inputs=pictures.examples.inputs[:60],
        targets=pictures.examples.targets[:60] % 3,
        task="classification",
        classes=("cat", "dog", "eel"),
    )
    champion = champion_of(dataset_of(examples), tmp_path, [MLP, LINEAR])
    predictor = Predictor.load(export(champion, lineage_of(champion), tmp_path / "champion").folder)
    table = predictor(examples.inputs)
    expected, spread = averaged(champion, examples.inputs)
    assert list(table) == ["prediction", "p_cat", "p_dog", "p_eel", "entropy", "spread"]
    assert table[["p_cat", "p_dog", "p_eel"]].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert list(table["prediction"]) == [examples.classes[i] for i in expected.argmax(axis=1)]
    assert table["entropy"].to_numpy() == pytest.approx(-(expected * np.log(expected)).sum(axis=1), abs=1e-5)
    assert table["spread"].to_numpy() == pytest.approx(spread, abs=1e-5)
    assert list(predictor(examples.inputs[:0])) == list(table)
    with pytest.raises(ValueError, match=r"inputs have the shape \(2, 8, 8\); must be \(N, 1, 8, 8\)"):
        predictor(examples.inputs[:2, 0])
    description = json.loads((tmp_path / "champion" / "description.json").read_text())
    assert description["input_shape"] == [1, 8, 8]
