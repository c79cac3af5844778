"""Files of weights, our own and those of others, as tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from search.errors import UsageError

_OURS = "network."
"""What our own files have before the names of a network's tensors."""
_FEATURES = "reduction.features"
"""Under which our own files have the indices of the features of a table that were kept."""
_NESTED = ("state_dict", "model_state_dict", "model")
"""Where checkpoints of others keep weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """A network's tensors by name, and where the file says so what its inputs were standardised with.

    `features` are the indices of the features that it was given of a table, where not of all.
    """

    tensors: Mapping[str, Tensor]
    mean: Tensor | None = None
    std: Tensor | None = None
    features: Tensor | None = None


def read_weights(path: Path, key: str = "pretrained.weights") -> Weights:
    """Return what a file of safetensors or of PyTorch (.pt, .pth) holds, on the CPU; nothing in it is executed.

    Raises UsageError, naming `key`, where it cannot be read or holds no tensors by name.
    """
    if not path.is_file():
        raise UsageError(f"{key}={path}: no such file")
    try:
        if path.suffix in (".pt", ".pth"):
            found = _named(torch.load(path, map_location="cpu", weights_only=True))
        else:
            found = load_file(path)
    except Exception as error:  # bytes that are something else fail in any way
        words = "cannot be read; must be a file of safetensors, or of PyTorch (.pt, .pth) with tensors by name alone"
        raise UsageError(f"{key}={path}: {words}") from error
    ours = {name.removeprefix(_OURS): value for name, value in found.items() if name.startswith(_OURS)}
    if ours:
        return Weights(tensors=ours, mean=found.get("mean"), std=found.get("std"), features=found.get(_FEATURES))
    return Weights(tensors=found)


def _named(loaded: Any) -> dict[str, Tensor]:
    """Return the first mapping of names to tensors alone; raise ValueError where there is none."""
    candidates = [loaded, *(loaded.get(name) for name in _NESTED)] if isinstance(loaded, Mapping) else []
    for candidate in candidates:
        if isinstance(candidate, Mapping) and candidate and all(isinstance(v, Tensor) for v in candidate.values()):
            return {str(name): value for name, value in candidate.items()}
    raise ValueError("no tensors by name")
