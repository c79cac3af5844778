"""Which trials may be trained as one program, by their configurations alone: those whose networks have one shape."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_WHOLE = ("optimizer", "schedule", "metric")
"""Nodes in which trials of one shape may differ."""
_TRAINER = (
    "epochs",
    "patience",
    "checkpoint_every",
    "label_smoothing",
    "clip_norm",
    "clip_value",
    "decay",
    "ema",
    "diagnostics",
)
"""Keys of `trainer` in which they may."""
_MODEL = "dropout"
"""Keys of `model` with this in their name, in which they may."""
_ALONE: Mapping[str, object] = {"compile": True, "loading": "loader", "precision": "fp16"}
"""Settings of `trainer` with which a trial is always alone."""


def alone_by(config: Mapping[str, Any]) -> str | None:
    """Return the setting by which a trial is always alone, as it is written; None where there is none."""
    if (config.get("pretrained") or {}).get("weights") is not None:
        return "pretrained.weights"
    found = (key for key, value in _ALONE.items() if config["trainer"].get(key) == value)
    return next((f"trainer.{key}={str(_ALONE[key]).lower()}" for key in found), None)


def shape_of(config: Mapping[str, Any]) -> str | None:
    """Return a name, of 12 hexadecimal digits, for what must be the same for trials of one cohort.

    None for a trial that is always alone. It is a guess that needs no network: workers hold the networks against each
    other.
    """
    if "trainer" not in config or alone_by(config) is not None:
        return None
    kept = {name: node for name, node in config.items() if name not in _WHOLE}
    kept["trainer"] = {key: value for key, value in config["trainer"].items() if key not in _TRAINER}
    kept["model"] = {key: value for key, value in config["model"].items() if _MODEL not in key}
    kept["augment"] = None if config.get("augment") is None else config["augment"].get("_target_")
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
