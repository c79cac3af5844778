import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.train.schedules import constant, cosine

POSITION = st.floats(0, 1, exclude_max=True)
SHARE = st.floats(0, 0.99)


@pytest.mark.parametrize("position", [0.0, 0.5, 0.999])
def test_constant_is_1_everywhere(position: float) -> None:
    assert constant(position) == 1.0


@pytest.mark.parametrize(
    ("warmup", "final", "position", "factor"),
    [
        (0.0, 0.0, 0.0, 1.0),
        (0.0, 0.0, 0.25, (1 + math.sqrt(0.5)) / 2),
        (0.0, 0.0, 0.5, 0.5),
        (0.0, 0.0, 1.0, 0.0),
        (0.0, 0.2, 0.5, 0.6),
        (0.0, 0.2, 1.0, 0.2),
        (0.1, 0.0, 0.0, 0.0),
        (0.1, 0.0, 0.05, 0.5),
        (0.1, 0.0, 0.1, 1.0),
        (0.1, 0.0, 0.55, 0.5),
        (0.1, 1.0, 0.7, 1.0),
    ],
)
def test_cosine_rises_and_falls_as_written(warmup: float, final: float, position: float, factor: float) -> None:
    assert cosine(position, warmup=warmup, final=final) == pytest.approx(factor, abs=1e-12)


@given(position=POSITION, warmup=SHARE, final=st.floats(0, 1))
def test_cosine_stays_between_0_and_1_and_above_its_end_after_the_rise(
    position: float, warmup: float, final: float
) -> None:
    factor = cosine(position, warmup=warmup, final=final)
    assert 0.0 <= factor <= 1.0 + 1e-12
    if position >= warmup:
        assert factor >= final - 1e-12


@given(one=POSITION, other=POSITION, warmup=SHARE, final=st.floats(0, 1))
def test_cosine_rises_before_the_end_of_the_warmup_and_falls_after_it(
    one: float, other: float, warmup: float, final: float
) -> None:
    first, second = sorted((one, other))
    a, b = (cosine(p, warmup=warmup, final=final) for p in (first, second))
    if second < warmup:
        assert a <= b
    elif first >= warmup:
        assert a >= b - 1e-12
