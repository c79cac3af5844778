"""A search from Python, as a notebook has it: in a running event loop, beside a Hydra of its own, again and again."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import search
from search.errors import UsageError
from tests.kits.commands import environment

PROGRAM = """
import asyncio, contextlib, io, json, os, signal, sys
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import search

SMALL = ["+experiment=square", "budget.trials=4", "cluster.workers=1", "tracking=none"]


def state():
    return {
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "here": os.getcwd() in sys.path,
        "hydra": GlobalHydra.instance().hydra,
    }


def refused(overrides, **settings):
    try:
        search.run(overrides, **settings)
    except Exception as error:
        return [type(error).__name__, str(error)]


async def cell():
    return search.run(SMALL, config_dir="mine", quiet=True)


if __name__ == "__main__":
    said = {}
    sys.path.remove("")  # of `python -c`; a notebook may stand elsewhere, too
    initialize_config_dir(os.path.abspath("theirs"), version_base="1.3")
    before = state()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        study = asyncio.run(cell())
    said["printed"] = printed.getvalue()
    said["after the first"] = state() == before
    said["study"] = [study.metric, study.maximize, study.best_value, study.best_params, str(study.folder)]
    said["columns"] = list(study.frame().columns)
    said["rows"] = len(study.frame())
    said["optuna"] = study.optuna().best_value
    said["curve"] = {step: figures["height"] for step, figures in study.trials[0].curve.items()}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        more = search.run([*SMALL, "budget.trials=6"], config_dir="mine")
    said["aloud"] = printed.getvalue()
    said["more"] = [len(more.trials), more.trials[:4] == study.trials]
    said["again"] = [len(search.read_study(more.folder).trials), str(search.read_study("outputs/height").folder)]
    said["refused"] = {
        "mistyped key": refused([*SMALL, "budgt.trials=3"], config_dir="mine"),
        "other settings": refused([*SMALL, "objective.more=1"], config_dir="mine"),
    }
    said["after the last"] = state() == before
    said["theirs"] = compose("theirs").mine
    print(json.dumps(said))
"""
OBJECTIVE = """
def height(cfg, trial):
    if cfg.x == 9:
        raise ValueError("too far")
    trial.report(1, height=cfg.x)
    return (cfg.x - 1.0) ** 2
"""
SQUARE = """
# @package _global_
objective: {_target_: heights.height, x: 0.5, more: 0, space: {x: {choices: [0.5, 0.75, 1.0, 9]}}}
metric: {name: height, mode: min}
enqueue: [{objective.x: 0.75}, {objective.x: 1.0}, {objective.x: 0.5}, {objective.x: 0.5}, {objective.x: 0.5}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "heights.py").write_text(OBJECTIVE)
    (folder / "mine" / "experiment").mkdir(parents=True)
    (folder / "mine" / "experiment" / "square.yaml").write_text(SQUARE.lstrip())
    (folder / "theirs").mkdir()
    (folder / "theirs" / "theirs.yaml").write_text("mine: still\n")
    return folder


@pytest.fixture(scope="module")
def said(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_study_that_stands_on_disk_is_given_back(said: dict[str, Any], folder: Path) -> None:
    assert said["study"] == ["height", False, 0.0, {"objective.x": 1.0}, str(folder / "outputs" / "height")]
    assert said["curve"] == {"1": 0.5}
    assert said["rows"] == 4
    assert said["columns"] == ["number", "state", "height", "objective.x", "seconds", "diagnosis"]
    assert said["optuna"] == 0.0


@pytest.mark.slow
def test_it_prints_what_the_command_prints_or_nothing(said: dict[str, Any]) -> None:
    assert said["printed"] == ""
    assert "6/6 trials" in said["aloud"]
    assert "best trials by height" in said["aloud"]


@pytest.mark.slow
def test_again_in_one_process_it_goes_on(said: dict[str, Any]) -> None:
    assert said["more"] == [6, True]
    assert said["again"] == [6, "outputs/height"]


@pytest.mark.slow
def test_signals_sys_path_and_the_notebooks_hydra_are_left_as_they_were(said: dict[str, Any]) -> None:
    assert said["after the first"]
    assert said["after the last"]
    assert said["theirs"] == "still"


@pytest.mark.slow
def test_errors_are_raised_in_one_line(said: dict[str, Any]) -> None:
    refused = said["refused"]
    assert refused["mistyped key"][0] == "UsageError"
    assert refused["mistyped key"][1].startswith("budgt: no such key; did you mean budget?")
    assert refused["other settings"][0] == "UsageError"
    assert "objective.more: was 0, now 1" in refused["other settings"][1]


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a word": ("model=mlp", {}, "overrides='model=mlp': must be a list, e.g. ['model=mlp']"),
    "a flag": (["-m", "model=mlp,cnn"], {}, "-m: is for the command line; search.run takes overrides, key=value"),
    "no such folder": ([], {"config_dir": "nowhere"}, "config_dir=nowhere: no such folder"),
    "a preview": (["stages=[preview]"], {}, "stages=[preview]: is for the command line"),
    "no such option": (
        ["model=rnn"],
        {},
        "model=rnn: no such option; allowed: cnn, gru, linear, mlp, resnet, transformer",
    ),
    "a value that cannot be": (["budget.trials=0"], {}, "budget.trials=0: must be at least 1"),
    "a variable that is not there": (["tracking.experiment=${oc.env:NOT_THERE}"], {}, "tracking.experiment"),
    "nothing to report on": (["stages=[report]"], {}, "holds no study"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_usage_errors_that_start_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides, settings, message = WRONG[mistake]
    path = list(sys.path)
    with pytest.raises(UsageError) as refused:
        search.run(overrides, **settings)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sys.path == path
    assert not any(file.is_file() for file in tmp_path.rglob("*"))


def test_a_second_ray_in_the_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from search.sweep.ray_cluster import RayCluster

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(UsageError, match=r"cluster: Ray runs in this process already.*ray\.shutdown\(\) first"):
        RayCluster(None, 1, 0)
