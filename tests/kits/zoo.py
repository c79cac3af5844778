"""A zoo of planted faults: healthy setups, and each with one thing broken that the checks have to find."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from search.checks.bench import Bench
from search.checks.rows import INSPECT, PREFLIGHT, check_of
from search.checks.run import finding_of
from search.keyed import keyed_int
from search.records import CheckVerdict, Finding
from search.train.data.arrays import Dataset, Examples
from search.train.data.split import divide

MOST_EXAMPLES = 500
SPLIT = {"fractions": [0.6, 0.2, 0.2], "stratify": True, "group": None, "time": None}
INSPECT_SETTINGS: dict[str, Any] = {"examples": 10000}
PREFLIGHT_SETTINGS: dict[str, Any] = {
    "on_fail": "stop",
    "lr_bounds": "suggest",
    "steps": 100,
    "size": None,
    "human": None,
    "lr_space": [1e-4, 1e-1],
}
MLP: dict[str, Any] = {"_target_": "search.train.models.mlp.MLP", "width": 64, "depth": 2, "dropout": 0.0}
CNN: dict[str, Any] = {
    "_target_": "search.train.models.cnn.CNN",
    "channels": 8,
    "blocks": 2,
    "kernel": 3,
    "dropout": 0.1,
}
LINEAR: dict[str, Any] = {"_target_": "search.train.models.linear.Linear"}
ADAMW: dict[str, Any] = {
    "_target_": "torch.optim.AdamW",
    "lr": 1e-3,
    "weight_decay": 1e-2,
    "betas": [0.9, 0.999],
}


def digits(seed: int, number: int = MOST_EXAMPLES) -> Examples:
    """Return so many of the bundled digits, drawn by the seed: pictures (N, 1, 8, 8) of 10 classes."""
    from search.train.data.digits import load

    return some_of(load("digits"), seed, number)


def some_of(examples: Examples, seed: int, number: int = MOST_EXAMPLES) -> Examples:
    """Return so many of the examples, drawn by the seed."""
    chosen = np.random.default_rng(seed).permutation(len(examples))[:number]
    return Examples(
        name=examples.name,
        inputs=examples.inputs[chosen],
        targets=examples.targets[chosen],
        task=examples.task,
        classes=examples.classes,
    )


def table(name: str, seed: int) -> Examples:
    """Return a table of scikit-learn's: iris, wine, breast_cancer (classes), diabetes (a regression)."""
    from search.train.data import bundled

    return some_of(getattr(bundled, name)(name), seed)


def divided(examples: Examples, seed: int) -> Dataset:
    """Return the examples with a split as a search makes it."""
    return Dataset(examples=examples, split=divide(examples, {**SPLIT, "seed": seed}))


def config(model: Mapping[str, Any] = MLP, **nodes: Any) -> dict[str, Any]:
    """Return a trial's configuration; `nodes` take the place of optimizer, schedule, loss, trainer or metric."""
    whole = {
        "model": dict(model),
        "optimizer": dict(ADAMW),
        "schedule": {"_target_": "search.train.schedules.constant"},
        "loss": None,
        "trainer": {
            "epochs": 9,
            "batch_size": 32,
            "threads": 1,
            "patience": None,
            "checkpoint_every": 10,
            "loading": "memory",
            "loader_workers": 0,
        },
        "metric": {"name": None, "mode": None},
    }
    return {**whole, **nodes}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A setup to be checked: data by a seed, and a trial's configuration.

    A fault names the `rows` of which one at least has to say so: "fail" where it is `fatal` (training with it is
    pointless), else warn or fail. `related` rows may say fail as well, because of the fault; no other may. `planted` is
    entered while the checks run, for faults that stand in the code. `twin` is the name of the healthy case that it was
    made from. A healthy case has no rows.
    """

    name: str
    dataset: Callable[[int], Dataset]
    config: Mapping[str, Any] = field(default_factory=config)
    rows: tuple[str, ...] = ()
    fatal: bool = False
    related: tuple[str, ...] = ()
    planted: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    twin: str = ""


def findings(case: Case, seed: int, rows: tuple[str, ...] = (*INSPECT, *PREFLIGHT)) -> list[Finding]:
    """Return what the checks of these rows find in a case."""
    with _one_thread(), case.planted():
        return list(_found(case, seed, rows))


def _found(case: Case, seed: int, rows: tuple[str, ...]) -> Iterator[Finding]:
    dataset = case.dataset(seed)
    assert len(dataset.examples) <= MOST_EXAMPLES, case.name
    for settings, stage in ((INSPECT_SETTINGS, INSPECT), (PREFLIGHT_SETTINGS, PREFLIGHT)):
        bench = Bench(
            dataset=dataset,
            config=case.config,
            settings=settings,
            device=torch.device("cpu"),
            seed=keyed_int(seed, "zoo"),
        )
        for row in stage:
            if row in rows:
                yield finding_of(check_of(row), bench)[0]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def said(found: list[Finding], *verdicts: CheckVerdict) -> set[str]:
    """Return the rows with one of these verdicts."""
    return {finding.row for finding in found if finding.verdict in verdicts}


def caught(case: Case, found: list[Finding]) -> bool:
    """Tell whether a fault was found by the right row, and no unrelated row says fail."""
    enough = (CheckVerdict.FAIL,) if case.fatal else (CheckVerdict.WARN, CheckVerdict.FAIL)
    unrelated = said(found, CheckVerdict.FAIL) - {*case.rows, *case.related}
    return bool(said(found, *enough) & set(case.rows)) and not unrelated


def told(found: list[Finding]) -> str:
    """Return what is worse than pass, a line each."""
    worse = (CheckVerdict.WARN, CheckVerdict.FAIL)
    return "\n".join(f"{f.row} {f.verdict.value}: {f.sentence}" for f in found if f.verdict in worse) or "nothing"
