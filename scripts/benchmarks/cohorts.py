"""Steps of cohorts beside those of single trials, on one device, with nothing else around them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from rich.console import Console

from scripts.benchmarks.composed import configured, data_of
from scripts.benchmarks.results import Record
from scripts.benchmarks.watching import progress
from search.errors import UsageError
from search.keyed import keyed_int, keyed_uniform
from search.records import TrialSpec
from search.space import Space
from search.train.fused import Stack, form_of, why_alone
from search.train.loop import Training
from search.trial.place import Place
from search.trial.training import setup_in

RATE = "model-steps/s"
NETWORKS = {
    "mlp": ("model=mlp", "~model.space.width", "~model.space.depth"),
    "cnn": ("model=cnn", "~model.space.channels"),
}
"""Overrides of the command, with which all trials have one shape."""
_WORDS = ("schedule=constant", "trainer.epochs=1000")  # curves of long runs take long to make
_AHEAD = 10**6
"""Steps for which a stack may get things ready at once: as many as it likes."""
_SECONDS = 2.0
"""How long steps are timed, at least."""


def sizes_of(text: str) -> list[int]:
    """Return sizes of cohorts from words like "8,64"; raise UsageError for others."""
    words = text.split(",")
    if not all(word.strip().isdigit() and int(word) > 1 for word in words):
        raise UsageError(f"--sizes {text}: numbers from 2 on, e.g. 8,64")
    return [int(word) for word in words]


def measure(device: str, sizes: Sequence[int], terminal: bool, seconds: float = _SECONDS) -> list[Record]:
    """Return model-steps a second of single trials and of cohorts, and the ratios; raise UsageError for no device."""
    console = Console(stderr=True, force_terminal=terminal)
    torch.set_num_threads(1)  # as a worker has
    found = []
    with progress(console, f"steps on {device}", len(NETWORKS) * (1 + len(sizes))) as advance:
        for name, words in NETWORKS.items():
            rates = {}
            for size, rate in _rates([*words, *_WORDS], device, sizes, seconds):
                rates[size] = rate
                advance(1)
            shown = {"alone" if size == 1 else f"{size} at once": rate for size, rate in rates.items()}
            shown |= {f"{size} at once / alone": rates[size] / rates[1] for size in sizes}
            found += [
                Record(bench="fused: steps", case=f"{name}, {device}", system=system, metric=RATE, value=value)
                for system, value in shown.items()
            ]
    return found


def _rates(words: Sequence[str], device: str, sizes: Sequence[int], seconds: float) -> Iterator[tuple[int, float]]:
    cfg = configured(words)
    place, space = Place(data_of(cfg), device), Space.of(cfg)
    yield 1, _rate(_training(place, space, 0), 1, place.device, seconds)
    for size in sizes:
        trainings = [_training(place, space, number) for number in range(size)]
        if why := why_alone(trainings[0]):
            raise RuntimeError(f"cannot be stacked: {why}")
        if len({form_of(training) for training in trainings}) != 1:
            raise RuntimeError("the trials are not of one form")
        stack = Stack(trainings)
        stack.prove()
        yield size, _rate(stack, size, place.device, seconds)


def _training(place: Place, space: Space, number: int) -> Training:
    """Return a trial that is drawn at random; the first is the default one."""
    params = {d.name: d.at(keyed_uniform(0, number, d.name)) if number else d.default for d in space.dimensions}
    config: dict[str, Any] = dict(space.configure(params))
    spec = TrialSpec(number=number, params=params, config=config, seed=keyed_int(0, number, "trial"), directory="")
    return setup_in(place, spec).training()


def _rate(trained: Training | Stack, size: int, device: torch.device, seconds: float) -> float:
    """Return steps a second of all trials together, over whole epochs; the first is not counted."""
    _epoch(trained, device)
    steps, begin = 0, time.perf_counter()
    while (taken := time.perf_counter() - begin) < seconds or not steps:
        steps += _epoch(trained, device)
    return size * steps / taken


def _epoch(trained: Training | Stack, device: torch.device) -> int:
    """Take the steps of an epoch; return how many there were."""
    several = trained.some_steps(_AHEAD) if isinstance(trained, Stack) else trained.some_steps()
    steps = sum(1 for _ in several)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return steps
