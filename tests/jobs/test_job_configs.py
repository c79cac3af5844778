"""The configurations of jobs, held against those that Hydra composes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf

from search.errors import UsageError
from search.jobs.application import numbered
from search.jobs.job_configs import JobConfigs
from search.sweep.identity import flatten
from tests.kits.sweeps import App

CONFIG = {
    "defaults": ["_self_", {"model": "mlp"}, {"optimizer": "sgd"}, {"optional data": "digits"}],
    "seed": 1,
    "name": "run-${model.kind}-${seed}",
    "began": "${now:%f}",
    "home": "${oc.env:HOME}",
    "layers": [{"width": 1}, {"width": 2}],
    "nested": {"a": {"b": 1}, "c": [1, 2]},
    "missing": "???",
    "hydra": {
        "sweep": {"subdir": "${hydra.job.override_dirname}"},
        "job": {"config": {"override_dirname": {"exclude_keys": ["seed"], "kv_sep": "-"}}, "env_set": {"A": "${seed}"}},
    },
}
GROUPS = {
    "model/mlp": {"kind": "mlp", "width": 8, "deep": {"x": "${..width}"}},
    "model/cnn": {"defaults": ["_self_", {"encoder": "small"}], "kind": "cnn", "channels": 4},
    "model/encoder/small": {"size": 1},
    "model/encoder/large": {"size": 9, "lr": "${optimizer.lr}"},
    "optimizer/sgd": {"lr": 0.1, "momentum": 0.9},
    "optimizer/adam": {"lr": 0.01, "betas": [0.9, 0.999]},
    "data/digits": {"path": "digits"},
    "db/mysql": {"port": 1},
    "db/sqlite": {"file": "x"},
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    return App(tmp_path_factory.mktemp("app"), CONFIG, GROUPS)


@pytest.fixture(scope="module")
def hydra(app: App) -> Iterator[tuple[Any, DictConfig]]:
    with app.composed("hydra.sweeper.n_trials=3", "hydra.verbose=true", "seed=1,2") as (loader, master):
        assert master.began  # as a sweeper has resolved its folder by now
        yield loader, master


@pytest.fixture(scope="module")
def configs(hydra: tuple[Any, DictConfig]) -> JobConfigs:
    return JobConfigs(*hydra)


def container(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=False, enum_to_str=True)


def differences(a: DictConfig, b: DictConfig) -> list[tuple[str, Any, Any]]:
    """Return the keys in which they differ; the whole of them would fill screens."""
    ours, theirs = flatten(container(a)), flatten(container(b))
    return [(key, ours.get(key), theirs.get(key)) for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]


OVERRIDES: dict[str, list[str]] = {
    "nothing": [],
    "a number": ["seed=3"],
    "an excluded key": ["seed=3", "model.width=4"],
    "a nested key": ["nested.a.b=7"],
    "an element": ["layers.0.width=5"],
    "a list": ["nested.c=[4,5,6]"],
    "a mapping": ["nested.a={b: 2}"],
    "a mapping that adds": ["+nested.a={d: 2}"],
    "a new key": ["+new.deep.key=3"],
    "a key that may be new": ["++seed=4", "++newer=5"],
    "a deleted key": ["~nested.a"],
    "a deleted value": ["~seed=1"],
    "null": ["nested.a=null"],
    "quotes": ["name='a b, c=d'"],
    "escapes": [r"name=a\,b"],
    "interpolation": ["name='${model.kind}'", "+copy=${seed}"],
    "resolver": ["name='${oc.env:HOME}'", "+user='${oc.env:USER,nobody}'"],
    "a missing key": ["missing=1"],
    "a group": ["model=cnn"],
    "two groups and a key": ["model=cnn", "optimizer=adam", "model.channels=3"],
    "a key before its group": ["model.channels=3", "model=cnn"],
    "a key twice": ["seed=2", "seed=3"],
    "a nested group": ["model=cnn", "model/encoder=large", "model.encoder.size=4"],
    "a new group": ["+db=mysql", "db.port=3"],
    "a group under a package": ["+db@backup=sqlite", "backup.file=y"],
    "a group under two packages": ["+db@a=sqlite", "+db@b=mysql", "b.port=4", "+b.more=1"],
    "no group": ["~optimizer"],
    "a group as a mapping": ["model={width: 3}"],
    "hydra's": ["hydra.job.chdir=true", "hydra.sweep.subdir=x-${seed}"],
    "hydra's and others": ["hydra.job.chdir=true", "seed=4", "hydra.output_subdir=null"],
    "hydra's groups": ["hydra/job_logging=none", "model=cnn"],
    "hydra's environment": ["+hydra.job.env_set.B=2"],
}


@pytest.mark.parametrize("overrides", OVERRIDES.values(), ids=OVERRIDES)
def test_a_job_has_the_configuration_that_hydra_composes(
    overrides: list[str], configs: JobConfigs, hydra: tuple[Any, DictConfig]
) -> None:
    loader, master = hydra
    expected = loader.load_sweep_config(master, overrides)
    configs.compose(overrides)  # from here on it is one of what was composed
    config = configs.compose(overrides)
    assert differences(config, expected) == []
    assert OmegaConf.is_struct(config) == OmegaConf.is_struct(expected)
    assert config.began == expected.began == master.began, "the time is the sweep's"
    assert config.hydra.sweep.subdir == expected.hydra.sweep.subdir


WRONG: dict[str, list[str]] = {
    "no such key": ["nope=1"],
    "no such nested key": ["model.nope=1"],
    "a key of another option": ["model=cnn", "model.width=3"],
    "no such option": ["model=nope"],
    "no such group": ["nope@here=1"],
    "a group that is not there yet": ["db=mysql"],
    "a key that is there": ["+seed=1"],
    "nothing to delete": ["~nope"],
    "another value to delete": ["~seed=9"],
    "a group added by force": ["++db=mysql"],
    "a wrong type": ["hydra.job.chdir=maybe"],
}


@pytest.mark.parametrize("overrides", WRONG.values(), ids=WRONG)
def test_what_hydra_refuses_is_refused_with_its_words(
    overrides: list[str], configs: JobConfigs, hydra: tuple[Any, DictConfig]
) -> None:
    loader, master = hydra
    with pytest.raises(HydraException) as expected:
        loader.load_sweep_config(master, overrides)
    with pytest.raises(ConfigCompositionException) as refused:
        configs.compose(overrides)
    assert str(refused.value) == str(expected.value)


def test_many_jobs_are_composed_as_often_as_groups_are_chosen(
    hydra: tuple[Any, DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, master = hydra
    original, composed = loader.load_sweep_config, []

    def counted(config: DictConfig, overrides: list[str]) -> DictConfig:
        composed.append(tuple(overrides))
        found: DictConfig = original(config, overrides)
        return found

    monkeypatch.setattr(loader, "load_sweep_config", counted)
    configs = JobConfigs(loader, master)
    for job in range(200):
        chosen = [f"model={('mlp', 'cnn')[job % 2]}", f"optimizer={('sgd', 'adam')[job // 2 % 2]}"]
        config = configs.compose([*chosen, f"optimizer.lr={job}"])
        assert (config.optimizer.lr, config.hydra.overrides.task[-1]) == (job, f"optimizer.lr={job}")
    assert len(composed) == len(set(composed)) == 4


def test_nothing_of_a_job_is_left_in_the_next_or_in_the_sweep(hydra: tuple[Any, DictConfig]) -> None:
    configs, before = JobConfigs(*hydra), container(hydra[1])
    first = container(configs.compose([]))
    for overrides in OVERRIDES.values():
        config = configs.compose(overrides)
        OmegaConf.set_struct(config, False)
        config.seed, config.nested, config.hydra.job.num = 99, {"gone": 1}, 7
        OmegaConf.resolve(config.hydra.overrides)
    assert container(configs.compose([])) == first
    assert container(hydra[1]) == before


def test_groups_of_a_search_path_are_found(tmp_path: Path) -> None:
    (tmp_path / "more" / "model").mkdir(parents=True)
    (tmp_path / "more" / "model" / "mine.yaml").write_text("kind: mine\ndepth: 1\n")
    app = App(tmp_path, CONFIG, GROUPS)
    with app.composed(f"hydra.searchpath=[file://{tmp_path / 'more'}]") as (loader, master):
        overrides = ["model=mine", "model.depth=4"]
        config = JobConfigs(loader, master).compose(overrides)
        assert config.model.depth == 4
        assert differences(config, loader.load_sweep_config(master, overrides)) == []


def test_a_jobs_folder_may_be_named_by_hydras_configuration(hydra: tuple[Any, DictConfig]) -> None:
    config = JobConfigs(*hydra).compose(
        ["hydra.sweep.subdir='${hydra:job.num}-${hydra:job.override_dirname}'", "name=x"]
    )
    numbered(config, 4)
    HydraConfig.instance().set_config(config)
    assert config.hydra.sweep.subdir == "4-name-x"


def test_a_jobs_folder_stays_inside_of_the_sweeps(hydra: tuple[Any, DictConfig]) -> None:
    configs = JobConfigs(*hydra)
    for subdir in ("../elsewhere", "/tmp/elsewhere", "a/../../b"):
        with pytest.raises(UsageError, match=r"^hydra\.sweep\.subdir='.*elsewhere|b'.*must stay inside"):
            numbered(configs.compose([f"hydra.sweep.subdir={subdir}"]), 0)
