import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.keyed import keyed_int, keyed_uniform

KEYS = st.lists(st.integers() | st.text(), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ((0,), 4761921975702974394),
        ((0, 1, "trial"), 4424703630440279467),
        ((7, "epoch", 3), 7370620957144609117),
        ((0, 0, "model.mlp.width"), 5001713068075205690),
        (("ü",), 3096452320722720667),
    ],
    ids=str,
)
def test_numbers_stay_as_they_were_in_every_version_and_process(key: tuple[int | str, ...], expected: int) -> None:
    # a study that is resumed with a later version must go on with the same trials
    assert keyed_int(*key) == expected
    assert keyed_uniform(*key) == pytest.approx(expected / 2**63, rel=0, abs=2**-53)


@given(KEYS)
def test_numbers_stay_in_their_range(key: list[int | str]) -> None:
    assert 0 <= keyed_int(*key) < 2**63
    assert 0.0 <= keyed_uniform(*key) < 1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, 1), (1, 0)),
        (("a", "bc"), ("ab", "c")),
        ((1, 11), (11, 1)),
        ((1,), (1, "")),
        ((0, 12), (0, 1, 2)),
    ],
    ids=str,
)
def test_every_part_of_a_key_and_its_place_count(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> None:
    assert keyed_int(*one) != keyed_int(*other)


def test_neighbouring_keys_never_meet() -> None:
    numbers = {keyed_int(seed, i, name) for seed in range(10) for i in range(1000) for name in ("lr", "width")}
    assert len(numbers) == 20_000  # birthday bound for 63 bits: 2e-11


def test_numbers_of_neighbouring_keys_are_uniform_and_independent() -> None:
    size = 10_000
    draws = [keyed_uniform(0, i, "lr") for i in range(size)]
    tenths = [0] * 10
    for u in draws:
        tenths[int(u * 10)] += 1
    # chi-squared with 9 degrees of freedom exceeds 27.9 once in a thousand; keys are fixed, so this cannot flicker
    assert sum((n - size / 10) ** 2 / (size / 10) for n in tenths) < 27.9
    # the correlation of independent pairs has a standard deviation of 1/sqrt(size); three of them
    pairs = [(draws[i] - 0.5) * (draws[i + 1] - 0.5) for i in range(size - 1)]
    assert abs(sum(pairs) / len(pairs)) * 12 < 3 / math.sqrt(size)
