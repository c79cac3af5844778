"""R36: the range test held against the composed learning rate and the space."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from search.checks.baselines.range_test import _curves, _without_fall
from search.checks.baselines.short_run import trained
from search.checks.bench import Bench
from search.checks.evidence import Curves
from search.checks.rows import check_of
from search.checks.run import finding_of
from search.keyed import keyed_int
from search.records import CheckVerdict
from search.train.range_test import RangeTest
from tests.kits.zoo import ADAMW, PREFLIGHT_SETTINGS, config, digits, divided

MARKS = {
    *("suggested: from", "suggested: to", "steepest", "diverges"),
    *("your default", "search: from", "search: to"),
}


def bench(optimizer: dict[str, Any] = ADAMW, **settings: Any) -> Bench:
    return Bench(
        dataset=divided(digits(0), 0),
        config=config(optimizer=optimizer),
        settings={**PREFLIGHT_SETTINGS, **settings},
        device=torch.device("cpu"),
        seed=keyed_int(0, "zoo"),
    )


def test_the_composed_rate_lies_in_the_range() -> None:
    finding, (curves,) = finding_of(check_of("R36"), bench(lr_space=[3e-4, 1e-2]))
    assert finding.verdict is CheckVerdict.PASS
    assert finding.measured["lr_low"] < finding.measured["lr_steepest"] < finding.measured["lr_high"]
    assert finding.measured["lr_high"] < finding.measured["lr_diverged"]
    assert "the search tries 0.0003 to 0.01" in finding.sentence
    assert isinstance(curves, Curves)
    assert curves.name == "range-test"
    assert curves.log_x
    assert set(curves.marks) == MARKS
    assert all(np.isfinite(line).all() for line in curves.lines.values())


@pytest.mark.parametrize(("lr", "advice"), [(1e-7, "raise"), (10.0, "lower")])
def test_a_composed_rate_outside_warns(lr: float, advice: str) -> None:
    finding, _ = finding_of(check_of("R36"), bench({**ADAMW, "lr": lr}))
    assert finding.verdict is CheckVerdict.WARN
    assert advice in finding.advice


@pytest.mark.parametrize(
    ("optimizer", "settings", "reason"),
    [
        (ADAMW, {"lr_bounds": "off"}, "off"),
        (ADAMW, {"lr_bounds": False}, "off"),
        ({"_target_": "torch.optim.AdamW"}, {}, "no learning rate"),
    ],
)
def test_it_is_skipped_with_its_reason(optimizer: dict[str, Any], settings: dict[str, Any], reason: str) -> None:
    finding, _ = finding_of(check_of("R36"), bench(optimizer, **settings))
    assert finding.verdict is CheckVerdict.SKIP
    assert reason in finding.sentence


def test_a_space_beside_what_is_worth_searching_passes_where_training_learns() -> None:
    finding, _ = finding_of(check_of("R36"), bench(lr_space=[1e-5, 1e-4]))
    assert finding.verdict is CheckVerdict.PASS
    assert "lies outside the searched" in finding.sentence
    assert "yet training learns at 0.001" in finding.sentence
    finding, _ = finding_of(check_of("R36"), bench({**ADAMW, "lr": 1e-7}, lr_space=[1e-7, 1e-6]))
    assert finding.verdict is CheckVerdict.WARN
    assert "training does not learn at 1e-07" in finding.sentence


def test_a_ramp_without_a_fall_passes_where_training_learns() -> None:
    subject = bench({"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}, steps=20)
    subject.once("short run", lambda: trained(dataclasses.replace(subject, settings=PREFLIGHT_SETTINGS)))
    flat = RangeTest(rates=np.geomspace(1e-5, 1e-4, 20), losses=np.ones(20), smoothed=np.ones(20))
    finding = _without_fall(subject, flat, 0.1, _curves(subject, flat, 0.1))
    assert finding.verdict is CheckVerdict.PASS
    assert "falls at no learning rate from 1e-05 to 0.0001, yet training learns at 0.1" in finding.sentence
    still = bench({**ADAMW, "lr": 1e-9}, steps=20)
    finding = _without_fall(still, flat, 1e-9, _curves(still, flat, 1e-9))
    assert finding.verdict is CheckVerdict.WARN
    assert "R17" in finding.advice
