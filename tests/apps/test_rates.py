"""Which setups a preflight looks at, and what a range test leaves of their learning rates."""

import pytest
from omegaconf import OmegaConf

from search.apps.rates import _suggested
from search.apps.subjects import Subject, subjects
from search.apps.summary import _run_of
from search.checks.stored import StageFindings
from search.records import CheckVerdict, Finding
from search.space import Space

RATE = {"low": 1e-5, "high": 1e-1, "log": True}
NODES = {
    "model": None,
    "optimizer": {"lr": 1e-3, "space": {"lr": RATE}},
    "choose": {"model": {"mlp": {"width": 8, "space": {"width": {"choices": [8, 16]}}}, "cnn": {"channels": 4}}},
}


def about(**nodes: object) -> list[Subject]:
    return subjects(Space.of(OmegaConf.create({**NODES, **nodes})))


def test_a_search_over_models_has_a_setup_each_at_its_defaults() -> None:
    first, second = about()
    assert (first.name, second.name) == ("model=mlp", "model=cnn")
    assert first.params == {"model": "mlp", "model.mlp.width": 8, "optimizer.lr": 1e-3}
    assert second.params == {"model": "cnn", "optimizer.lr": 1e-3}


def test_choices_of_two_groups_are_changed_one_at_a_time() -> None:
    both = {"model": NODES["choose"]["model"], "optimizer": {"a": NODES["optimizer"], "b": {"lr": 0.1}}}  # type: ignore[index]
    named = [subject.name for subject in about(optimizer=None, choose=both)]
    assert named == ["model=mlp optimizer=a", "model=cnn optimizer=a", "model=mlp optimizer=b"]


def test_a_single_setup_needs_no_name() -> None:
    (only,) = about(model={"width": 8}, choose={})
    assert only.name == ""
    assert only.rate is not None
    assert only.rate.name == "optimizer.lr"


def test_a_rate_that_is_a_choice_has_no_bounds_to_narrow() -> None:
    (only,) = about(model={"width": 8}, choose={}, optimizer={"lr": 0.1, "space": {"lr": {"choices": [0.1, 1.0]}}})
    assert only.rate is None


@pytest.mark.parametrize(("one", "other"), [("model=a/b", "model=a b"), ("model=a:b", "model=a_b")])
def test_each_setup_has_a_folder_of_its_own(one: str, other: str) -> None:
    folders = {Subject(name=name, params={}, rate=None).folder for name in (one, other, "model=cnn")}
    assert len(folders) == 3
    assert "model=cnn" in folders
    assert not any("/" in folder for folder in folders)


def ramp(subject: str, **measured: float) -> Finding:
    return Finding(row="R36", title="", verdict=CheckVerdict.PASS, sentence="", subject=subject, measured=measured)


def test_setups_that_share_a_rate_share_the_widest_bounds() -> None:
    found = [ramp("model=mlp", lr_low=0.00123456, lr_high=0.01), ramp("model=cnn", lr_low=0.01, lr_high=0.0777)]
    assert _suggested(about(), found) == {"optimizer.lr": (0.0012, 0.078)}


def test_a_range_test_without_an_answer_suggests_nothing() -> None:
    assert _suggested(about(), [ramp("model=mlp"), ramp("model=cnn", lr_low=0.1)]) == {}


def test_mlflow_is_told_of_setups_under_names_that_it_takes(tmp_path) -> None:
    odd = Finding(
        row="R11", title="", verdict=CheckVerdict.WARN, sentence="", subject="model=net+v1@2", measured={"loss": 2.0}
    )
    stage = StageFindings(stage="preflight", made_from="", began=0.0, ended=1.0, findings=(odd,))
    run = _run_of(tmp_path, stage)
    assert run.metrics == {"R11/net_v1_2/loss": 2.0}
    assert run.tags == {"search.R11": "warn"}
