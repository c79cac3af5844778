"""Changes to a trial's configuration: composed by Hydra, laid over a base, told in words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from search.apps.cli import CONFIG, config_folder
from search.apps.naming import job_folder, register_resolvers
from search.config import schema
from search.config.arguments import override
from search.config.checks import check
from search.errors import UsageError
from search.space import Space, changed, changed_values, in_words, misfit, settings_of

BASE = {
    "model": {"_target_": "a.Net", "width": 8, "dropout": 0.5, "bias": True, "norm": None, "head": {"units": 4}},
    "schedule": {"_target_": "a.cosine", "final": 0.1},
}


def composed(*arguments: str) -> DictConfig:
    schema.register()
    register_resolvers()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(CONFIG, overrides=list(arguments))


def change(cfg: DictConfig, name: str) -> Any:
    return settings_of(OmegaConf.to_container(cfg.changes, resolve=True))[name]


LAID: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a value": ({"model": {"dropout": 0.0}}, {"dropout": 0.0}, "model.dropout: 0.5 → 0"),
    "two values": (
        {"model": {"width": 4, "bias": False}},
        {"width": 4, "bias": False},
        "model.width: 8 → 4, model.bias: True → False",
    ),
    "a value deep below": ({"model": {"head": {"units": 2}}}, {"head": {"units": 2}}, "model.head.units: 4 → 2"),
    "a node below": (
        {"model": {"head": {"_target_": "a.Head"}}},
        {"head": {"_target_": "a.Head"}},
        "model.head: {'units': 4} → Head",
    ),
    "what was null": ({"model": {"norm": "batch"}}, {"norm": "batch"}, "model.norm: None → batch"),
    "nothing new": ({"model": {"dropout": 0.5}}, {}, ""),
}


@pytest.mark.parametrize(("piece", "model", "words"), LAID.values(), ids=LAID)
def test_values_are_merged_into_the_base(piece: dict[str, Any], model: dict[str, Any], words: str) -> None:
    before = repr(BASE)
    assert misfit(BASE, piece, "changes.x") is None
    laid = changed(BASE, piece)
    assert laid == {**BASE, "model": {**BASE["model"], **model}}
    assert in_words(BASE, laid) == words
    assert repr(BASE) == before


def test_a_node_that_names_its_target_replaces_what_was_there() -> None:
    laid = changed(BASE, {"schedule": {"_target_": "a.constant"}})
    assert laid == {**BASE, "schedule": {"_target_": "a.constant"}}
    assert in_words(BASE, laid) == "schedule: cosine → constant"


MISFITS: dict[str, tuple[Mapping[str, Any], str]] = {
    "no such key": ({"model": {"heads": 2}}, "changes.x.model.heads: no such key; allowed: width, dropout, bias, norm"),
    "deep below": ({"model": {"head": {"unit": 2}}}, "changes.x.model.head.unit: no such key; allowed: units"),
    "a word": ({"model": {"width": "wide"}}, "changes.x.model.width=wide: must be of the kind of what is there, 8"),
    "a truth value": (
        {"model": {"width": True}},
        "changes.x.model.width=True: must be of the kind of what is there, 8",
    ),
    "no truth value": ({"model": {"bias": 1}}, "changes.x.model.bias=1: must be of the kind of what is there, True"),
    "a number for a node": (
        {"model": {"head": 3}},
        "changes.x.model.head=3: must be of the kind of what is there, {un",
    ),
}


@pytest.mark.parametrize(("piece", "why"), MISFITS.values(), ids=MISFITS)
def test_what_cannot_be_laid_over_the_base_is_named(piece: Mapping[str, Any], why: str) -> None:
    assert (misfit(BASE, piece, "changes.x") or "").startswith(why)


# ---------------------------------------------------------------------------------------------- composed by Hydra

SHIPPED = {
    "schedule": {"schedule": {"_target_": "search.train.schedules.constant", "unit": "budget", "warmup": 0.0}},
    "dropout": {"model": {"dropout": 0.0}},
    "weight_decay": {"optimizer": {"weight_decay": 0.0}},
    "augment": {"augment": None},
}


def test_the_shipped_changes_fit_the_default_search() -> None:
    cfg = composed(f"ablate=[{','.join(SHIPPED)}]")
    check(cfg)  # type: ignore[arg-type] # a DictConfig of that schema
    assert {str(name) for name in cfg.changes} == SHIPPED.keys()
    assert {name: change(cfg, name) for name in SHIPPED} == SHIPPED
    set_values = {at for at, _, _ in changed_values(Space.of(cfg).base)}
    assert set_values == {f"changes.{name}" for name in SHIPPED if name != "augment"}


def test_changes_are_added_on_the_command_line() -> None:
    cfg = composed(
        "model=mlp",
        "schedule=constant",
        "ablate=[narrow,warm,net]",
        "+changes.narrow.model.width=64",
        "+schedule@changes.warm.schedule=cosine",
        "changes.warm.schedule.final=0.1",
        "+model@changes.net.model=cnn",
    )
    check(cfg)  # type: ignore[arg-type]
    space = Space.of(cfg)
    assert [d.name for d in space.dimensions if "changes" in d.name] == [], "a change's own space is not searched"
    base = space.configure(space.default())
    assert changed(base, change(cfg, "narrow"))["model"] == {**base["model"], "width": 64}
    warm = {"_target_": "search.train.schedules.cosine", "unit": "budget", "warmup": 0.05, "final": 0.1}
    assert changed(base, change(cfg, "warm"))["schedule"] == warm
    assert set(changed(base, change(cfg, "net"))["model"]) == {"_target_", "channels", "blocks", "kernel", "dropout"}


def test_augmentation_is_taken_away_or_added() -> None:
    cfg = composed("augment=image", "ablate=[augment,more]", "+augment@changes.more.augment=image")
    check(cfg)  # type: ignore[arg-type]
    space = Space.of(cfg)
    base = space.configure(space.default())
    without = changed(base, change(cfg, "augment"))
    assert without["augment"] is None
    assert in_words(base, without) == "augment: Image → None"
    bare = {**base, "augment": None}
    assert misfit(bare, change(cfg, "more"), "changes.more") is None
    assert in_words(bare, changed(bare, change(cfg, "more"))) == "augment: None → Image"
    assert {at for at, _, _ in changed_values(space.base)} == {"changes.more"}


EXPERIMENT = """
# @package _global_
defaults:
  - /schedule@changes.warm.schedule: cosine
changes:
  narrow: {model: {width: 64}}
  both: {model: {width: 64}, trainer: {epochs: 3}}
  dropout: {model: {dropout: 0.2}}
ablate: [narrow, warm, both, dropout]
"""


def test_changes_stand_in_an_experiment_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(EXPERIMENT.lstrip())
    cfg = composed(override("hydra.searchpath", f"[{tmp_path.as_uri()}]").replace("'", ""), "+experiment=mine")
    check(cfg)  # type: ignore[arg-type]
    assert list(cfg.ablate) == ["narrow", "warm", "both", "dropout"]
    assert change(cfg, "warm")["schedule"]["_target_"] == "search.train.schedules.cosine"
    assert change(cfg, "both") == {"model": {"width": 64}, "trainer": {"epochs": 3}}
    assert change(cfg, "dropout") == {"model": {"dropout": 0.2}}
    assert change(cfg, "schedule") == SHIPPED["schedule"]
    assert ("changes.both", "trainer.epochs", 3) in changed_values(Space.of(cfg).base)


def test_only_what_is_to_be_made_must_fit() -> None:
    assert changed_values(Space.of(composed("model=linear")).base) == []
    with pytest.raises(UsageError, match=r"changes\.dropout\.model\.dropout: no such key; allowed: nothing"):
        changed_values(Space.of(composed("model=linear", "ablate=[dropout]")).base)


def test_changes_make_no_other_study() -> None:
    plain = job_folder(["data=digits", "model=mlp"])
    words = ["ablate=[a]", "ablation.seeds=3", "+changes.a.model.width=64", "+schedule@changes.b.schedule=cosine"]
    assert job_folder(["data=digits", "model=mlp", *words]) == plain
    assert job_folder(["data=digits", "+model@choose.model.net=net"]) != job_folder(["data=digits"])
