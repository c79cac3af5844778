"""Inputs without labels, which a student learns beside the training examples: blends of these, and a user's file."""

from __future__ import annotations

import numpy as np

from search.apps.training import TrainingSession
from search.space import Settings
from search.train.data.blends import blends
from search.train.metrics import Array

_MOST_BYTES = 2**28
"""Of blends, which stand in the memory of every worker that trains a student; a user's file does so whole."""


def unlabelled(session: TrainingSession) -> Array | None:
    """Return the blends and behind them the file's inputs, (T, *shape); None where there are neither."""
    number = _number_of_blends(session)
    made = [blends(session.dataset, number, session.cfg.seed)] if number else []
    given = [] if session.transfer is None else [session.transfer]
    for inputs in given:
        session.console.print(_note(session, inputs), style="dim", markup=False, highlight=False)
    return np.concatenate([*made, *given]) if made or given else None


def _note(session: TrainingSession, inputs: Array) -> str:
    """Return how many inputs the file has, and how many of them are to judge the student by."""
    examples, split = session.dataset.examples.inputs, session.dataset.split
    judges = {row.tobytes() for part in (split.validation, split.test) for row in examples[part]}
    known = sum(row.tobytes() in judges for row in inputs)
    also = f"; {known} of them stand in the validation or test split, too" if known else ""
    return f"note: the teacher labels {len(inputs):,} inputs of {session.cfg.squeeze.distill.transfer}{also}"


def told_of_unlabelled(session: TrainingSession) -> Settings:
    """Return what changes with them: the number of blends, and a digest of what is in the file, wherever it lies."""
    digest = session.transfer_digest
    return {"blends": _number_of_blends(session), **({} if digest is None else {"transfer": digest})}


def _number_of_blends(session: TrainingSession) -> int:
    """Return how many there are to be: none where data is loaded batch by batch, as it may not fit into memory."""
    if session.cfg.trainer.loading == "loader":
        return 0
    bytes_each = 4 * int(np.prod(session.dataset.examples.inputs.shape[1:]))
    wanted = session.cfg.squeeze.distill.blends * len(session.dataset.split.train)
    return min(wanted, max(1, _MOST_BYTES // bytes_each))
