import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from search.errors import UsageError
from search.keyed import keyed_uniform
from search.records import ParamValue
from search.space import Dimension, Space, branches, num_points, settings_of

UNIT = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
Values = list[ParamValue]


def composed(**nodes: Any) -> DictConfig:
    return OmegaConf.create({"choose": {}, **nodes})


def dimension(spec: Any, default: Any) -> Dimension:
    (found,) = Space.of(composed(model={"x": default, "space": {"x": spec}})).dimensions
    return found


# What may be written, and what it means: id -> (spec, default, values at u = 0, 1/2 and just below 1, in words).
ACCEPTED: dict[str, tuple[dict[str, Any], Any, Values, str]] = {
    "numbers": ({"choices": [32, 64, 128]}, 64, [32, 64, 128], "one of 32, 64, 128"),
    "words": ({"choices": ["relu", "gelu"]}, "relu", ["relu", "gelu", "gelu"], "one of relu, gelu"),
    "truth values": ({"choices": [True, False]}, True, [True, False, False], "one of True, False"),
    "null": ({"choices": [None, 3]}, None, [None, 3, 3], "one of None, 3"),
    "one choice": ({"choices": [5]}, 5, [5, 5, 5], "one of 5"),
    "mixed": ({"choices": [0, 0.5, "auto"]}, 0, [0, 0.5, "auto"], "one of 0, 0.5, auto"),
    "integers": ({"low": 1, "high": 3}, 2, [1, 2, 3], "1 to 3"),
    "one integer": ({"low": 2, "high": 2}, 2, [2, 2, 2], "2 to 2"),
    "negative integers": ({"low": -3, "high": -1}, -2, [-3, -2, -1], "-3 to -1"),
    "integer step": ({"low": 2, "high": 6, "step": 2}, 2, [2, 4, 6], "2 to 6, step 2"),
    "step that misses the end": ({"low": 1, "high": 10, "step": 4}, 1, [1, 5, 9], "1 to 9, step 4"),
    "many integers": ({"low": 1, "high": 1234567}, 2, [1, 617284, 1234567], "1 to 1234567"),
    "integer log": ({"low": 1, "high": 64, "log": True}, 8, [1, 6, 64], "1 to 64, log"),
    "floats": ({"low": 0.0, "high": 0.5}, 0.0, [0.0, 0.25, 0.5], "0 to 0.5"),
    "one float": ({"low": 0.1, "high": 0.1}, 0.1, [0.1, 0.1, 0.1], "0.1 to 0.1"),
    "integer and float end": ({"low": 0, "high": 0.5}, 0.0, [0.0, 0.25, 0.5], "0 to 0.5"),
    "integer ends, float default": ({"low": 0, "high": 1}, 0.5, [0.0, 0.5, 1.0], "0 to 1"),
    "float step": ({"low": 0.0, "high": 0.5, "step": 0.25}, 0.0, [0.0, 0.25, 0.5], "0 to 0.5, step 0.25"),
    "float step on integers": ({"low": 0, "high": 1, "step": 0.5}, 0, [0.0, 0.5, 1.0], "0 to 1, step 0.5"),
    "float log": ({"low": 1e-4, "high": 1e-2, "log": True}, 1e-3, [1e-4, 1e-3, 1e-2], "0.0001 to 0.01, log"),
    "log said not to be": ({"low": 0.0, "high": 1.0, "log": False}, 0.0, [0.0, 0.5, 1.0], "0 to 1"),
    "choices win over a range": ({"choices": [1, 9], "low": 0, "high": 5}, 1, [1, 9, 9], "one of 1, 9"),
    "choices unset again": ({"choices": None, "low": 1, "high": 3}, 1, [1, 2, 3], "1 to 3"),
    "default outside": ({"low": 0.1, "high": 0.5}, 0.0, [0.1, 0.3, 0.5], "0.1 to 0.5"),
    "no default": ({"low": 1, "high": 3}, None, [1, 2, 3], "1 to 3"),
}


@pytest.mark.parametrize(("spec", "default", "values", "words"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_dimension_means_these_values(spec: dict[str, Any], default: Any, values: Values, words: str) -> None:
    found = dimension(spec, default)
    drawn = [found.at(u) for u in (0.0, 0.5, math.nextafter(1.0, 0.0))]
    assert drawn == pytest.approx(values) if isinstance(values[0], float) else drawn == values
    assert [type(v) for v in drawn] == [type(v) for v in values]  # ints stay ints
    assert found.describe() == words
    assert found.default == default


# What is refused: id -> (spec, default, the key that the message names, what it says is allowed).
REFUSED: dict[str, tuple[Any, Any, str, str]] = {
    "a list": ([1, 2], 1, "model.space.x=", "{choices: [...]}"),
    "a number": (3, 1, "model.space.x=3", "{low: ..., high: ...}"),
    "a word": ("1..3", 1, "model.space.x=", "must be a mapping"),
    "null": (None, 1, "model.space.x=", "must be a mapping"),
    "unknown field": ({"min": 1, "max": 2}, 1, "model.space.x.min", "choices, low, high, log, step"),
    "nothing": ({}, 1, "model.space.x.low=null", "must be a number"),
    "no high": ({"low": 1}, 1, "model.space.x.high=null", "must be a number"),
    "no low": ({"high": 1}, 1, "model.space.x.low=null", "must be a number"),
    "word as an end": ({"low": "a", "high": 1}, 1, "model.space.x.low=a", "must be a number"),
    "truth value as an end": ({"low": False, "high": 1}, 1, "model.space.x.low=False", "must be a number"),
    "infinite end": ({"low": 0.0, "high": math.inf}, 1, "model.space.x.high=inf", "must be a number"),
    "end that is no number": ({"low": math.nan, "high": 1.0}, 1, "model.space.x.low=nan", "must be a number"),
    "ends the wrong way": ({"low": 3, "high": 1}, 1, "model.space.x: low=3", "above high=1"),
    "log from zero": ({"low": 0, "high": 1, "log": True}, 1, "model.space.x: log", "low above 0"),
    "log from below zero": ({"low": -1.0, "high": 1.0, "log": True}, 1, "model.space.x: log", "not low=-1.0"),
    "log as a word": ({"low": 1, "high": 2, "log": "natural"}, 1, "model.space.x.log=natural", "true or false"),
    "step of zero": ({"low": 0, "high": 2, "step": 0}, 1, "model.space.x.step=0", "above 0"),
    "step backwards": ({"low": 0, "high": 2, "step": -1}, 1, "model.space.x.step=-1", "above 0"),
    "step as a word": ({"low": 0, "high": 2, "step": "two"}, 1, "model.space.x.step=two", "must be a number"),
    "step and log": ({"low": 1, "high": 8, "step": 2, "log": True}, 1, "model.space.x.step=2", "choices=[...]"),
    "no choices": ({"choices": []}, 1, "model.space.x.choices=[]", "at least one value"),
    "choices as a word": ({"choices": "a,b"}, "a", "model.space.x.choices=a,b", "must be a list"),
    "choice twice": ({"choices": [1, 2, 1]}, 1, "model.space.x.choices=[1, 2, 1]", "twice"),
    "true beside 1": ({"choices": [1, True]}, 1, "model.space.x.choices=[1, True]", "twice"),  # equal for Optuna
    "false beside 0": ({"choices": [False, 0.0]}, 0.0, "model.space.x.choices=[False, 0.0]", "twice"),
    "equal numbers": ({"choices": [1, 1.0]}, 1, "model.space.x.choices=[1, 1.0]", "twice"),
    "a list as a choice": (
        {"choices": [[1], [2]]},
        1,
        "model.space.x.choices",
        "a number, a word, true, false or null",
    ),
    "infinite choice": ({"choices": [1.0, math.inf]}, 1, "model.space.x.choices", "must be finite"),
    "choice that is no number": ({"choices": [math.nan]}, 1, "model.space.x.choices", "must be finite"),
    "range of a list": ({"low": 0.1, "high": 0.9}, [0.9, 0.99], "model.space.x", "number"),
    "choices of a list": ({"choices": [1, 2]}, [1, 2], "model.space.x", "number"),
}


@pytest.mark.parametrize(("spec", "default", "key", "allowed"), REFUSED.values(), ids=REFUSED)
def test_an_impossible_dimension_is_refused_by_its_key(spec: Any, default: Any, key: str, allowed: str) -> None:
    with pytest.raises(UsageError) as refusal:
        dimension(spec, default)
    assert key in str(refusal.value)
    assert allowed in str(refusal.value)


REFUSED_TREES: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown key": (
        {"model": {"_target_": "M", "width": 1, "depth": 1, "space": {"widht": {"low": 1, "high": 2}}}},
        "model.space.widht",
        "allowed: width, depth",
    ),
    "no keys at all": ({"model": {"space": {"width": {"low": 1, "high": 2}}}}, "model.space.width", "allowed: none"),
    "deep key": (
        {"model": {"head": {"size": 1, "space": {"width": {"low": 1, "high": 2}}}}},
        "model.head.space.width",
        "allowed: size",
    ),
    "key of an option": (
        {"choose": {"model": {"mlp": {"width": 1, "space": {"depth": {"low": 1, "high": 2}}}}}},
        "choose.model.mlp.space.depth",
        "allowed: width",
    ),
    "top level": ({"space": {"seed": {"low": 1, "high": 2}}, "seeds": 1}, "space.seed", "allowed: choose, seeds"),
    "options as a list": ({"choose": {"model": ["mlp", "cnn"]}}, "choose.model", "choose.model=[a,b]"),
    "no options": ({"choose": {"model": {}}}, "choose.model", "choose.model=[a,b]"),
    "option as a word": ({"choose": {"model": {"mlp": "MLP"}}}, "choose.model.mlp", "a configuration of model"),
    "space as a list": ({"model": {"width": 1, "space": ["width"]}}, "model.space", "mapping"),
    "space as a number": ({"model": {"width": 1, "space": 3}}, "model.space", "mapping"),
}


@pytest.mark.parametrize(("nodes", "key", "allowed"), REFUSED_TREES.values(), ids=REFUSED_TREES)
def test_an_impossible_tree_is_refused_by_its_key(nodes: dict[str, Any], key: str, allowed: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Space.of(composed(**nodes))
    assert key in str(refusal.value)
    assert allowed in str(refusal.value)


# ------------------------------------------------------------------------------------ every draw lies in the space

WORDS = st.text(max_size=4).filter(lambda text: "${" not in text)  # that would be half an interpolation
SCALARS = st.none() | st.booleans() | st.integers(-100, 100) | st.floats(-100, 100) | WORDS


@st.composite
def choices(draw: st.DrawFn) -> tuple[dict[str, Any], Any]:
    values = draw(st.lists(SCALARS, min_size=1, max_size=5, unique=True))
    return {"choices": values}, draw(st.sampled_from(values) | SCALARS)


@st.composite
def integer_ranges(draw: st.DrawFn) -> tuple[dict[str, Any], Any]:
    low = draw(st.integers(-1000, 1000))
    spec = {"low": low, "high": low + draw(st.integers(0, 1000))}
    if draw(st.booleans()):
        spec["step"] = draw(st.integers(1, 50))
    return spec, draw(st.integers(-2000, 2000))


@st.composite
def integer_log_ranges(draw: st.DrawFn) -> tuple[dict[str, Any], Any]:
    low = draw(st.integers(1, 100))
    return {"low": low, "high": low + draw(st.integers(0, 10_000)), "log": True}, draw(st.integers(-10, 20_000))


@st.composite
def float_ranges(draw: st.DrawFn) -> tuple[dict[str, Any], Any]:
    low, width = draw(st.floats(-1e6, 1e6)), draw(st.floats(0, 1e6))
    return {"low": low, "high": low + width}, draw(st.floats(-3e6, 3e6))


@st.composite
def float_log_ranges(draw: st.DrawFn) -> tuple[dict[str, Any], Any]:
    low = draw(st.floats(1e-9, 1.0))
    return {"low": low, "high": low * draw(st.floats(1.0, 1e6)), "log": True}, draw(st.floats(-1, 1e6))


@st.composite
def float_steps(draw: st.DrawFn) -> tuple[dict[str, Any], Any]:
    # hundredths, as people write them: their binary fractions are what goes wrong
    low, step = draw(st.integers(-100, 100)), draw(st.integers(1, 50))
    high = low + draw(st.integers(0, 20)) * step + draw(st.sampled_from([0, 0, step // 2]))
    return {"low": low / 100, "high": high / 100, "step": step / 100}, draw(st.floats(-10, 10))


SPECS: dict[str, st.SearchStrategy[tuple[dict[str, Any], Any]]] = {
    "choices": choices(),
    "integers": integer_ranges(),
    "integers, log": integer_log_ranges(),
    "floats": float_ranges(),
    "floats, log": float_log_ranges(),
    "floats, step": float_steps(),
}


def dimensions(specs: st.SearchStrategy[tuple[dict[str, Any], Any]]) -> st.SearchStrategy[Dimension]:
    return specs.map(lambda pair: dimension(*pair))


@pytest.mark.parametrize("specs", SPECS.values(), ids=SPECS)
@given(data=st.data(), u=UNIT)
@settings(deadline=None, derandomize=True)
def test_every_draw_lies_in_the_dimension(
    specs: st.SearchStrategy[tuple[dict[str, Any], Any]], data: st.DataObject, u: float
) -> None:
    drawn_from = data.draw(dimensions(specs))
    assert drawn_from.contains(drawn_from.at(u))
    if drawn_from.integer:
        assert type(drawn_from.at(u)) is int


@pytest.mark.parametrize("specs", SPECS.values(), ids=SPECS)
@given(data=st.data(), value=SCALARS | st.floats(allow_nan=False, allow_infinity=False, width=32))
@settings(deadline=None, derandomize=True)
def test_the_nearest_value_lies_in_the_dimension(
    specs: st.SearchStrategy[tuple[dict[str, Any], Any]], data: st.DataObject, value: ParamValue
) -> None:
    found = data.draw(dimensions(specs))
    nearest = found.nearest(value)
    assert found.contains(nearest)
    assert found.nearest(nearest) == nearest
    if found.contains(value):  # which allows for the rounding of steps
        assert nearest == value or abs(nearest - value) <= 1e-7 * found.step  # type: ignore[operator]


@pytest.mark.parametrize("specs", SPECS.values(), ids=SPECS)
@given(data=st.data(), u=UNIT)
@settings(deadline=None, derandomize=True)
def test_optuna_keeps_every_draw_as_it_is(
    specs: st.SearchStrategy[tuple[dict[str, Any], Any]], data: st.DataObject, u: float
) -> None:
    drawn_from = data.draw(dimensions(specs))
    distribution = drawn_from.distribution()
    for value in (drawn_from.at(u), drawn_from.nearest(drawn_from.default)):
        stored = distribution.to_internal_repr(value)
        assert distribution._contains(stored)
        back = distribution.to_external_repr(stored)
        assert back == value
        assert isinstance(back, bool) == isinstance(value, bool)


@pytest.mark.parametrize("specs", SPECS.values(), ids=SPECS)
@given(data=st.data(), u=UNIT)
@settings(deadline=None, derandomize=True)
def test_a_grid_holds_what_a_draw_may_give_and_nothing_else(
    specs: st.SearchStrategy[tuple[dict[str, Any], Any]], data: st.DataObject, u: float
) -> None:
    found = data.draw(dimensions(specs))
    if not found.choices and found.step is None:
        with pytest.raises(UsageError, match=r"model\.x.*choices=\[\.\.\.\] or a step"):
            found.grid()
        return
    grid = found.grid()
    assert all(map(found.contains, grid))
    assert len(set(grid)) == len(grid)
    assert found.at(u) in grid


@given(u=st.lists(UNIT, min_size=2, max_size=2), data=st.data())
@settings(deadline=None, derandomize=True)
def test_quantiles_rise(u: list[float], data: st.DataObject) -> None:
    found = data.draw(dimensions(st.one_of(integer_ranges(), integer_log_ranges(), float_ranges(), float_log_ranges())))
    low, high = (found.at(v) for v in sorted(u))
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    assert low <= high


@pytest.mark.parametrize(
    ("spec", "num_values"),
    [({"choices": [3, 1, 2]}, 3), ({"low": 1, "high": 5}, 5), ({"low": 0.0, "high": 0.75, "step": 0.25}, 4)],
    ids=["choices", "integers", "steps"],
)
def test_every_value_has_the_same_share_of_the_draws(spec: dict[str, Any], num_values: int) -> None:
    found, per_value = dimension(spec, 1), 50
    size = num_values * per_value
    draws = [found.at((i + 0.5) / size) for i in range(size)]
    assert {value: draws.count(value) for value in draws} == dict.fromkeys(found.grid(), per_value)


def test_a_log_range_of_integers_gives_each_its_share_of_the_logarithm() -> None:
    found, size = dimension({"low": 1, "high": 4, "log": True}, 1), 9000
    draws = [found.at((i + 0.5) / size) for i in range(size)]
    # value k has the quantiles of log(k - 1/2) to log(k + 1/2), of log(1/2) to log(9/2) altogether
    assert [draws.count(k) / size for k in (1, 2, 3, 4)] == pytest.approx(
        [math.log((k + 0.5) / (k - 0.5)) / math.log(9) for k in (1, 2, 3, 4)], abs=2 / size
    )


@pytest.mark.parametrize("spec", [{"low": 0.0, "high": 1.0, "step": 0.3}, {"low": 1, "high": 10, "step": 4}], ids=str)
def test_a_step_that_misses_the_end_reaches_optuna_without_a_warning(spec: dict[str, Any]) -> None:
    dimension(spec, 1).distribution()


@pytest.mark.parametrize(
    ("spec", "value", "inside"),
    [
        ({"choices": [1, 2]}, 1, True),
        ({"choices": [1, 2]}, True, False),
        ({"choices": [True, False]}, 1, False),
        ({"choices": [None, 1]}, None, True),
        ({"choices": ["1"]}, 1, False),
        ({"low": 1, "high": 3}, 3, True),
        ({"low": 1, "high": 3}, 4, False),
        ({"low": 1, "high": 3}, 1.5, False),
        ({"low": 1, "high": 3}, True, False),
        ({"low": 1, "high": 3}, "2", False),
        ({"low": 1, "high": 3}, None, False),
        ({"low": 1, "high": 64, "log": True}, 2, True),
        ({"low": 1, "high": 64, "log": True}, 1.5, False),
        ({"low": 0, "high": 6, "step": 2}, 4, True),
        ({"low": 0, "high": 6, "step": 2}, 3, False),
        ({"low": 0.0, "high": 1.0}, 1, True),
        ({"low": 0.0, "high": 1.0}, math.nan, False),
        ({"low": 0.0, "high": 1.0}, math.nextafter(1.0, 2.0), False),
        ({"low": 0.0, "high": 0.7, "step": 0.1}, 0.7, True),
        ({"low": 0.0, "high": 0.7, "step": 0.1}, 0.65, False),
    ],
    ids=str,
)
def test_what_lies_in_a_dimension(spec: dict[str, Any], value: ParamValue, inside: bool) -> None:
    assert dimension(spec, 1).contains(value) is inside


@pytest.mark.parametrize(
    ("spec", "value", "nearest"),
    [
        ({"choices": [8, 16, 32]}, 20, 16),
        ({"choices": [8, "auto"]}, 100, 8),
        ({"choices": ["relu", "gelu"]}, "tanh", "relu"),
        ({"choices": ["relu", "gelu"]}, 3, "relu"),
        ({"choices": [True, False]}, 0, True),
        ({"low": 2, "high": 4}, 9, 4),
        ({"low": 2, "high": 4}, 3.0, 3),
        ({"low": 2, "high": 4}, None, 2),
        ({"low": 2, "high": 4}, "wide", 2),
        ({"low": 1, "high": 10, "step": 4}, 10, 9),
        ({"low": 1, "high": 10, "step": 4}, 4, 5),
        ({"low": 1, "high": 64, "log": True}, 7.6, 8),
        ({"low": 0.1, "high": 0.5}, 0.0, 0.1),
        ({"low": 0.0, "high": 0.5, "step": 0.25}, 0.3, 0.25),
    ],
    ids=str,
)
def test_the_nearest_value_is_this(spec: dict[str, Any], value: ParamValue, nearest: ParamValue) -> None:
    found = dimension(spec, 1).nearest(value)
    assert found == nearest
    assert type(found) is type(nearest)


# ------------------------------------------------------------------------------------------------ the whole space

NODES: dict[str, Any] = {
    "seed": 3,
    "data": {"name": "digits", "source": "${seed}"},
    "optimizer": {
        "lr": 1e-3,
        "betas": [0.9, 0.99],
        "space": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        "inner": {"decay": 0.0, "space": {"decay": {"low": 0.0, "high": 0.5}}},
    },
    "trainer": {"epochs": 3, "space": {}},
    "schedule": {"warmup": "${optimizer.inner.decay}"},
    "model": None,
    "choose": {
        "model": {
            "mlp": {
                "_target_": "M",
                "width": 64,
                "depth": 1,
                "space": {"width": {"choices": [32, 64]}, "depth": {"low": 1, "high": 3}},
            },
            "cnn": {"_target_": "C", "width": 8, "twice": "${.width}", "space": {"width": {"low": 4, "high": 8}}},
            "linear": {"_target_": "L"},
        }
    },
}
NAMES = ["model", "model.mlp.width", "model.mlp.depth", "model.cnn.width", "optimizer.inner.decay", "optimizer.lr"]


@pytest.fixture(scope="module")
def space() -> Space:
    return Space.of(OmegaConf.create(NODES))


def drawn(space: Space, seed: int, number: int) -> dict[str, ParamValue]:
    return space.draw(lambda d: d.at(keyed_uniform(seed, number, d.name)))


TRIALS = [(seed, number) for seed in (0, 1) for number in range(15)]


def test_a_choice_stands_before_what_it_brings(space: Space) -> None:
    assert [d.name for d in space.dimensions] == NAMES
    assert space.describe()["model"] == "one of mlp, cnn, linear"


@pytest.mark.parametrize(("seed", "number"), TRIALS)
def test_a_draw_has_only_the_parameters_of_the_chosen_option(space: Space, seed: int, number: int) -> None:
    params = drawn(space, seed, number)
    brought = {name for name in params if name.startswith("model.")}
    assert brought == {n for n in NAMES if n.startswith(f"model.{params['model']}.")}
    assert {"optimizer.lr", "optimizer.inner.decay"} <= set(params)
    assert all(d.contains(params[d.name]) for d in space.dimensions if d.name in params)


@pytest.mark.parametrize(("seed", "number"), TRIALS)
def test_a_configuration_holds_what_is_shown(space: Space, seed: int, number: int) -> None:
    params = drawn(space, seed, number)
    config = OmegaConf.create(space.configure(params))
    shown = space.shown(params)
    assert len(shown) == len(params)
    chosen = shown.pop("model")
    assert config.model._target_ == {"mlp": "M", "cnn": "C", "linear": "L"}[str(chosen)]
    assert {path: OmegaConf.select(config, path) for path in shown} == shown
    assert space.complete({"model": chosen, **shown}) == params


def test_a_configuration_is_resolved_and_free_of_space_and_choose(space: Space) -> None:
    config = space.configure(
        {"model": "cnn", "model.cnn.width": 5, "optimizer.inner.decay": 0.25, "optimizer.lr": 0.01}
    )
    assert config == {
        "seed": 3,
        "data": {"name": "digits", "source": 3},
        "optimizer": {"lr": 0.01, "betas": [0.9, 0.99], "inner": {"decay": 0.25}},
        "trainer": {"epochs": 3},
        "schedule": {"warmup": 0.25},
        "model": {"_target_": "C", "width": 5, "twice": 5},
    }


@pytest.mark.parametrize("left_out", ["optimizer.lr", "model.mlp.depth", "model.mlp.width"])
def test_a_parameter_does_not_depend_on_other_dimensions(space: Space, left_out: str) -> None:
    smaller = Space(dimensions=tuple(d for d in space.dimensions if d.name != left_out), base=space.base)
    for seed, number in TRIALS:
        whole = drawn(space, seed, number)
        whole.pop(left_out, None)
        assert drawn(smaller, seed, number) == whole


def test_a_parameter_depends_on_seed_and_number(space: Space) -> None:
    rates = {drawn(space, seed, number)["optimizer.lr"] for seed, number in TRIALS}
    assert len(rates) == len(TRIALS)


def test_naming_a_group_takes_it_out_of_choose() -> None:
    named = Space.of(OmegaConf.create({**NODES, "model": NODES["choose"]["model"]["cnn"]}))
    assert [d.name for d in named.dimensions] == ["model.width", "optimizer.inner.decay", "optimizer.lr"]
    config = named.configure(named.default())
    assert config["model"] == {"_target_": "C", "width": 8, "twice": 8}
    assert "choose" not in config


def test_without_dimensions_every_trial_is_the_default() -> None:
    fixed = Space.of(composed(model={"width": 1}))
    assert fixed.dimensions == ()
    assert fixed.default() == {}
    assert list(fixed.grid()) == [{}]
    assert fixed.configure({}) == {"model": {"width": 1}}


def test_reading_and_configuring_leave_the_configuration_as_it_was() -> None:
    cfg = OmegaConf.create(NODES)
    OmegaConf.set_struct(cfg, True)
    before = copy.deepcopy(cfg)
    space = Space.of(cfg)
    first = space.configure(space.default())
    space.configure(drawn(space, 0, 1))
    assert cfg == before
    assert OmegaConf.is_struct(cfg)
    assert space.configure(space.default()) == first


def test_the_default_is_composed_and_moved_into_its_space() -> None:
    space = Space.of(composed(model={"width": 100, "depth": 2, "space": {"width": {"low": 1, "high": 64}}}))
    assert space.default() == {"model.width": 64}
    assert space.defaults_moved() == ["model.width: default 100 lies outside its space, trial 0 takes 64"]


def test_a_default_inside_its_space_is_not_reported(space: Space) -> None:
    assert space.defaults_moved() == []
    assert space.default() == {
        "model": "mlp",
        "model.mlp.width": 64,
        "model.mlp.depth": 1,
        "optimizer.inner.decay": 0.0,
        "optimizer.lr": 1e-3,
    }


GIVEN: dict[str, tuple[dict[str, Any], dict[str, ParamValue]]] = {
    "nothing": ({}, {"model": "mlp", "model.mlp.width": 64, "model.mlp.depth": 1}),
    "Optuna's name": ({"model.mlp.width": 32}, {"model": "mlp", "model.mlp.width": 32, "model.mlp.depth": 1}),
    "shown name": ({"model.width": 32}, {"model": "mlp", "model.mlp.width": 32, "model.mlp.depth": 1}),
    "shown name of an option": ({"model": "cnn", "model.width": 5}, {"model": "cnn", "model.cnn.width": 5}),
    "option without a space": ({"model": "linear"}, {"model": "linear"}),
}


@pytest.mark.parametrize(("given", "expected"), GIVEN.values(), ids=GIVEN)
def test_given_parameters_are_completed_by_defaults(
    space: Space, given: dict[str, Any], expected: dict[str, ParamValue]
) -> None:
    before = dict(given)
    assert space.complete(given) == {**expected, "optimizer.inner.decay": 0.0, "optimizer.lr": 1e-3}
    assert given == before


REFUSED_GIVEN: dict[str, tuple[Any, str, str]] = {
    "unknown": ({"model.widht": 1}, "model.widht", "model.mlp.width"),
    "of another option": ({"model": "mlp", "model.cnn.width": 5}, "model.cnn.width", "model.mlp.width"),
    "no option": ({"model": "rnn"}, "model=rnn", "one of mlp, cnn, linear"),
    "outside": ({"optimizer.lr": 1.0}, "optimizer.lr=1.0", "0.0001 to 0.01, log"),
    "not among the choices": ({"model.width": 48}, "model.width=48", "one of 32, 64"),
    "no mapping": (["model"], "['model'] must be a mapping", "{optimizer.lr: 0.01}"),
    "both names": ({"model.width": 32, "model.mlp.width": 64}, "model.width", "model.mlp.width"),
    "half a layer": ({"model.depth": 1.5}, "model.depth=1.5", "1 to 3"),
}


@pytest.mark.parametrize(("given", "key", "allowed"), REFUSED_GIVEN.values(), ids=REFUSED_GIVEN)
def test_given_parameters_that_cannot_be_are_refused(space: Space, given: Any, key: str, allowed: str) -> None:
    with pytest.raises(UsageError) as refusal:
        space.complete(given)
    assert f"enqueue: {key}" in str(refusal.value)
    assert allowed in str(refusal.value)


def test_the_grid_has_every_combination_once_the_last_dimension_fastest() -> None:
    space = Space.of(
        composed(
            optimizer={"nesterov": True, "space": {"nesterov": {"choices": [True, False]}}},
            choose={
                "model": {
                    "mlp": {"depth": 1, "space": {"depth": {"low": 1, "high": 2}}},
                    "linear": {"_target_": "L"},
                }
            },
        )
    )
    assert list(space.grid()) == [
        {"model": "mlp", "model.mlp.depth": 1, "optimizer.nesterov": True},
        {"model": "mlp", "model.mlp.depth": 1, "optimizer.nesterov": False},
        {"model": "mlp", "model.mlp.depth": 2, "optimizer.nesterov": True},
        {"model": "mlp", "model.mlp.depth": 2, "optimizer.nesterov": False},
        {"model": "linear", "optimizer.nesterov": True},
        {"model": "linear", "optimizer.nesterov": False},
    ]


def test_a_grid_over_a_continuous_range_is_refused(space: Space) -> None:
    for ask in (space.require_grid, lambda: list(space.grid())):
        with pytest.raises(UsageError, match=r"sampler=grid: optimizer\.inner\.decay is continuous.*choices="):
            ask()


@pytest.mark.parametrize("skipped", ["???", "${other}"], ids=["missing", "reference"])
def test_nodes_that_stand_for_others_bring_no_dimensions(skipped: str) -> None:
    other = {"x": 1, "space": {"x": {"low": 1, "high": 2}}}
    space = Space.of(composed(other=other, node=skipped))
    assert [d.name for d in space.dimensions] == ["other.x"]


# ------------------------------------------------------------------------------------------- what fits data and keys

FITTING: dict[str, Any] = {
    "optimizer": {"lr": 0.1, "space": {"lr": {"low": 0.1, "high": 0.5}}},
    "choose": {
        "model": {
            "mlp": {"_target_": "M", "width": 64, "space": {"width": {"choices": [32, 64]}}},
            "cnn": {"_target_": "C", "fits": ["picture"], "width": 8, "space": {"width": {"low": 4, "high": 8}}},
            "rnn": {"_target_": "R", "fits": ["series", "table"]},
        }
    },
}


@pytest.mark.parametrize(
    ("kind", "names", "left_out"),
    [
        ("picture", ["model", "model.mlp.width", "model.cnn.width", "optimizer.lr"], ["model=rnn"]),
        ("table", ["model", "model.mlp.width", "optimizer.lr"], ["model=cnn"]),
        ("other", ["model", "model.mlp.width", "optimizer.lr"], ["model=cnn", "model=rnn"]),
    ],
)
def test_options_that_do_not_fit_the_data_are_left_out(kind: str, names: list[str], left_out: list[str]) -> None:
    space = Space.of(OmegaConf.create(FITTING))
    fitting, found = space.fitting(kind)
    assert [d.name for d in fitting.dimensions] == names
    assert found == left_out
    assert len(space.dimensions) == 4  # that it was made from stays as it was
    assert "fits" not in fitting.configure(fitting.default())["model"]


@pytest.mark.parametrize(
    ("nodes", "key", "reason"),
    [
        ({"model": {"width": 1, "fits": ["picture"]}}, "model: fits picture data only", "this is a table"),
        (
            {"model": {"width": 1, "fits": ["picture", "series"]}},
            "model: fits picture and series data only",
            "this is a table",
        ),
        (
            {"choose": {"model": {"cnn": {"x": 1, "fits": ["picture"]}, "rnn": {"x": 1, "fits": ["series"]}}}},
            "choose.model: no option fits",
            "model=cnn, model=rnn",
        ),
    ],
    ids=["one kind", "two kinds", "every option"],
)
def test_what_does_not_fit_the_data_and_was_asked_for_is_refused(nodes: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Space.of(composed(**nodes)).fitting("table")
    assert key in str(refusal.value)
    assert reason in str(refusal.value)


def test_keys_about_searching_are_taken_out_at_every_depth() -> None:
    tree = {"space": {}, "x": [{"fits": None, "y": 1}], "z": {"w": {"space": {"y": 1}, "v": "space"}}}
    assert settings_of(tree) == {"x": [{"y": 1}], "z": {"w": {"v": "space"}}}


DRAWS: list[Callable[[Dimension], ParamValue]] = [lambda d: d.at(0.0), lambda d: d.nearest(None)]


@pytest.mark.parametrize("draw", DRAWS, ids=["draw", "nearest"])
def test_a_value_sits_in_the_configuration_under_its_type(draw: Callable[[Dimension], ParamValue]) -> None:
    nodes = {
        name: {"x": default, "space": {"x": spec}}
        for name, spec, default in [
            ("flag", {"choices": [False, True]}, True),
            ("count", {"low": 1, "high": 3}, 2),
            ("rate", {"low": 0.5, "high": 1.0}, 1.0),
            ("word", {"choices": ["a", "b"]}, "b"),
        ]
    }
    space = Space.of(composed(**nodes))
    config = space.configure(space.draw(draw))
    assert [config[name]["x"] for name in nodes] == [False, 1, 0.5, "a"]
    assert [type(config[name]["x"]) for name in nodes] == [bool, int, float, str]


INTERPOLATED = {
    "a value": "${optimizer.lr}",
    "a node": "${optimizer}",
    "relatively": "${..optimizer.lr}",
    "inside a text": "lr_${optimizer.lr}",
    "through a resolver": "${oc.select:optimizer.lr,0}",
}


@pytest.mark.parametrize("text", INTERPOLATED.values(), ids=INTERPOLATED)
def test_what_is_interpolated_from_a_varied_value_follows_it(text: str) -> None:
    optimizer = {"lr": 0.5, "space": {"lr": {"low": 0.0, "high": 1.0}}}
    space = Space.of(OmegaConf.create({"optimizer": optimizer, "copy": {"of": text}, "choose": {}}))
    for value in (0.25, 0.75):
        config = space.configure({"optimizer.lr": value})
        assert str(value) in str(config["copy"]["of"])


def test_configurations_share_nothing() -> None:
    optimizer = {"lr": 0.5, "betas": [0.9, 0.99], "space": {"lr": {"low": 0.0, "high": 1.0}}}
    space = Space.of(OmegaConf.create({"optimizer": optimizer, "choose": {}}))
    first = space.configure({"optimizer.lr": 0.1})
    first["optimizer"]["betas"].append("changed")
    assert space.configure({"optimizer.lr": 0.1})["optimizer"]["betas"] == [0.9, 0.99]


def test_a_thousand_configurations_are_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = {"lr": 0.5, "space": {"lr": {"low": 0.0, "high": 1.0}}}
    space = Space.of(OmegaConf.create({"optimizer": optimizer, "choose": {}}))
    space.configure({"optimizer.lr": 0.1})
    monkeypatch.setattr(OmegaConf, "to_container", None)
    for i in range(1000):
        assert space.configure({"optimizer.lr": i / 1000})["optimizer"] == {"lr": i / 1000}


FINITE = st.one_of(choices(), float_steps())
MOST_COUNTED = 5_000


@st.composite
def trees(draw: st.DrawFn, specs: st.SearchStrategy[tuple[dict[str, Any], Any]]) -> Space:
    """Return a space of a few small dimensions, some of them brought by the options of two choices."""

    def node() -> dict[str, Any]:
        found = {f"x{i}": draw(specs) for i in range(draw(st.integers(0, 2)))}
        return {**{key: default for key, (_, default) in found.items()}, "space": {k: s for k, (s, _) in found.items()}}

    groups = {"model": ("mlp", "cnn", "linear"), "optimizer": ("sgd", "adam")}
    chosen = draw(st.lists(st.sampled_from(sorted(groups)), unique=True))
    options = {group: {o: node() for o in groups[group][: draw(st.integers(1, 3))]} for group in chosen}
    return Space.of(composed(choose=options, trainer=node()))


@settings(deadline=None)
@given(space=trees(FINITE))
def test_points_are_counted_as_the_grid_gives_them(space: Space) -> None:
    counted = num_points(space.dimensions)
    assert counted is not None
    assert len(list(itertools.islice(space.grid(), MOST_COUNTED))) == min(counted, MOST_COUNTED)


@settings(deadline=None)
@given(space=trees(st.one_of(FINITE, float_ranges(), integer_log_ranges())))
def test_there_are_no_points_to_count_exactly_where_the_grid_is_refused(space: Space) -> None:
    if num_points(space.dimensions) is None:
        with pytest.raises(UsageError, match="is continuous"):
            space.require_grid()
    else:
        space.require_grid()


@settings(deadline=None)
@given(space=trees(FINITE))
def test_the_tree_has_each_dimension_once_in_its_order_within_what_brings_it(space: Space) -> None:
    lines = list(branches(space.dimensions))
    assert sorted(b.dimension.name for b in lines if not b.option) == sorted(d.name for d in space.dimensions)
    under: dict[int, tuple[str, ParamValue]] = {}
    for branch in lines:
        if branch.option:
            under[branch.depth] = branch.option
        elif branch.dimension.option is None:
            assert branch.depth == 0
        else:
            assert under[branch.depth - 1] == branch.dimension.option


@given(found=dimensions(st.one_of(FINITE, integer_ranges())))
def test_a_dimension_has_as_many_values_as_its_grid(found: Dimension) -> None:
    assert found.size == len(found.grid())


def test_points_beyond_counting_one_by_one() -> None:
    dims = {f"x{i}": {"low": 1, "high": 1000} for i in range(8)}
    space = Space.of(composed(model={**dict.fromkeys(dims, 1), "space": dims}))
    assert num_points(space.dimensions) == 1000**8


CHOOSING = {
    "choose": {
        "model": {"mlp": {"_target_": "a", "width": 1, "space": {"width": {"low": 1, "high": 9}}}, "cnn": {"k": 2}}
    },
    "optimizer": {"lr": 0.1, "space": {"lr": {"low": 0.0, "high": 1.0}}},
}
PARTS: dict[str, tuple[dict[str, ParamValue], bool]] = {
    "whole": ({"model": "mlp", "model.mlp.width": 3, "optimizer.lr": 0.5}, True),
    "of another option": ({"model": "cnn", "optimizer.lr": 0.5}, True),
    "without a choice": ({"optimizer.lr": 0.5}, False),
    "without one that its option brings": ({"model": "mlp", "optimizer.lr": 0.5}, False),
    "with another option's": ({"model": "cnn", "model.mlp.width": 3, "optimizer.lr": 0.5}, False),
    "with one that is none": ({"model": "cnn", "optimizer.lr": 0.5, "x": 1}, False),
    "an option that is none": ({"model": "rnn", "optimizer.lr": 0.5}, False),
    "a value outside": ({"model": "cnn", "optimizer.lr": 2.0}, False),
    "text for a number": ({"model": "cnn", "optimizer.lr": "${oc.env:HOME}"}, False),
    "nothing": ({}, False),
}


@pytest.mark.parametrize(("params", "whole"), PARTS.values(), ids=PARTS)
def test_only_a_whole_set_of_allowed_values_is_of_the_space(params: dict[str, ParamValue], whole: bool) -> None:
    assert Space.of(OmegaConf.create(CHOOSING)).has(params) is whole


@pytest.mark.parametrize(
    ("params", "models"),
    [
        ({"model": "cnn", "other": 3}, [{"k": 2}]),
        ({"model": "rnn"}, []),
        ({}, [{"_target_": "a", "width": 1}, {"k": 2}]),
    ],
    ids=["named", "no longer there", "not named"],
)
def test_an_earlier_trial_may_be_of_any_option_that_it_does_not_rule_out(
    params: dict[str, ParamValue], models: list[dict[str, Any]]
) -> None:
    found = list(Space.of(OmegaConf.create(CHOOSING)).compositions(params))
    assert [settings["model"] for settings in found] == models
    assert all(settings["optimizer"] == {"lr": 0.1} for settings in found)


# ------------------------------------------------------------------------------------------------ narrower bounds

RATES = {
    "model": {"lr": 1.0, "space": {"lr": {"low": 0.5, "high": 2.0}}},
    "choose": {
        "optimizer": {
            "adam": {"lr": 1e-3, "space": {"lr": {"low": 1e-5, "high": 1e-1, "log": True}}},
            "sgd": {"lr": 0.1, "space": {"lr": {"low": 1e-3, "high": 1.0, "log": True}}},
        }
    },
}


@pytest.mark.parametrize("name", ["model.lr", "optimizer.adam.lr", "optimizer.sgd.lr"])
def test_other_bounds_of_a_range_change_that_range_alone(name: str) -> None:
    space = Space.of(OmegaConf.create({**RATES, "optimizer": None}))
    before = {d.name: d for d in space.dimensions}
    after = {d.name: d for d in space.narrowed(name, 0.7, 0.9).dimensions}
    assert (after[name].low, after[name].high) == (0.7, 0.9)
    assert {k: v for k, v in after.items() if k != name} == {k: v for k, v in before.items() if k != name}
    assert {d.name: d for d in space.dimensions} == before
