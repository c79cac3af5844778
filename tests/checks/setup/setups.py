"""Setups to be looked at: a bench on few examples, and what a check says of it."""

from collections.abc import Mapping
from typing import Any

import torch

from search.checks.bench import Bench
from search.checks.check import Found
from search.checks.rows import check_of
from tests.kits.zoo import MLP, config, digits, divided, table

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}
HEALTHY_NETS: tuple[Mapping[str, Any], ...] = (
    {"_target_": "search.train.models.linear.Linear"},
    {**MLP, "dropout": 0.3},
    {"_target_": "search.train.models.cnn.CNN", "channels": 4, "blocks": 2, "kernel": 3, "dropout": 0.1},
)


def bench_of(
    model: Mapping[str, Any] = MLP, data: str = "digits", number: int = 120, seed: int = 0, **nodes: Any
) -> Bench:
    examples = digits(seed, number) if data == "digits" else table(data, seed)
    dataset = divided(examples, seed)
    return Bench(dataset=dataset, config=config(model, **nodes), settings={}, device=torch.device("cpu"), seed=seed)


def found_by(row: str, bench: Bench) -> Found:
    return check_of(row).look(bench)
