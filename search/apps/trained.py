"""What a trial is trained with. What its folder says is compared and shown; only what is composed now is called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.errors import StrandedError, UsageError
from search.records import Params
from search.space import Settings, Space, renewed
from search.sweep.identity import described, flatten

WITHOUT_EFFECT = ("threads", "checkpoint_every", "loading", "loader_workers", "diagnostics")
"""Settings of the trainer that change how fast a figure comes, not the figure."""


def trained(space: Space, keys: Sequence[str], params: Params, file: Path, *, earlier: bool) -> Settings:
    """Return what a trial that was begun is trained with; `file` says what it began with, if it got that far.

    `keys` are those of its configuration that a worker is given.

    One that may be of an `earlier` composition keeps its values, put into the present one. Raises UsageError where it
    began with something else and is not earlier, StrandedError where its values have no place any more.
    """
    stored = _stored(file)
    composed = space.configure(params, keys) if space.has(params) else None
    if composed is not None:
        different = "" if stored is None else described(flatten(_compared(stored)), flatten(_compared(composed)))
        if not different:
            return composed
        if not earlier:
            raise UsageError(
                f"{file}: {different}: a trial began with what is not composed now; put the file back from a copy, "
                "compose that again, or resume=extend to go on with its values"
            )
    elif not earlier:
        raise UsageError(
            f"{file.parent}: a trial has other parameters than are composed now ({_listed(params)}); compose them "
            "again, choose another name=..., or resume=extend to go on in the study"
        )
    for composition in space.compositions(params):
        if stored is not None and (config := _renewed({key: composition[key] for key in keys}, stored)) is not None:
            return config
    raise StrandedError(f"{file.parent}: began with an option or keys that are no longer composed")


def _stored(file: Path) -> Settings | None:
    """Return what the file holds, as data; None where there is none."""
    try:
        stored: Any = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        stored = None
    if not isinstance(stored, dict):
        raise UsageError(f"{file}: damaged; put it back from a copy")
    return stored


def _compared(config: Settings) -> Settings:
    """Return what makes two configurations differ: the study's identity holds the metric and the file's digest."""
    compared = {k: v for k, v in config.items() if k != "metric"}
    if isinstance(trainer := config.get("trainer"), dict):
        compared["trainer"] = {k: v for k, v in trainer.items() if k not in WITHOUT_EFFECT}
    if isinstance(pretrained := config.get("pretrained"), dict):
        compared["pretrained"] = {k: v for k, v in pretrained.items() if k != "weights"}
    return compared


def _renewed(composed: Settings, stored: Settings) -> Settings | None:
    values = renewed(_compared(composed), _compared(stored))
    for key in ("trainer", "pretrained"):
        if values is not None and key in values:
            values = {**values, key: {**composed[key], **values[key]}}
    return None if values is None else {**composed, **values}


def _listed(params: Params) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in params.items())
