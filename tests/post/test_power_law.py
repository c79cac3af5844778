"""The law of error against data size: against scipy's curve_fit, and how often its interval holds the truth."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from search.post.power_law import Array, fit

SIZES = 1000 // 2 ** np.arange(6)[::-1]


def law(floor: float, fall: float, exponent: float, sizes: Array) -> Array:
    return np.asarray(floor + fall * (sizes / 1000) ** -exponent)


def noisy(errors: Array, seeds: int, share: float, generator: np.random.Generator) -> Array:
    """Return errors with noise, half of whose variance a seed's sizes have in common."""
    common, own = generator.normal(size=(seeds, 1)), generator.normal(size=(seeds, len(errors)))
    return np.asarray(errors * (1 + share * np.sqrt(0.5) * (common + own)))


@pytest.mark.parametrize(
    "true", [(0.0, 0.1, 0.5), (0.05, 0.05, 0.7), (0.02, 0.3, 0.2), (0.0, 2.0, 1.0), (0.1, 0.01, 2)]
)
def test_a_law_without_noise_is_found(true: tuple[float, float, float]) -> None:
    found = fit(SIZES, np.stack([law(*true, SIZES)] * 2))
    assert found is not None
    assert found.most == 1000
    np.testing.assert_allclose(found.at(SIZES), law(*true, SIZES), rtol=5e-3)
    more = np.array([2000.0, 4000.0])
    np.testing.assert_allclose(found.at(more), law(*true, more), rtol=0.02)


def test_with_noise_it_is_the_best_in_relative_least_squares() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        errors = noisy(law(0.05, 0.05, 0.6, SIZES), 3, 0.05, generator)
        found, means = fit(SIZES, errors), errors.mean(axis=0)
        assert found is not None
        (floor, fall, exponent), _ = curve_fit(
            lambda n, a, b, c: a + b * n**-c,
            SIZES / 1000,
            means,
            p0=(0.05, 0.05, 0.6),
            sigma=means,
            bounds=((0, 0, 0.05), (1, 1, 3)),
        )
        np.testing.assert_allclose(found.at(SIZES), law(floor, fall, exponent, SIZES), rtol=2e-3)


@pytest.mark.parametrize(("sizes", "seeds"), [(SIZES, 3), (SIZES[3:], 2)], ids=["6 sizes, 3 seeds", "3 sizes, 2 seeds"])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(sizes: Array, seeds: int) -> None:
    """Of 200 true 95 % intervals fewer than 180 hold the truth once in a thousand times; at 91 % one in two does."""
    generator = np.random.default_rng(1)
    more, held = np.array([2000.0]), 0
    for _ in range(200):
        found = fit(sizes, noisy(law(0.03, 0.05, 0.6, sizes), seeds, 0.08, generator))
        assert found is not None
        around = found.interval(more)
        assert around is not None
        held += bool(around[0, 0] <= law(0.03, 0.05, 0.6, more)[0] <= around[1, 0])
    assert held >= 180


def test_one_seed_has_no_interval() -> None:
    found = fit(SIZES, law(0.0, 0.1, 0.5, SIZES)[None])
    assert found is not None
    assert found.interval(np.array([2000.0])) is None
    gain, interval = found.gain(2)
    assert gain == pytest.approx(1 - 2**-0.5, abs=0.01)
    assert (interval, found.follows) == (None, None)


def test_an_error_that_is_nowhere_has_no_law() -> None:
    assert fit(SIZES, np.zeros((3, 6))) is None


def test_an_error_that_reaches_zero_has_one() -> None:
    errors = np.array([[0.2, 0.1, 0.05, 0.01, 0.0, 0.0]] * 2)
    found = fit(SIZES, errors)
    assert found is not None
    assert np.isfinite(found.at(SIZES)).all()
    assert found.gain(2)[0] >= 0


def test_points_off_the_curve_by_more_than_the_spread_are_told() -> None:
    generator = np.random.default_rng(2)
    smooth = [fit(SIZES, noisy(law(0.03, 0.05, 0.6, SIZES), 3, 0.03, generator)) for _ in range(50)]
    assert sum(found is not None and found.follows is False for found in smooth) <= 3  # 1 % of such draws
    chance = law(0.03, 0.05, 0.6, SIZES)
    chance[:3] = chance[2]  # guessing, until there is enough to learn from
    found = fit(SIZES, noisy(chance, 3, 0.03, generator))
    assert found is not None
    assert found.follows is False


def test_an_error_that_rises_is_no_flat_one() -> None:
    rising = np.array([[0.03, 0.05, 0.1], [0.031, 0.051, 0.09]])
    found = fit(SIZES[3:], rising)
    assert found is not None
    assert (found.fall, found.follows) == (0, False)


def test_a_seed_with_an_infinite_error_is_left_out() -> None:
    errors = np.stack([law(0.05, 0.05, 0.6, SIZES)] * 3)
    errors[1, 0] = np.inf
    found, whole = fit(SIZES, errors), fit(SIZES, errors[[0, 2]])
    assert found is not None
    assert whole is not None
    assert (found.seeds, found.floor, found.exponent) == (2, whole.floor, whole.exponent)
    assert fit(SIZES, np.full((2, 6), np.inf)) is None


@pytest.mark.parametrize("seeds", [2, 3])
def test_without_any_spread_points_far_off_lie_on_no_curve(seeds: int) -> None:
    jumps = fit(SIZES[2:], np.array([[0.5, 0.9, 0.5, 0.9]] * seeds))
    assert jumps is not None
    assert jumps.follows is False
    smooth = fit(SIZES, np.stack([law(0.05, 0.05, 0.6, SIZES)] * seeds))
    assert smooth is not None
    assert smooth.follows is None
