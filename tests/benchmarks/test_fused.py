"""What both sides are told: the same networks, data, schedule and rungs."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from scripts.benchmarks import cohorts, fused
from scripts.benchmarks.composed import configured, data_of
from scripts.benchmarks.fused import ALONE, BENCH, CASES, FUSED, GOALS, PEER, RATE, WALL, Case
from scripts.benchmarks.peers import plain
from scripts.benchmarks.results import Record
from scripts.benchmarks.whole import Searched, figures_of, shape_in_words
from search.errors import UsageError
from search.records import Measured
from search.space import Space
from search.train.estimator import build
from search.train.schedules import Budget, cosine


def settings_of(name: str, folder: Path, *words: str) -> dict[str, Any]:
    case = Case(name=name, words=("trainer.epochs=20", *CASES[name], *words), trials=4, workers=2)
    return fused.peer_settings(case, folder / "data.npz")


@pytest.mark.parametrize(
    ("network", "settings"),
    [("mlp", {"width": 64}), ("mlp", {"width": 64, "depth": 3}), ("cnn", {"channels": 8})],
)
def test_the_peers_networks_are_ours(network: str, settings: dict[str, int]) -> None:
    cfg = configured([f"model={network}", *(f"model.{key}={value}" for key, value in settings.items())])
    ours = build(Space.of(cfg).configure(Space.of(cfg).default())["model"], data_of(cfg))
    theirs = plain.NETWORKS[network](dropout=0.1, **settings)
    assert [p.shape for p in theirs.parameters()] == [p.shape for p in ours.network.parameters()]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.network.state_dict().values(), strict=True)))
    pictures = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(theirs.eval()(pictures), ours.eval().network(pictures))


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.1])
def test_the_peers_schedule_is_ours(warmup: float) -> None:
    steps = 20 * 34
    curve = cosine(Budget(steps=steps, steps_per_epoch=34), final=0.0, warmup=warmup)
    assert [plain.factor(step, steps, warmup) for step in range(steps)] == pytest.approx(curve.rates.tolist())


def test_the_peer_trains_on_the_same_data(tmp_path: Path) -> None:
    settings = settings_of("mlp", tmp_path)
    data, ours = plain.load(settings["data"]), data_of(configured(CASES["mlp"]))
    assert torch.equal(data.train_classes, torch.from_numpy(ours.examples.targets[ours.split.train]))
    assert len(data.validation) == len(ours.split.validation)
    given = build({"_target_": "search.train.models.mlp.MLP", "width": 4, "depth": 1, "dropout": 0.0}, ours)
    wanted = given.standardised(torch.from_numpy(np.array(ours.examples.inputs[ours.split.validation])))
    torch.testing.assert_close(data.validation, wanted, rtol=1e-2, atol=1e-2)


def test_the_peer_trains(tmp_path: Path) -> None:
    data = plain.load(settings_of("mlp", tmp_path)["data"])
    drawn = {"model.width": 16, "model.dropout": 0.0, "optimizer.lr": 0.01, "optimizer.weight_decay": 0.0}
    training = plain.Training(data, "mlp", {**drawn, "schedule.warmup": 0.1}, epochs=3, batch_size=32)
    losses = [training.epoch()["val_loss"] for _ in range(3)]
    assert losses[2] < losses[0] < 2.3


def test_the_peer_has_our_ranges_and_rungs(tmp_path: Path) -> None:
    settings = settings_of("mlp", tmp_path)
    assert (settings["rungs"], settings["eta"]) == ([3, 7], 3)
    assert settings["network"] == "mlp"
    assert {d["name"]: d["choices"] for d in settings["dimensions"]}["model.width"] == (16, 32, 64)
    assert not any(d["name"] == "model.depth" for d in settings["dimensions"])
    assert settings_of("unpruned mlp", tmp_path)["rungs"] == []


def test_of_several_networks_each_is_practised(tmp_path: Path) -> None:
    settings = settings_of("default", tmp_path)
    assert [given["model"] for given in settings["practice"]] == ["mlp", "cnn"]
    assert all("model.cnn.channels" in given for given in settings["practice"])


def record(case: str, system: str, metric: str, value: float) -> Record:
    return Record(bench=BENCH, case=case, system=system, metric=metric, value=value)


def test_ratios_above_1_are_in_favour_of_what_is_fused() -> None:
    figures = [(FUSED, WALL, 10.0), (ALONE, WALL, 30.0), (PEER, WALL, 90.0), (FUSED, RATE, 8.0), (ALONE, RATE, 2.0)]
    found = fused.ratios([record("mlp", *figure) for figure in figures] + [record("cnn", FUSED, WALL, 1.0)])
    assert found == [
        record("mlp", "fused / alone", RATE, 4.0),
        record("mlp", "alone / fused", WALL, 3.0),
        record("mlp", "tune / fused", WALL, 9.0),
    ]
    assert [goal.met_by(one) for one in found for goal in GOALS if goal.concerns(one)] == [True, True, True]


def test_the_goals_of_a_case_are_not_those_of_another() -> None:
    assert not any(goal.concerns(record("unpruned mlp", "alone / fused", WALL, 1.0)) for goal in GOALS)


def test_steps_are_those_of_all_trials() -> None:
    searched = Searched(wall=10.0, trials=5, epochs=50, best=0.9)
    found = {r.metric: r.value for r in fused.records_of("mlp", FUSED, searched, 34)}
    assert found == {WALL: 10, RATE: 170, "trials/h": 1800, "epochs run": 50, "best accuracy": 0.9}


def test_what_was_measured_is_told_by_shape() -> None:
    event = Measured(number=3, shape="a1", rates={"1": 5.0, "8": 9.0}, size=8, reason="", seconds=0.5, time=1.0)
    assert figures_of(event) == {"size": 8, "seconds": 0.5, "alone": 5.0, "8 at once": 9.0}
    assert shape_in_words({"_target_": "a.b.MLP", "width": 16, "dropout": 0.1, "norm": "none"}) == "MLP width=16"


def test_steps_of_cohorts_are_timed_on_any_device() -> None:
    threads = torch.get_num_threads()
    try:
        found = cohorts.measure("cpu", [2], terminal=False, seconds=0.0)
    finally:
        torch.set_num_threads(threads)
    assert {(r.case, r.system) for r in found} == {
        (f"{name}, cpu", system) for name in ("mlp", "cnn") for system in ("alone", "2 at once", "2 at once / alone")
    }
    assert all(r.value > 0 for r in found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fused", "off"], "--fused off: auto, or a number"),
        (["--fused", "1"], "--fused 1: auto, or a number"),
        (["--repeats", "0"], "at least 1"),
        (["--device", "cpu", "--sizes", "8,x"], "--sizes 8,x: numbers from 2 on"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(words: list[str], message: str) -> None:
    parser = ArgumentParser()
    fused.arguments(parser)
    with pytest.raises(UsageError, match=message):
        fused.run(parser.parse_args(words), Console(quiet=True))
