"""Searches whose networks are given augmented or smaller inputs, or start from the weights of an earlier one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from search.errors import UsageError
from search.layout import WEIGHTS
from tests.kits.in_process import run

SHORT = ("budget.trials=2", "trainer.epochs=2")
CNN = ("model=cnn", "model.channels=4", "~model.space.channels", *SHORT)


def trial(study: Path, number: int = 0) -> Path:
    return study / "trials" / f"{number:05d}"


def config_of(study: Path, number: int = 0) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((trial(study, number) / "config.json").read_text())
    return config


def weights_of(study: Path, number: int = 0) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(trial(study, number) / WEIGHTS)
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of plain trials."""
    study = tmp_path_factory.mktemp("outputs") / "source"
    run(study, *CNN, "stages=[search]")
    return study


@pytest.mark.slow
def test_augmented_trials_train_and_are_packed_into_an_ensemble(tmp_path: Path, source: Path) -> None:
    study = tmp_path / "study"
    mixing = ("augment.mixup=0.2", "augment.cutmix=1.0", "~augment.space.mixup")
    run(study, *CNN, "augment=image", *mixing, "stages=[search,squeeze]")
    assert json.loads((study / "results.json").read_text())["contenders"]
    node = config_of(study)["augment"]
    assert (node["_target_"], node["shift"], node["mixup"]) == ("search.train.augment.image.Image", 0.1, 0.2)
    assert "space" not in node
    assert node["shift"] != config_of(study, 1)["augment"]["shift"]
    plain, changed = weights_of(source), weights_of(study)
    assert plain.keys() == changed.keys()
    assert not torch.equal(plain["network.head.weight"], changed["network.head.weight"])
    assert "augment" not in config_of(source)


@pytest.mark.slow
def test_the_resolution_may_vary_from_trial_to_trial(tmp_path: Path) -> None:
    study, space = tmp_path / "study", "+inputs.space.resolution.choices=[4,8]"
    run(study, "model=linear", *SHORT, space, "enqueue=[{inputs.resolution:8}]", "stages=[search,squeeze]")
    features = {n: weights_of(study, n)["network.head.weight"].shape[1] for n in range(2)}
    assert {config_of(study, n)["inputs"]["resolution"]: size for n, size in features.items()} == {4: 16, 8: 64}
    assert json.loads((study / "results.json").read_text())["contenders"]


@pytest.mark.slow
def test_a_search_starts_from_a_trial_of_another_one(tmp_path: Path, source: Path) -> None:
    study, file = tmp_path / "study", tmp_path / "start.safetensors"
    given = weights_of(source)
    save_file(given, file)
    start = (f"pretrained.weights={file}", "pretrained.freeze=[body]", "pretrained.lr_factor=0.1")
    run(study, *CNN, *start, "stages=[search]")
    trained = weights_of(study)
    differing = {name for name, value in trained.items() if not torch.equal(value, given[name])}
    assert differing == {"network.head.weight", "network.head.bias"}
    assert config_of(study)["pretrained"]["weights"] == str(file)
    file = file.rename(tmp_path / "moved.safetensors")
    start = (f"pretrained.weights={file}", *start[1:])
    run(study, *CNN, *start, "budget.trials=3", "stages=[search,squeeze]")
    assert (config_of(study)["pretrained"]["weights"], config_of(study, 2)["pretrained"]["weights"]) == (
        str(tmp_path / "start.safetensors"),
        str(file),
    )
    save_file({**given, "network.head.bias": given["network.head.bias"] + 1}, file)
    with pytest.raises(UsageError, match=r"pretrained\.digest: .* the study in .* is another one"):
        run(study, *CNN, *start, "budget.trials=4", "stages=[search]")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["augment=table"], r"^augment: fits table data only, and this is a picture"),
        (["pretrained.weights=nowhere.safetensors"], r"^pretrained\.weights=.*/nowhere\.safetensors: No such file"),
        (["pretrained.preprocessing=mine"], r"^pretrained\.preprocessing=mine: must be one of data, file"),
        (["pretrained.lr_factor=0"], r"^pretrained\.lr_factor=0\.0: must be above 0"),
        (
            ["pretrained.freeze=[body]"],
            r"^pretrained\.freeze=\['body'\]: needs pretrained\.weights, a file to start from$",
        ),
        (["+pretrained.space.lr_factor.choices=[0.1,1]"], r"^pretrained\.space=.*: needs pretrained\.weights, a file"),
        (
            ["pretrained.lr_factor=0.1"],
            r"^pretrained\.lr_factor=0\.1: needs pretrained\.weights, a file to start from$",
        ),
        (["inputs.resolution=0"], r"^inputs\.resolution=0: must be at least 1"),
        (
            ["pretrained.weights=a", "+pretrained.space.weights.choices=[a,b]"],
            r"^pretrained\.space\.weights: cannot vary; give each file a search of its own",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_any_trial(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(tmp_path / "study", *CNN, *words, "stages=[search]")
    assert not (tmp_path / "study" / "trials").exists()
