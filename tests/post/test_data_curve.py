"""What more data would bring: sizes, verdicts, and the stored curve."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.errors import UsageError
from search.post.data_curve import FILE, DataCurve, sizes_of
from search.reporting.figures import draw

SIZES = (100, 200, 400, 800)


def curve(errors: Any, *, metric: str = "accuracy", noise: float = 0.02, seeds: int = 3, **fields: Any) -> DataCurve:
    """Return a curve whose mean errors are these but for noise, relative, over the seeds."""
    maximize = metric in ("accuracy", "r2")
    drawn = np.asarray(errors)[:, None] * (1 + noise * np.random.default_rng(0).normal(size=(len(errors), seeds)))
    values = tuple(tuple(map(float, 1 - row if maximize else row)) for row in drawn)
    made: dict[str, Any] = {"metric": metric, "maximize": maximize, "base": "trial 7", "hold": "steps"}
    return DataCurve(**{**made, "sizes": SIZES, "values": values, **fields})


def power(floor: float, fall: float, exponent: float) -> Any:
    return floor + fall * (np.array(SIZES) / 800) ** -exponent


VERDICTS: dict[str, tuple[DataCurve, str]] = {
    "falling": (curve(power(0, 0.1, 0.5)), "more data helps"),
    "falling, in units of the target": (curve(power(0, 12.0, 0.5), metric="rmse"), "more data helps"),
    "flat": (curve(power(0.1, 0.002, 1.0), noise=0.002), "it flattens: more data"),
    "noise": (curve(power(0, 0.1, 0.15), noise=0.3), "whether more data helps cannot be told"),
    "no power law": (curve([0.3, 0.3, 0.3, 0.1], noise=0.01), "the points lie on no power law"),
    "rising": (curve([0.1, 0.12, 0.2, 0.3]), "the points lie on no power law"),
    "equal over the seeds, and up and down": (curve([0.5, 0.9, 0.5, 0.9], noise=0), "the points lie on no power law"),
    "no error": (curve([0.0] * 4), "nothing can be told: no error is left to fall"),
    "one seed": (curve(power(0, 0.1, 0.5), seeds=1), "one seed has all its trainings, which is too few to tell"),
}


@pytest.mark.parametrize(("made", "verdict"), VERDICTS.values(), ids=VERDICTS)
def test_the_verdict_says_whether_more_data_would_help(made: DataCurve, verdict: str) -> None:
    assert made.verdict.startswith(verdict), made.sentence()
    assert made.verdict in made.sentence()
    assert draw(made.figure()).startswith(b"\x89PNG")


def test_the_law_is_told_in_the_metrics_own_direction() -> None:
    accuracy, rmse = curve(power(0, 0.1, 0.5)), curve(power(0, 12.0, 0.5), metric="rmse")
    for made, now, twice in ((accuracy, 0.9, 1 - 0.1 / 2**0.5), (rmse, 12.0, 12 / 2**0.5)):
        for size, expected in ((800, now), (1600, twice)):
            told = made.expected(size)
            assert told is not None
            value, interval = told
            assert value == pytest.approx(expected, rel=0.03)
            assert interval is not None
            assert interval[0] < value < interval[1]
    assert "twice the data would lower it by 29%" in curve(power(0, 0.1, 0.5), noise=0).sentence()


def test_an_interval_expects_no_accuracy_above_one() -> None:
    told = curve(power(0, 0.02, 1.0), noise=0.4).expected(3200)
    assert told is not None
    assert told[1] is not None
    assert told[1][1] <= 1


def test_a_seed_with_a_failed_training_counts_for_its_sizes_alone() -> None:
    whole = curve(power(0, 0.1, 0.5))
    values = tuple((*row[:2], None if i == 1 else row[2]) for i, row in enumerate(whole.values))
    made = curve(power(0, 0.1, 0.5), values=values)
    left = [value for value in values[1] if value is not None]
    assert made.law is not None
    assert (made.seeds, made.law.seeds) == (3, 2)
    assert made.spread(0) == whole.spread(0)
    assert made.spread(1) == pytest.approx((np.mean(left), np.std(left, ddof=1)))
    lost = curve(power(0, 0.1, 0.5), values=((None,) * 3, *values[1:]))
    assert (lost.law, lost.spread(0), lost.expected(800)) == (None, None, None)
    assert draw(lost.figure()).startswith(b"\x89PNG")


SIZES_OF: dict[str, tuple[Any, int, int, tuple[int, ...]]] = {
    "six": (6, 4000, 10, (125, 250, 500, 1000, 2000, 4000)),
    "as many as hold every class twice": (6, 107, 10, (26, 53, 107)),
    "a regression": (6, 100, 0, (12, 25, 50, 100)),
    "three": (3, 1078, 10, (269, 539, 1078)),
    "a list": ([20, 90, 100], 100, 10, (20, 90, 100)),
}


@pytest.mark.parametrize(("wanted", "most", "classes", "expected"), SIZES_OF.values(), ids=SIZES_OF)
def test_sizes_double_up_to_all_or_are_those_given(wanted: Any, most: int, classes: int, expected: Any) -> None:
    assert sizes_of(wanted, most, classes) == expected


REFUSED: dict[str, tuple[Any, int, int, str]] = {
    "too few": (6, 79, 10, "data_curve.sizes=6: 79 training examples are too few to be halved twice; at least 80 are"),
    "too large": ([20, 50, 101], 100, 10, "data_curve.sizes=[20, 50, 101]: 101 must lie in 10 to 100"),
    "too small": ([9, 50, 100], 100, 10, "data_curve.sizes=[9, 50, 100]: 9 must lie in 10 to 100"),
}


@pytest.mark.parametrize(("wanted", "most", "classes", "reason"), REFUSED.values(), ids=REFUSED)
def test_sizes_that_the_data_does_not_have_are_refused(wanted: Any, most: int, classes: int, reason: str) -> None:
    with pytest.raises(UsageError) as refusal:
        sizes_of(wanted, most, classes)
    assert str(refusal.value).startswith(reason)


def test_a_curve_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = curve(power(0, 0.1, 0.5), values=((0.5, None), (0.6, 0.61), (0.7, 0.7), (0.8, 0.8)))
    assert DataCurve.load(tmp_path) is None
    made.save(tmp_path)
    assert DataCurve.load(tmp_path) == made
    assert json.loads((tmp_path / FILE).read_text())["sentence"] == made.sentence()


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]", b"{}", b'{"sizes": 3}', b'{"metric": "acc'])
def test_a_damaged_curve_is_named_with_the_way_out(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(damage)
    with pytest.raises(UsageError, match=r"data_curve.json: damaged; delete it, and the same command makes it again"):
        DataCurve.load(tmp_path)
