"""What a trial leaves in its folder."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.files import write_atomically
from search.layout import COST, DIAGNOSIS, DIAGNOSTICS, SNAPSHOTS, WEIGHTS, predictions_of
from search.train.checkpoint import load_state, save_state
from search.train.data.arrays import Array, Dataset
from search.train.diagnostics.diagnosis import tags_of
from search.train.diagnostics.diary import Diary
from search.train.estimator import Estimator, build
from search.train.loop import Fitted


def keep(directory: Path, model: torch.nn.Module, fitted: Fitted) -> None:
    """Write a trained network, what it costs, and what it predicts."""
    save_state(directory / WEIGHTS, model.state_dict())
    milliseconds = 1000 * fitted.predicting / len(fitted.predictions)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    write_atomically(directory / COST, json.dumps({"parameters": parameters, "milliseconds": milliseconds}).encode())
    save_array(directory / predictions_of("validation"), fitted.predictions)


def keep_snapshot(directory: Path, cycle: int, weights: Mapping[str, Tensor], predictions: Array) -> None:
    """Write a snapshot of a trial as a member of its own: a folder with weights and, last, predictions."""
    folder = directory / SNAPSHOTS / str(cycle)
    folder.mkdir(parents=True, exist_ok=True)
    save_state(folder / WEIGHTS, weights)
    save_array(folder / predictions_of("validation"), predictions)


def diagnosed(diary: Diary | None, directory: Path, *, ended: bool = False, failure: str = "") -> str:
    """Write down what the layers were like and what ails the trial; return the latter in words."""
    if diary is None:
        return ""
    diary.table.save(directory / DIAGNOSTICS)
    found = diary.diagnoses(ended=ended, failure=failure)
    lines = "".join(f"{diagnosis.tag}: {diagnosis.sentence}\n" for diagnosis in found)
    (directory / DIAGNOSIS).unlink(missing_ok=True)  # of an earlier attempt
    if lines:
        write_atomically(directory / DIAGNOSIS, lines.encode())
    return tags_of(found)


def load_model(directory: Path, config: Mapping[str, Any], dataset: Dataset) -> Estimator:
    """Return a finished trial's network with its best weights; raise FileNotFoundError where they are gone."""
    state = weights_in(directory)
    model = build(config["model"], dataset, inputs=config.get("inputs"))
    model.load_state_dict(state)
    return model


def weights_in(directory: Path, device: torch.device | str = "cpu") -> Mapping[str, Tensor]:
    """Return the best weights that a training left; raise FileNotFoundError where they are gone."""
    state = load_state(directory / WEIGHTS, device)
    if state is None:
        raise FileNotFoundError(f"{directory / WEIGHTS}: missing or damaged")
    return state


def save_array(path: Path, array: Array) -> None:
    """Write an array file atomically."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomically(path, buffer.getvalue())
