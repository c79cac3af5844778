"""From a node to its curve: what is shipped, what PyTorch has, what users write; and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from search.errors import UsageError
from search.train.data.arrays import Array
from search.train.schedules import Budget, Curve, constant, curve_of

OURS = "search.train.schedules."
TORCHS = "torch.optim.lr_scheduler."
HERE = f"{__name__}."
BUDGET = Budget(steps=20, steps_per_epoch=5)

SHIPPED: dict[str, dict[str, Any]] = {
    "constant": {},
    "step": {"every": 0.25, "gamma": 0.5},
    "exponential": {"gamma": 0.1},
    "polynomial": {"power": 1.0, "final": 0.0},
    "cosine": {"final": 0.0},
    "cyclical": {"mode": "triangular", "step_size": 0.25, "low": 0.1, "gamma": 1.0},
    "sgdr": {"cycle": 0.25, "multiplier": 1.0, "final": 0.0, "decay": 1.0},
    "one_cycle": {
        "rise": 0.3,
        "start": 0.1,
        "final": 0.01,
        "anneal": "cos",
        "three_phase": False,
        "low_momentum": 0.85,
        "high_momentum": 0.95,
    },
}


def shipped(name: str, **settings: Any) -> dict[str, Any]:
    return {"_target_": OURS + name, **SHIPPED[name], **settings}


# ------------------------------------------------------------------------------------------------- schedules of ours


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_schedule_is_read(name: str) -> None:
    assert curve_of(shipped(name), BUDGET).rates.shape == (20,)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown unit": (shipped("cosine", unit="weeks"), r"unit=weeks: must be one of budget, epochs, steps"),
    "an unknown unit of a time": (shipped("step", unit="weeks"), r"unit=weeks: must be one of budget, epochs, steps"),
    "a key too many": (shipped("cosine", gamma=1), r"schedule\.gamma: no argument of cosine"),
    "a warm-up that is all": (shipped("constant", warmup=1), r"warmup=1: must be a fraction of .*below 1"),
    "a warm-up below 0": (shipped("constant", warmup=-1, unit="epochs"), r"warmup=-1: must be epochs, at least 0"),
    "stairs without a length": (shipped("step", every=0), r"every=0: must be a fraction of the budget, above 0 and up"),
    "stairs longer than the run": (shipped("step", every=3), r"every=3: must be a fraction of the budget, .* up to 1"),
    "stairs of no steps": (shipped("step", every=-3, unit="steps"), r"every=-3: must be steps, above 0"),
    "stairs up": (shipped("step", gamma=2), r"gamma=2: must lie in 0 to 1"),
    "stairs to nothing": (shipped("step", gamma=0), r"gamma=0: must be above 0"),
    "growth": (shipped("exponential", gamma=1.1), r"gamma=1\.1: must lie in 0 to 1"),
    "no power": (shipped("polynomial", power=0), r"power=0: must be above 0"),
    "an end above the start": (shipped("polynomial", final=2), r"final=2: must lie in 0 to 1"),
    "a cosine's end": (shipped("cosine", final=-1), r"final=-1: must lie in 0 to 1"),
    "an unknown mode": (
        shipped("cyclical", mode="square"),
        r"mode=square: must be one of triangular, triangular2,",
    ),
    "triangles upside down": (shipped("cyclical", low=3), r"low=3: must lie in 0 to 1"),
    "a side too long": (shipped("cyclical", step_size=2), r"step_size=2: must be a fraction"),
    "a lower height than none": (shipped("cyclical", gamma=-1), r"gamma=-1: must be above 0"),
    "shrinking cycles": (shipped("sgdr", multiplier=0.5), r"multiplier=0\.5: must be at least 1"),
    "growing bounds": (shipped("sgdr", decay=2), r"decay=2: must lie in 0 to 1"),
    "a cycle of nothing": (shipped("sgdr", cycle=0), r"cycle=0: must be a fraction"),
    "no start": (shipped("one_cycle", start=0), r"start=0: must be above 0"),
    "a final above the start": (shipped("one_cycle", final=2), r"final=2: must lie in 0 to 1"),
    "an unknown form": (shipped("one_cycle", anneal="log"), r"anneal=log: must be one of cos, linear"),
    "half a momentum": (shipped("one_cycle", low_momentum=None), r"low_momentum=null: .*or both null"),
    "momenta upside down": (shipped("one_cycle", low_momentum=0.99), r"low_momentum=0\.99: .*high_momentum=0\.95"),
    "no room for three": (shipped("one_cycle", three_phase=True, rise=0.6), r"rise=0\.6: must be at most half the run"),
    "no word": (shipped("cosine", final="low"), r"schedule\._target_=.*cosine: TypeError"),
}


@pytest.mark.parametrize(("node", "says"), REFUSED.values(), ids=REFUSED)
def test_a_setting_that_cannot_be_is_refused_by_name(node: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        curve_of(node, BUDGET)
    assert "\n" not in str(refusal.value)


# ---------------------------------------------------------------------------------------------- PyTorch's schedulers


def test_a_scheduler_of_pytorchs_is_stepped_after_each_step() -> None:
    node = {"_target_": f"{TORCHS}ExponentialLR", "gamma": 0.5}
    assert curve_of(node, BUDGET).rates.tolist() == [0.5**t for t in range(20)]


def test_a_scheduler_of_pytorchs_can_be_stepped_after_each_epoch() -> None:
    node = {"_target_": f"{TORCHS}StepLR", "step_size": 2, "unit": "epochs"}
    assert curve_of(node, BUDGET).rates == pytest.approx([1.0] * 10 + [0.1] * 10)


def test_it_is_told_how_long_the_run_is() -> None:
    node = {"_target_": f"{TORCHS}CosineAnnealingLR"}
    cosine = curve_of(shipped("cosine"), BUDGET).rates
    assert curve_of(node, BUDGET).rates == pytest.approx(cosine)
    assert curve_of({**node, "T_max": 10}, BUDGET).rates[10] == pytest.approx(0, abs=1e-12)


def test_a_warmup_goes_before_it() -> None:
    node = {"_target_": f"{TORCHS}CosineAnnealingLR", "unit": "epochs", "warmup": 2}
    curve = curve_of(node, BUDGET)
    assert curve.rates == pytest.approx([*np.arange(1, 11) / 11, *[1.0] * 5, *[0.5] * 5])


def test_its_momentum_is_taken_over() -> None:
    curve = curve_of({"_target_": f"{TORCHS}OneCycleLR", "max_lr": 1.0, "warmup": 4}, BUDGET)
    assert curve.momenta is not None
    assert curve.momenta.shape == (20,)
    assert (curve.momenta.min(), curve.momenta.max()) == pytest.approx((0.85, 0.95), abs=0.01)


class Halved(lr_scheduler.LRScheduler):
    def get_lr(self) -> list[float | torch.Tensor]:
        return [group["lr"] / 2 for group in self.optimizer.param_groups]


def test_a_scheduler_of_the_users_own_is_one_too() -> None:
    assert curve_of({"_target_": f"{HERE}Halved"}, BUDGET).rates.tolist() == [0.5 ** (t + 1) for t in range(20)]


def half(epoch: int) -> float:
    return 0.5**epoch


def test_a_function_can_be_given_to_lambda_lr() -> None:
    function = {"_target_": "hydra.utils.get_method", "path": f"{HERE}half"}
    curve = curve_of({"_target_": f"{TORCHS}LambdaLR", "lr_lambda": function, "unit": "epochs"}, BUDGET)
    assert curve.rates.tolist() == [0.5 ** (t // 5) for t in range(20)]


NO_SCHEDULERS: dict[str, tuple[dict[str, Any], str]] = {
    "one that follows a figure": ({"_target_": f"{TORCHS}ReduceLROnPlateau"}, "follows a figure"),
    "another class": ({"_target_": "torch.nn.Linear"}, "is a class, but none of torch.optim.lr_scheduler"),
    "a fraction": ({"_target_": f"{TORCHS}StepLR", "step_size": 2, "unit": "budget"}, "unit=budget: must be steps or"),
    "an argument left out": ({"_target_": f"{TORCHS}StepLR"}, "StepLR: TypeError: .*step_size"),
    "an argument too many": ({"_target_": f"{TORCHS}StepLR", "step": 2}, r"schedule\.step: no argument of StepLR"),
    "steps too few": ({"_target_": f"{TORCHS}OneCycleLR", "max_lr": 1, "total_steps": 3}, "OneCycleLR: ValueError: "),
}


@pytest.mark.parametrize(("node", "says"), NO_SCHEDULERS.values(), ids=NO_SCHEDULERS)
def test_a_class_that_gives_no_curve_is_refused(node: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        curve_of(node, BUDGET)
    assert "\n" not in str(refusal.value)


# ------------------------------------------------------------------------------------------ functions of the user's


def triangle(budget: Budget, height: float) -> Array:
    return height * (1 - np.abs(np.linspace(-1, 1, budget.steps)))


def lists(budget: Budget) -> list[float]:
    return [1.0] * budget.steps


def with_cycles(budget: Budget) -> Curve:
    return Curve(np.ones(budget.steps), np.full(budget.steps, 0.5), (7, 20))


def given(budget: Budget, what: Any) -> Any:
    return what


def cycles(budget: Budget, ends: list[int]) -> Curve:
    return Curve(np.ones(budget.steps), cycle_ends=tuple(ends))


def momentum(budget: Budget, value: float) -> Curve:
    return Curve(np.ones(budget.steps), np.full(budget.steps, value))


def raises(budget: Budget) -> Array:
    raise ValueError("not today")


def test_a_function_gives_factors_or_a_curve() -> None:
    assert curve_of({"_target_": f"{HERE}triangle", "height": 0.5}, BUDGET).rates.max() == pytest.approx(0.5, rel=0.1)
    assert curve_of({"_target_": f"{HERE}lists"}, BUDGET).rates.tolist() == [1.0] * 20
    curve = curve_of({"_target_": f"{HERE}with_cycles"}, BUDGET)
    assert curve.momenta is not None
    assert curve.cycle_ends == (7, 20)


NO_CURVES: dict[str, tuple[dict[str, Any], str]] = {
    "too few": ({"_target_": f"{HERE}given", "what": [1.0]}, r"given: gives factors \(1,\); must be \(20,\)"),
    "nothing": ({"_target_": f"{HERE}given", "what": None}, r"gives factors \(\); must be \(20,\)"),
    "words": ({"_target_": f"{HERE}given", "what": ["a"] * 20}, r"gives factors that are no numbers \(list\)"),
    "not finite": ({"_target_": f"{HERE}given", "what": [float("nan")] * 20}, "gives factors that are not all finite"),
    "below 0": ({"_target_": f"{HERE}given", "what": [-1.0] * 20}, "gives the factor -1; none may lie below 0"),
    "a cycle after the end": ({"_target_": f"{HERE}cycles", "ends": [5, 21]}, r"gives cycle_ends=\[5, 21\]; must rise"),
    "cycles backwards": ({"_target_": f"{HERE}cycles", "ends": [9, 5]}, r"gives cycle_ends=\[9, 5\]; must rise"),
    "a momentum of 1": ({"_target_": f"{HERE}momentum", "value": 1.0}, "gives momenta from 1 to 1; must be in 0 to"),
    "its own error": (
        {"_target_": f"{HERE}raises"},
        r"ValueError: not today \(test_reading\.py:\d+ in raises\)",
    ),
    "no target": ({}, "schedule: needs a _target_"),
    "no function": ({"_target_": "search.train.schedules.saw"}, r"schedules has no saw|schedule\._target_"),
}


@pytest.mark.parametrize(("node", "says"), NO_CURVES.values(), ids=NO_CURVES)
def test_what_is_no_curve_is_refused(node: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        curve_of(node, BUDGET)
    assert "\n" not in str(refusal.value)


def test_a_curve_sets_an_optimiser_as_pytorch_would() -> None:
    """The rates of the loop, base rate times factor, are those of PyTorch's scheduler on the optimiser itself."""
    optimizer = torch.optim.AdamW(nn.Linear(2, 1).parameters(), lr=0.003)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 20)
    optimizer.step()
    own = 0.003 * curve_of(shipped("cosine"), BUDGET).rates
    for rate in own:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        scheduler.step()


def test_constant_needs_no_settings() -> None:
    assert constant(BUDGET).rates.tolist() == curve_of({"_target_": f"{OURS}constant"}, BUDGET).rates.tolist()
