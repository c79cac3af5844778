"""What changes are worth: against scipy's paired t-test, and stored as they were."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from search.errors import UsageError
from search.post.comparison import ABLATION, Comparison, base_of, change_of, unchanged

BASE = base_of("trial 7", [0.90, 0.92, 0.91, 0.93, 0.90])


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    generator = np.random.default_rng(0)
    for size in (2, 3, 5, 20):
        base, ours = generator.normal(size=(2, size)).tolist()
        change = change_of("x", "", ours, base_of("", base), maximize=True)
        expected = stats.ttest_rel(ours, base)
        low, high = expected.confidence_interval(0.95)
        assert change.gain == pytest.approx(np.mean(ours) - np.mean(base))
        assert change.interval == pytest.approx((low, high))
        assert (change.verdict == "no difference shown") == (expected.pvalue > 0.05)
        assert change.spread == pytest.approx((np.mean(ours), np.std(ours, ddof=1)))


@pytest.mark.parametrize(
    ("values", "maximize", "verdict"),
    [
        ([0.95, 0.96, 0.96, 0.97, 0.95], True, "helps"),
        ([0.95, 0.96, 0.96, 0.97, 0.95], False, "hurts"),
        ([0.85, 0.86, 0.86, 0.87, 0.85], True, "hurts"),
        ([0.85, 0.86, 0.86, 0.87, 0.85], False, "helps"),
        ([0.91, 0.91, 0.92, 0.92, 0.90], True, "no difference shown"),
        ([0.90, 0.92, 0.91, 0.93, 0.90], True, "no difference shown"),
    ],
)
def test_a_gain_is_one_in_the_metrics_own_direction(values: list[float], maximize: bool, verdict: str) -> None:
    change = change_of("x", "", values, BASE, maximize=maximize)
    assert change.verdict == verdict
    assert change.gain is not None
    assert {"helps": change.gain > 0, "hurts": change.gain < 0}.get(verdict, True)


def test_a_failed_training_takes_its_pair_with_it() -> None:
    base = base_of("", [0.9, None, 0.8, 0.7])
    change = change_of("x", "", [0.95, 0.9, None, 0.8], base, maximize=True)
    assert change.pairs == 2
    assert change.gain == pytest.approx(0.075)
    assert change.spread == pytest.approx((np.mean([0.95, 0.9, 0.8]), np.std([0.95, 0.9, 0.8], ddof=1)))


def test_too_few_pairs_show_no_interval() -> None:
    one = change_of("x", "", [0.95, None], base_of("", [0.9, 0.8]), maximize=True)
    assert (one.pairs, one.interval, one.spread, one.verdict) == (1, None, (0.95, None), "too few pairs")
    assert one.gain is not None
    assert math.isclose(one.gain, 0.05)
    none = change_of("x", "", [None, None], base_of("", [0.9, 0.8]), maximize=True)
    assert (none.pairs, none.gain, none.interval, none.spread, none.verdict) == (0, None, None, None, "too few pairs")


def test_the_same_step_of_a_coarse_metric_in_every_pair_is_no_certainty() -> None:
    step = change_of("x", "", [0.75, 0.5], base_of("", [0.5, 0.25]), maximize=True)
    assert (step.gain, step.interval, step.verdict) == (0.25, None, "too few pairs")
    none = change_of("x", "", [0.75, 0.5], base_of("", [0.75, 0.5]), maximize=True)
    assert (none.gain, none.interval, none.verdict) == (0.0, (0.0, 0.0), "no difference shown")


def test_a_comparison_is_read_as_it_was_written(tmp_path: Path) -> None:
    changes = (
        change_of("a", "model.width: 8 → 4", [0.95, None, 0.9, 0.9, 0.9], BASE, maximize=True),
        change_of("b", "", [None] * 5, BASE, maximize=True),
        unchanged("c"),
    )
    stored = Comparison(metric="accuracy", maximize=True, seeds=5, base=BASE, changes=changes)
    assert Comparison.load(tmp_path / ABLATION) is None
    stored.save(tmp_path / ABLATION)
    assert Comparison.load(tmp_path / ABLATION) == stored


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]", b"{}", b'{"changes": [3]}', b'{"metric": "acc'])
def test_a_damaged_comparison_is_named_with_the_way_out(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / ABLATION).write_bytes(damage)
    with pytest.raises(UsageError, match=r"ablation.json: damaged; delete it, and the same command makes it again"):
        Comparison.load(tmp_path / ABLATION)
