"""MLflow loads this file as the code of a packaged champion (models from code); it is not imported by the product."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from search.train.data.table import TableEncoder


class Served(PythonModel):  # type: ignore[misc] # mlflow has no types
    """Raw inputs in, class probabilities (N, C) or values (N,) out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the exported program and its description."""
        self.program = torch.export.load(context.artifacts["program.pt2"]).module()
        self.description = json.loads(Path(context.artifacts["description.json"]).read_text())

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,  # MLflow acts on hints: this one it leaves alone
        params: dict[str, Any] | None = None,
    ) -> Any:
        """Predict for an array (N, *shape), or for a table with the training table's columns."""
        del context, params
        given: Any = model_input
        if self.description["table"] is not None:
            rows = TableEncoder.from_plain(self.description["table"]).encode(given)
        else:
            rows = np.asarray(given, dtype=np.float32)
        with torch.inference_mode():
            return self.program(torch.as_tensor(rows)).numpy()


set_model(Served())
