"""One search whose trials hang, run out of memory, become NaN, print and raise: each is dealt with by its cause."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.kits.commands import events, mlflow_runs, search

pytestmark = pytest.mark.slow

MODEL = """
import sys
import time
from pathlib import Path

import torch


class Net(torch.nn.Module):
    def __init__(self, in_shape, num_outputs, trouble):
        super().__init__()
        size = torch.Size(in_shape).numel()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size, num_outputs))
        self.trouble = trouble

    def forward(self, x):
        if self.trouble == "hang" and not Path("hung").exists():
            Path("hung").touch()
            time.sleep(600)
        if self.trouble == "memory" and self.training and len(x) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.trouble == "diverge":
            return self.net(x) * float("nan")
        if self.trouble == "raise":
            raise ValueError("the user's own mistake")
        if self.trouble == "exit":
            print("leaving")
            sys.exit(3)
        return self.net(x)
"""
CONFIG = """
_target_: troubled.Net
trouble: none
space:
  trouble: {choices: [none, hang, memory, diverge, raise, exit]}
"""
TROUBLES = ["none", "hang", "memory", "diverge", "raise", "exit"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "troubled.py").write_text(MODEL)
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "model" / "net.yaml").write_text(CONFIG)
    return folder


def run(folder: Path, *overrides: str, code: int = 0) -> str:
    return search(
        folder, "--config-dir", "mine", "model=net", "stages=[search]", "trainer.epochs=3", *overrides, code=code
    )


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    enqueued = ",".join(f"{{model.trouble:{trouble}}}" for trouble in TROUBLES[1:])
    return run(folder, "budget.trials=6", "failures.hang_seconds=10", f"enqueue=[{enqueued}]")


@pytest.fixture
def ended(folder: Path, printed: str) -> dict[str, dict[str, Any]]:
    study = folder / "outputs" / "digits"
    outcomes = {e["number"]: e for e in events(study, "outcome")}
    return {e["params"]["model.trouble"]: outcomes[e["number"]] for e in events(study, "started")}


def test_a_trial_that_hangs_is_ended_and_tried_again(ended: dict[str, dict[str, Any]], printed: str) -> None:
    assert ended["hang"]["state"] in ("complete", "pruned")
    assert "tried again: no report for 10 s (failures.hang_seconds)" in printed


def test_a_trial_that_runs_out_of_memory_is_tried_again_with_less(ended: dict[str, dict[str, Any]]) -> None:
    assert ended["memory"]["state"] in ("complete", "pruned")


def test_a_trial_that_is_not_finite_fails_and_says_so(ended: dict[str, dict[str, Any]]) -> None:
    assert (ended["diverge"]["state"], ended["diverge"]["failure"]["kind"]) == ("failed", "non-finite")


def test_a_users_exception_keeps_its_traceback(ended: dict[str, dict[str, Any]], printed: str) -> None:
    failure = ended["raise"]["failure"]
    assert failure["kind"] == "exception"
    assert 'raise ValueError("the user\'s own mistake")' in failure["traceback"]
    line = f"(troubled.py:{number_of_line('raise ValueError')} in forward)"
    assert f"failed: ValueError: the user's own mistake {line}" in printed


@pytest.mark.parametrize(
    ("trouble", "said"), [("raise", "ValueError: the user's own mistake"), ("exit", "leaving\nTraceback")]
)
def test_the_log_has_what_the_users_code_said_and_nothing_of_the_engine(
    folder: Path, ended: dict[str, dict[str, Any]], trouble: str, said: str
) -> None:
    log = (folder / "outputs" / "digits" / "trials" / f"{ended[trouble]['number']:05d}" / "log.txt").read_text()
    assert said in log
    assert 'troubled.py", line' in log
    assert "search/train" not in log
    assert "search/trial.py" not in log


def test_a_model_that_ends_the_program_ends_its_trial_alone(ended: dict[str, dict[str, Any]], printed: str) -> None:
    assert ended["exit"]["reason"] == f"SystemExit: 3 (troubled.py:{number_of_line('sys.exit')} in forward)"
    assert f"failed: {ended['exit']['reason']}" in printed


def number_of_line(text: str) -> int:
    return next(number for number, line in enumerate(MODEL.splitlines(), 1) if text in line)


def test_peak_memory_is_recorded(ended: dict[str, dict[str, Any]]) -> None:
    recorded = [outcome["peak_memory"] for trouble, outcome in ended.items() if trouble != "exit"]
    assert all(memory["host"] > 50 * 2**20 for memory in recorded)


def test_each_failure_stands_in_mlflow_with_its_cause(folder: Path, printed: str) -> None:
    _, trials = mlflow_runs(folder / "outputs" / "digits")
    assert Counter(r.data.tags.get("search.failure") for r in trials if r.info.status == "FAILED") == Counter(
        ["non-finite", "exception", "exception"]
    )


@pytest.mark.slow
@pytest.mark.timeout(330)
def test_a_search_whose_trials_fail_for_one_cause_stops_and_goes_on_once_it_is_mended(folder: Path) -> None:
    broken = ("name=broken", "budget.trials=8", "failures.window=3", "tracking=none", "model.trouble=raise")
    fixed = ("~model.space.trouble",)
    printed = run(folder, *broken, *fixed, "+model.space.trouble.choices=[raise]", code=4)
    assert "3 of the last 3 trials failed: exception (ValueError)" in printed
    assert "the same command goes on once it is mended" in printed
    study = folder / "outputs" / "broken"
    assert len(events(study, "outcome")) < 8
    model = folder / "troubled.py"
    model.write_text(MODEL.replace('self.trouble == "raise"', "False"))
    run(folder, *broken, *fixed, "+model.space.trouble.choices=[raise]")
    model.write_text(MODEL)
    assert Counter(e["number"] for e in events(study, "outcome")) == Counter(range(8))
