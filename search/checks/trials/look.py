"""Everything that can be seen of a trial that has ended, into a folder of its own within the trial's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from search.checks.evidence import Evidence
from search.checks.trials import layers, saliency, weights
from search.layout import DIAGNOSTICS
from search.train.data.arrays import Dataset
from search.train.diagnostics.table import LayerTable
from search.train.estimator import Estimator


def look(
    directory: Path, model: Estimator | None, dataset: Dataset, device: torch.device, micro_batches: int = 1
) -> Iterator[tuple[str, Iterator[Evidence]]]:
    """Yield what is seen of the trial in `directory`: its layers over the steps, its weights, what it looks at.

    Each comes with its name and its pieces; one may raise, and the others be there. `model` is the network with its
    best weights, None where they are gone: of a trial that failed, say.
    """
    if (directory / DIAGNOSTICS).exists():  # else trained without
        yield "layers", _layers(directory)
    if model is not None:
        shape = model.shape_of(tuple(dataset.examples.inputs.shape[1:]))
        yield "weights", weights.evidence_of(model.network, shape)
        yield "maps", saliency.maps_of(model, dataset, device)
        yield "saliency", saliency.evidence_of(model, dataset, device, micro_batches)


def _layers(directory: Path) -> Iterator[Evidence]:
    yield from layers.evidence_of(LayerTable.load(directory / DIAGNOSTICS))
