"""One check in a worker: the verdict comes first, and whatever the user's code raises becomes a finding."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from search.checks import findings
from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.rows import check_of
from search.checks.run import Checker, finding_of
from search.layout import DIAGNOSTICS, LOOK, NOT_DRAWN
from search.records import CheckSpec, CheckVerdict, Finding
from search.train.batches import ResidentBatches
from search.train.estimator import build
from tests.checks.setup.legitimate import own
from tests.checks.setup.setups import bench_of
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
        if self.does == "no gradients":
            torch.set_grad_enabled(False)
            torch.set_default_dtype(torch.float64)
            torch.manual_seed(7)
        if self.does == "raise" or (self.does == "raise in evaluation" and not self.training):
            raise ValueError("shapes do not fit")
        outputs: Tensor = self.head(inputs.flatten(1))
        return outputs


def that(does: str) -> dict[str, Any]:
    return {"_target_": f"{__name__}.Raises", "does": does}


def checker_of(draw: Any = None) -> Checker:
    def no_picture(file: Path) -> Path:
        return file.with_suffix(".png")

    cpu = torch.device("cpu")
    return Checker(DATA, cpu, lambda _: ResidentBatches(DATA.examples, cpu), draw or no_picture)


def looked(folder: Path, model: Mapping[str, Any], row: str = "R11", draw: Any = None) -> Finding:
    checker_of(draw)(
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


def test_what_a_network_does_to_the_process_ends_with_the_check() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    finding_of(check_of("R11"), bench_of(model=that("no gradients")))
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() is torch.float32
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_are_on_whatever_was_before() -> None:
    with torch.no_grad():
        assert finding_of(check_of("R19"), bench_of())[0].verdict is CheckVerdict.PASS


@pytest.mark.parametrize("row", ["R10", "R21"])
def test_an_optimiser_without_a_learning_rate_does_not_train_here(row: str) -> None:
    finding, _ = finding_of(check_of(row), bench_of(optimizer=own("Rated", rate=0.1)))
    assert finding.verdict is CheckVerdict.FAIL
    assert "does not train: KeyError: 'lr'" in finding.sentence


def test_a_loss_of_each_example_is_told_to_take_the_mean() -> None:
    loss = {"_target_": "torch.nn.CrossEntropyLoss", "reduction": "none"}
    finding, _ = finding_of(check_of("R10"), bench_of(loss=loss))
    assert finding.verdict is CheckVerdict.FAIL
    assert finding.advice == "the loss must return one number: take the mean"


def test_our_own_words_stand_without_a_class() -> None:
    finding, _ = finding_of(check_of("R11"), bench_of(model={**LINEAR, "num_outputs": 3}))
    assert finding.sentence.startswith("the setup does not train: model: gives (")


def test_a_network_that_cannot_be_run_is_for_preflight_to_judge() -> None:
    finding, _ = finding_of(check_of("R09"), bench_of(model=that("raise")))
    assert finding.verdict is CheckVerdict.SKIP
    assert finding.sentence.startswith("the network cannot be looked at (preflight says why): ValueError: shapes")


def test_what_your_code_raises_for_a_check_alone_is_said_so() -> None:
    def look(_: Bench) -> Found:
        raise ZeroDivisionError

    found, _ = finding_of(Check(row="R11", title="", look=look), bench_of())
    assert found.verdict is CheckVerdict.SKIP
    assert found.sentence.startswith("your code raised ZeroDivisionError")


class NoGradient(nn.Module):
    """Gives what has no gradient of its inputs."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(64, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head((inputs.flatten(1) > 0).float())
        return outputs


def test_what_of_a_trial_cannot_be_drawn_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    model = build({"_target_": f"{__name__}.NoGradient"}, DATA)
    (tmp_path / DIAGNOSTICS).write_bytes(b"nothing of the kind")
    (tmp_path / LOOK).mkdir()
    (tmp_path / LOOK / "of-before.png").touch()
    checker_of().look(tmp_path, model)
    assert {path.name for path in tmp_path.iterdir()} == {DIAGNOSTICS, LOOK}
    names = {path.name for path in (tmp_path / LOOK).iterdir()}
    assert {"look-weights.npz", NOT_DRAWN} <= names
    assert "of-before.png" not in names
    layers, saliency = (tmp_path / LOOK / NOT_DRAWN).read_text().splitlines()
    assert layers.startswith("layers: ")
    assert saliency.startswith("saliency: ")


def test_a_look_that_does_not_come_to_its_end_leaves_no_folder(tmp_path: Path) -> None:
    model = build(that("memory"), DATA)
    with pytest.raises(torch.OutOfMemoryError):
        checker_of().look(tmp_path, model)
    assert not list(tmp_path.iterdir())
