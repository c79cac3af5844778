"""A packaged champion at work: inputs as a user has them in, a table of predictions out. Needs no MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from search.train.data.arrays import Array
from search.train.data.more import like
from search.train.data.table import TableEncoder

PROGRAM, DESCRIPTION = "program.pt2", "description.json"
_BATCH = 1024
"""Rows that go through the networks at once, which bounds the memory."""


class Predictor:
    """Predicts with an exported champion, whose description says what it takes and what its outputs are called."""

    def __init__(self, program: Path, description: Path) -> None:
        self.description: Mapping[str, Any] = json.loads(description.read_text())
        table = self.description["table"]
        self.encoder = None if table is None else TableEncoder.from_plain(table)
        self._program = torch.export.load(program).module()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return that of a champion's folder."""
        return cls(folder / PROGRAM, folder / DESCRIPTION)

    def __call__(self, given: Array | pd.DataFrame) -> pd.DataFrame:
        """Predict for an array (N, *shape), or for a table with the training table's columns.

        Classes have the columns `prediction` (the likeliest class), `p_<class>` for each, `entropy` of these (nats) and
        `spread` of the members; numbers have `prediction` and `spread`. Raises ValueError for inputs that do not fit.
        """
        rows = self._rows(given)
        parts = [self._run(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)]
        classes = self.description["classes"]
        if not parts:
            empty = np.empty(0, dtype=np.float32)
            parts = [(empty.reshape(0, len(classes)) if classes else empty, empty)]
        predictions, spread = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if not classes:
            return pd.DataFrame({"prediction": predictions, "spread": spread})
        columns = {f"p_{name}": predictions[:, i] for i, name in enumerate(classes)}
        likeliest = _labels(classes)[predictions.argmax(axis=1)]
        entropy = _entropy(predictions)
        return pd.DataFrame({"prediction": likeliest, **columns, "entropy": entropy, "spread": spread})

    def _rows(self, given: Array | pd.DataFrame) -> Array:
        """Return what the program takes, float32 (N, *shape)."""
        if self.encoder is None:
            array = np.asarray(given)
        elif isinstance(given, pd.DataFrame):
            array = self.encoder.encode(given)
        else:
            raise ValueError("inputs must be a table with columns")
        return like(tuple(self.description["input_shape"]), np.dtype(self.description["input_type"]), array)

    def _run(self, rows: Array) -> tuple[Array, Array]:
        with torch.inference_mode():
            predictions, spread = self._program(torch.from_numpy(np.array(rows, dtype=np.float32)))
        return predictions.numpy(), spread.numpy()


def _labels(classes: Sequence[str]) -> Array:
    """Return the classes (C,) as the data has them: numbers, where they are called so."""
    numbers = all(name.removeprefix("-").isdecimal() and str(int(name)) == name for name in classes)
    return np.array(classes, dtype=np.int64 if numbers else object)


def _entropy(probabilities: Array) -> Array:
    """Return the entropy of each row (N, C) in nats; classes without probability add nothing."""
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    entropy: Array = np.maximum(-(probabilities * logs).sum(axis=1), 0.0)
    return entropy
