import io

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from search.reporting.space import Pace, Plan, cost_line, grid_line, in_bytes, in_time, space_table
from search.space import Space


def space_of(**nodes: object) -> Space:
    return Space.of(OmegaConf.create({"choose": {}, **nodes}))


def test_what_an_option_brings_stands_under_it() -> None:
    space = space_of(
        choose={"model": {"mlp": {"width": 8, "space": {"width": {"low": 1, "high": 64, "log": True}}}, "linear": {}}},
        trainer={"word": "[a]", "space": {"word": {"choices": ["[a]", "b"]}}},
    )
    out = io.StringIO()
    Console(file=out, width=80).print(space_table(space, {"schedule": "cosine"}))
    title, *lines = [" ".join(line.replace("│", " ").split()) for line in out.getvalue().splitlines()]
    assert title == "3 dimensions; with schedule=cosine"
    assert lines[3:-1] == [
        "model choice mlp, linear mlp",
        "model=mlp",
        "model.width int, log 1 to 64 8",
        "model=linear",
        "trainer.word choice [a], b [a]",
    ]


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({}, "grid: 1 point"),
        ({"x": {"low": 1, "high": 2000}}, "grid: 2,000 points"),
        ({"x": {"low": 0.0, "high": 1.0}}, "grid: continuous in model.x (choices=[...] or a step makes one finite)"),
    ],
)
def test_the_grid_is_counted(spec: dict[str, object], line: str) -> None:
    assert grid_line(space_of(model={"x": 1, "space": spec})) == line


DISK = "about 16.0 MB on disk for 8 trials with weights"
PLAN = Plan(trials=10, epochs=27, workers=2, kept=8)
COSTS = {
    "nothing is known": (None, PLAN, "cost: known after stages=[preflight], or the first trials; ask again then"),
    "a step was measured": (
        Pace(seconds_per_epoch=60.0, bytes_per_trial=2e6),
        PLAN,
        f"cost: at most 2.2 h for 10 trials on 2 workers (60 s an epoch); {DISK}",
    ),
    "trials were pruned": (
        Pace(seconds_per_epoch=60.0, bytes_per_trial=2e6, epochs_per_trial=9.5),
        PLAN,
        f"cost: about 48 min for 10 trials on 2 workers (60 s an epoch, 9.5 epochs a trial); {DISK}",
    ),
    "workers are not known": (
        Pace(seconds_per_epoch=0.25, bytes_per_trial=0.0),
        Plan(trials=1, epochs=2, workers=None, kept=1),
        "cost: at most 0.5 s for 1 trial on 1 worker (0.25 s an epoch); about 0 bytes on disk for 1 trial with weights",
    ),
    "nothing is left": (
        Pace(seconds_per_epoch=60.0, bytes_per_trial=2e6),
        Plan(trials=0, epochs=27, workers=2, kept=8),
        "cost: nothing is left to train; 16.0 MB on disk for 8 trials with weights",
    ),
}


@pytest.mark.parametrize(("pace", "plan", "line"), COSTS.values(), ids=COSTS)
def test_the_cost_follows_from_the_pace(pace: Pace | None, plan: Plan, line: str) -> None:
    assert cost_line(pace, plan) == line


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0123, "0.012 s"), (9.94, "9.9 s"), (99.6, "100 s"), (100, "2 min"), (3600, "1.0 h"), (7.2e6, "2,000.0 h")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_time(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"), [(1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (2.5e6, "2.5 MB"), (3e12, "3,000.0 GB")]
)
def test_sizes_in_words(size: float, words: str) -> None:
    assert in_bytes(size) == words
