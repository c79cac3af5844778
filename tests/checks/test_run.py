"""One check in a worker: the verdict comes first, and whatever the user's code raises becomes a finding."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from search.checks import findings
from search.checks.rows import check_of
from search.checks.run import Checker
from search.records import CheckSpec, CheckVerdict, Finding
from search.train.batches import ResidentBatches
from tests.kits.zoo import LINEAR, PREFLIGHT_SETTINGS, config, digits, divided

DATA = divided(digits(0, 100), 0)


class Raises(nn.Module):
    """Does in its forward pass what its message says."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int, does: str) -> None:
        super().__init__()
        self.head = nn.Linear(64, num_outputs)
        self.does = does

    def forward(self, inputs: Tensor) -> Tensor:
        if self.does == "exit":
            sys.exit("no licence")
        if self.does == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.does == "raise" or (self.does == "raise in evaluation" and not self.training):
            raise ValueError("shapes do not fit")
        outputs: Tensor = self.head(inputs.flatten(1))
        return outputs


def that(does: str) -> dict[str, Any]:
    return {"_target_": f"{__name__}.Raises", "does": does}


def looked(folder: Path, model: Mapping[str, Any], row: str = "R11", draw: Any = None) -> Finding:
    def no_picture(file: Path) -> Path:
        return file.with_suffix(".png")

    checker = Checker(
        DATA, torch.device("cpu"), lambda _: ResidentBatches(DATA.examples, torch.device("cpu")), draw or no_picture
    )
    checker(
        CheckSpec(
            number=0,
            row=row,
            subject="",
            config=config(model),
            settings=PREFLIGHT_SETTINGS,
            seed=1,
            directory=str(folder / row),
        )
    )
    return findings.load(folder / row)


def test_a_finding_stands_in_its_folder_with_its_evidence(tmp_path: Path) -> None:
    finding = looked(tmp_path, LINEAR)
    assert (finding.row, finding.title) == ("R11", check_of("R11").title)
    assert finding.verdict is CheckVerdict.PASS
    assert {"R11-loss.npz", "R11-loss.png"} <= set(finding.evidence)


def test_a_picture_that_cannot_be_drawn_takes_nothing_from_the_verdict(tmp_path: Path) -> None:
    def broken(file: Path) -> Path:
        raise RuntimeError("no fonts")

    finding = looked(tmp_path, LINEAR, draw=broken)
    assert finding.verdict is CheckVerdict.PASS
    assert [name for name in finding.evidence if name.endswith(".npz")]
    assert not [name for name in finding.evidence if name.endswith(".png")]


@pytest.mark.parametrize(
    ("does", "words"),
    [("raise", "ValueError: shapes do not fit (test_run.py:"), ("exit", "SystemExit: no licence (test_run.py:")],
)
def test_a_network_that_raises_does_not_train_and_the_line_is_named(tmp_path: Path, does: str, words: str) -> None:
    finding = looked(tmp_path, that(does))
    assert finding.verdict is CheckVerdict.FAIL
    assert finding.sentence.startswith(f"the setup does not train: {words}")


def test_memory_that_is_short_is_the_engines_to_ease(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        looked(tmp_path, that("memory"))
    assert not (tmp_path / "R11" / findings.FILE).exists()


def test_a_network_that_raises_in_evaluation_alone_fails_where_it_is_evaluated(tmp_path: Path) -> None:
    assert looked(tmp_path, that("raise in evaluation"), "R21").verdict is CheckVerdict.FAIL
