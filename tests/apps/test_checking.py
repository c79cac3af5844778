"""The stages inspect and preflight as a user meets them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor, nn

from search.apps.checking import suggested_rates
from search.checks.rows import INSPECT, PREFLIGHT
from search.checks.stored import StageFindings
from search.errors import UnsoundError
from search.records import CheckVerdict, Finding
from tests.kits import in_process
from tests.kits.commands import mlflow_runs, search

BOTH = "stages=[inspect,preflight]"
FAST = ("model=mlp", "model.width=32", "~model.space.width", "budget.trials=2", "trainer.epochs=2")
OWN = (f"model._target_={__name__}.Softmax", "~model.width", "~model.depth", "~model.dropout", "~model.space")


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
        in_process.run(tmp_path, "stages=[preflight,search]", *FAST, *OWN)
    assert found(tmp_path, "preflight")["R20"].verdict is CheckVerdict.FAIL
    assert not (tmp_path / "trials").exists()
    printed = in_process.run(tmp_path, "stages=[preflight,search]", "preflight.on_fail=warn", *FAST, *OWN)
    assert "fail" in printed
    assert len(list((tmp_path / "trials").iterdir())) == 2


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
