from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from search.apps.cli import CONFIG, config_folder
from search.apps.naming import register_resolvers
from search.config import schema
from search.config.arguments import expand, override
from search.errors import UsageError

CONF = config_folder()


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    schema.register()
    register_resolvers()


def composed(arguments: list[str]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(CONFIG, overrides=expand(arguments, CONF, CONFIG))


UNTOUCHED = {
    "nothing": [],
    "a group": ["model=cnn"],
    "a value with commas": ["enqueue=[{model:mlp,optimizer.lr:0.01}]"],
    "a sweep": ["-m", "model=mlp,cnn"],
    "a bound of an option": ["choose.model.cnn.space.dropout.high=0.2"],
    "an option taken out": ["~choose.model.mlp"],
    "flags": ["--cfg", "job", "--resolve"],
}


@pytest.mark.parametrize("arguments", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_is_hydras_own_stays_as_it_is(arguments: list[str]) -> None:
    assert expand(arguments, CONF, CONFIG) == arguments


# id -> (arguments, what Hydra is given instead, the options that are then composed)
EXPANDED: dict[str, tuple[list[str], list[str], dict[str, list[str]]]] = {
    "the shipped options": (["choose.model=[mlp,cnn]"], [], {"model": ["mlp", "cnn"]}),
    "one of them": (["choose.model=[mlp]"], ["~model@choose.model.cnn"], {"model": ["mlp"]}),
    "one more": (
        ["choose.model=[mlp,cnn,linear]"],
        ["+model@choose.model.linear=linear"],
        {"model": ["mlp", "cnn", "linear"]},
    ),
    "another": (
        ["choose.model=[linear]"],
        ["~model@choose.model.mlp", "~model@choose.model.cnn", "+model@choose.model.linear=linear"],
        {"model": ["linear"]},
    ),
    "spaces": (
        ["choose.model=[ mlp , linear ]"],
        ["~model@choose.model.cnn", "+model@choose.model.linear=linear"],
        {"model": ["mlp", "linear"]},
    ),
    "a group with one option": (
        ["choose.optimizer=[adam,sgd]"],
        ["+optimizer@choose.optimizer.adam=adam", "+optimizer@choose.optimizer.sgd=sgd", "~optimizer"],
        {"model": ["mlp", "cnn"], "optimizer": ["adam", "sgd"]},
    ),
    "an augmentation": (
        ["choose.augment=[image]"],
        ["+augment@choose.augment.image=image"],
        {"model": ["mlp", "cnn"], "augment": ["image"]},
    ),
    "with a plus": (
        ["+choose.schedule=[constant,cosine]"],
        ["+schedule@choose.schedule.constant=constant", "+schedule@choose.schedule.cosine=cosine", "~schedule"],
        {"model": ["mlp", "cnn"], "schedule": ["constant", "cosine"]},
    ),
    "two groups": (
        ["choose.model=[mlp]", "choose.optimizer=[adam]"],
        ["~model@choose.model.cnn", "+optimizer@choose.optimizer.adam=adam", "~optimizer"],
        {"model": ["mlp"], "optimizer": ["adam"]},
    ),
    "beside others": (
        ["name=x", "choose.model=[mlp]", "choose.model.mlp.space.depth.high=5"],
        ["name=x", "~model@choose.model.cnn", "choose.model.mlp.space.depth.high=5"],
        {"model": ["mlp"]},
    ),
}


@pytest.mark.parametrize(("arguments", "given", "options"), EXPANDED.values(), ids=EXPANDED)
def test_a_list_of_options_is_composed_side_by_side(
    arguments: list[str], given: list[str], options: dict[str, list[str]]
) -> None:
    before = list(arguments)
    assert expand(arguments, CONF, CONFIG) == given
    assert arguments == before
    cfg = composed(arguments)
    assert {str(group): list(nodes) for group, nodes in cfg.choose.items()} == options
    for group, names in options.items():
        assert cfg[group] is None
        assert all(cfg.choose[group][name]._target_ for name in names)


def test_each_option_brings_a_space_of_its_own() -> None:
    cfg = composed(["choose.model=[cnn,linear]", "choose.model.cnn.space.dropout.high=0.2"])
    assert cfg.choose.model.cnn.space.dropout.high == 0.2
    assert cfg.choose.model.linear.space == {}


def test_a_multirun_expands_for_each_of_its_jobs() -> None:
    given = expand(["-m", "choose.model=[mlp,linear]", "optimizer=adam,sgd"], CONF, CONFIG)
    assert given == ["-m", "~model@choose.model.cnn", "+model@choose.model.linear=linear", "optimizer=adam,sgd"]


def test_options_of_a_folder_of_the_user_are_found(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: torch.nn.Identity\n")
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "default.yaml").write_text(
        "# @package _global_\ndefaults: [{/model@choose.model.mine: mine}]\n"
    )
    folder = ["--config-dir", str(tmp_path)]
    assert expand([*folder, "choose.model=[mine,mlp]"], CONF, CONFIG) == [*folder, "~model@choose.model.cnn"]


# id -> (arguments, the key that the message names, what it says to do)
REFUSED: dict[str, tuple[list[str], str, str]] = {
    "a word": (["choose.model=mlp"], "choose.model=mlp", "choose.model=[a,b]"),
    "an empty list": (["choose.model=[]"], "choose.model=[]", "must be a list of options"),
    "nothing": (["choose.model="], "choose.model=", "must be a list of options"),
    "a comma too many": (["choose.model=[mlp,]"], "choose.model=[mlp,]", "must be a list of options"),
    "an open list": (["choose.model=[mlp"], "choose.model=[mlp", "must be a list of options"),
    "a sweep of lists": (["-m", "choose.model=[mlp],[cnn]"], "choose.model=[mlp],[cnn]", "must be a list of options"),
    "the group itself before": (["model=cnn", "choose.model=[mlp]"], "choose.model", "model=... takes the place"),
    "the group itself behind": (["choose.model=[mlp]", "model=cnn"], "choose.model", "model=... takes the place"),
    "the group itself added": (["choose.model=[mlp]", "+model=cnn"], "choose.model", "model=... takes the place"),
    "a bound that is gone": (
        ["model=cnn", "choose.model.cnn.space.dropout.high=0.2"],
        "choose.model.cnn.space.dropout.high",
        "model=... takes the place",
    ),
    "an option that is gone": (["~choose.model.mlp", "model=cnn"], "~choose.model.mlp", "model=... takes the place"),
    "the same group twice": (["choose.model=[mlp]", "choose.model=[cnn]"], "choose.model", "twice"),
}


@pytest.mark.parametrize(("arguments", "key", "remedy"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused(arguments: list[str], key: str, remedy: str) -> None:
    with pytest.raises(UsageError) as refusal:
        expand(arguments, CONF, CONFIG)
    assert key in str(refusal.value)
    assert remedy in str(refusal.value)


@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
@settings(deadline=None)
def test_an_override_sets_any_text(value: str) -> None:
    parsed = OverridesParser.create().parse_override(override("key", value))
    assert OmegaConf.create({"key": parsed.value()})["key"] == value


@pytest.mark.parametrize(
    ("given", "added"),
    [
        (["-m", "data=digits,fashion_mnist", "model=mlp"], "name=digits+fashion_mnist"),
        (["--multirun", "data=glob(*)"], "name=data"),
        (["-m", "data=digits,csv", "name=mine"], None),
        (["-m", "data=digits,csv", "output_dir=there"], None),
        (["-m", "data=digits", "model=mlp,cnn"], None),
        (["data=digits,csv"], None),
    ],
)
def test_the_searches_of_a_multirun_over_data_share_a_name(given: list[str], added: str | None) -> None:
    assert set(expand(given, CONF, CONFIG)) - set(given) == ({added} if added else set())
