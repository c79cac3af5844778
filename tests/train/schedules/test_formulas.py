"""Each schedule against its paper's formula, written out here, at every step of a run."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from search.train import schedules
from search.train.schedules import Budget, Curve

STEPS = st.integers(1, 300)
SHARE = st.floats(0, 1)
GAMMA = st.floats(0.01, 1)
few = settings(max_examples=40, deadline=None)


def budget(steps: int, steps_per_epoch: int = 10) -> Budget:
    return Budget(steps=steps, steps_per_epoch=steps_per_epoch)


def require_same(curve: Curve, formula: Callable[[int], float], steps: int) -> None:
    assert curve.rates.shape == (steps,)
    assert curve.rates.dtype == np.float64
    assert curve.rates == pytest.approx([formula(t) for t in range(steps)], rel=1e-7, abs=1e-9)


# ------------------------------------------------------------------------------------------------------ only down


@pytest.mark.parametrize("steps", [1, 7, 918])
def test_constant_is_exactly_1(steps: int) -> None:
    curve = schedules.constant(budget(steps))
    assert curve.rates.tolist() == [1.0] * steps
    assert (curve.momenta, curve.cycle_ends) == (None, ())


@few
@given(steps=STEPS, every=st.integers(1, 400), gamma=GAMMA)
def test_step_falls_after_each_so_many_steps(steps: int, every: int, gamma: float) -> None:
    curve = schedules.step(budget(steps), every=every, gamma=gamma, unit="steps")
    require_same(curve, lambda t: gamma ** (t // every), steps)


@few
@given(steps=STEPS, gamma=GAMMA, per_epoch=st.integers(1, 50))
def test_exponential_leaves_gamma_after_a_step_an_epoch_or_the_budget(steps: int, gamma: float, per_epoch: int) -> None:
    make = partial(schedules.exponential, budget(steps, per_epoch), gamma=gamma)
    require_same(make(unit="steps"), lambda t: gamma**t, steps)
    require_same(make(unit="epochs"), lambda t: gamma ** (t / per_epoch), steps)
    require_same(make(unit="budget"), lambda t: gamma ** (t / steps), steps)


@few
@given(steps=STEPS, power=st.floats(0.1, 5), final=SHARE)
def test_polynomial_falls_to_its_end(steps: int, power: float, final: float) -> None:
    curve = schedules.polynomial(budget(steps), power=power, final=final)
    require_same(curve, lambda t: final + (1 - final) * (1 - t / steps) ** power, steps)


@few
@given(steps=STEPS, final=SHARE)
def test_cosine_is_one_cycle_of_sgdr(steps: int, final: float) -> None:
    """Loshchilov and Hutter 2017, equation 5, with T_i the whole run."""
    curve = schedules.cosine(budget(steps), final=final)
    require_same(curve, lambda t: final + 0.5 * (1 - final) * (1 + math.cos(math.pi * t / steps)), steps)
    assert curve.cycle_ends == ()


# ----------------------------------------------------------------------------------------------------- with cycles


@few
@given(steps=STEPS, size=st.integers(1, 100), low=SHARE, gamma=GAMMA, mode=st.sampled_from(["1", "2", "exp"]))
def test_cyclical_is_smiths(steps: int, size: int, low: float, gamma: float, mode: str) -> None:
    """Smith 2017, section 3 and its Listing 1; `triangular2` halves the height, `exp_range` has gamma^iterations."""
    named: Any = {"1": "triangular", "2": "triangular2", "exp": "exp_range"}[mode]

    def smith(iteration: int) -> float:
        cycle = math.floor(1 + iteration / (2 * size))
        x = abs(iteration / size - 2 * cycle + 1)
        height: float = {"1": 1.0, "2": 1 / 2 ** (cycle - 1), "exp": gamma**iteration}[mode]
        return low + (1 - low) * max(0.0, 1 - x) * height

    curve = schedules.cyclical(budget(steps), mode=named, step_size=size, low=low, gamma=gamma, unit="steps")
    require_same(curve, smith, steps)
    assert curve.cycle_ends == tuple(range(2 * size, steps + 1, 2 * size))


def sgdr_by_the_paper(first: int, multiplier: int, final: float, decay: float) -> Iterator[tuple[float, bool]]:
    """Yield each step's rate and whether its cycle ends with it: T_cur counts up to T_i, then T_i grows."""
    length, current, restarts = first, 0, 0
    while True:
        high, low = decay**restarts, decay**restarts * final
        rate = low + 0.5 * (high - low) * (1 + math.cos(math.pi * current / length))
        current += 1
        yield rate, current == length
        if current == length:
            length, current, restarts = length * multiplier, 0, restarts + 1


@few
@given(steps=STEPS, first=st.integers(1, 60), multiplier=st.integers(1, 3), final=SHARE, decay=GAMMA)
def test_sgdr_restarts_as_in_equation_5(steps: int, first: int, multiplier: int, final: float, decay: float) -> None:
    paper = sgdr_by_the_paper(first, multiplier, final, decay)
    expected = [next(paper) for _ in range(steps)]
    make = partial(schedules.sgdr, budget(steps), cycle=first, multiplier=multiplier, final=final, unit="steps")
    curve = make(decay=decay)
    require_same(curve, lambda t: expected[t][0], steps)
    assert curve.cycle_ends == tuple(t + 1 for t in range(steps) if expected[t][1])

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    restarts = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first, multiplier, final)
    optimizer.step()
    torchs = []
    for _ in range(steps):
        torchs.append(optimizer.param_groups[0]["lr"])
        restarts.step()
    assert make(decay=1.0).rates == pytest.approx(torchs, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize(("multiplier", "ends"), [(1.0, 7), (2.0, 3)])
@pytest.mark.parametrize("steps", [70, 918, 100_003])
def test_the_last_cycle_of_a_budget_ends_with_it(multiplier: float, ends: int, steps: int) -> None:
    curve = schedules.sgdr(budget(steps), cycle=0.142857, multiplier=multiplier, final=0.0, decay=0.5)
    assert len(curve.cycle_ends) == ends
    assert curve.cycle_ends[-1] == steps
    assert curve.rates[-1] < 0.02
    assert [curve.rates[end] for end in curve.cycle_ends[:-1]] == [0.5 ** (i + 1) for i in range(ends - 1)]


def test_a_cycle_that_the_run_cuts_off_has_no_end() -> None:
    assert schedules.sgdr(budget(25), cycle=1, multiplier=1, final=0, decay=1, unit="epochs").cycle_ends == (10, 20)


# ------------------------------------------------------------------------------------------------------- one cycle


def one_cycle(steps: int, rise: int, **other: Any) -> Curve:
    node = {"start": 0.1, "final": 1e-3, "anneal": "linear", "three_phase": False, "unit": "steps"}
    bounds = {"low_momentum": 0.85, "high_momentum": 0.95}
    return schedules.one_cycle(budget(steps), rise=rise, **{**node, **bounds, **other})


def between(points: list[tuple[float, float]], t: float, anneal: str) -> float:
    """Return the value at t of the phases that go from point to point."""
    for (a, first), (b, last) in itertools.pairwise(points):
        if t <= b:
            share = (t - a) / (b - a)
            share = share if anneal == "linear" else (1 - math.cos(math.pi * share)) / 2
            return first + (last - first) * share
    raise AssertionError(t)


@few
@given(
    steps=st.integers(5, 300),
    share=st.floats(0.05, 1),
    start=st.floats(0.01, 1),
    final=st.floats(1e-6, 1),
    anneal=st.sampled_from(["linear", "cos"]),
    three_phase=st.booleans(),
)
def test_one_cycle_rises_and_falls_and_the_momentum_goes_the_other_way(
    steps: int, share: float, start: float, final: float, anneal: str, three_phase: bool
) -> None:
    """Smith and Topin 2018, section 3: up, down as fast, then several orders of magnitude down; fastai's without that.

    The first step has the lowest rate of the rise, step rise - 1 the highest, the last one the end's.
    """
    rise = max(2, int(share * steps * (0.5 if three_phase else 1)))
    top, last = rise - 1, steps - 1
    rates, momenta = [(0.0, start), (top, 1.0)], [(0.0, 0.95), (top, 0.85)]
    if three_phase:
        rates, momenta = [*rates, (2 * top, start)], [*momenta, (2 * top, 0.95)]
    if rates[-1][0] < last:
        rates, momenta = [*rates, (last, final)], [*momenta, (last, 0.95)]
    curve = one_cycle(steps, rise, start=start, final=final, anneal=anneal, three_phase=three_phase)
    require_same(curve, lambda t: between(rates, t, anneal), steps)
    assert curve.momenta is not None
    assert curve.momenta == pytest.approx([between(momenta, t, anneal) for t in range(steps)], rel=1e-7)
    assert curve.momenta.min() >= 0.85 - 1e-12
    assert curve.momenta.max() <= 0.95 + 1e-12


def test_one_cycle_leaves_the_momentum_where_it_has_no_bounds() -> None:
    assert one_cycle(50, 20, low_momentum=None, high_momentum=None).momenta is None


# --------------------------------------------------------------------------------------------------------- warm-up

MAIN: dict[str, Callable[..., Curve]] = {
    "constant": schedules.constant,
    "step": partial(schedules.step, every=0.3, gamma=0.1),
    "exponential": partial(schedules.exponential, gamma=0.1),
    "polynomial": partial(schedules.polynomial, power=2.0, final=0.1),
    "cosine": partial(schedules.cosine, final=0.1),
    "cyclical": partial(schedules.cyclical, mode="triangular", step_size=0.1, low=0.2, gamma=1.0),
    "sgdr": partial(schedules.sgdr, cycle=0.2, multiplier=1.0, final=0.0, decay=0.5),
}
ALL = {**MAIN, "one_cycle": lambda budget: one_cycle(budget.steps, 0.3, unit="budget")}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MAIN)
@pytest.mark.parametrize(("steps", "warmup", "rise"), [(100, 0.05, 5), (100, 0.99, 99), (10, 0.04, 0), (1, 0.9, 1)])
def test_a_warmup_rises_to_where_the_rest_begins(name: str, steps: int, warmup: float, rise: int) -> None:
    rest = MAIN[name](budget(max(1, steps - rise)))
    curve = MAIN[name](budget(steps), warmup=warmup)
    ramp = lr_of(lr_scheduler.LinearLR, rise, start_factor=1 / (rise + 1), total_iters=rise) if rise else []
    expected = [*(factor * rest.rates[0] for factor in ramp), *rest.rates][:steps]
    assert curve.rates == pytest.approx(expected)
    assert curve.cycle_ends == tuple(end + rise for end in rest.cycle_ends if end + rise <= steps)


def lr_of(scheduler: Callable[..., lr_scheduler.LRScheduler], steps: int, **arguments: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    made = scheduler(optimizer, **arguments)
    optimizer.step()
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        made.step()
    return rates


@pytest.mark.parametrize(("warmup", "unit", "rise"), [(0.5, "budget", 10), (0.5, "epochs", 5), (5, "steps", 5)])
def test_a_warmup_is_in_the_unit_that_it_says(warmup: float, unit: Any, rise: int) -> None:
    rates = schedules.constant(budget(20), warmup=warmup, unit=unit).rates
    assert np.flatnonzero(rates == 1.0)[0] == rise
    assert (np.diff(rates[: rise + 1]) > 0).all()


def test_a_warmup_longer_than_the_run_is_cut_off() -> None:
    rates = schedules.constant(budget(20), warmup=4, unit="epochs").rates
    assert rates == pytest.approx(np.arange(1, 21) / 41)


# --------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 918])
def test_every_schedule_has_a_factor_for_each_step_of_a_run(name: str, steps: int) -> None:
    curve = ALL[name](budget(steps))
    assert curve.rates.shape == (steps,)
    assert ((curve.rates >= 0) & (curve.rates <= 1)).all()
    assert all(0 < end <= steps for end in curve.cycle_ends)


@pytest.mark.parametrize("unit", ["budget", "epochs", "steps"])
def test_a_time_means_the_same_in_each_unit(unit: Any) -> None:
    every = {"budget": 0.25, "epochs": 2.5, "steps": 25}[unit]
    rates = schedules.step(budget(100), every=every, gamma=0.5, unit=unit).rates
    assert rates.tolist() == [0.5 ** (t // 25) for t in range(100)]


def test_the_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state()
    for make in ALL.values():
        make(budget(20))
    assert torch.equal(torch.get_rng_state(), before)
