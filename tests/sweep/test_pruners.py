from typing import Any

import pytest

from search.sweep.pruners import Asha, Pruner

TRIAL: Any = None


def asha(maximize: bool = True) -> Asha:
    return Asha(rungs=[1 / 9, 1 / 3], eta=3, maximize=maximize)


def stops(pruner: Pruner, values: list[float], step: int, planned: int = 9) -> list[bool]:
    """Report one value of each trial at a step; tell which were stopped."""
    return [pruner.decide(TRIAL, number, step, value, planned) is not None for number, value in enumerate(values)]


def test_the_first_to_arrive_goes_on_and_then_one_in_three() -> None:
    assert stops(asha(), [0.1, 0.2, 0.3, 0.1, 0.2, 0.1], 1) == [False, False, False, True, False, True]


def test_lower_is_better_when_minimising() -> None:
    assert stops(asha(maximize=False), [0.3, 0.2, 0.1, 0.4], 1) == [False, False, False, True]


def test_equal_values_do_not_push_each_other_out() -> None:
    assert not any(stops(asha(), [0.5] * 10, 1))


def test_nothing_is_decided_between_rungs() -> None:
    pruner = asha()
    stops(pruner, [0.9] * 3, 1)
    assert pruner.decide(TRIAL, 9, 2, 0.0, 9) is None


def test_a_trial_is_judged_by_its_best_value_so_far() -> None:
    pruner = asha()
    for number in range(3):
        pruner.decide(TRIAL, number, 3, 0.5, 9)
    assert pruner.decide(TRIAL, 7, 2, 0.9, 9) is None
    assert pruner.decide(TRIAL, 7, 3, 0.1, 9) is None


@pytest.mark.parametrize(("planned", "rungs"), [(27, [3, 9]), (9, [1, 3]), (4, [1, 2]), (2, [1]), (1, [])])
def test_rungs_are_fractions_of_a_trials_planned_steps(planned: int, rungs: list[int]) -> None:
    """A hopeless trial is stopped at rungs and nowhere else."""
    stopped = [step for step in range(1, planned + 1) if stops(asha(), [1.0] * 3 + [0.0], step, planned)[-1]]
    assert stopped == rungs


def test_trials_of_different_length_meet_at_the_same_rung() -> None:
    pruner = asha()
    assert stops(pruner, [1.0] * 3, 3, planned=27) == [False] * 3
    assert pruner.decide(TRIAL, 9, 1, 0.0, 9) is not None
