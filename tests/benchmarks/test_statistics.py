import math

import numpy as np
import pytest

from scripts.benchmarks.idle import lengths_of
from scripts.benchmarks.scale import windows
from scripts.benchmarks.statistics import (
    Estimate,
    busy_share,
    cost,
    growth,
    longest_vacancy,
    mean_of,
    mean_ratio,
    ratio_of_means,
    steady_rate,
)
from search.errors import UsageError

LOCKSTEP = [(0.0, 1.0), (0.0, 4.0), (4.0, 5.0), (4.0, 8.0), (8.0, 9.0)]
"""Two slots that wait for each other: one of them is idle for 3 s, twice."""


def test_slots_that_wait_for_each_other_are_seen() -> None:
    assert busy_share(LOCKSTEP, 2) == pytest.approx((1 + 4 + 1 + 4) / 16)
    assert longest_vacancy(LOCKSTEP, 2) == 3.0


def test_slots_that_never_wait_are_busy_all_the_time() -> None:
    jobs = [(0.0, 1.0), (0.0, 4.0), (1.0, 3.0), (3.0, 9.0), (4.0, 5.0)]
    assert busy_share(jobs, 2) == 1.0
    assert longest_vacancy(jobs, 2) == 0.0


def test_starting_up_and_the_end_are_no_vacancies() -> None:
    assert longest_vacancy([(0.0, 9.0), (5.0, 6.0), (6.5, 7.0)], 2) == 0.5


def test_both_slots_free_at_once_is_one_vacancy() -> None:
    assert longest_vacancy([(0.0, 1.0), (0.0, 2.0), (3.0, 9.0), (4.0, 9.0)], 2) == 3.0


def test_one_job_alone_fills_its_time() -> None:
    assert busy_share([(1.0, 2.0)], 1) == 1.0


def test_growth_compares_the_second_with_the_last_tenth() -> None:
    early, late = windows(102, 2)
    assert (early, late) == ((10, 20), (90, 100))
    times = [float(i) for i in range(1, 91)] + [90 + 2.0 * i for i in range(1, 11)]
    assert cost(times, early) == 1.0
    assert growth(times, early, late) == 2.0


def test_too_few_trials_for_so_many_workers_are_refused() -> None:
    with pytest.raises(UsageError, match="too few to compare"):
        windows(1500, 1300)


def test_a_rate_leaves_the_first_trials_out_and_counts_what_is_delivered_late() -> None:
    times = [10.0, 11.0, 12.0, 13.0]
    assert steady_rate(times, 2) == 1.0
    assert steady_rate(times, 2, end=15.0) == 0.5


def test_a_quarter_of_the_jobs_is_long_and_the_seed_says_which() -> None:
    lengths = lengths_of(80, 0.05, 0)
    assert sorted(set(lengths)) == [0.05, 1.0]
    assert lengths.count(1.0) == 20
    assert lengths_of(80, 0.05, 0) == lengths
    assert lengths_of(80, 0.05, 1) != lengths


def test_a_mean_has_students_interval() -> None:
    mean = mean_of([1.0, 2.0, 3.0])
    assert mean == pytest.approx((2.0, 2.0 - 4.302653 / 3**0.5, 2.0 + 4.302653 / 3**0.5))


def test_one_value_has_no_interval() -> None:
    assert mean_of([0.3]) == pytest.approx((0.3, math.nan, math.nan), nan_ok=True)
    assert ratio_of_means([0.1], [0.2]) == pytest.approx((0.5, math.nan, math.nan), nan_ok=True)


def test_a_ratio_that_is_always_the_same_is_certain() -> None:
    assert ratio_of_means([0.2, 0.25, 0.3], [0.4, 0.5, 0.6]) == pytest.approx((0.5, 0.5, 0.5))


def test_a_ratios_interval_is_what_a_t_test_of_its_remainders_allows() -> None:
    parts, wholes = [0.9, 2.1, 1.4, 1.2], [2.0, 3.1, 2.6, 2.9]

    def remainders(ratio: float) -> Estimate:
        return mean_of([part - ratio * whole for part, whole in zip(parts, wholes, strict=True)])

    ratio, low, high = ratio_of_means(parts, wholes)
    assert ratio == pytest.approx(5.6 / 10.6)
    assert remainders(low).low == pytest.approx(0.0, abs=1e-12)
    assert remainders(high).high == pytest.approx(0.0, abs=1e-12)
    assert low < ratio < high


def test_a_ratio_to_what_may_be_nothing_has_no_interval() -> None:
    assert ratio_of_means([0.1, 0.1], [-0.1, 0.3]) == pytest.approx((1.0, math.nan, math.nan), nan_ok=True)
    assert math.isnan(ratio_of_means([0.1, 0.1], [-0.3, 0.1]).value)


def test_the_interval_of_a_ratio_holds_the_true_one_in_95_of_100_cases() -> None:
    draws = np.random.default_rng(0).normal((1.0, 2.0), (0.4, 0.4), (2000, 5, 2))
    bounds = [ratio_of_means(pairs[:, 0], pairs[:, 1]) for pairs in draws]
    assert np.mean([low <= 0.5 <= high for _, low, high in bounds]) == pytest.approx(0.95, abs=0.015)


def test_the_mean_of_ratios_needs_each_of_them() -> None:
    assert mean_ratio([0.1, 0.1], [0.2, 0.1]) == pytest.approx(0.75)
    assert math.isnan(mean_ratio([0.1, 0.1], [0.2, 0.0]))
