"""Weights and training state in safetensors files: tensors and JSON, nothing that is unpickled; written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from search.files import write_atomically

State = dict[str, Any]
"""Nested dictionaries of tensors, numbers, words, lists and None."""


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a nested state; the file is whole or absent, whenever the process dies."""
    tensors: dict[str, Tensor] = {}
    skeleton = _split(state, (), tensors)
    data = save(tensors, metadata={"skeleton": json.dumps(skeleton)})
    write_atomically(path, data)


def load_state(path: Path, device: str | torch.device = "cpu") -> State | None:
    """Return what `save_state` wrote; None where there is no file or it is damaged."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            skeleton = json.loads(file.metadata()["skeleton"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state: State = _join(skeleton, tensors)
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return state


_TENSOR = "__tensor__"


def _split(node: Any, at: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """Return the state as JSON with tensors taken out into `tensors` under their address."""
    if isinstance(node, Tensor):
        key = "/".join(at)
        tensors[key] = node.detach().cpu().contiguous().clone()  # tied weights would share memory, which is refused
        return {_TENSOR: key}
    if isinstance(node, Mapping):
        # pairs, because JSON turns the optimiser's integer keys into words
        return {"pairs": [[key, _split(value, (*at, str(key)), tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return {"list": [_split(value, (*at, str(i)), tensors) for i, value in enumerate(node)]}
    return {"value": node}


def _join(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    if _TENSOR in node:
        return tensors[node[_TENSOR]]
    if "pairs" in node:
        return {key: _join(value, tensors) for key, value in node["pairs"]}
    if "list" in node:
        return [_join(value, tensors) for value in node["list"]]
    return node["value"]
