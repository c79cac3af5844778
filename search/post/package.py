"""The champion in MLflow's registry: a model from code, nothing pickled, with all that is known of where it comes from.

The code reads the exported program and a JSON description, so it loads where unpickling is refused.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pandas.api.types import is_numeric_dtype

from search.post.card import CARD
from search.post.lineage import Lineage
from search.post.program import Exported
from search.post.quiet import silence

ALIAS = "champion"
_REQUIRED = ("torch", "numpy", "pandas", "mlflow")
_LONGEST_DESCRIPTION = 5000  # what MLflow's databases hold of one


def model_name(name: str) -> str:
    """Return a name that MLflow's registry takes."""
    return re.sub(r"[/:.%\"']", "_", name)


def log_champion(exported: Exported, lineage: Lineage, uri: str, run_id: str, name: str) -> str:
    """Log the exported champion under a run, register it as `name`, and return its address.

    The version has the lineage as tags and the model card as its description, and gets the alias when both are there.
    """
    import mlflow
    from mlflow import MlflowClient

    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        with silence(), mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name="champion",
                python_model=str(Path(__file__).with_name("served.py")),
                artifacts={path.name: str(path) for path in sorted(exported.folder.iterdir())},
                code_paths=[str(Path(__file__).parents[1])],
                signature=_signature(exported),
                input_example=exported.input_example,
                pip_requirements=[f"{name}=={version(name)}" for name in _REQUIRED],
                metadata=lineage.to_plain(),
                registered_model_name=name,
            )
    finally:
        mlflow.set_tracking_uri(previous)
    client, number = MlflowClient(tracking_uri=uri), str(info.registered_model_version)
    for key, value in lineage.tags().items():
        client.set_model_version_tag(name, number, key, value)
    client.update_model_version(name, number, description=_shortened((exported.folder / CARD).read_text()))
    client.set_registered_model_alias(name, ALIAS, number)
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


def _shortened(text: str) -> str:
    """Return as many whole lines of a text as MLflow keeps."""
    if len(text) <= _LONGEST_DESCRIPTION:
        return text
    end = f"\n... (the whole card is the artifact {CARD})\n"
    return text[: _LONGEST_DESCRIPTION - len(end)].rpartition("\n")[0] + end


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
