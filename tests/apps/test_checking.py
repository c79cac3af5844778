"""The stages inspect and preflight as a user meets them."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor, nn

import search as product
from search.apps.session import Session
from search.checks.rows import INSPECT, PREFLIGHT
from search.checks.stored import StageFindings
from search.errors import UnsoundError, UsageError
from search.records import CheckVerdict, Finding
from search.sweep.executor import InProcessExecutor
from tests.kits import in_process
from tests.kits.commands import events, mlflow_runs, search, stage_runs

BOTH = "stages=[inspect,preflight]"
FAST = ("model=mlp", "model.width=32", "~model.space.width", "budget.trials=2", "trainer.epochs=2")
OWN = ("model=linear", f"model._target_={__name__}.Softmax", "budget.trials=2", "trainer.epochs=2")


class Softmax(nn.Module):
    """Gives probabilities where logits are meant."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        size = math.prod(in_shape)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(size, num_outputs), nn.Softmax(dim=1))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.net(inputs)
        return outputs


def found(study: Path, stage: str) -> dict[str, Finding]:
    stored = StageFindings.load(study, stage)
    assert stored is not None
    return {finding.row: finding for finding in stored.findings}


def test_healthy_data_and_setup_pass_every_row_and_leave_their_evidence(tmp_path: Path) -> None:
    printed = in_process.run(tmp_path, BOTH, *FAST)
    for stage, rows in (("inspect", INSPECT), ("preflight", PREFLIGHT)):
        findings = found(tmp_path, stage)
        assert findings.keys() == rows.keys()
        for row, finding in findings.items():
            assert finding.verdict in (CheckVerdict.PASS, CheckVerdict.SKIP), finding
            assert row in printed
            for name in finding.evidence:
                assert (tmp_path / "checks" / stage / row / name).stat().st_size > 0
    pictures = {path.parent.name for path in tmp_path.rglob("*.png")}
    assert {"R03", "R09", "R11", "R16", "R18", "R36"} <= pictures
    assert not (tmp_path / "trials").exists()


def test_a_setup_that_cannot_learn_starts_no_trial(tmp_path: Path) -> None:
    with pytest.raises(
        UnsoundError, match=r"^preflight: R\d\d .*; no trial was started; mend it, or preflight.on_fail"
    ):
        in_process.run(tmp_path, "stages=[preflight,search]", *OWN)
    assert found(tmp_path, "preflight")["R20"].verdict is CheckVerdict.FAIL
    assert not (tmp_path / "trials").exists()
    going_on = ("stages=[preflight,search]", "preflight.on_fail=warn", *OWN)
    assert "fail" in in_process.run(tmp_path, *going_on)
    assert len(list((tmp_path / "trials").iterdir())) == 2
    stored = found_at(tmp_path)
    in_process.run(tmp_path, *going_on)
    assert found_at(tmp_path) == stored, "what was found before trials began stays"


@pytest.mark.slow
def test_once_trials_have_begun_what_was_found_is_not_looked_for_again(tmp_path: Path) -> None:
    in_process.run(tmp_path, BOTH, *FAST)
    first = found_at(tmp_path)
    in_process.run(tmp_path, BOTH, *FAST)
    second = found_at(tmp_path)
    assert second > first, "nothing has been tried yet: the code may be another one"
    in_process.run(tmp_path, "stages=[inspect,preflight,search]", *FAST)
    third = found_at(tmp_path)
    printed = in_process.run(tmp_path, BOTH, *FAST)
    assert found_at(tmp_path) == third
    assert "preflight: " in printed


def found_at(study: Path) -> float:
    stored = StageFindings.load(study, "preflight")
    assert stored is not None
    return stored.ended


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose setup was refused on the command line, with what was printed."""
    folder = tmp_path_factory.mktemp("refused")
    printed = search(folder, "name=broken", "stages=[inspect,preflight,search]", *OWN, code=3)
    (folder / "printed.txt").write_text(printed)
    return folder


def test_the_command_says_in_one_line_why_it_starts_nothing_and_exits_with_3(refused: Path) -> None:
    last = (refused / "printed.txt").read_text().splitlines()[-1]
    assert last.startswith("search: preflight: R20 the loss fits its input: "), "the cause, not what comes of it"
    assert "no trial was started" in last
    assert not (refused / "outputs" / "broken" / "trials").exists()


def test_each_stage_is_a_run_under_the_search_with_a_tag_a_row(refused: Path) -> None:
    study = refused / "outputs" / "broken"
    (parent,), trials = mlflow_runs(study)
    assert trials == []
    stages = stage_runs(study)
    assert stages.keys() == {"inspect", "preflight"}
    for name, rows in (("inspect", INSPECT), ("preflight", PREFLIGHT)):
        tags = stages[name].data.tags
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert {f"search.{row}" for row in rows} <= tags.keys()
    assert stages["preflight"].data.tags["search.R20"] == "fail"
    assert stages["preflight"].info.status == "FAILED"
    assert stages["inspect"].info.status == "FINISHED"
    assert "R11/loss" in stages["preflight"].data.metrics
    assert "preflight: " in parent.data.tags["mlflow.note.content"]
    assert list((refused / "outputs" / "broken" / "artifacts").rglob("R16/*.png"))


@pytest.fixture(scope="module")
def narrowed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study whose learning rates were narrowed by the range test, and what was printed."""
    folder = tmp_path_factory.mktemp("narrowed")
    return folder, in_process.run(folder, "stages=[preflight,search,report]", "preflight.human=0.99", *FAST, *APPLIED)


APPLIED = ("optimizer.space.lr.low=1e-6", "optimizer.space.lr.high=10", "preflight.lr_bounds=apply")


def test_the_range_tests_bounds_narrow_the_space_where_that_is_asked_for(narrowed: tuple[Path, str]) -> None:
    folder, printed = narrowed
    measured = found(folder, "preflight")["R36"].measured
    assert 1e-6 < measured["lr_low"] < measured["lr_high"] < 10
    assert "by the range test, was 1e-06 to 10" in printed
    rates = [event["params"]["optimizer.lr"] for event in events(folder, "started")]
    assert all(measured["lr_low"] * 0.9 <= rate <= measured["lr_high"] * 1.1 for rate in rates)


def test_baselines_and_people_stand_beside_the_results(narrowed: tuple[Path, str]) -> None:
    _, printed = narrowed
    assert re.search(r"beside the best trial's 0\.\d+: the largest class 0\.1\d+, a linear model 0\.9\d+, ", printed)
    assert "people 0.9900" in printed


@pytest.mark.parametrize("more", ["stages=[report]", "stages=[search]", "stages=[train]"], ids=str)
def test_later_commands_go_on_with_the_bounds_that_the_study_has(narrowed: tuple[Path, str], more: str) -> None:
    folder, _ = narrowed
    (folder / "checks" / "preflight.json").unlink(missing_ok=True)  # the study holds them
    settings = {"stages=[search]": ["budget.trials=3"], "stages=[train]": ["trial=1"]}.get(more, [])
    printed = in_process.run(folder, more, *FAST, *APPLIED, *settings)
    assert "range test" not in printed


def test_bounds_that_nobody_measured_cannot_be_applied(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lr_bounds=apply: there is no range test of this setup; add preflight"):
        in_process.run(tmp_path, "stages=[search]", *FAST, *APPLIED)


def test_a_study_of_something_else_is_refused_before_its_findings_are_touched(narrowed: tuple[Path, str]) -> None:
    folder, _ = narrowed
    before = {path: path.stat().st_mtime_ns for path in (folder / "checks").rglob("*")}
    for stages in ("stages=[inspect]", "stages=[inspect,preflight,search]"):
        with pytest.raises(UsageError, match="seed: was 0, now 7"):
            in_process.run(folder, stages, *FAST, *APPLIED, "seed=7")
    assert {path: path.stat().st_mtime_ns for path in (folder / "checks").rglob("*")} == before


@pytest.mark.slow
def test_it_is_a_call_in_python_that_gives_the_findings_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [*FAST, "device=cpu", "tracking=none"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Session, "executor", property(lambda self: InProcessExecutor(self.run_here())))
        looked = product.inspect(settings, quiet=True)
        proved = product.preflight([*OWN, "device=cpu", "tracking=none"], quiet=True)
    assert [f.row for f in looked] == list(INSPECT)
    assert {f.row: f.verdict for f in proved}["R20"] is CheckVerdict.FAIL
    assert all(isinstance(f, Finding) for f in proved)


@pytest.mark.slow
def test_of_a_choice_each_option_is_proved(tmp_path: Path) -> None:
    choice = ("choose.model=[linear,mlp]", "choose.model.mlp.width=32", "~choose.model.mlp.space.width")
    in_process.run(tmp_path, "stages=[preflight]", *choice)
    stored = StageFindings.load(tmp_path, "preflight")
    assert stored is not None
    about = {
        subject: [f.row for f in stored.findings if f.subject == subject] for subject in ("model=linear", "model=mlp")
    }
    assert about == {subject: list(PREFLIGHT) for subject in about}
    assert (tmp_path / "checks" / "preflight" / "model=linear" / "R11" / "finding.json").exists()
