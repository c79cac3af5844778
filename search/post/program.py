"""The champion as programs that need nothing of this product: PyTorch's (`torch.export`) and, where it can be, ONNX.

Both take raw inputs (N, *shape), preprocessing inside, and return predictions with the members' disagreement.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from search.files import sync_folder, unfinished, write_atomically
from search.post import lineage as lineages
from search.post.calibration import LEAST
from search.post.card import CARD, Packaged, card
from search.post.lineage import Lineage
from search.post.onnx import to_onnx
from search.post.predictor import DESCRIPTION, PROGRAM, Predictor
from search.train.data.arrays import Array, Dataset
from search.train.data.table import TableEncoder
from search.train.estimator import Estimator
from search.trial import load_model

_EXAMPLES = 4  # an export with a batch of one would fix that size


@dataclass(frozen=True, kw_only=True)
class Member:
    """A trained network in its trial's folder, its weight in the ensemble, and the temperature of its own logits."""

    directory: Path
    config: Mapping[str, Any]
    weight: float
    temperature: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What is to be packaged; a classification's probabilities are sharpened or softened by the temperature."""

    name: str
    dataset: Dataset
    members: Sequence[Member]
    temperature: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The files of a packaged champion, with an example of its input and output.

    `without` says why one of the forms is missing, a sentence each.
    """

    folder: Path
    input_example: Array | pd.DataFrame
    output_example: pd.DataFrame
    without: tuple[str, ...] = ()


class Ensemble(nn.Module):
    """The members as one network: raw inputs (N, *shape) in, (predictions, spread (N,)) out.

    Predictions are the weighted mean of the members' probabilities (N, C), each at its own temperature and all at one
    (Guo et al. 2017), or of their values (N,). The spread says how much the members disagree: of values it is their
    weighted standard deviation; of probabilities the weighted mean of their Kullback-Leibler divergence from the mean
    in nats (Lakshminarayanan et al. 2017), which is the mutual information of class and member (Depeweg et al. 2018).
    """

    weights: Tensor
    temperatures: Tensor

    def __init__(
        self,
        members: Sequence[Estimator],
        weights: Sequence[float],
        task: str,
        temperature: float = 1.0,
        temperatures: Sequence[float] | None = None,
    ) -> None:
        """`temperatures` are the members' own; without them each has 1."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self.register_buffer("temperatures", torch.tensor(temperatures or [1.0] * len(weights), dtype=torch.float32))
        self._task, self._temperature = task, temperature

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Map raw inputs (N, *shape) to predictions and spread."""
        outputs = torch.stack([member(inputs) for member in self.members])
        if self._task == "classification":
            return self._of_classes(_tempered(outputs.log_softmax(dim=2), self.temperatures[:, None, None]))
        return self._of_numbers(outputs.squeeze(2))

    def _of_classes(self, logs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same of log-probabilities (M, N, C): in logarithms, where none becomes 0."""
        mean = torch.logsumexp(logs + self.weights.log()[:, None, None], dim=0)
        divergence = (logs.exp() * (logs - mean)).sum(dim=2)
        spread = (self.weights[:, None] * divergence).sum(dim=0).clamp_min(0.0)
        return _tempered(mean, self._temperature).exp(), spread

    def _of_numbers(self, values: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.weights[:, None]
        mean = (weights * values).sum(dim=0)
        return mean, (weights * (values - mean) ** 2).sum(dim=0).sqrt()


def _tempered(logs: Tensor, temperature: Tensor | float) -> Tensor:
    """Return log-probabilities (..., C) at a temperature, as those that the members left on disk were tempered."""
    return (logs.clamp_min(math.log(LEAST)) / temperature).log_softmax(dim=-1)


def export(champion: Champion, lineage: Lineage, folder: Path) -> Exported:
    """Make `folder` anew with the champion's programs, their description, the lineage and a model card.

    A folder that was there is replaced once all is written. Raises whatever `torch.export` does for a network that it
    cannot follow; what ONNX refuses is said in the result.
    """
    new = unfinished(folder)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    exported = _write(champion, lineage, new)
    shutil.rmtree(folder, ignore_errors=True)
    new.replace(folder)
    sync_folder(folder.parent)
    return Exported(
        folder=folder,
        input_example=exported.input_example,
        output_example=exported.output_example,
        without=exported.without,
    )


def _write(champion: Champion, lineage: Lineage, folder: Path) -> Exported:
    dataset, examples = champion.dataset, champion.dataset.examples
    members = [load_model(m.directory, m.config, dataset) for m in champion.members]
    weights, own = zip(*((m.weight, m.temperature) for m in champion.members), strict=True)
    ensemble = Ensemble(members, weights, examples.task, champion.temperature, own).eval().requires_grad_(False)
    raw = examples.inputs[np.resize(dataset.split.train, _EXAMPLES)]
    with _plain_attention(), warnings.catch_warnings():
        # of recurrent layers, whose flat weights it finds no buffers
        warnings.filterwarnings("ignore", message="The tensor attributes")
        batch = torch.export.Dim("batch", min=1)
        inputs = torch.from_numpy(raw.astype(np.float32))
        program = torch.export.export(ensemble, (inputs,), dynamic_shapes=({0: batch},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_atomically(folder / PROGRAM, buffer.getvalue())
    why = to_onnx(program, "probabilities" if examples.task == "classification" else "values", folder)
    description = {
        "name": champion.name,
        "task": examples.task,
        "classes": list(examples.classes),
        "table": examples.table,
        "input_shape": list(raw.shape[1:]),
        "input_type": str(raw.dtype),
        "temperature": champion.temperature,
        "temperatures": list(own),
    }
    write_atomically(folder / DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())
    write_atomically(folder / lineages.FILE, (json.dumps(lineage.to_plain(), indent=2) + "\n").encode())
    given = raw if examples.table is None else TableEncoder.from_plain(examples.table).decode(raw)
    packaged = Packaged(
        name=champion.name,
        examples=examples,
        networks=[str(m.config["model"]["_target_"]).rpartition(".")[2] for m in champion.members],
        sizes=[sum(p.numel() for p in member.parameters()) for member in members],
        temperatures=own,
        temperature=champion.temperature,
        has_onnx=why is None,
    )
    write_atomically(folder / CARD, card(packaged, lineage).encode())
    return Exported(
        folder=folder,
        input_example=given,
        output_example=Predictor.load(folder)(given),
        without=() if why is None else (why,),
    )


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Have attention written out: its fused form is an operator that no other runtime knows."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
