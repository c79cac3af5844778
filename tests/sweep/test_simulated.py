from pathlib import Path
from typing import Any

import pytest

from search.records import Event, FailureKind, Retried, TrialState, event_to_json
from search.sweep.failures import FailurePolicy
from tests.kits.bench import ASHA, PROMOTION, Bench, rate_of


def searched(folder: Path, how: str, **settings: Any) -> list[Event]:
    bench = Bench(folder)
    bench.curve = lambda number, params: {"values": [rate_of(params) + step / 50 for step in range(9)]}
    bench.attempt = lambda number, attempt: {"end": "exception"} if number % 4 == 3 and attempt == 1 else {}
    policy = FailurePolicy(retries={FailureKind.EXCEPTION: 1})
    getattr(bench, how)(12, epochs=9, policy=policy, **settings)
    assert bench.all_ended_once(12)
    return bench.events


def without_times(event: Event) -> str:
    fields = dict(vars(event))
    return f"{type(event).__name__} {sorted((k, str(v)) for k, v in fields.items() if k not in ('time', 'so_far'))}"


@pytest.mark.parametrize("pruner", [{"kind": "none"}, ASHA, PROMOTION], ids=lambda pruner: pruner["kind"])
def test_a_simulated_search_is_the_search_that_threads_do(tmp_path: Path, pruner: dict[str, Any]) -> None:
    simulated = searched(tmp_path / "simulated", "simulate", pruner=pruner)
    real = searched(tmp_path / "real", "search", pruner=pruner)
    assert [without_times(e) for e in simulated] == [without_times(e) for e in real]
    assert any(isinstance(e, Retried) for e in real)


def test_the_same_search_is_simulated_to_the_same_line(tmp_path: Path) -> None:
    one, other = (searched(tmp_path / name, "simulate", slots=3, pruner=PROMOTION) for name in ("one", "other"))
    assert [event_to_json(e) for e in one] == [event_to_json(e) for e in other]


def test_two_thousand_trials_on_a_hundred_workers(in_memory: Path) -> None:
    bench = Bench(in_memory / "study")
    bench.curve = lambda number, params: {
        "values": [params["optimizer.lr"]] * 9,
        "sleep": 60.0 + number % 7,
        "leaving": 1.0,
    }
    progress = bench.simulate(2000, slots=100, pruner=PROMOTION, epochs=9)
    assert bench.all_ended_once(2000)
    assert progress.best is not None
    assert progress.best.state is TrialState.COMPLETE
    steps = sum(o.steps for o in bench.outcomes().values())
    busy = steps * 63.0 / (100 * bench.clock())
    assert busy > 0.8, "no worker waits for another"
