import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from search.apps.cli import CONFIG, config_folder
from search.apps.composed import composed as checked
from search.apps.naming import register_resolvers
from search.config import schema
from search.config.arguments import expand
from search.config.build import factory
from search.config.checks import check
from search.errors import UsageError
from search.space import Space

CONF = config_folder()
CSV = ("data=csv", "data.path=t.csv", "data.target=y")


@cache
def composed(*arguments: str) -> DictConfig:
    schema.register()
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(CONFIG, overrides=expand(arguments, CONF, CONFIG))


def options() -> list[str]:
    return sorted(
        f"{path.parent.name}={path.stem}"
        for path in CONF.glob("*/*.yaml")
        if path.parent.name not in ("debug", "experiment", "local")
    )


NEEDED = {
    "data=csv": ("data.path=t.csv", "data.target=y"),
    "data=parquet": ("data.path=t.parquet", "data.target=y"),
    "data=npz": ("data.path=a.npz",),
    "data=fashion_mnist": ("data.root=clothes",),
    "data=image_folder": ("data.root=pictures",),
    "tracking=server": ("tracking.uri=http://127.0.0.1:5000",),
    "cluster=existing": ("cluster.address=auto",),
}
"""What an option leaves to be given."""


# ------------------------------------------------------------------------------------- every configuration composes


@pytest.mark.parametrize("option", options())
def test_every_option_composes_into_a_search_that_can_run(option: str) -> None:
    cfg = composed(option, *NEEDED.get(option, ()))
    check(cfg)  # type: ignore[arg-type] # a DictConfig of that schema
    space = Space.of(cfg)
    config = space.configure(space.default())
    assert "choose" not in config
    for group in ("model", "optimizer", "schedule", "data"):
        assert callable(factory(config[group], group))


@pytest.mark.parametrize("path", sorted(CONF.glob("debug/*.yaml")) + sorted(CONF.glob("experiment/*.yaml")), ids=str)
def test_every_experiment_composes(path: Path) -> None:
    needed = next((words for option, words in NEEDED.items() if option == f"data={path.stem}"), ())
    cfg = composed(f"+{path.parent.name}={path.stem}", *needed)
    check(cfg)  # type: ignore[arg-type]
    Space.of(cfg)


@pytest.mark.parametrize("option", NEEDED)
def test_what_an_option_leaves_open_must_be_given(option: str) -> None:
    key = NEEDED[option][0].split("=")[0]
    with pytest.raises(UsageError, match=rf"{key}: must be given, e\.g\. {key}=\.\.\."):
        check(composed(option))  # type: ignore[arg-type]


@pytest.mark.parametrize("option", options())
def test_no_default_lies_outside_its_space(option: str) -> None:
    assert Space.of(composed(option)).defaults_moved() == []


# ------------------------------------------------------------------------- what the command line makes of the space

MLP = {"model.width": "one of 64, 128, 256", "model.depth": "1 to 3", "model.dropout": "0 to 0.5"}
CNN = {"model.channels": "one of 8, 16, 24", "model.dropout": "0 to 0.4"}
COSINE = {"schedule.warmup": "one of 0.0, 0.05, 0.1"}
ADAMW = {"optimizer.lr": "0.0003 to 0.01, log", "optimizer.weight_decay": "0.0001 to 0.1, log", **COSINE}


def of_option(option: str, dimensions: dict[str, str]) -> dict[str, str]:
    return {name.replace("model.", f"model.{option}."): words for name, words in dimensions.items()}


BOTH = {"model": "one of mlp, cnn", **of_option("mlp", MLP), **of_option("cnn", CNN), **ADAMW}
SPACES: dict[str, tuple[list[str], dict[str, str]]] = {
    "the default": ([], BOTH),
    "one model": (["model=cnn"], {**CNN, **ADAMW}),
    "a model without a space": (["model=linear"], ADAMW),
    "another optimiser": (
        ["model=linear", "optimizer=sgd"],
        {
            "optimizer.lr": "0.001 to 1, log",
            "optimizer.momentum": "0.5 to 0.98",
            "optimizer.weight_decay": "1e-06 to 0.01, log",
            **COSINE,
        },
    ),
    "a bound moved": (["optimizer.space.lr.high=0.1"], {**BOTH, "optimizer.lr": "0.0003 to 0.1, log"}),
    "a bound of an option moved": (
        ["choose.model.cnn.space.dropout.high=0.2"],
        {**BOTH, "model.cnn.dropout": "0 to 0.2"},
    ),
    "choices instead": (["model.space.width.choices=[32]", "model=mlp"], {**MLP, "model.width": "one of 32", **ADAMW}),
    "a range made a choice": (
        ["model=mlp", "+model.space.dropout.choices=[0,0.1]"],
        {**MLP, "model.dropout": "one of 0, 0.1", **ADAMW},
    ),
    "a dimension taken out": (
        ["model=mlp", "~model.space.dropout"],
        {"model.width": MLP["model.width"], "model.depth": MLP["model.depth"], **ADAMW},
    ),
    "a dimension added": (
        ["model=linear", "+trainer.space.batch_size={choices:[16,32]}"],
        {**ADAMW, "trainer.batch_size": "one of 16, 32"},
    ),
    "a nested key added": (
        ["model=cnn", "+model.space.kernel={low:3,high:7,step:2}"],
        {**CNN, "model.kernel": "3 to 7, step 2", **ADAMW},
    ),
    "one option chosen": (["choose.model=[mlp]"], {"model": "one of mlp", **of_option("mlp", MLP), **ADAMW}),
    "a choice of schedules": (
        ["model=linear", "choose.schedule=[cosine,constant]"],
        {
            "schedule": "one of cosine, constant",
            "schedule.cosine.warmup": COSINE["schedule.warmup"],
            **{name: words for name, words in ADAMW.items() if name not in COSINE},
        },
    ),
    "a student, which is no part of a trial": (["+model@squeeze.student=cnn"], BOTH),
}


@pytest.mark.parametrize(("arguments", "described"), SPACES.values(), ids=SPACES)
def test_the_space_is_what_the_command_line_says(arguments: list[str], described: dict[str, str]) -> None:
    assert Space.of(composed(*arguments)).describe() == described


def test_a_fixed_dimension_keeps_its_default() -> None:
    space = Space.of(composed("model=mlp", "~model.space.dropout", "model.dropout=0.25"))
    assert space.configure(space.default())["model"]["dropout"] == 0.25


def test_a_value_set_is_the_default_of_its_dimension() -> None:
    assert Space.of(composed("model=mlp", "model.width=256")).default()["model.width"] == 256


def test_a_drawn_value_takes_the_type_of_its_key() -> None:
    space = Space.of(composed("model=mlp", "+model.space.dropout.choices=[0,0.1]"))
    config = space.configure({**space.default(), "model.dropout": 0})
    assert type(config["model"]["dropout"]) is float


UNITS = {
    "steps": (["schedule=step", "schedule.unit=epochs", "schedule.every=10"], "schedule.space.every: draws fractions"),
    "a choice's": (["choose.schedule=[sgdr]", "choose.schedule.sgdr.unit=steps"], "choose.schedule.sgdr.space.cycle"),
}


@pytest.mark.parametrize(("arguments", "said"), UNITS.values(), ids=UNITS)
def test_a_space_in_fractions_of_the_run_is_refused_for_another_unit(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        check(composed(*arguments))  # type: ignore[arg-type]


def test_another_unit_takes_a_space_of_its_own() -> None:
    own = ("schedule.unit=epochs", "schedule.every=10", "schedule.space.every.choices=[5,10]")
    check(composed("schedule=step", *own))  # type: ignore[arg-type]
    check(composed("schedule=step", "schedule.unit=epochs", "~schedule.space.every"))  # type: ignore[arg-type]


IMPOSSIBLE = {
    "a name": ("+trainer.space.sampling={choices: [shuffled, even]}", "trainer.sampling=even", "shuffled, balanced"),
    "another": ("+trainer.space.precision={choices: [fp8]}", "trainer.precision=fp8", "float32, bf16, fp16"),
    "a high end": ("+trainer.space.label_smoothing={low: 0.0, high: 1.5}", "trainer.label_smoothing=1.5", "below 1"),
    "no norm": ("+trainer.space.clip_norm={choices: [0.0, 1.0]}", "trainer.clip_norm=0.0", "above 0"),
}


@pytest.mark.parametrize(("argument", "key", "allowed"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_value_that_cannot_work_is_refused_in_a_space_too(
    argument: str, key: str, allowed: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"{re.escape(key)} lies in it; .*{allowed}"):
        checked(composed(argument, f"output_dir={tmp_path}"))


MISFITS = {
    "a float end of an integer": (["model.space.depth.high=2.5"], "model.depth", "1.0"),
    "a word for an integer": (["+model.space.depth.choices=[1,wide]"], "model.depth", "wide"),
    "a float for an integer": (["+model.space.depth.choices=[1,2.5]"], "model.depth", "2.5"),
    "null for an integer": (["+model.space.depth.choices=[1,null]"], "model.depth", "cannot be"),
    "true for a float": (["+model.space.dropout.choices=[0.5,true]"], "model.dropout", "True"),
    "a number for a list": (["+optimizer.space.betas={low:0.8,high:0.9}"], "optimizer", "betas"),
    "an option's": (["choose.model.mlp.space.depth.high=2.5"], "model.mlp.depth", "1.0"),
}


@pytest.mark.parametrize(("arguments", "key", "value"), MISFITS.values(), ids=MISFITS)
def test_a_dimension_that_its_key_cannot_hold_is_refused_before_any_trial(
    arguments: list[str], key: str, value: str
) -> None:
    named = [] if arguments[0].startswith("choose") else ["model=mlp"]
    with pytest.raises(UsageError) as refusal:
        Space.of(composed(*named, *arguments)).require_valid()
    assert key in str(refusal.value)
    assert value in str(refusal.value)


@pytest.mark.parametrize("option", options())
def test_every_shipped_space_can_be_held_by_its_keys(option: str) -> None:
    Space.of(composed(option, *NEEDED.get(option, ()))).require_valid()


def test_a_whole_number_given_as_a_float_is_one() -> None:
    space = Space.of(composed("model=mlp"))
    depth = space.configure(space.complete({"model.depth": 3.0}))["model"]["depth"]
    assert (depth, type(depth)) == (3, int)


# ------------------------------------------------------------------------------------------------------------ checks

# id -> (arguments composed first, changes to that, the key that the message names, what it says is allowed)
REFUSED: dict[str, tuple[tuple[str, ...], dict[str, Any], str, str]] = {
    "resume": ((), {"resume": "yes"}, "resume=yes", "auto, must, never"),
    "fused": ((), {"fused": "on"}, "fused=on", "auto, off"),
    "fused trials, none": ((), {"fused": 0}, "fused=0", "a whole number from 2 on"),
    "metric mode": ((), {"metric.mode": "maximum"}, "metric.mode=maximum", "null, max, min"),
    "metric name": ((), {"metric.name": "f1"}, "metric.name=f1", "null, accuracy, loss, rmse, mae, r2"),
    "loading": ((), {"trainer.loading": "disk"}, "trainer.loading=disk", "memory, loader"),
    "sampler": ((), {"sampler.kind": "sobol"}, "sampler.kind=sobol", "random, qmc, tpe, grid"),
    "pruner": ((), {"pruner.kind": "sha"}, "pruner.kind=sha", "none, asha, promotion, median, hyperband, optuna_sha"),
    "cluster": ((), {"cluster.kind": "slurm"}, "cluster.kind=slurm", "local, existing"),
    "selection": ((), {"squeeze.metric": "auc"}, "squeeze.metric=auc", "null, accuracy, loss"),
    "task": (CSV, {"data.task": "ranking"}, "data.task=ranking", "null, classification, regression"),
    "no trials": ((), {"budget.trials": 0}, "budget.trials=0", "at least 1"),
    "no patience": ((), {"budget.patience": 0}, "budget.patience=0", "at least 1"),
    "no time": ((), {"budget.hours": 0.0}, "budget.hours=0.0", "above 0"),
    "no epochs": ((), {"trainer.epochs": 0}, "trainer.epochs=0", "at least 1"),
    "no batch": ((), {"trainer.batch_size": 0}, "trainer.batch_size=0", "at least 1"),
    "no threads": ((), {"trainer.threads": 0}, "trainer.threads=0", "at least 1"),
    "no epochs' patience": ((), {"trainer.patience": 0}, "trainer.patience=0", "at least 1"),
    "checkpoints at no epoch": ((), {"trainer.checkpoint_every": 0}, "trainer.checkpoint_every=0", "at least 1"),
    "loader workers": ((), {"trainer.loader_workers": -1}, "trainer.loader_workers=-1", "at least 0"),
    "no workers": ((), {"cluster.workers": 0}, "cluster.workers=0", "at least 1"),
    "no CPUs": ((), {"cluster.cpus": 0}, "cluster.cpus=0", "at least 1"),
    "GPUs": ((), {"cluster.gpus": -1}, "cluster.gpus=-1", "at least 0"),
    "a trial's GPUs": ((), {"cluster.gpus_per_trial": -0.5}, "cluster.gpus_per_trial=-0.5", "at least 0"),
    "a trial's CPUs": ((), {"cluster.cpus_per_trial": 0.0}, "cluster.cpus_per_trial=0.0", "above 0"),
    "seed": ((), {"seed": -1}, "seed=-1", "at least 0"),
    "seed of the split": ((), {"split.seed": -1}, "split.seed=-1", "at least 0"),
    "no members": ((), {"squeeze.top_k": 0}, "squeeze.top_k=0", "at least 1"),
    "no picks": ((), {"squeeze.picks": 0}, "squeeze.picks=0", "at least 1"),
    "no bag": ((), {"squeeze.bags": 0}, "squeeze.bags=0", "at least 1"),
    "no patience in selection": ((), {"squeeze.patience": 0}, "squeeze.patience=0", "at least 1"),
    "a start of more than all picks": ((), {"squeeze.start": 51}, "squeeze.start=51", "at most squeeze.picks, 50"),
    "no parameters": ((), {"squeeze.limits.parameters": 0}, "squeeze.limits.parameters=0", "at least 1"),
    "no time for a prediction": (
        (),
        {"squeeze.limits.milliseconds": 0.0},
        "squeeze.limits.milliseconds=0.0",
        "above 0",
    ),
    "one fold": ((), {"squeeze.folds": 1}, "squeeze.folds=1", "at least 2"),
    "no temperature": ((), {"squeeze.distill.temperature": 0.0}, "squeeze.distill.temperature=0.0", "above 0"),
    "too much teacher": ((), {"squeeze.distill.mix": 1.5}, "squeeze.distill.mix=1.5", "0 to 1"),
    "halving by one": ((), {"pruner.eta": 1}, "pruner.eta=1", "at least 2"),
    "rung at the end": ((), {"pruner.rungs": [0.5, 1.0]}, "pruner.rungs=[0.5, 1.0]", "between 0 and 1"),
    "rung at the start": ((), {"pruner.rungs": [0.0, 0.5]}, "pruner.rungs=[0.0, 0.5]", "between 0 and 1"),
    "falling rungs": ((), {"pruner.rungs": [0.5, 0.1]}, "pruner.rungs=[0.5, 0.1]", "rising"),
    "a rung twice": ((), {"pruner.rungs": [0.5, 0.5]}, "pruner.rungs=[0.5, 0.5]", "rising"),
    "median's start": (("pruner=median",), {"pruner.startup_trials": -1}, "pruner.startup_trials=-1", "at least 0"),
    "median's warm-up": (("pruner=median",), {"pruner.warmup_steps": -1}, "pruner.warmup_steps=-1", "at least 0"),
    "hyperband's grace": (("pruner=hyperband",), {"pruner.min_resource": 0}, "pruner.min_resource=0", "at least 1"),
    "hyperband's factor": (
        ("pruner=hyperband",),
        {"pruner.reduction_factor": 1},
        "pruner.reduction_factor=1",
        "at least 2",
    ),
    "limit": (("data=fashion_mnist", "data.root=clothes"), {"data.limit": 0}, "data.limit=0", "at least 1"),
    "a path as a name": ((), {"name": "a/b"}, "name=a/b", "letters, digits"),
    "no name": ((), {"name": ""}, "name=", "1 to 120"),
    "the folder above": ((), {"name": ".."}, "name=..", "letters, digits"),
    "a long name": ((), {"name": "x" * 121}, "name=xxx", "1 to 120"),
    "unknown stage": (
        (),
        {"stages": ["serach"]},
        "stages: serach",
        "did you mean search? allowed: inspect, preflight, search",
    ),
    "train without a trial": ((), {"stages": ["train"]}, "stages=[train]", "trial=N"),
    "train beside others": ((), {"stages": ["search", "train"], "trial": 1}, "stages=[train]", "runs alone"),
    "trial": ((), {"stages": ["look"], "trial": -1}, "trial=-1", "at least 0"),
    "a trial in a search": ((), {"trial": 17}, "trial=17", "needs stages=[train] or stages=[look]"),
    "two fractions": ((), {"split.fractions": [0.5, 0.5]}, "split.fractions=[0.5, 0.5]", "three positive numbers"),
    "fractions beyond 1": ((), {"split.fractions": [0.6, 0.3, 0.2]}, "split.fractions=", "add up to 1"),
    "no test set": ((), {"split.fractions": [0.8, 0.2, 0.0]}, "split.fractions=", "three positive numbers"),
    "group and time": (CSV, {"split.group": "g", "split.time": "t"}, "split.group=g", "split.time=t"),
    "device": ((), {"device": "gpu"}, "device=gpu", "auto, cpu, cuda or cuda:<number>"),
    "device number": ((), {"device": "cuda:x"}, "device=cuda:x", "cuda:<number>"),
    "no cluster": ((), {"cluster.kind": "existing"}, "cluster.address", "HOST:PORT, or auto"),
    "a device of a cluster": (
        ("cluster=existing", "cluster.address=auto"),
        {"device": "cuda:1"},
        "device=cuda:1",
        "use device=cuda",
    ),
    "a password": (
        ("tracking=server", "tracking.uri=http://me:secret@host:5000"),
        {},
        "tracking.uri",
        "MLFLOW_TRACKING_PASSWORD",
    ),
    "no architecture": ((), {"choose": {}}, "model", "model="),
}


@pytest.mark.parametrize(("arguments", "changes", "key", "allowed"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_cannot_work_is_refused(
    arguments: tuple[str, ...], changes: dict[str, Any], key: str, allowed: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        check(changed(arguments, changes))  # type: ignore[arg-type]
    assert key in str(refusal.value)
    assert allowed in str(refusal.value)


# What lies at the edge of what is allowed.
ACCEPTED: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "the least of everything": (
        (),
        {
            "budget.trials": 1,
            "budget.hours": 1e-9,
            "budget.patience": 1,
            "trainer.epochs": 1,
            "trainer.batch_size": 1,
            "seed": 0,
            "squeeze.folds": 2,
            "squeeze.start": 50,
            "squeeze.limits.members": 1,
            "squeeze.distill.mix": 0.0,
            "cluster.gpus": 0,
        },
    ),
    "no rungs": ((), {"pruner.rungs": []}),
    "a name with signs": ((), {"name": "a.b_c-d=e+f"}),
    "training a trial again": ((), {"stages": ["train"], "trial": 0}),
    "fractions that add up but for rounding": ((), {"split.fractions": [0.7, 0.1, 0.2]}),
    "a password of the environment": (("tracking=server",), {"tracking.uri": "http://${oc.env:HOME}@host:5000"}),
    "a device of this machine": ((), {"device": "cuda:1"}),
    "off, as YAML reads it in a file": ((), {"fused": False}),
}


@pytest.mark.parametrize(("arguments", "changes"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_value_at_the_edge_is_accepted(arguments: tuple[str, ...], changes: dict[str, Any]) -> None:
    check(changed(arguments, changes))  # type: ignore[arg-type]


def changed(arguments: tuple[str, ...], changes: dict[str, Any]) -> DictConfig:
    cfg = copy.deepcopy(composed(*arguments))
    for key, value in changes.items():
        OmegaConf.update(cfg, key, value, merge=False)
    return cfg
