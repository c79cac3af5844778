"""The stages of a search in this process: no Ray, no MLflow, real data and networks."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from rich.console import Console

from search.apps import search as stages
from search.apps.cli import CONFIG, config_folder
from search.apps.composed import composed
from search.apps.naming import register_resolvers
from search.apps.session import Place, Session
from search.config import schema
from search.config.arguments import expand
from search.sweep.executor import InProcessExecutor
from tests.kits.commands import WITHOUT_CHECKS


def run(folder: Path, *overrides: str) -> str:
    """Run `search` on the study in `folder`; return what it printed. Errors come through."""
    schema.register()
    register_resolvers()
    conf, said = config_folder(), io.StringIO()
    tracking = () if any(word.startswith("tracking=") for word in overrides) else ("tracking=none",)
    named = any(word.startswith("stages=") for word in overrides)
    chosen = () if named else (WITHOUT_CHECKS,)
    words = expand([f"output_dir={folder}", "device=cpu", *tracking, *overrides, *chosen], conf, CONFIG)
    with initialize_config_dir(str(conf), version_base="1.3"):
        checked = composed(compose(CONFIG, overrides=words))

    choices = {word.partition("=")[0]: word.partition("=")[2] for word in words if word.startswith("model=")}
    place = Place(folder=folder, console=Console(file=said, soft_wrap=True, width=200), choices=choices)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Session, "executor", property(lambda self: InProcessExecutor(self.run_here())))
        assert stages.run(checked, place) == 0, said.getvalue()
    return said.getvalue()


def change(study: Path, number: int, edit: Callable[[dict[str, Any]], Any]) -> Path:
    """Edit what the study says that a trial was trained with; return that file."""
    file = study / "trials" / f"{number:05d}" / "config.json"
    config = json.loads(file.read_text())
    edit(config)
    file.write_text(json.dumps(config))
    return file


def unfinish(study: Path, *numbers: int) -> None:
    """Let the study forget how trials ended, as a driver that was killed just before would leave it."""
    for number in numbers:
        (study / "trials" / f"{number:05d}" / "outcome.json").unlink()
    events = study / "events.jsonl"
    kept = [
        line
        for line in events.read_text().splitlines(keepends=True)
        if (event := json.loads(line))["event"] != "outcome" or event["number"] not in numbers
    ]
    events.write_text("".join(kept))


def mark(path: str, **_: Any) -> None:
    """Stand for anything that a configuration from elsewhere might call."""
    Path(path).touch()
