"""Members of ensembles that are not trained: predictions of finished trials, means of weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from search.files import write_atomically
from search.layout import CROSS_FITTED, TAKEN, WEIGHTS, predictions_of
from search.records import AverageSpec, PredictSpec
from search.train.batches import Batches, batches_of
from search.train.checkpoint import save_state
from search.train.data.more import inputs_alone
from search.train.estimator import build
from search.train.loop import EVALUATION_BATCH, predict
from search.train.metrics import objective
from search.train.pretrained import freeze, node_of
from search.train.soup import Kitchen
from search.train.steps import NonFiniteError
from search.trial.folder import load_model, save_array, weights_in
from search.trial.place import Place


def predictions(place: Place, spec: PredictSpec) -> None:
    """Write what trials that have ended predict."""
    other: Batches | None = None
    if spec.inputs is None:
        indices = place.dataset.split.of(spec.split)
    else:
        given = inputs_alone(place.dataset.examples, np.load(spec.inputs, allow_pickle=False))
        indices = np.arange(len(given))
        other = batches_of(given, place.device, spec.members[0][1]["trainer"])
    for directory, config in spec.members:
        model = load_model(Path(directory), config, place.dataset).to(place.device)
        predictions = predict(
            model,
            other or place.batches(config["trainer"]),
            indices,
            place.dataset.examples.task,
            max(1, EVALUATION_BATCH // spec.micro_batches),
        )
        save_array(Path(directory) / predictions_of(spec.split), predictions)


def average(place: Place, spec: AverageSpec) -> None:
    """Write the mean of several weights as a member of its own, its predictions last."""
    directory = Path(spec.directory)
    directory.mkdir(parents=True, exist_ok=True)
    trainer, metric = spec.config["trainer"], spec.config["metric"]
    model = build(spec.config["model"], place.dataset, inputs=spec.config.get("inputs")).to(place.device)
    if (began := node_of(spec.config)) is not None:
        freeze(model, began)
    weights = [weights_in(Path(member), place.device) for member in spec.members]
    size = max(2, trainer["batch_size"] // spec.micro_batches)
    kitchen = Kitchen(model, weights, place.dataset, place.batches(trainer), size)
    taken: tuple[int, ...] = tuple(range(len(weights)))
    if spec.greedy:
        judged_by = objective(metric["name"], metric["mode"], place.dataset.examples.task)
        soup = kitchen.greedy(judged_by, spec.folds, spec.seed)
        taken = soup.taken
        save_array(directory / CROSS_FITTED, soup.cross_fitted)
    predictions = kitchen.predictions(taken)
    if not np.isfinite(predictions).all():
        raise NonFiniteError("what the mean of the weights predicts is not finite")
    kitchen.pour(taken)
    save_state(directory / WEIGHTS, model.state_dict())
    write_atomically(directory / TAKEN, json.dumps([spec.members[i] for i in taken]).encode())
    save_array(directory / predictions_of("validation"), predictions)
