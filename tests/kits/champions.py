"""Champions of untrained networks, with what they are held against."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from search.layout import WEIGHTS
from search.post.lineage import Lineage
from search.post.program import Champion, Member
from search.post.results import Figure
from search.train.checkpoint import save_state
from search.train.data import csv
from search.train.data.arrays import Array, Dataset, Examples
from search.train.data.split import divide
from search.train.estimator import build

MLP = {"_target_": "search.train.models.mlp.MLP", "width": 8, "depth": 1, "dropout": 0.5}
CNN = {"_target_": "search.train.models.cnn.CNN", "channels": 4, "blocks": 2, "kernel": 3, "dropout": 0.1}
LINEAGE = Lineage(
    study="mine",
    uid="u1",
    commit="c0ffee",
    data="digits",
    data_digest="0123456789abcdef",
    made_from="m1",
    champion="greedy ensemble",
    metric="accuracy",
    validation=Figure(value=0.95, low=0.9, high=0.98),
    test=Figure(value=0.94, low=0.91, high=0.97),
    test_size=360,
    test_looks=1,
    members={"trials/00000": 1 / 3, "trials/00001": 2 / 3},
    runs={"trials/00000": "run0"},
)


def dataset_of(examples: Examples) -> Dataset:
    config = {"fractions": [0.6, 0.2, 0.2], "stratify": True, "seed": 0, "group": None, "time": None}
    return Dataset(examples=examples, split=divide(examples, config))


def prices(folder: Path) -> Dataset:
    """A table of a number, with a gap, and a word, for a regression."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"size": generator.normal(size=60), "colour": ["red", "blue", "green"] * 20})
    table["price"] = 100 + 20 * table["size"]
    table.loc[3, "size"] = np.nan
    table.to_csv(folder / "t.csv", index=False)
    return dataset_of(csv.load("t", str(folder / "t.csv"), "price", task="regression"))


def champion_of(dataset: Dataset, folder: Path, models: Sequence[dict[str, Any]], temperature: float = 1.0) -> Champion:
    """Networks whose outputs differ, with their weights on disk as trials leave them; the k-th counts k-fold."""
    members = []
    for i, config in enumerate(models):
        torch.manual_seed(i)
        network = build(config, dataset).eval()
        with torch.no_grad():
            network.network.head.weight.mul_(30)  # type: ignore[union-attr, operator] # heads start near 0
        (folder / str(i)).mkdir()
        save_state(folder / str(i) / WEIGHTS, network.state_dict())
        weight = 2 * (i + 1) / (len(models) * (len(models) + 1))
        own = 1 + 0.5 * i
        members.append(Member(directory=folder / str(i), config={"model": config}, weight=weight, temperature=own))
    return Champion(name="greedy ensemble", dataset=dataset, members=members, temperature=temperature)


def lineage_of(champion: Champion) -> Lineage:
    """Where it comes from, with its members."""
    return replace(LINEAGE, members={f"trials/{i:05d}": m.weight for i, m in enumerate(champion.members)})


def averaged(champion: Champion, inputs: Array) -> tuple[Array, Array]:
    """The members' mean and spread in float64, each member loaded and asked alone."""
    from search.trial import load_model

    parts, weights = [], np.array([member.weight for member in champion.members])
    for member in champion.members:
        network = load_model(member.directory, member.config, champion.dataset).eval()
        with torch.inference_mode():
            parts.append(network(torch.from_numpy(inputs.astype(np.float32))).double().numpy())
    outputs = np.stack(parts)
    if champion.dataset.examples.task == "regression":
        values = outputs[..., 0]
        mean = weights @ values
        return mean, np.sqrt(weights @ (values - mean) ** 2)
    outputs = outputs / np.array([member.temperature for member in champion.members])[:, None, None]
    exponents = np.exp(outputs - outputs.max(axis=2, keepdims=True))
    shares = exponents / exponents.sum(axis=2, keepdims=True)
    mean = np.einsum("m,mnc->nc", weights, shares)
    gained = entropy(mean) - weights @ entropy(shares)
    tempered = mean ** (1 / champion.temperature)
    return tempered / tempered.sum(axis=1, keepdims=True), gained


def entropy(probabilities: Array) -> Array:
    """In nats, over the last axis."""
    return np.asarray(-(probabilities * np.log(probabilities)).sum(axis=-1))
