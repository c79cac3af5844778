"""Curves made up here, replayed through the real driver."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks import replay
from scripts.benchmarks.curves import Curves, load
from scripts.benchmarks.replay import Setting
from search.errors import UsageError

NAN = math.nan
PLANS = [9, 9, 9, 3, 9]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Run i climbs to i / 10; run 3 plans three steps; run 4 dies in its third."""
    metric = np.array([[i / 10 * step / 9 for step in range(1, 10)] for i in range(5)], dtype=np.float32)
    cost = np.full((5, 9), 2.0, dtype=np.float32)
    metric[3, 3:] = cost[3, 3:] = NAN
    metric[4, 2:] = cost[4, 3:] = NAN
    configs = json.dumps([{"epochs": plan} for plan in PLANS])
    np.savez(tmp_path / "made.npz", configs=configs, metric=metric, cost=cost, meta=json.dumps({"maximize": True}))
    return tmp_path / "made.npz"


@pytest.fixture
def curves(path: Path) -> Curves:
    return load(path)


def test_a_run_knows_its_plan_and_dies_without_having_known_it(curves: Curves) -> None:
    assert [run.planned for run in curves.runs] == PLANS
    assert [run.diverged for run in curves.runs] == [False] * 4 + [True]
    assert [len(run.values) for run in curves.runs] == [9, 9, 9, 3, 2]
    assert [run.cost for run in curves.runs] == [18, 18, 18, 6, 6]


def test_a_diverged_run_is_worth_the_worst_finite_value(curves: Curves) -> None:
    assert curves.worst == 0.0
    assert curves.final(curves.runs[4]) == 0.0
    assert curves.final(curves.runs[2]) == pytest.approx(0.2)


def test_a_plan_is_all_steps_where_a_configuration_has_none(tmp_path: Path) -> None:
    metric = np.ones((1, 4), dtype=np.float32)
    np.savez(tmp_path / "c.npz", configs="[{}]", metric=metric, cost=metric, meta='{"maximize": false}')
    assert load(tmp_path / "c.npz").runs[0].planned == 4


def test_another_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", other=np.ones(1))
    with pytest.raises(UsageError, match="not learning curves"):
        load(tmp_path / "c.npz")


def setting(option: str, workers: int = 1) -> Setting:
    return Setting(option=option, workers=workers, num_runs=5)


@pytest.mark.parametrize("workers", [1, 3])
def test_without_stopping_everything_is_paid_and_nothing_lost(curves: Curves, workers: int) -> None:
    found = replay.search_one(curves, setting("none", workers), range(5))
    assert found.cost == replay.total_cost(curves, range(5)) == 66
    assert found.value == pytest.approx(0.2)
    assert found.seconds == (66 if workers == 1 else pytest.approx(24, abs=6))


@pytest.mark.parametrize("option", ["asha", "promotion", "hyperband", "median"])
def test_each_option_runs_and_pays_no_step_twice(curves: Curves, option: str) -> None:
    found = replay.search_one(curves, setting(option), [2, 1, 0, 3, 4])
    assert 10 <= found.cost <= 66
    assert 0.0 < found.value <= curves.final(curves.runs[2])


def test_a_promoted_trial_goes_on_where_it_stood(curves: Curves) -> None:
    """Of three runs the best is promoted twice: 1 + 1 + 1 steps, then 2, then 6."""
    found = replay.search_one(curves, setting("promotion"), [0, 1, 2])
    assert found.cost == 2 * 3 + 2 * 2
    assert found.value == pytest.approx(0.2 * 3 / 9)


def test_draws_are_the_same_for_every_option(curves: Curves) -> None:
    assert replay.drawn(curves, 4, 7) == replay.drawn(curves, 4, 7)
    assert sorted(replay.drawn(curves, 5, 7)) == [0, 1, 2, 3, 4]


def test_the_rival_trains_all_for_a_step_and_the_best_few_to_their_end(curves: Curves) -> None:
    # after one step run 4 leads, which dies, then run 3, of a shorter plan
    assert replay.one_step_then(curves, range(5), 1).value == 0.0
    two = replay.one_step_then(curves, range(5), 2)
    assert two.value == pytest.approx(0.1)
    assert two.cost == 5 * 2 + 4 + 4
    assert replay.one_step_then(curves, range(5), 5).cost == 66


def test_the_rival_gets_the_same_cost(curves: Curves) -> None:
    few, searched = replay.at_equal_cost(curves, [range(5)], 18 / 66)
    assert few == 2
    assert searched[0].cost == 18


def test_figures_are_means_over_draws(curves: Curves) -> None:
    best = curves.final(curves.runs[2])
    searched = [replay.Searched(cost=33.0, value=best, seconds=1.0), replay.Searched(cost=66.0, value=0.1, seconds=3.0)]
    found = replay.figures(curves, [range(5), range(5)], searched)
    assert found[replay.COST] == 75
    assert found[replay.REGRET] == pytest.approx(0.05)
    assert found[replay.KEPT] == 50
    assert found[replay.SECONDS] == 2.0
