"""The project in `tests/template`, as somebody uses it who copied it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from search.sweep.reading import ReadStudy, read_study
from tests.kits.commands import environment, results

TEMPLATE = Path(__file__).parents[1] / "template"


def search(folder: Path, code: Path, experiment: str, *overrides: str) -> str:
    """Run an experiment in a folder, with the project's code found in another; return what was printed."""
    own = environment()
    words = ["--config-dir", str(TEMPLATE / "conf"), f"+experiment={experiment}", *overrides]
    done = subprocess.run(
        [sys.executable, "-m", "search.apps.cli", *words],
        cwd=folder,
        env={**own, "PYTHONPATH": f"{code}:{own['PYTHONPATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def network(folder: Path, code: Path) -> ReadStudy:
    """Search over networks; the project's own is among the first."""
    enqueued = "enqueue=[{model: residual}, {model: residual, model.residual.depth: 3}]"
    printed = search(folder, code, "network", "budget.trials=6", "tracking=none", "trainer.epochs=3", enqueued)
    assert "note: model=cnn does not fit this data and is left out" in printed
    assert "greedy ensemble" in printed
    return read_study(folder / "outputs" / "network")


def function(folder: Path, code: Path) -> ReadStudy:
    assert "best trials by height" in search(folder, code, "function", "tracking=none")
    return read_study(folder / "outputs" / "function")


def check_network(study: ReadStudy) -> None:
    assert {trial.params["model"] for trial in study.trials} == {"mlp", "residual"}
    assert all(trial.value is not None for trial in study.trials)
    assert results(study.folder)["metric"] == "accuracy"


def check_function(study: ReadStudy) -> None:
    assert (study.metric, study.maximize, len(study.trials)) == ("height", False, 16)
    assert all(trial.curve and trial.failure is None for trial in study.trials)
    assert study.best_value < (study.trials[0].value or 0.0)  # than the default's


@pytest.mark.slow
def test_its_own_function_is_searched(tmp_path: Path) -> None:
    check_function(function(tmp_path, TEMPLATE))


@pytest.mark.slow
def test_its_own_network_is_searched_beside_a_shipped_one(tmp_path: Path) -> None:
    check_network(network(tmp_path, TEMPLATE))


@pytest.mark.slow
@pytest.mark.timeout(330)
def test_it_works_once_it_is_installed(tmp_path: Path) -> None:
    copy = shutil.copytree(TEMPLATE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(installed), str(copy)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (installed / "my_project").glob("*.py")} == {
        path.name for path in (TEMPLATE / "my_project").glob("*.py")
    }
    check_network(network(empty, installed))
    check_function(function(empty, installed))


@pytest.mark.parametrize("experiment", ["network", "function"])
def test_a_preview_shows_what_each_experiment_would_try(tmp_path: Path, experiment: str) -> None:
    printed = search(tmp_path, TEMPLATE, experiment, "stages=[preview]")
    assert {"network": "model=residual", "function": "objective.momentum"}[experiment] in printed
    assert not list(tmp_path.iterdir())


def test_its_readme_is_short_and_names_what_there_is() -> None:
    readme = (TEMPLATE / "README.md").read_text()
    assert len(readme.splitlines()) <= 25
    for path in re.findall(r"`((?:conf|my_project)/[\w/.]+)`", readme):
        assert (TEMPLATE / path).is_file(), path
    for experiment in re.findall(r"\+experiment=(\w+)", readme):
        assert (TEMPLATE / "conf" / "experiment" / f"{experiment}.yaml").is_file(), experiment
