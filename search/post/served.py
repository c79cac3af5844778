"""MLflow loads this file as the code of a packaged champion (models from code); it is not imported by the product."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from search.post.predictor import DESCRIPTION, PROGRAM, Predictor


class Served(PythonModel):  # type: ignore[misc] # mlflow has no types
    """Raw inputs in, a table of predictions with their uncertainty out (see `Predictor`)."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the exported program and its description."""
        self.predictor = Predictor(*(Path(context.artifacts[name]) for name in (PROGRAM, DESCRIPTION)))

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,  # MLflow acts on hints: this one it leaves alone
        params: dict[str, Any] | None = None,
    ) -> Any:
        """Predict for an array (N, *shape), or for a table with the training table's columns."""
        del context, params
        return self.predictor(model_input)


set_model(Served())
