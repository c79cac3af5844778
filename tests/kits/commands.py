"""Running the product as a user does: a command in a folder."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

SMALL = (
    *("budget.trials=6", "trainer.epochs=4", "choose.model.cnn.space.channels.choices=[8]"),
    *("squeeze.distill.times=1", "squeeze.distill.blends=1"),
)
"""A search of seconds that still chooses between models and stops some trials."""


def environment() -> dict[str, str]:
    """Return this process's environment without what could redirect the product, with the checkout importable."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("SEARCH_", "MLFLOW_", "RAY_"))}
    return {**own, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200"}


WITHOUT_CHECKS = "stages=[search,squeeze,ablate,report]"
WITH_CHECKS = "stages=[inspect,preflight,search,squeeze,ablate,report]"
"""What stands in `conf/`."""


def command(*overrides: str) -> list[str]:
    """Return the command, without the checks where it does not name its stages: they take longer than most tests."""
    named = any(word.startswith(("stages=", "-")) for word in overrides if word != "-m")
    return [sys.executable, "-m", "search.apps.cli", *overrides, *(() if named else (WITHOUT_CHECKS,))]


def search(folder: Path, *overrides: str, code: int = 0) -> str:
    """Run `search` in a folder; return what it printed, both streams, and check its exit code."""
    done = subprocess.run(
        command(*overrides),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


HEAVY = ("torch", "ray", "mlflow", "optuna", "pandas", "sklearn")
"""What takes long to import."""
_PROBE = f"""
import sys
from search.apps.cli import main
sys.argv[0] = "search"
try:
    code = main()
except SystemExit as exit:
    code = exit.code
print("heavy:", [m for m in {HEAVY!r} if m in sys.modules])
sys.exit(code)
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a process of its own said: its exit code, its lines, and the heavy modules that it imported."""

    code: int
    output: list[str]
    errors: list[str]
    heavy: list[str]


def probed(folder: Path, *arguments: str) -> Answer:
    """Run `search` in a folder, in a process of its own that tells what it imported."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    *output, heavy = done.stdout.splitlines()
    assert heavy.startswith("heavy: "), done.stderr
    return Answer(
        code=done.returncode,
        output=output,
        errors=done.stderr.splitlines(),
        heavy=ast.literal_eval(heavy.removeprefix("heavy: ")),
    )


_ONE_AFTER_ANOTHER = f"""
HEAVY = {HEAVY!r}
"""
_ONE_AFTER_ANOTHER += """
import contextlib, io, json, sys
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from search.apps.cli import main

Hydra.get_mode = lambda *_, **__: None  # it composes all to find out, as it then does again; None: as flags say

answers = {}
for name, arguments in json.load(sys.stdin).items():
    sys.argv = ["search", *arguments]
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main()
        except SystemExit as exit:
            code = exit.code
        except BaseException as error:
            code = repr(error)
    GlobalHydra.instance().clear()
    answers[name] = code, said.getvalue(), [m for m in HEAVY if m in sys.modules]
print(json.dumps(answers))
"""


def one_after_another(
    folder: Path, commands: Mapping[str, Sequence[str]], *, before: str = ""
) -> dict[str, tuple[int, str, list[str]]]:
    """Run commands that are to be refused, by name, in one process.

    Return each one's exit code, what it said on standard error, and the heavy modules imported so far. `before` is
    Python that this process runs first.
    """
    done = subprocess.run(
        [sys.executable, "-c", before + _ONE_AFTER_ANOTHER],
        cwd=folder,
        env=environment(),
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return {name: (code, said, heavy) for name, (code, said, heavy) in found.items()}


def events(study: Path, kind: str) -> list[dict[str, Any]]:
    """Return a study's stored events of one kind ("started", "report", "decision", "outcome")."""
    whole, _, _ = (study / "events.jsonl").read_text().rpartition("\n")  # somebody may be writing
    return [event for line in whole.splitlines() if (event := json.loads(line))["event"] == kind]


def results(study: Path) -> dict[str, Any]:
    """Return the stored judgement."""
    stored: dict[str, Any] = json.loads((study / "results.json").read_text())
    return stored


def mlflow_runs(study: Path) -> tuple[list[Run], list[Run]]:
    """Return MLflow's (parents, trials) of the store in a folder."""
    found = _runs(study)
    parents = [r for r in found if "mlflow.parentRunId" not in r.data.tags]
    return parents, [r for r in found if "search.number" in r.data.tags]


def stage_runs(study: Path) -> dict[str, Run]:
    """Return MLflow's runs of stages by name."""
    return {r.data.tags["search.stage"]: r for r in _runs(study) if "search.stage" in r.data.tags}


def _runs(study: Path) -> list[Run]:
    client = MlflowClient(tracking_uri=f"sqlite:///{study / 'mlflow.db'}")
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def table(printed: str) -> list[str]:
    """Return the lines of the tables that a command printed, without their borders."""
    return [line for line in printed.splitlines() if line.startswith("│")]
