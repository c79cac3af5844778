"""Everything that can be seen of a trial that has ended, into a folder of its own within the trial's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from search.checks.evidence import Evidence
from search.checks.trials import layers, saliency, weights
from search.layout import DIAGNOSTICS
from search.train.data.arrays import Dataset
from search.train.diagnostics.table import LayerTable
from search.train.estimator import Estimator


def look(directory: Path, model: Estimator | None, dataset: Dataset, device: torch.device) -> Iterator[Evidence]:
    """Yield what is seen of the trial in `directory`: its layers over the steps, its weights, what it looks at.

    `model` is the network with its best weights, None where they are gone: of a trial that failed, say.
    """
    with contextlib.suppress(OSError, ValueError):  # trained without diagnostics
        yield from layers.evidence_of(LayerTable.load(directory / DIAGNOSTICS))
    if model is not None:
        yield from weights.evidence_of(model.network, tuple(dataset.examples.inputs.shape[1:]))
        yield from saliency.evidence_of(model, dataset, device)
