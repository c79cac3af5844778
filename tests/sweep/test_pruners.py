from typing import Any

import pytest

from search.sweep.pruners import Asha, Pruner

TRIAL: Any = None


def asha(maximize: bool = True, planned: int = 9) -> Asha:
    return Asha(rungs=[1 / 9, 1 / 3], eta=3, planned_steps=planned, maximize=maximize)


def stops(pruner: Pruner, values: list[float], step: int) -> list[bool]:
    """Report one value of each trial at a step; tell which were stopped."""
    return [pruner.decide(TRIAL, number, step, value) is not None for number, value in enumerate(values)]


def test_the_first_to_arrive_goes_on_and_then_one_in_three() -> None:
    assert stops(asha(), [0.1, 0.2, 0.3, 0.1, 0.2, 0.1], 1) == [False, False, False, True, False, True]


def test_lower_is_better_when_minimising() -> None:
    assert stops(asha(maximize=False), [0.3, 0.2, 0.1, 0.4], 1) == [False, False, False, True]


def test_equal_values_do_not_push_each_other_out() -> None:
    assert not any(stops(asha(), [0.5] * 10, 1))


def test_nothing_is_decided_between_rungs() -> None:
    pruner = asha()
    stops(pruner, [0.9] * 3, 1)
    assert pruner.decide(TRIAL, 9, 2, 0.0) is None


def test_a_trial_is_judged_by_its_best_value_so_far() -> None:
    pruner = asha()
    for number in range(3):
        pruner.decide(TRIAL, number, 3, 0.5)
    assert pruner.decide(TRIAL, 7, 2, 0.9) is None
    assert pruner.decide(TRIAL, 7, 3, 0.1) is None


@pytest.mark.parametrize(("planned", "rungs"), [(27, [3, 9]), (9, [1, 3]), (4, [1, 2]), (2, [1]), (1, [])])
def test_rungs_are_fractions_of_the_planned_steps(planned: int, rungs: list[int]) -> None:
    pruner = asha(planned=planned)
    stops(pruner, [1.0] * 3, 1)
    stopped = [step for step in range(1, planned + 1) if asha_stops_at(planned, step)]
    assert stopped == rungs


def asha_stops_at(planned: int, step: int) -> bool:
    pruner = asha(planned=planned)
    stops(pruner, [1.0] * 3, step)
    return pruner.decide(TRIAL, 9, step, 0.0) is not None
