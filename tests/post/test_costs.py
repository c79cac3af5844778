"""What an ensemble can afford."""

from pathlib import Path

import numpy as np
import pytest

from search.errors import UsageError
from search.post.costs import Budget, Cost, Limits, budget_of, cost_in

COSTS = {"a": Cost(parameters=100, milliseconds=0.1), "b": Cost(parameters=300, milliseconds=0.2)}


def test_without_limits_everything_is_affordable_and_no_costs_are_needed() -> None:
    budget = budget_of(Limits(), ["a", "b"], None)
    assert budget.affordable(np.array([True, False])).tolist() == [True, True]
    assert budget.filled(np.array([1, 0]), 5).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("limits", "both"),
    [
        (Limits(members=1), False),
        (Limits(members=2), True),
        (Limits(parameters=399), False),
        (Limits(parameters=400), True),
        (Limits(milliseconds=0.29), False),
        (Limits(milliseconds=0.3), True),  # 0.1 + 0.2 is a little more
        (Limits(parameters=400, milliseconds=0.29), False),
    ],
)
def test_each_limit_counts(limits: Limits, both: bool) -> None:
    budget = budget_of(limits, ["a", "b"], COSTS)
    assert budget.affordable(np.array([True, False])).tolist() == [True, both]
    assert budget.filled(np.array([0, 1]), 2).tolist() == ([0, 1] if both else [0])


def test_members_that_are_in_already_cost_nothing_more() -> None:
    budget = Budget(np.array([[1.0, 1.0, 1.0]]), np.array([2.0]))
    assert budget.affordable(np.array([True, True, False])).tolist() == [True, True, False]


def test_a_limit_that_leaves_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match=r"squeeze\.limits\.parameters=50: no member fits; the least has 100"):
        budget_of(Limits(parameters=50), ["a", "b"], COSTS)


def test_limits_that_nobody_keeps_together_are_refused() -> None:
    costs = {"a": Cost(parameters=100, milliseconds=0.3), "b": Cost(parameters=300, milliseconds=0.1)}
    with pytest.raises(
        UsageError, match=r"squeeze.limits: no member fits all of them: parameters=100, milliseconds=0.2"
    ):
        budget_of(Limits(parameters=100, milliseconds=0.2), ["a", "b"], costs)


def test_a_training_says_what_its_network_costs(tmp_path: Path) -> None:
    assert cost_in(tmp_path) is None
    (tmp_path / "cost.json").write_text('{"parameters": 7, "milliseconds": 0.5}')
    assert cost_in(tmp_path) == Cost(parameters=7, milliseconds=0.5)
    (tmp_path / "cost.json").write_text('{"parameters"')
    with pytest.raises(UsageError, match=r"cost.json: damaged; put it back from a copy"):
        cost_in(tmp_path)
