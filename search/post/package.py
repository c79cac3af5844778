"""The champion as one model to use: raw inputs in, probabilities or values out, nothing pickled.

The ensemble is exported as one program (`torch.export`), preprocessing inside, and logged to MLflow as a model from
code: the code reads the program and a JSON description, so it loads where unpickling is refused.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_numeric_dtype
from torch import Tensor, nn

from search.files import write_atomically
from search.train.data.arrays import Array, Dataset
from search.train.data.table import TableEncoder
from search.train.estimator import Estimator
from search.trial import load_model

ALIAS = "champion"
_PROGRAM, _DESCRIPTION = "program.pt2", "description.json"
_REQUIRED = ("torch", "numpy", "pandas", "mlflow")
_EXAMPLES = 4  # an export with a batch of one would fix that size


@dataclass(frozen=True, kw_only=True)
class Member:
    """A trained network in its trial's folder, and its weight in the ensemble."""

    directory: Path
    config: Mapping[str, Any]
    weight: float


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What is to be packaged."""

    name: str
    dataset: Dataset
    members: Sequence[Member]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The files of a packaged champion, with an example of its input and output."""

    folder: Path
    input_example: Array | pd.DataFrame
    output_example: Array


class Ensemble(nn.Module):
    """The weighted mean of the members' probabilities (N, C) or values (N,)."""

    def __init__(self, members: Sequence[Estimator], weights: Sequence[float], task: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self._task = task

    def forward(self, inputs: Tensor) -> Tensor:
        """Map raw inputs (N, *shape) to the ensemble's predictions."""
        outputs = [member(inputs) for member in self.members]
        if self._task == "classification":
            outputs = [output.softmax(dim=1) for output in outputs]
        else:
            outputs = [output.squeeze(1) for output in outputs]
        weights = self.get_buffer("weights")
        return sum((w * o for w, o in zip(weights.unbind(), outputs, strict=True)), start=torch.zeros(()))


def export(champion: Champion, folder: Path) -> Exported:
    """Write the champion's program and description into `folder`."""
    examples = champion.dataset.examples
    models = [load_model(m.directory, m.config, champion.dataset) for m in champion.members]
    ensemble = Ensemble(models, [m.weight for m in champion.members], examples.task).eval()
    train = champion.dataset.split.train
    raw = examples.inputs[np.resize(train, _EXAMPLES)]
    inputs = raw.astype(np.float32)
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():  # of recurrent layers, whose flat weights it finds no buffers
        warnings.filterwarnings("ignore", message="The tensor attributes")
        program = torch.export.export(ensemble, (torch.from_numpy(inputs),), dynamic_shapes=({0: batch},))
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_atomically(folder / _PROGRAM, buffer.getvalue())
    description = {
        "name": champion.name,
        "task": examples.task,
        "classes": list(examples.classes),
        "table": examples.table,
        "input_shape": list(inputs.shape[1:]),
    }
    (folder / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    with torch.inference_mode():
        outputs = ensemble(torch.from_numpy(inputs)).numpy()
    return Exported(folder=folder, input_example=_as_given(raw, examples.table), output_example=outputs)


def model_name(name: str) -> str:
    """Return a name that MLflow's registry takes."""
    return re.sub(r"[/:.%\"']", "_", name)


def log_champion(exported: Exported, uri: str, run_id: str, name: str, members: Sequence[str]) -> str:
    """Log the exported champion under a run, register it as `name`, alias it, and return its address."""
    import mlflow
    from mlflow import MlflowClient

    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        with _silence(), mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name="champion",
                python_model=str(Path(__file__).with_name("served.py")),
                artifacts={stem: str(exported.folder / f"{stem}") for stem in (_PROGRAM, _DESCRIPTION)},
                code_paths=[str(Path(__file__).parents[1])],
                signature=_signature(exported),
                input_example=exported.input_example,
                pip_requirements=[f"{name}=={version(name)}" for name in _REQUIRED],
                metadata={"members": list(members)},
                registered_model_name=name,
            )
    finally:
        mlflow.set_tracking_uri(previous)
    client = MlflowClient(tracking_uri=uri)
    client.set_registered_model_alias(name, ALIAS, str(info.registered_model_version))
    return f"models:/{name}@{ALIAS}"


def is_registered(uri: str, model: str) -> bool:
    """Tell whether a registry has a model, by its address `models:/name@alias`."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    name, _, alias = model.removeprefix("models:/").partition("@")
    try:
        MlflowClient(tracking_uri=uri, registry_uri=uri).get_model_version_by_alias(name, alias)
    except MlflowException:
        return False
    return True


def _signature(exported: Exported) -> Any:
    """Return what the model takes: an array of the data's own type, or a table's columns with any numbers in them."""
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    inferred = infer_signature(exported.input_example, exported.output_example)
    if isinstance(exported.input_example, np.ndarray):
        return inferred
    table = exported.input_example
    columns = [ColSpec(AnyType() if is_numeric_dtype(table[c]) else DataType.string, c, required=False) for c in table]
    return ModelSignature(inputs=Schema(columns), outputs=inferred.outputs)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Swallow MLflow's chatter; its errors are raised all the same."""
    quiet = io.StringIO()
    with contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _as_given(inputs: Array, table: Mapping[str, Any] | None) -> Array | pd.DataFrame:
    """Return inputs as a user has them: a row of a table for tables."""
    return inputs if table is None else TableEncoder.from_plain(table).decode(inputs)
