"""Sweeps of Hydra applications, with Hydra's own machinery around them and workers in this process.

Each takes a third of a second, most of it Hydra's: what others show nearly as well is marked slow.
"""

import contextlib
import errno
import logging
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus
from hydra.errors import CompactHydraException, HydraException
from hydra.experimental.callback import Callback
from hydra_plugins.ray_optuna_sweeper.sweeper import ExplainedNull, RayOptunaConf
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from omegaconf import OmegaConf

import search
from search.apps.sweeper.results import unbeaten
from search.apps.sweeper.settings import Settings
from search.errors import UsageError
from search.records import Decision, Report, Work
from search.sweep.executor import Happening, InProcessExecutor
from search.sweep.journal import Journal, read_attributes
from search.sweep.reading import read_study
from tests.kits.sweeps import App, environment_of_applications, plain

CONFIG: dict[str, Any] = {"x": 0.5, "y": 0, "epochs": 9}
GROUPS: dict[str, Any] = {
    "model/mlp": {"kind": "mlp", "width": 8, "layers": [{"size": 1}]},
    "model/cnn": {"kind": "cnn", "channels": 4},
    "model/rnn": {"kind": "rnn", "width": 3},
}
WITH_MODEL = {"defaults": ["_self_", {"model": "mlp"}], **CONFIG}


def parabola(cfg):
    return (cfg.x - 1) ** 2 + cfg.y


def conflicting(cfg):
    return cfg.x, 1 - cfg.x


def trained(cfg):
    """A curve that tells at once how good it will be."""
    for epoch in range(1, cfg.epochs + 1):
        search.report(loss=cfg.x + 1 / epoch)
    return cfg.x


def failing(cfg):
    if cfg.y == 1:
        raise RuntimeError("as it was told")
    return math.nan if cfg.y == 2 else float(cfg.x)


def hopeless(cfg):
    raise RuntimeError(f"x is {cfg.x}")


def silent(cfg):
    return None


def refused(app: App, *overrides: str, task: Callable[..., Any] = parabola) -> str:
    """Return the sentence that the sweep ends with."""
    with pytest.raises(CompactHydraException) as error:
        app.run(task, *overrides)
    return str(error.value)


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path, CONFIG)


@pytest.fixture
def models(tmp_path: Path) -> App:
    return App(tmp_path, WITH_MODEL, GROUPS)


# --------------------------------------------------------------------------------------------------- settings

# id -> (settings, the sentence's beginning, what is allowed)
SETTINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "sampler": ({"sampler": "best"}, "sampler=best: ", "random, tpe, qmc, grid"),
    "no sampler": ({"sampler": None}, "sampler=None: ", "random, tpe, qmc, grid"),
    "sampler's field": ({"sampler": {"kind": "tpe", "x": 1}}, "sampler.x: ", "kind, seed"),
    "sampler's seed": ({"sampler": {"kind": "tpe", "seed": 0.5}}, "sampler.seed=0.5: ", "whole number"),
    "direction": ({"direction": "up"}, "direction=up: ", "minimize or maximize"),
    "directions": ({"direction": ["minimize", "down"]}, "direction=down: ", "minimize or maximize"),
    "no direction": ({"direction": []}, "direction=[]: ", "at least one of minimize, maximize"),
    "n_trials": ({"n_trials": 0}, "n_trials=0: ", "at least 1"),
    "n_jobs": ({"n_jobs": 0}, "n_jobs=0: ", "at least 1"),
    "patience": ({"patience": 0}, "patience=0: ", "at least 1"),
    "seed": ({"seed": -1}, "seed=-1: ", "at least 0"),
    "grace": ({"grace": 0.5}, "grace=0.5: ", "at least 1"),
    "gpus": ({"gpus_per_trial": -1.0}, "gpus_per_trial=-1.0: ", "at least 0"),
    "hours": ({"hours": 0.0}, "hours=0.0: ", "above 0"),
    "cpus": ({"cpus_per_trial": 0.0}, "cpus_per_trial=0.0: ", "above 0"),
    "memory": ({"memory_per_trial": 0.0}, "memory_per_trial=0.0: ", "above 0"),
    "hang": ({"hang_seconds": -1.0}, "hang_seconds=-1.0: ", "above 0"),
    "nan": ({"timeout_seconds": math.nan}, "timeout_seconds=nan: ", "above 0"),
    "rate": ({"max_failure_rate": 2.0}, "max_failure_rate=2.0: ", "0 to 1"),
    "resume": ({"resume": "maybe"}, "resume=maybe: ", "auto, must, never, extend"),
    "pruner": ({"pruner": "best"}, "pruner=best: ", "none, asha, median"),
    "no steps": ({"pruner": "asha"}, "pruner=asha: ", "hydra.sweeper.steps"),
    "pruned objectives": ({"pruner": "median", "direction": ["minimize"] * 2}, "pruner=median: ", "several objectives"),
    "patience for several": ({"patience": 3, "direction": ["minimize"] * 2}, "patience=3: ", "several objectives"),
    "tracking": ({"tracking_uri": "runs"}, "tracking_uri=runs: ", "must be sqlite, or an address"),
    "params": ({"params": 7}, "params=7: ", "must be a mapping"),
    "another": ({"n_trial": 3}, "n_trial: ", "did you mean n_trials"),
}


@pytest.mark.parametrize(("given", "begins", "allowed"), SETTINGS.values(), ids=SETTINGS)
def test_a_wrong_setting_is_told_in_one_line_with_what_is_allowed(
    given: dict[str, Any], begins: str, allowed: str
) -> None:
    defaults = {"sampler": "random", "params": {}, "direction": "minimize"}
    conf = {field.name: getattr(RayOptunaConf(), field.name) for field in fields(RayOptunaConf)}
    del conf["_target_"], conf["defaults"]
    Settings.of({**conf, **defaults})
    with pytest.raises(UsageError) as error:
        Settings.of({**conf, **defaults, **given})
    said = str(error.value)
    assert said.startswith(f"hydra.sweeper.{begins}")
    assert allowed in said
    assert "\n" not in said


# id -> (overrides, the sentence's beginning, what is allowed)
SWEEPS: dict[str, tuple[list[str], str, str]] = {
    "a setting": (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: ", "at least 1"),
    "an endless grid": (["hydra.sweeper.sampler=grid", "y=interval(0,1)"], "hydra.sweeper.sampler=grid: y", "choice("),
    "tracking": (["hydra.sweeper.tracking_uri=runs"], "hydra.sweeper.tracking_uri=runs: ", "sqlite"),
    "a null in the params": (["+hydra.sweeper.params={y: 'choice(1,null)'}"], "y=choice(1,null): ", "write y=1,null"),
    "twice": (["++x=3,4"], "x: ", "name it once"),
}


@pytest.mark.parametrize(("overrides", "begins", "allowed"), SWEEPS.values(), ids=SWEEPS)
def test_what_cannot_be_swept_is_told_in_one_line_before_anything_is_made(
    overrides: list[str], begins: str, allowed: str, app: App
) -> None:
    said = refused(app, "x=1,2", *overrides)
    assert said.startswith(begins)
    assert allowed in said
    assert "\n" not in said
    assert (app.hired, app.sweep.exists()) == (0, False)


def test_a_storage_that_there_is_not_is_told_before_any_worker_is_hired(app: App) -> None:
    said = refused(app, "x=1,2", "hydra.sweeper.storage=nosql://x")
    assert said.startswith("hydra.sweeper.storage=nosql://x: cannot be opened (")
    assert app.hired == 0


def test_a_sweep_over_nothing_says_what_to_write(app: App) -> None:
    assert "nothing is swept; e.g. lr=interval(0.1,1)" in refused(app)
    assert not app.sweep.exists()


# ------------------------------------------------------------------------------------------------- samplers


@pytest.mark.parametrize("sampler", ["random", "tpe", pytest.param("qmc", marks=pytest.mark.slow)])
def test_a_sweep_draws_as_many_jobs_as_wanted_and_keeps_the_best(sampler: str, app: App) -> None:
    returned = app.run(
        parabola, "x=interval(0,2)", "y=1,2", f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=4"
    )
    assert returned is None
    values = {number: outcome["value"] for number, outcome in app.outcomes.items()}
    assert sorted(values) == app.started == [0, 1, 2, 3]
    assert values == {n: pytest.approx((p["x"] - 1) ** 2 + p["y"]) for n, p in app.params.items()}
    best = min(values, key=lambda number: values[number])
    assert app.results == {
        "name": "ray_optuna",
        "best_params": app.params[best],
        "best_value": values[best],
        "best_trial": best,
        "best_overrides": [f"x={app.params[best]['x']!r}", f"y={app.params[best]['y']}"],
        "trials": {"complete": 4},
    }


@pytest.mark.slow
def test_what_is_drawn_depends_on_the_seed_alone(tmp_path: Path) -> None:
    drawn = []
    for i, seed in enumerate(["hydra.sweeper.seed=3", "hydra.sweeper.sampler.seed=3", "hydra.sweeper.seed=4"]):
        app = App(tmp_path / str(i), CONFIG)
        app.run(silent_number, "x=interval(0,2)", "hydra.sweeper.n_trials=2", seed)
        drawn.append([params["x"] for params in app.params.values()])
    assert drawn[0] == drawn[1] != drawn[2]


def silent_number(cfg):
    trial = search.current_trial()
    assert trial is not None
    return trial.seed % 1000


@pytest.mark.slow
def test_more_may_be_better(app: App) -> None:
    app.run(parabola, "x=1,2,5", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=9")
    values = [outcome["value"] for outcome in app.outcomes.values()]
    assert app.results["best_value"] == max(values)


def test_a_grid_runs_every_job_once_in_order_and_returns_their_results(app: App) -> None:
    (returned,) = app.grid(parabola, "x=1,3", "y=range(0,3)")
    assert [job.return_value for job in returned] == [0, 1, 2, 4, 5, 6]
    assert [job.overrides for job in returned] == [[f"x={x}", f"y={y}"] for x in (1, 3) for y in (0, 1, 2)]
    assert {job.status for job in returned} == {JobStatus.COMPLETED}
    assert (returned[5].cfg.x, returned[5].hydra_cfg.hydra.job.num, returned[-1].task_name) == (3, 5, "app")
    assert "hydra" not in returned[5].cfg
    assert len(returned[2:4]) == 2


@pytest.mark.slow
def test_a_grid_of_one_job_is_a_sweep(app: App) -> None:
    (returned,) = app.grid(silent)
    assert [job.return_value for job in returned] == [None]
    assert app.results == {"name": "ray_optuna", "trials": {"complete": 1}}


def test_several_objectives_leave_all_that_nothing_is_better_than(app: App) -> None:
    directions = "hydra.sweeper.direction=[minimize,maximize]"
    app.run(
        conflicting,
        "x=choice(0.25,0.5,0.75)",
        "y=0,1",
        directions,
        "hydra/sweeper/sampler=tpe",
        "hydra.sweeper.n_trials=4",
    )
    least = min(params["x"] for params in app.params.values())
    solutions = app.results["solutions"]
    assert solutions
    assert all(solution["params"]["x"] == least for solution in solutions)
    assert all(solution["values"] == [least, 1 - least] for solution in solutions)
    assert "best_value" not in app.results
    assert "it must return 2 numbers" in app.outcomes[0]["reason"] or app.outcomes[0]["values"]


def test_a_grid_of_several_objectives_may_have_jobs_without(app: App) -> None:
    app.grid(halfway, "x=1,2,3", "y=0,1", "hydra.sweeper.direction=[minimize,maximize]")
    assert [s["values"] for s in app.results["solutions"]] == [[1, 0], [2, 1], [3, 2]]
    assert app.results["trials"] == {"complete": 6}


def halfway(cfg):
    return None if cfg.y else (cfg.x, cfg.x - 1)


@pytest.mark.parametrize(
    ("values", "maximize", "front"),
    [
        ({}, (False, False), []),
        ({0: (1, 2), 1: (2, 1), 2: (2, 2)}, (False, False), [0, 1]),
        ({0: (1, 2), 1: (2, 1), 2: (2, 2)}, (True, True), [2]),
        ({0: (1, 2), 1: (2, 1), 2: (2, 2)}, (True, False), [1]),
        ({3: (1, 1), 1: (1, 1), 2: (1, 2)}, (False, False), [1, 3]),
        ({0: (math.inf, 1), 1: (0, 1), 2: (-math.inf, 2)}, (False, False), [1, 2]),
    ],
)
def test_what_nothing_is_better_than(
    values: dict[int, tuple[float, ...]], maximize: tuple[bool, ...], front: list[int]
) -> None:
    assert unbeaten(values, maximize) == front


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12), st.tuples(*[st.booleans()] * 3))
@settings(deadline=None, max_examples=100)
def test_it_is_what_optuna_takes_for_it(values: list[tuple[int, ...]], maximize: tuple[bool, ...]) -> None:
    study = optuna.create_study(directions=["maximize" if more else "minimize" for more in maximize])
    study.add_trials([optuna.trial.create_trial(values=list(map(float, each))) for each in values])
    best = [trial.number for trial in study.best_trials]
    assert unbeaten(dict(enumerate(values)), maximize) == best


# ------------------------------------------------------------------------------------------------- failures


def test_a_job_that_raises_and_one_with_nan_fail_alone(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    app.run(failing, "x=interval(0,1)", "y=0,1,2", "hydra.sweeper.n_trials=8", "hydra.sweeper.seed=1")
    ends = {app.params[n]["y"]: (o["state"], o["failure"] and o["failure"]["kind"]) for n, o in app.outcomes.items()}
    assert ends == {0: ("complete", None), 1: ("failed", "exception"), 2: ("failed", "non-finite")}
    assert app.params[app.results["best_trial"]]["y"] == 0


def test_a_sweep_whose_jobs_all_fail_shows_the_users_traceback(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(app, "x=1,2", "hydra.sweeper.n_trials=3", task=hopeless)
    line = hopeless.__code__.co_firstlineno + 1
    assert "3 of 3 jobs failed; the first was job 0: RuntimeError: x is " in said
    assert f"(test_sweeper.py:{line} in hopeless)" in said
    shown = capsys.readouterr().err
    assert "Error executing job with overrides: ['x=" in shown
    assert f'test_sweeper.py", line {line}, in hopeless' in shown
    assert "search/jobs" not in shown


@pytest.mark.slow
def test_a_sweep_gives_up_where_nearly_all_jobs_fail_for_one_cause(app: App) -> None:
    said = refused(app, "x=interval(0,1)", "hydra.sweeper.n_trials=30", task=hopeless)
    assert said.startswith("10 of the last 10 trials failed: exception (RuntimeError); the first was job 0: ")
    assert len(app.outcomes) == 10


def test_a_grid_runs_to_its_end_and_then_tells_of_its_failures(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        CompactHydraException, match=r"^1 of 3 jobs failed; the first was job 1: RuntimeError: as it was told"
    ):
        app.grid(failing, "y=0,1,3")
    assert [o["state"] for o in app.outcomes.values()] == ["complete", "failed", "complete"]
    assert "in failing" in capsys.readouterr().err


def test_a_grid_may_return_what_it_likes_and_nan_is_that(app: App) -> None:
    (returned,) = app.grid(failing, "y=0,2")
    assert [job.status for job in returned] == [JobStatus.COMPLETED] * 2
    assert math.isnan(returned[1].return_value)
    assert app.results["best_trial"] == 0


def test_a_failed_job_of_a_grid_raises_when_it_is_asked_for(app: App) -> None:
    (returned,) = app.grid(failing, "y=0,1", "hydra.sweeper.max_failure_rate=0.5")
    assert (returned[0].return_value, returned[1].status) == (0.5, JobStatus.FAILED)
    with pytest.raises(Exception, match="RuntimeError: as it was told"):
        returned[1].return_value  # noqa: B018


@pytest.mark.slow
def test_more_failures_than_allowed_stop_a_sweep(app: App) -> None:
    said = refused(
        app, "x=interval(0,1)", "y=1", "hydra.sweeper.n_trials=8", "hydra.sweeper.max_failure_rate=0.25", task=failing
    )
    assert said.startswith("3 jobs failed, more than max_failure_rate=0.25 of 8 allows; the first was job 0: ")
    assert len(app.outcomes) == 3


def test_jobs_that_return_nothing_have_not_failed(app: App) -> None:
    app.grid(silent, "x=1,2")
    app.grid(silent, "x=1,2")
    assert app.started == [0, 1]
    assert not (app.sweep / "study-1").exists()


def test_the_failed_jobs_of_a_complete_grid_run_again_and_no_others(
    app: App, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("x=1,2,3,4", "hydra.sweeper.sampler=grid")
    (app.folder / "fails").write_text("24")
    assert "2 of 4 jobs failed; the first was job 1" in refused(app, *words, task=mendable)
    kept = {n: (app.job(n) / "app.log").stat().st_mtime_ns for n in (0, 2)}

    (app.folder / "fails").write_text("4")
    assert "1 of 4 jobs failed; the first was job 3" in refused(app, *words, task=mendable)
    said = capsys.readouterr().out
    assert f"2 jobs failed and run again; the record of before is kept in {app.sweep / 'study-1'}" in said

    (app.folder / "fails").write_text("")
    (returned,) = app.run(mendable, *words)
    assert [job.return_value for job in returned] == [{"x": x} for x in (1, 2, 3, 4)]
    assert [job.working_dir for job in returned] == [str(app.folder)] * 4
    assert app.started == [0, 2, 1, 3]
    assert (app.folder / "ran.txt").read_text() == "1234" + "24" + "4"
    assert {n: (app.job(n) / "app.log").stat().st_mtime_ns for n in kept} == kept
    assert sorted(path.name for path in app.sweep.iterdir() if path.is_dir()) == [
        *("0", "1", "2", "3", "study", "study-1", "study-2")
    ]
    app.run(mendable, *words)
    assert app.hired == 3


def mendable(cfg):
    with Path("ran.txt").open("a") as file:
        file.write(str(cfg.x))
    if str(cfg.x) in Path("fails").read_text():
        raise RuntimeError("as it was told")
    return {"x": cfg.x}


@pytest.mark.slow
def test_another_grid_is_refused_before_failed_jobs_are_forgotten(app: App) -> None:
    refused(app, "x=1,2", "hydra.sweeper.sampler=grid", task=hopeless)
    assert refused(app, "x=1,3", "hydra.sweeper.sampler=grid", task=hopeless).startswith("space.x: ")
    assert not (app.sweep / "study-1").exists()


@pytest.mark.slow
def test_what_was_drawn_and_failed_is_not_run_again(app: App) -> None:
    for _ in range(2):
        assert "2 of 2 jobs failed" in refused(app, "x=1,2", "hydra.sweeper.n_trials=2", task=hopeless)
    assert app.hired == 1


@pytest.mark.slow
def test_failed_jobs_that_run_again_may_be_interrupted(app: App) -> None:
    words = ("x=1,2,3", "hydra.sweeper.sampler=grid")
    (app.folder / "fails").write_text("123")
    refused(app, *words, task=mendable)
    (app.folder / "fails").write_text("")
    app.executor = lambda runner: Stopped(runner, 1)
    with pytest.raises(SystemExit):
        app.run(mendable, *words)
    app.executor = InProcessExecutor
    app.run(mendable, *words)
    assert (app.folder / "ran.txt").read_text() == "123123"


@pytest.mark.slow
def test_a_job_that_ends_the_program_fails_alone(app: App) -> None:
    app.run(leaving, "x=interval(0,1)", "hydra.sweeper.n_trials=3")
    assert {n: o["state"] for n, o in app.outcomes.items()} == {0: "complete", 1: "failed", 2: "complete"}
    assert app.outcomes[1]["reason"].startswith("SystemExit: 3")


def leaving(cfg):
    if HydraConfig.get().job.num == 1:
        sys.exit(3)
    return cfg.x


@pytest.mark.slow
def test_a_job_without_room_on_the_disk_goes_on_once_there_is_some(app: App) -> None:
    said = refused(app, "x=1,2", "hydra.sweeper.n_trials=2", task=writing)
    assert "trial 0: OSError: [Errno 28] full" in said
    assert said.endswith("the same command goes on once there is room")
    (app.folder / "room").touch()
    app.run(writing, "x=1,2", "hydra.sweeper.n_trials=2")
    assert (app.started, list(app.outcomes)) == ([0, 0, 1], [0, 1])


def writing(cfg):
    if not Path("room").exists():
        raise OSError(errno.ENOSPC, "full")
    return cfg.x


def test_what_a_job_raised_is_told_as_it_stands(app: App) -> None:
    said = refused(app, "x=1,2", "hydra.sweeper.n_trials=1", task=wordy)
    assert "ValueError: storage=, output_dir=, cluster: , choose another name=..." in said


def wordy(cfg):
    raise ValueError("storage=, output_dir=, cluster: , choose another name=...")


def test_a_sweep_that_runs_already_is_not_run_twice(app: App) -> None:
    with contextlib.closing(Journal(app.sweep / "study", maximize=False)):
        said = refused(app, "x=1,2")
    assert said.startswith(f"output_dir={app.sweep / 'study'}: in use by process {os.getpid()}")


# -------------------------------------------------------------------------------------------------- pruning


def test_poor_jobs_that_report_are_stopped_early(app: App) -> None:
    pruned = ["hydra.sweeper.pruner=asha", "hydra.sweeper.steps='${epochs}'", "hydra.sweeper.n_trials=6"]
    app.run(trained, "x=interval(0,1)", *pruned)
    states = Counter(outcome["state"] for outcome in app.outcomes.values())
    assert states["pruned"] > 0
    assert states["complete"] > 0
    steps = {number: outcome["steps"] for number, outcome in app.outcomes.items()}
    assert sum(steps.values()) == len(app.events("report")) < 6 * 9
    assert all((steps[n] < 9) == (o["state"] == "pruned") for n, o in app.outcomes.items())
    assert app.results["best_value"] == min(o["value"] for o in app.outcomes.values() if o["state"] == "complete")
    assert app.results["trials"] == dict(states)


@pytest.mark.slow
def test_jobs_are_compared_by_the_metric(app: App) -> None:
    app.run(
        reported, "x=1,2", "hydra.sweeper.metric=acc", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=4"
    )
    assert app.results["best_value"] == max(params["x"] for params in app.params.values())


def reported(cfg):
    search.report(loss=-cfg.x, acc=cfg.x)


# ---------------------------------------------------------------------------------------------- groups, keys


def test_a_key_that_some_options_of_a_group_have_is_swept_with_these_alone(
    models: App, capsys: pytest.CaptureFixture[str]
) -> None:
    (returned,) = models.grid(width, "model=mlp,cnn,rnn", "model.width=5,6", "y=1,2")
    assert "sweeping 3 dimensions" in capsys.readouterr().out
    models_there = [job.overrides[0].partition("=")[2] for job in returned]
    assert models_there == ["mlp"] * 4 + ["cnn"] * 2 + ["rnn"] * 4
    for job in returned:
        words = dict(word.split("=") for word in job.overrides)
        assert ("model.width" in words) == (words["model"] != "cnn")
        assert job.return_value == int(words.get("model.width", 0))
        assert job.hydra_cfg.hydra.runtime.choices.model == words["model"]


def width(cfg):
    return cfg.model.get("width", 0)


@pytest.mark.slow
def test_so_is_an_element_of_a_list(models: App) -> None:
    (returned,) = models.grid(silent, "model=mlp,cnn", "model.layers.0.size=5,6")
    assert [job.overrides[1:] for job in returned] == [["model.layers.0.size=5"], ["model.layers.0.size=6"], []]


def test_so_is_a_key_of_a_group_under_a_package(models: App) -> None:
    (returned,) = models.grid(silent, "+model@teacher=mlp,cnn", "teacher.width=5,6")
    assert [job.overrides[1:] for job in returned] == [["teacher.width=5"], ["teacher.width=6"], []]


@pytest.mark.slow
def test_a_glob_sweeps_over_a_groups_options(models: App) -> None:
    (returned,) = models.grid(kind, "model=glob(*)")
    assert [job.return_value for job in returned] == ["cnn", "mlp", "rnn"]


def kind(cfg):
    return cfg.model.kind


@pytest.mark.parametrize("overrides", [["y=1,2", "nope=1,2"], ["model=mlp,cnn", "model.nope=1,2"], ["y=1,2", "nope=3"]])
def test_a_key_that_there_is_not_is_an_error_before_any_job(overrides: list[str], models: App) -> None:
    with pytest.raises(HydraException, match=r"Could not override '(model\.)?nope'"):
        models.grid(silent, *overrides)
    assert (models.hired, models.sweep.exists()) == (0, False)


@pytest.mark.parametrize("subdir", ["a/../../elsewhere", "${oc.env:HOME}"])
def test_a_folder_outside_of_the_sweeps_is_refused_before_anything_is_made(subdir: str, app: App) -> None:
    said = refused(app, "x=1,2", f"hydra.sweep.subdir='{subdir}'")
    assert said.startswith("hydra.sweep.subdir=")
    assert f"must stay inside '{app.sweep}'" in said
    assert not app.sweep.exists()
    assert not (app.folder / "elsewhere").exists()


@pytest.mark.parametrize("beside", ["../../elsewhere", "/tmp/no-such-evil", "../../${hydra:job.num}x"])
def test_so_is_one_for_what_hydra_writes_of_a_job(beside: str, app: App) -> None:
    said = refused(app, "x=1,2", f"hydra.output_subdir='{beside}'")
    assert said.startswith("hydra.output_subdir=")
    assert f"must stay inside '{app.job(0)}'" in said
    assert not app.sweep.exists()


@pytest.mark.slow
def test_what_hydra_writes_of_a_job_may_be_elsewhere_in_its_folder_or_not_at_all(app: App) -> None:
    app.grid(silent, "x=1", "hydra.output_subdir=a/b")
    assert (app.job(0) / "a" / "b" / "config.yaml").exists()
    app.run(silent, "x=1", "hydra.sweeper.sampler=grid", "hydra.output_subdir=null", "hydra.sweep.dir=other")
    assert not (app.folder / "other" / "0" / ".hydra").exists()


def test_what_the_configuration_sweeps_is_swept_and_the_command_line_wins(tmp_path: Path) -> None:
    sweeper = {"params": {"x": "choice(1,2)", "y": "1,2", "epochs": 3}, "sampler": "grid"}
    app = App(
        tmp_path,
        {**CONFIG, "defaults": ["_self_", {"override hydra/sweeper": "ray_optuna"}], "hydra": {"sweeper": sweeper}},
    )
    (returned,) = app.run(parabola, "hydra.sweep.dir=sweep", "y=7", named=())
    assert [job.overrides for job in returned] == [["x=1", "y=7", "epochs=3"], ["x=2", "y=7", "epochs=3"]]


def test_by_default_a_sweep_lies_in_a_folder_of_its_studys_name(app: App) -> None:
    app.run(
        parabola,
        "x=1,2",
        "hydra.sweeper.study_name=mine",
        "hydra.sweeper.n_trials=1",
        named=("hydra/sweeper=ray_optuna",),
    )
    assert (app.folder / "multirun" / "mine" / "0" / ".hydra" / "config.yaml").exists()


@pytest.mark.slow
def test_a_folder_that_the_application_names_is_taken(tmp_path: Path) -> None:
    app = App(tmp_path, {**CONFIG, "hydra": {"sweep": {"dir": "mine/${x}"}}})
    app.run(parabola, "y=1,2", "hydra.sweeper.n_trials=1", named=("hydra/sweeper=ray_optuna",))
    assert (app.folder / "mine" / "0.5" / "0" / "app.log").exists()


# --------------------------------------------------------------------------------------------------- resume


class Stopped(InProcessExecutor):
    """Interrupts the driver once it has heard of so much, as Ctrl-C does."""

    def __init__(self, run: Callable[[Work, Callable[[Report], Decision]], Any], after: int) -> None:
        super().__init__(run)
        self._left = after

    def wait(self, timeout: float) -> list[Happening]:
        happened = super().wait(timeout)
        if 0 < self._left <= len(happened):
            os.kill(os.getpid(), signal.SIGINT)
        self._left -= len(happened)
        return happened


def test_an_interrupted_sweep_goes_on_with_the_same_command(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("x=interval(0,2)", "hydra.sweeper.n_trials=5")
    app.executor = lambda runner: Stopped(runner, 2)
    with pytest.raises(SystemExit) as left:
        app.run(parabola, *words)
    assert left.value.code == 75
    assert "the same command with hydra.sweep.dir=sweep goes on" in capsys.readouterr().err
    before = app.outcomes
    assert list(before) == [0, 1]
    assert app.results["trials"] == {"complete": 2}

    app.executor = InProcessExecutor
    app.run(parabola, *words)
    assert app.started == [0, 1, 2, 3, 4]
    assert {n: app.outcomes[n] for n in before} == before
    assert len(app.events("outcome")) == 5

    whole = App(app.folder / "whole", CONFIG)
    whole.run(parabola, *words)
    assert whole.params == app.params, "as if nobody had disturbed it"


def test_a_job_that_was_cut_short_begins_again_under_its_number(app: App) -> None:
    words = ("x=interval(0,1)", "hydra.sweeper.n_trials=2")
    app.executor = lambda runner: Stopped(runner, 3)
    with pytest.raises(SystemExit):
        app.run(trained, *words)
    assert (len(app.events("report")), app.outcomes) == (3, {})

    app.executor = InProcessExecutor
    app.run(trained, *words)
    assert app.started == [0, 0, 1]
    assert [event["step"] for event in app.events("report") if event["number"] == 0] == list(range(1, 10))
    assert {outcome["state"] for outcome in app.outcomes.values()} == {"complete"}


def test_a_complete_sweep_runs_nothing_again_and_more_jobs_are_added(app: App) -> None:
    app.run(parabola, "x=interval(0,2)", "hydra.sweeper.n_trials=2")
    results, log = app.results, (app.job(0) / "app.log").stat().st_mtime_ns
    app.run(parabola, "x=interval(0,2)", "hydra.sweeper.n_trials=2")
    assert (app.hired, app.results) == (1, results)
    app.run(parabola, "x=interval(0,2)", "hydra.sweeper.n_trials=3", "hydra.sweeper.sampler=qmc")
    assert app.started == [0, 1, 2]
    assert (app.job(0) / "app.log").stat().st_mtime_ns == log
    assert app.overrides(2) == [f"x={app.params[2]['x']!r}"]


@pytest.mark.slow
def test_a_complete_grid_returns_what_it_returned_before(app: App) -> None:
    first, again = (app.grid(parabola, "x=1,2")[0] for _ in range(2))
    assert [job.return_value for job in first] == [job.return_value for job in again] == [0, 1]
    assert app.hired == 1


def test_a_grid_whose_program_changed_begins_anew(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    program = app.folder / "program.py"
    for version in (1, 2):
        program.write_text(f"def main(cfg):\n    return {version} * cfg.x\n")
        space: dict[str, Any] = {}
        exec(compile(program.read_text(), program, "exec"), space)
        (returned,) = app.grid(space["main"], "x=1,2")
        assert [job.return_value for job in returned] == [version, 2 * version]
    said = capsys.readouterr().out
    assert "the program changed since this sweep was complete" in said
    assert f"the record of before is kept in {app.sweep / 'study-1'}" in said
    assert (app.sweep / "study-1").is_dir()


def test_a_grid_that_another_process_is_at_is_not_set_aside(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.grid(parabola, "x=1,2")
    with contextlib.closing(Journal(app.sweep / "study", maximize=False)) as journal:
        journal.set_attribute("program", "another")
        assert "in use by process" in refused(app, "x=1,2", "hydra.sweeper.sampler=grid")
    assert not (app.sweep / "study-1").exists()


def test_a_grid_that_got_more_jobs_is_not_complete_until_they_have_ended(app: App) -> None:
    app.grid(parabola, "x=1,2,3", "hydra.sweeper.n_trials=1")
    app.executor = lambda runner: Stopped(runner, 1)
    with pytest.raises(SystemExit):
        app.grid(parabola, "x=1,2,3", "hydra.sweeper.n_trials=3")
    assert read_attributes(app.sweep / "study")["program"] is None
    app.executor = InProcessExecutor
    app.grid(silent, "x=1,2,3", "hydra.sweeper.n_trials=3")
    assert app.started == [0, 1, 2]
    assert read_attributes(app.sweep / "study")["program"]


def test_another_sweep_is_refused_with_the_difference(app: App) -> None:
    app.run(parabola, "x=interval(0,2)", "hydra.sweeper.n_trials=1")
    others = {
        "space.x: was 0 to 2, now 0 to 3": ["x=interval(0,3)"],
        "app.y: was 0, now 5": ["x=interval(0,2)", "y=5"],
        "seed: was 0, now 5": ["x=interval(0,2)", "hydra.sweeper.seed=5"],
        "direction: was ['minimize'], now ['maximize']": ["x=interval(0,2)", "hydra.sweeper.direction=maximize"],
    }
    for difference, overrides in others.items():
        said = refused(app, *overrides, "hydra.sweeper.n_trials=2")
        assert said.startswith(difference)
        assert said.endswith("choose another hydra.sweep.dir=..., or hydra.sweeper.resume=extend to go on in it")
    said = refused(app, "x=interval(0,2)", "hydra.sweeper.direction=maximize", "hydra.sweeper.resume=extend")
    assert "the study is to minimize, which cannot change" in said
    assert app.started == [0]


def test_the_applications_keys_are_not_taken_for_the_sweeps(tmp_path: Path) -> None:
    theirs = {"seed": 1, "direction": "up", "metric": "mine", "overrides": [1], "data": {"size": 2}, "x": 0.5}
    for number, (key, value) in enumerate({"seed": 2, "direction": "down", "overrides": "[2]", "data.size": 3}.items()):
        app = App(tmp_path / str(number), theirs)
        app.run(x_alone, "x=1,2", "hydra.sweeper.n_trials=1")
        assert refused(app, "x=1,2", f"{key}={value}", task=x_alone).startswith(f"app.{key}: was ")
    assert read_study(app.sweep / "study").metric == "objective"


def x_alone(cfg):
    return float(cfg.x)


def test_an_option_of_a_swept_group_that_was_edited_is_noticed(models: App) -> None:
    models.grid(width, "model=mlp,cnn", "y=1")
    (models.folder / "conf" / "model" / "cnn.yaml").write_text("{kind: cnn, channels: '${y}', width: 8}")
    said = refused(models, "hydra.sweeper.sampler=grid", "model=mlp,cnn", "y=1", task=width)
    assert said.startswith("app.model.channels with model=cnn: was 4, now ${y}; app.model.width")


def test_one_that_is_not_swept_may_be_edited(models: App) -> None:
    words = ("model=mlp,cnn", "y=1", "model.width=5,6")
    models.grid(width, *words)
    (models.folder / "conf" / "model" / "rnn.yaml").write_text("{kind: lstm}")
    (models.folder / "conf" / "model" / "mlp.yaml").write_text(
        OmegaConf.to_yaml({**GROUPS["model/mlp"], "width": 9})  # swept: whatever stands there is set
    )
    models.grid(width, *words)
    assert models.hired == 1


def test_the_order_of_what_is_fixed_makes_no_other_sweep(app: App) -> None:
    app.grid(parabola, "x=1,2", "y=5", "epochs=3")
    app.grid(parabola, "epochs=3", "x=1,2", "y=5")
    assert app.hired == 1


@pytest.mark.slow
def test_another_space_may_be_meant(app: App) -> None:
    app.run(parabola, "x=interval(0,1)", "hydra.sweeper.n_trials=1")
    app.run(parabola, "x=interval(4,5)", "hydra.sweeper.n_trials=2", "hydra.sweeper.resume=extend")
    assert [0 <= app.params[0]["x"] <= 1, 4 <= app.params[1]["x"] <= 5] == [True, True]
    assert app.results["best_trial"] == 0


def test_resume_may_be_forbidden_or_required(app: App) -> None:
    said = refused(app, "x=1,2", "hydra.sweeper.resume=must")
    assert said == f"hydra.sweeper.resume=must: {app.sweep} holds no sweep; name it with hydra.sweep.dir=..."
    assert not app.sweep.exists()
    app.run(parabola, "x=1,2", "hydra.sweeper.resume=never", "hydra.sweeper.n_trials=1")
    said = refused(app, "x=1,2", "hydra.sweeper.resume=never")
    assert said == f"hydra.sweeper.resume=never: {app.sweep} holds a sweep; choose another hydra.sweep.dir"
    app.run(parabola, "x=1,2", "hydra.sweeper.resume=must", "hydra.sweeper.n_trials=2")
    assert app.started == [0, 1]


# ------------------------------------------------------------------------------------------- other records


def copied(address: str) -> dict[int, tuple[str, list[float] | None]]:
    (name,) = optuna.get_all_study_names(address)
    study = optuna.load_study(storage=address, study_name=name)
    return {trial.user_attrs["number"]: (trial.state.name, trial.values) for trial in study.trials}


def test_an_optuna_storage_gets_a_copy_of_every_finished_job(app: App) -> None:
    address = f"sqlite:///{app.folder}/copy.db"
    words = ("x=interval(0,2)", "y=0,1", f"hydra.sweeper.storage={address}")
    app.run(failing, *words, "hydra.sweeper.n_trials=3")
    names = {"complete": "COMPLETE", "failed": "FAIL"}
    expected = {n: (names[o["state"]], None if o["failure"] else [o["value"]]) for n, o in app.outcomes.items()}
    assert copied(address) == expected
    app.run(failing, *words, "hydra.sweeper.n_trials=4")
    assert list(copied(address)) == [0, 1, 2, 3], "also where the study's name has another time in it"


@pytest.mark.slow
def test_pruned_jobs_are_copied_too(app: App) -> None:
    address = f"sqlite:///{app.folder}/copy.db"
    pruned = ["hydra.sweeper.pruner=asha", "hydra.sweeper.steps=9", "hydra.sweeper.n_trials=6"]
    app.run(trained, "x=interval(0,1)", *pruned, f"hydra.sweeper.storage={address}")
    states = Counter(state for state, _ in copied(address).values())
    assert states == Counter(o["state"].upper() for o in app.outcomes.values())


def test_a_storage_that_is_named_later_gets_all_of_a_complete_sweep(app: App) -> None:
    address = f"sqlite:///{app.folder}/copy.db"
    app.run(parabola, "x=1,2", "hydra.sweeper.n_trials=2")
    app.run(parabola, "x=1,2", "hydra.sweeper.n_trials=2", f"hydra.sweeper.storage={address}")
    assert app.hired == 1
    assert {n: values for n, (_, values) in copied(address).items()} == {
        n: [o["value"]] for n, o in app.outcomes.items()
    }


def test_two_sweeps_of_one_name_are_both_copied(app: App) -> None:
    address = f"sqlite:///{app.folder}/copy.db"
    for sweep in ("one", "two"):
        words = ("x=1,2", "hydra.sweeper.study_name=mine", f"hydra.sweeper.storage={address}")
        named = ("hydra/sweeper=ray_optuna", f"hydra.sweep.dir={sweep}", "hydra.sweeper.sampler=grid")
        for _ in range(2):
            app.run(parabola, *words, named=named)
    trials = optuna.load_study(storage=address, study_name="mine").trials
    assert [trial.user_attrs["number"] for trial in trials] == [0, 1, 0, 1]
    assert len({trial.user_attrs["uid"] for trial in trials}) == 2


def test_a_storage_with_other_directions_is_refused(app: App) -> None:
    address = f"sqlite:///{app.folder}/copy.db"
    optuna.create_study(storage=address, study_name="mine", direction="maximize")
    said = refused(app, "x=1,2", "hydra.sweeper.study_name=mine", f"hydra.sweeper.storage={address}")
    assert said.startswith(f"hydra.sweeper.storage={address}: mine is there with maximize instead of minimize")
    assert app.hired == 0


def test_the_password_of_a_storage_is_not_shown(app: App) -> None:
    said = refused(app, "x=1,2", "hydra.sweeper.storage='nosql://user:se:c@ret/@host/db?password=secret'")
    assert said.startswith("hydra.sweeper.storage=nosql://host/db?password=...: cannot be opened (")
    assert not any(word in said for word in ("user:", "ret", "\n"))


def test_a_storage_that_is_away_later_does_not_hold_a_sweep_up(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"sqlite:///{app.folder}/there/copy.db"
    words = ("x=interval(0,2)", f"hydra.sweeper.storage={address}")
    app.run(parabola, words[0], "hydra.sweeper.n_trials=1")
    for trials, jobs in ((1, [0]), (2, [0, 1])):
        app.run(parabola, *words, f"hydra.sweeper.n_trials={trials}")
        said = capsys.readouterr().out
        assert said.count(f"hydra.sweeper.storage={address}: lacks trials") == 1
        assert "best: " in said
        assert app.started == jobs
    (app.folder / "there").mkdir()
    app.run(parabola, *words, "hydra.sweeper.n_trials=2")
    assert list(copied(address)) == [0, 1]


def test_mlflow_has_one_run_a_job_under_the_sweeps_own(app: App, migrated_store: Path) -> None:
    app.sweep.mkdir()
    (app.sweep / "mlflow.db").write_bytes(migrated_store.read_bytes())
    words = ("x=interval(0,2)", "y=0,1", "hydra.sweeper.n_trials=3", "hydra.sweeper.study_name=mine")
    app.run(failing, *words)
    app.run(failing, *words, "hydra.sweeper.tracking_uri=sqlite")  # told of what it missed
    assert app.hired == 1
    client = MlflowClient(tracking_uri=f"sqlite:///{app.sweep / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("app")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    jobs = [run for run in runs if run is not parent]
    assert (parent.info.run_name, parent.info.status) == ("mine", "FINISHED")
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {parent.info.run_id}
    shown = sorted((float(run.data.params["x"]), run.data.params["y"]) for run in jobs)
    assert shown == sorted((params["x"], str(params["y"])) for params in app.params.values())
    status = {"complete": "FINISHED", "failed": "FAILED"}
    assert Counter(run.info.status for run in jobs) == Counter(status[o["state"]] for o in app.outcomes.values())


# ------------------------------------------------------------------------------------------------- the jobs


class Notes(Callback):
    """Appends what it is told to a file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _note(self, *words: Any) -> None:
        with Path(self._path).open("a") as file:
            print(*words, file=file)

    def on_job_start(self, config, **kwargs):
        self._note("start", config.hydra.job.num)

    def on_job_end(self, config, job_return, **kwargs):
        self._note("end", config.hydra.job.num, job_return.status.name)

    def on_multirun_start(self, config, **kwargs):
        self._note("multirun start")

    def on_multirun_end(self, config, **kwargs):
        self._note("multirun end")


def test_callbacks_are_told_of_every_job_once(tmp_path: Path) -> None:
    notes = {"_target_": f"{__name__}.Notes", "path": str(tmp_path / "notes.txt")}
    app = App(tmp_path, {**CONFIG, "hydra": {"callbacks": {"notes": notes}}})
    app.grid(failing, "y=0,1", "hydra.sweeper.max_failure_rate=1")
    lines = (tmp_path / "notes.txt").read_text().splitlines()
    jobs = ["start 0", "end 0 COMPLETED", "start 1", "end 1 FAILED"]
    assert lines == ["multirun start", *jobs, "multirun end"]


def looking_around(cfg):
    logging.getLogger("mine").info("x is %s", cfg.x)
    hydra = HydraConfig.get()
    Path("here.txt").write_text("here")
    return {
        "value": cfg.x,
        "num": hydra.job.num,
        "id": hydra.job.id,
        "dirname": hydra.job.override_dirname,
        "output": hydra.runtime.output_dir,
        "mode": str(hydra.mode),
        "choices": dict(hydra.runtime.choices)["hydra/sweeper"],
        "env": os.environ.get("SWEEP_TEST"),
    }


def test_a_job_has_its_folder_its_log_and_hydras_configuration(app: App) -> None:
    overrides = ["hydra.job.chdir=true", "+hydra.job.env_set.SWEEP_TEST=set"]
    (returned,) = app.grid(looking_around, "x=1,2", "y=3", *overrides)
    assert returned[1].return_value == {
        "value": 2,
        "num": 1,
        "id": "1",
        "dirname": "x=2,y=3",
        "output": str(app.job(1)),
        "mode": "RunMode.MULTIRUN",
        "choices": "ray_optuna",
        "env": "set",
    }
    assert (app.job(1) / "here.txt").read_text() == "here"
    assert not (app.folder / "here.txt").exists()
    assert "SWEEP_TEST" not in os.environ
    assert "[mine][INFO] - x is 2" in (app.job(1) / "app.log").read_text()
    assert plain(app.job(1) / ".hydra" / "config.yaml") == {**CONFIG, "x": 2, "y": 3}
    assert app.overrides(1) == ["x=2", "y=3"]
    hydra = plain(app.job(1) / ".hydra" / "hydra.yaml")["hydra"]
    assert (hydra["job"]["num"], hydra["sweeper"]["sampler"]) == (1, "grid")
    assert Path(returned[1].working_dir) == Path("sweep/1")
    assert plain(app.sweep / "multirun.yaml")["x"] == 0.5


@pytest.mark.slow
def test_without_chdir_a_job_stays_where_the_program_is(app: App) -> None:
    (returned,) = app.grid(looking_around, "x=1")
    assert (app.folder / "here.txt").exists()
    assert returned[0].working_dir == str(app.folder)


@pytest.mark.slow
def test_a_jobs_folder_may_be_named_by_what_it_overrides(app: App) -> None:
    app.grid(silent, "x=1,2", "hydra.sweep.subdir='${hydra:job.num}-${hydra.job.override_dirname}'")
    assert (app.sweep / "1-x=2" / "app.log").exists()


def test_an_application_that_cannot_be_sent_to_workers_says_what_cannot(app: App) -> None:
    lock = threading.Lock()

    def locked(cfg):
        with lock:
            return cfg.x

    said = refused(app, "x=1,2", task=locked)
    assert said.startswith("the application cannot be sent to workers (")
    assert "lock" in said
    with pytest.raises(TypeError):
        pickle.dumps(lock)


@pytest.mark.slow
def test_a_function_that_is_made_at_run_time_can_be_sent(app: App) -> None:
    factor = 3

    def multiplied(cfg):
        return factor * cfg.x

    (returned,) = app.grid(multiplied, "x=1,2")
    assert [job.return_value for job in returned] == [3, 6]


# --------------------------------------------------------------------------------------- what Hydra's users see

PROGRAM = """
import sys
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    print("swept", cfg.x)

if __name__ == "__main__":
    try:
        main()
    finally:
        heavy = ("torch", "ray", "mlflow", "optuna", "pandas", "numpy", "search")
        print("heavy", *[name for name in heavy if name in sys.modules])
"""


def program(app: App, *words: str, code: int = 0) -> tuple[str, str]:
    """Run the application as its user does; return what it printed."""
    (app.folder / "app.py").write_text(PROGRAM)
    env = environment_of_applications()
    done = subprocess.run(
        [sys.executable, "app.py", *words], cwd=app.folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_an_application_with_another_sweeper_is_left_alone_and_imports_nothing_of_ours(app: App) -> None:
    said, _ = program(app, "-m", "x=choice(1,2)", "hydra.sweep.dir=sweep")
    assert [line for line in said.splitlines() if line.startswith(("swept", "heavy"))] == [
        "swept 1",
        "swept 2",
        "heavy",
    ]
    assert not (app.sweep / "study").exists()


@pytest.mark.parametrize(
    ("word", "wanted"), [("x=choice(a,null)", "x=a,null"), ("+z=choice( null , 'b c')", "+z=null,'b c'")]
)
def test_a_null_in_a_choice_says_what_to_write(word: str, wanted: str, app: App) -> None:
    _, said = program(app, "-m", "hydra/sweeper=ray_optuna", word, code=1)
    assert said.strip() == f"{word}: Hydra takes no null in choice(); write {wanted}"


@pytest.mark.parametrize("word", ["x=choice('null',b)", "x=choice('a, null',b)", "x=choice(null-b,c)", "x=choice(a,b)"])
def test_a_choice_that_hydra_takes_is_not_refused(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["app.py", "-m", "hydra/sweeper=ray_optuna", word])
    ExplainedNull().manipulate_search_path(None)


@pytest.mark.parametrize(
    "words", [["-m"], ["hydra/sweeper=ray_optuna"], ["-m", "hydra/sweeper=optuna"], ["--cfg", "job"]]
)
def test_who_asks_for_no_sweep_of_ours_gets_hydras_own_words(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["app.py", *words, "x=choice(a,null)"])
    ExplainedNull().manipulate_search_path(None)


def test_what_hydra_shows_of_the_sweeper_imports_nothing_heavy(app: App) -> None:
    said, _ = program(app, "--cfg", "hydra", "hydra/sweeper=ray_optuna", "hydra/sweeper/sampler=tpe")
    assert "_target_: hydra_plugins.ray_optuna_sweeper.sweeper.RayOptunaSweeper" in said
    assert "kind: tpe" in said
    assert said.splitlines()[-1].strip() == "heavy"


def test_best_is_told_with_what_its_job_ran_with(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    """Though the sweep went on with another value for all jobs since."""
    app.run(parabola, "x=interval(0,2)", "y=0", "hydra.sweeper.n_trials=1")
    app.run(parabola, "x=interval(0,2)", "y=9", "hydra.sweeper.n_trials=2", "hydra.sweeper.resume=extend")
    assert app.results["best_overrides"][1] == "y=0"
    assert " by job 0: x=" in capsys.readouterr().out
