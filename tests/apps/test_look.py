"""What the stage look says of a trial that is asked for, where there is little or nothing to draw."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from search.apps.look import look_inside
from search.apps.training import TrainingSession
from search.errors import UsageError
from search.layout import DIAGNOSIS
from search.sweep.study import Study


def said(folder: Path, number: int = 3) -> str:
    """Return what is printed of a study whose only trial, 3, has left this folder."""
    console = Console(record=True, width=500)
    session: Any = SimpleNamespace(cfg=SimpleNamespace(trial=number), console=console, folder=folder)
    study: Any = SimpleNamespace(outcomes={3: None}, directory=lambda _: folder)
    look_inside(cast(TrainingSession, session), cast(Study, study))
    return console.export_text()


def test_a_trial_that_left_nothing_cannot_be_drawn_and_why_is_said(tmp_path: Path) -> None:
    text = said(tmp_path)
    assert "trial 3: was not looked into while it trained" in text
    assert "trial 3 cannot be drawn: neither diagnostics.npz nor weights.safetensors is in" in text


def test_what_ails_a_trial_is_said(tmp_path: Path) -> None:
    (tmp_path / DIAGNOSIS).write_text("dead ReLU: 90% of the units\n")
    assert "trial 3: dead ReLU: 90% of the units" in said(tmp_path)


def test_a_trial_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trial=17: has not ended in"):
        said(tmp_path, 17)
