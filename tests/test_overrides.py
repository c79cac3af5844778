"""Hydra's override grammar as a space."""

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, Transformer
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from search.errors import UsageError
from search.records import ParamValue
from search.space import Dimension, Space
from search.space.overrides import Sweep, SweptOverride, conditions_of, swept_overrides
from search.sweep.samplers import RandomSampler
from tests.kits.sweeps import App

GROUPS = {"db/mysql": {"port": 1}, "db/postgres": {"port": 2}, "db/sqlite": {"path": "x"}}


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfigLoader]:
    app = App(tmp_path_factory.mktemp("app"), {"defaults": ["_self_", {"db": "mysql"}], "x": 1}, GROUPS)
    with app.composed() as (loader, _):
        yield loader


def swept(loader: ConfigLoader, *arguments: str, seed: int = 0, **params: Any) -> list[SweptOverride]:
    return swept_overrides(params, arguments, loader, seed)


def dimension(loader: ConfigLoader, argument: str, seed: int = 0) -> Dimension:
    (part,) = swept(loader, argument, seed=seed)
    assert part.dimension is not None
    return part.dimension


def grid(loader: ConfigLoader, *arguments: str, seed: int = 0) -> list[list[str]]:
    sweep = Sweep.of(swept(loader, *arguments, seed=seed), {})
    return [sweep.overrides(point) for point in sweep.space.grid()]


# What may be written: id -> (argument, the jobs of its grid).
ENUMERATED: dict[str, tuple[str, list[str]]] = {
    "choice": ("x=choice(1,2,3)", ["x=1", "x=2", "x=3"]),
    "one choice": ("x=choice(1)", ["x=1"]),
    "simple list": ("x=b,a,c", ["x=b", "x=a", "x=c"]),
    "mixed": ("x=1,0.5,auto", ["x=1", "x=0.5", "x=auto"]),
    "range without its stop": ("x=range(1,4)", ["x=1", "x=2", "x=3"]),
    "range from 0": ("x=range(3)", ["x=0", "x=1", "x=2"]),
    "range with a step": ("x=range(1,6,2)", ["x=1", "x=3", "x=5"]),
    "negative range": ("x=range(-2,0)", ["x=-2", "x=-1"]),
    "float range": ("x=range(0,0.5,0.1)", ["x=0.0", "x=0.1", "x=0.2", "x=0.3", "x=0.4"]),
    "float ends": ("x=range(0.5,3)", ["x=0.5", "x=1.5", "x=2.5"]),
    "a float stop that Hydra lets in": ("x=range(0,0.1,0.1)", ["x=0.0", "x=0.1"]),
    "small steps": ("x=range(1e-13,3.5e-13,1e-13)", ["x=1e-13", "x=2e-13", "x=3e-13"]),
    "descending range": ("x=range(3,0,-1)", ["x=3", "x=2", "x=1"]),
    "descending float range": ("x=range(1,0,-0.5)", ["x=1.0", "x=0.5"]),
    "range of floats": ("x=float(range(1,3))", ["x=1.0", "x=2.0"]),
    "interval of whole numbers": ("x=int(interval(1,3))", ["x=1", "x=2", "x=3"]),
    "whole numbers by tag": ("x=tag(int,interval(1,3))", ["x=1", "x=2", "x=3"]),
    "any other tag": ("x=tag(mine,choice(1,2))", ["x=1", "x=2"]),
    "lists": ("x=[1,2],[a],[]", ["x=[1,2]", "x=[a]", "x=[]"]),
    "mappings": ("x={a:1,b:[2]},{a:3}", ["x={a:1,b:[2]}", "x={a:3}"]),
    "quoted commas and spaces": ("x='a,b','c d'", ["x='a,b'", "x='c d'"]),
    "quotes": ("""x="it's",'say "hi"'""", ['x="it\'s"', "x='say \"hi\"'"]),
    "escaped comma": (r"x=a\,b,c", [r"x=a\,b", "x=c"]),
    "equals sign": ("x='a=b',c", ["x='a=b'", "x=c"]),
    "interpolation": ("x='${y}',a", ["x='${y}'", "x=a"]),
    "empty word": ("x='',a", ["x=''", "x=a"]),
    "null": ("x=null,1", ["x=null", "x=1"]),
    "null as a word": ("x='null',1", ["x='null'", "x=1"]),
    "truth values": ("x=true,false", ["x=True", "x=False"]),
    "what is equal to Python": ("x=0,false,0.0,1,true", ["x=0", "x=False", "x=0.0", "x=1", "x=True"]),
    "and a word that looks like it": ("x=1,true,'1'", ["x=1", "x=True", "x='1'"]),
    "not finite": ("x=nan,inf,-inf", ["x=nan", "x=inf", "x=-inf"]),
    "casts": ("x=float(1,2)", ["x=1.0", "x=2.0"]),
    "glob": ("db=glob(*)", ["db=mysql", "db=postgres", "db=sqlite"]),
    "glob but for some": ("db=glob([my*,s*],exclude=mysql)", ["db=sqlite"]),
    "sorted": ("x=sort(3,1,2)", ["x=1", "x=2", "x=3"]),
    "sorted backwards": ("x=sort(range(1,4),reverse=true)", ["x=3", "x=2", "x=1"]),
    "added": ("+y=1,2", ["+y=1", "+y=2"]),
    "added or changed": ("++y=1,2", ["++y=1", "++y=2"]),
    "a group's package": ("+db@backup=mysql,sqlite", ["+db@backup=mysql", "+db@backup=sqlite"]),
}


@pytest.mark.parametrize(("argument", "jobs"), ENUMERATED.values(), ids=ENUMERATED)
def test_a_grid_has_these_jobs(argument: str, jobs: list[str], loader: ConfigLoader) -> None:
    assert grid(loader, argument) == [[job] for job in jobs]


# What cannot be enumerated: id -> (argument, in words, values at u = 0, 1/2 and just below 1).
CONTINUOUS: dict[str, tuple[str, str, list[Any]]] = {
    "interval": ("x=interval(0,2)", "0 to 2", [0.0, 1.0, 2.0]),
    "log interval": ("x=tag(log,interval(1e-4,1e-2))", "0.0001 to 0.01, log", [1e-4, 1e-3, 1e-2]),
    "one point": ("x=interval(1,1)", "1 to 1", [1.0, 1.0, 1.0]),
    "log of whole numbers": ("x=tag(log,int(interval(1,64)))", "1 to 64, log", [1, 6, 64]),
    "log and int as tags": ("x=tag(log,int,interval(1,64))", "1 to 64, log", [1, 6, 64]),
    "tagged, then cast": ("x=int(tag(log,interval(1,64)))", "1 to 64, log", [1, 6, 64]),
    "log range without its stop": ("x=tag(log,range(1,65))", "1 to 64, log", [1, 6, 64]),
    "a range that nobody can list": ("x=range(1,1000000000001)", "1 to 1000000000000", [1, 500000000001, 10**12]),
    "and with small steps": ("x=range(0,1,1e-9)", "0 to 1, step 1e-09", [0.0, 0.5, 0.999999999]),
}


@pytest.mark.parametrize(("argument", "words", "values"), CONTINUOUS.values(), ids=CONTINUOUS)
def test_a_dimension_is_drawn_from_these(argument: str, words: str, values: list[Any], loader: ConfigLoader) -> None:
    found = dimension(loader, argument)
    assert found.describe() == words
    drawn = [found.at(u) for u in (0.0, 0.5, 1 - 2**-53)]
    assert drawn == [pytest.approx(value, rel=1e-12) for value in values]
    assert [type(value) for value in drawn] == [type(value) for value in values]


# id -> (arguments, words of the sentence)
REFUSED: dict[str, tuple[list[str], str]] = {
    "log choice": (["x=tag(log,choice(1,2))"], "log is for intervals and rising ranges"),
    "descending log range": (["x=tag(log,range(9,1,-1))"], "log is for intervals and rising ranges"),
    "log from 0": (["x=tag(log,interval(0,1))"], "above 0 with log"),
    "log of what is 0 once it is whole": (["x=tag(int,log,interval(0.4,9))"], "above 0 with log"),
    "upside down": (["x=interval(2,1)"], "the lower one first"),
    "without an end": (["x=interval(0,inf)"], "two finite numbers"),
    "nowhere": (["x=interval(nan,1)"], "two finite numbers"),
    "a range without an end": (["x=range(0,inf)"], "finite numbers"),
    "a range that stands still": (["x=range(0,1,0)"], "a step other than 0"),
    "a float range that stands still": (["x=range(0,1,0.0)"], "a step other than 0"),
    "an empty range": (["x=range(5,1)"], "has no values"),
    "an empty float range": (["x=range(0.5,0.5)"], "has no values"),
    "a log range with steps": (["x=tag(log,range(1,9,2))"], "without a step"),
    "a log range of fractions": (["x=tag(log,range(0.5,9))"], "whole numbers above 0"),
    "a log range from 0": (["x=tag(log,range(0,9))"], "whole numbers above 0"),
    "a glob that nothing matches": (["db=glob(nope*)"], "has no values"),
    "a glob over no group": (["x=glob(*)"], "has no values"),
    "a value twice": (["x=1,2,1"], "1 stands there twice"),
    "a number twice among equals": (["x=1,true,1"], "1 stands there twice"),
    "a word in two spellings": (["x=a,'a'"], "a stands there twice"),
    "two equals signs": (["x=a=b,c"], "cannot be parsed"),
    "no end": (["x=choice(1,2"], "cannot be parsed"),
    "no such function": (["x=uniform(0,1)"], "cannot be parsed"),
    "null in a choice": (["x=choice(a, null)"], "Hydra takes no null in choice(); write x=a,null"),
    "swept twice": (["x=1,2", "+x=3,4"], "x: is named twice, as x and +x"),
    "swept, then set": (["x=1,2", "++x=3"], "x: is named twice, as x and ++x"),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_told_in_one_line_that_names_it(arguments: list[str], words: str, loader: ConfigLoader) -> None:
    with pytest.raises(UsageError) as refused:
        swept(loader, *arguments)
    said = str(refused.value)
    assert words in said
    assert "\n" not in said
    assert said.startswith((arguments[0], f"{words[:2]}"))


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        *(("x=5", "x=5"), ("x='a b'", "x='a b'"), ("x=[1,2]", "x=[1,2]"), ("x={a:1}", "x={a:1}"), ("x=", "x=")),
        *(
            ("~x", "~x"),
            ("~x=1", "~x=1"),
            ("~db", "~db"),
            ("+y=${x}", r"+y=$\{x\}"),
            ("db@backup=mysql", "db@backup=mysql"),
        ),
    ],
)
def test_what_is_not_swept_is_the_same_in_every_job(argument: str, text: str, loader: ConfigLoader) -> None:
    assert grid(loader, argument, "z=1,2") == [[text, "z=1"], [text, "z=2"]]


def test_values_that_optuna_takes_for_one_are_kept_apart(loader: ConfigLoader) -> None:
    kept = dimension(loader, "x=0,false").distribution()
    values = dimension(loader, "x=0,false").choices
    assert [kept.to_external_repr(kept.to_internal_repr(value)) for value in values] == ["0", "False"]
    assert dimension(loader, "x=2,false").choices == (2, False)


def test_a_choice_that_is_shuffled_has_the_order_of_the_seed(loader: ConfigLoader) -> None:
    for argument in ("x=shuffle(range(1,30))", "x=shuffle(1,2,3,4,5,6,7,8)", "x=shuffle(choice(a,b,c,d,e,f,g,h))"):
        orders = [dimension(loader, argument, seed).choices for seed in (1, 1, 2)]
        assert orders[0] == orders[1] != orders[2]
        assert set(orders[0]) == set(orders[2])


def test_a_list_that_is_shuffled_has_the_order_of_the_seed(loader: ConfigLoader) -> None:
    texts = [swept(loader, "x=shuffle([1,2,3,4,5,6,7,8])", seed=seed)[0].text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_nobody_elses_randomness_is_touched(loader: ConfigLoader) -> None:
    random.seed(3)
    expected = random.random()
    random.seed(3)
    swept(loader, "x=shuffle([1,2,3])", "y=shuffle(1,2,3)")
    assert random.random() == expected


def test_what_the_configuration_sweeps_may_be_values_of_any_kind(loader: ConfigLoader) -> None:
    params: dict[str, Any] = {
        "a": "interval(0,1)",
        "b": 3,
        "c": 0.5,
        "d": None,
        "e": True,
        "f": [1, "x y"],
        "g": {"h": 1},
        "i": "1,2",
    }
    parts = swept(loader, **params)
    assert [part.key for part in parts if part.dimension is not None] == ["a", "i"]
    fixed = {part.key: parsed(f"{part.key}={part.text}").value() for part in parts if part.dimension is None}
    assert fixed == {"b": 3, "c": 0.5, "d": None, "e": True, "f": [1, "x y"], "g": {"h": 1}}


def test_the_command_line_has_the_last_word(loader: ConfigLoader) -> None:
    parts = swept(loader, "b=7", "a=1,2", "c=interval(0,1)", a="interval(0,1)", b="3,4", c=5)
    a, b, c = parts
    assert a.dimension is not None
    assert a.dimension.choices == (1, 2)
    assert (b.key, b.text) == ("b", "7")
    assert c.dimension is not None


def test_a_package_is_told_from_its_group(loader: ConfigLoader) -> None:
    found = dimension(loader, "db@backup=mysql,sqlite")
    assert (found.name, found.path) == ("db@backup", "db.backup")


# ------------------------------------------------------------------------------------------------ conditions


def test_a_key_that_some_options_know_exists_beside_these_alone(loader: ConfigLoader) -> None:
    parts = swept(loader, "db=mysql,postgres,sqlite", "db.port=1,2", "x=3,4", "+db.new=5,6")
    known = {"mysql": {"db", "db.port", "x"}, "postgres": {"db", "db.port", "x"}, "sqlite": {"db", "x"}}
    conditions = conditions_of(parts, ["db"], lambda group, option: known[option])
    assert conditions == {"db.port": ("db", ["mysql", "postgres"])}
    sweep = Sweep.of(parts, conditions)
    jobs = [sweep.overrides(point) for point in sweep.space.grid()]
    assert len(jobs) == len(set(map(tuple, jobs))) == 2 * 2 * 4 + 4
    assert all(any(o.startswith("db.port") for o in job) == ("db=sqlite" not in job) for job in jobs)


def test_a_key_that_no_option_knows_is_left_for_hydra_to_refuse(loader: ConfigLoader) -> None:
    parts = swept(loader, "db=mysql,sqlite", "db.nope=1,2")
    assert conditions_of(parts, ["db"], lambda group, option: {"db"}) == {}


# ------------------------------------------------------------------------------------------------ properties

# What cannot be told from what Hydra's parser makes of it: a word that looks like a number is one, for instance.
TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=12).filter(
    lambda text: text == text.strip()
)
QUOTED = st.builds(QuotedString, TEXT, st.sampled_from(Quote))
NUMBERS = st.one_of(st.integers(), st.floats())
SCALARS = st.one_of(NUMBERS, st.booleans(), st.none(), QUOTED)
KEYS = st.text("abcdefgh", min_size=1, max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)


def parsed(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and a == b


@given(st.lists(VALUES, min_size=1, max_size=4, unique_by=lambda value: str(Override._convert_value(value))))
@settings(deadline=None, max_examples=60)
def test_what_is_written_for_a_value_is_that_value_to_hydra(loader: ConfigLoader, values: list[Any]) -> None:
    argument = f"x={','.join(map(Transformer.str, values))}"
    try:
        parts = swept(loader, argument)
    except UsageError as error:
        assert "stands there twice" in str(error)  # noqa: PT017
        return
    part = parts[0]
    if part.dimension is None:
        assert same(parsed(argument).value(), parsed(f"x={part.text}").value())
        return
    expected = [Override._convert_value(value) for value in values]
    assert all(map(same, expected, [parsed(part.written(value)).value() for value in part.dimension.choices]))


@given(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(min_value=0, max_value=1, exclude_max=True),
    st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_what_is_drawn_from_an_interval_is_that_number_to_hydra(
    loader: ConfigLoader, a: float, b: float, u: float, whole: bool
) -> None:
    low, high = sorted([a, b])
    argument = f"x=int(interval({low},{high}))" if whole else f"x=interval({low},{high})"
    (part,) = swept(loader, argument)
    assert part.dimension is not None
    value = part.dimension.at(u)
    assert same(parsed(part.written(value)).value(), value)
    assert isinstance(value, int if whole else float)


ELEMENTS = st.one_of(st.integers(-5, 5), st.floats(-3, 3, width=16), st.sampled_from(["a", "b c", "d,e", None, True]))
WRITTEN = ELEMENTS.map(lambda e: Transformer.str(QuotedString(e, Quote.single) if isinstance(e, str) else e))
RANGES = st.builds(
    lambda start, count, step: f"range({start},{round(start + count * step, 3)},{step})",
    *(st.integers(-3, 3), st.integers(1, 4), st.sampled_from([1, 2, 0.5, 0.1, 0.3, -1, -0.25])),
)
CHOICES = st.lists(WRITTEN, min_size=2, max_size=4).map(",".join)
SORTED = st.lists(st.integers(-9, 9), min_size=2, max_size=4, unique=True).map(
    lambda v: f"sort({','.join(map(str, v))})"
)
FIXED = WRITTEN
ARGUMENTS = st.dictionaries(
    st.sampled_from(["a", "+b", "++c", "d.e"]), st.one_of(RANGES, CHOICES, SORTED, FIXED), min_size=1, max_size=3
)


@given(ARGUMENTS, st.sampled_from(["", "db=glob(*)", "db@backup=mysql,sqlite"]))
@settings(deadline=None, max_examples=60)
def test_a_grid_is_that_of_hydras_own_sweeper(loader: ConfigLoader, arguments: dict[str, str], group: str) -> None:
    words = [f"{key}={value}" for key, value in arguments.items()] + [group] * bool(group)
    overrides = OverridesParser.create(loader).parse_overrides(words)
    (expected,) = BasicSweeper.split_arguments(overrides, None)
    try:
        jobs = grid(loader, *words)
    except UsageError as error:
        assert "stands there twice" in str(error)  # noqa: PT017
        return
    assert len(jobs) == len(expected)
    for job, other in zip(jobs, expected, strict=True):
        for ours, theirs in zip(map(parsed, job), map(parsed, other), strict=True):
            assert ours.get_key_element() == theirs.get_key_element()
            value = theirs.value()
            assert ours.value() == (pytest.approx(value, abs=1e-9) if isinstance(value, float) else value)


# argument -> the same as a configuration describes it
DESCRIBED: dict[str, tuple[dict[str, Any], ParamValue]] = {
    "interval(0,2)": ({"low": 0.0, "high": 2.0}, 0.5),
    "tag(log,interval(1e-5,1e-1))": ({"low": 1e-5, "high": 1e-1, "log": True}, 0.01),
    "int(interval(1,8))": ({"low": 1, "high": 8}, 1),
    "range(1,9)": ({"low": 1, "high": 8}, 1),
    "range(1,9,3)": ({"low": 1, "high": 8, "step": 3}, 1),
    "range(0,1,0.1)": ({"low": 0.0, "high": 0.9, "step": 0.1}, 0.0),
    "range(0,1e-12,3e-13)": ({"low": 0.0, "high": 1e-12, "step": 3e-13}, 0.0),
    "tag(log,int(interval(1,99)))": ({"low": 1, "high": 99, "log": True}, 1),
    "relu,gelu,null": ({"choices": ["relu", "gelu", None]}, "relu"),
}


@given(st.data())
@settings(deadline=None, max_examples=25)
def test_a_dimension_draws_what_one_of_a_configuration_draws_whatever_stands_beside_it(
    loader: ConfigLoader, data: st.DataObject
) -> None:
    text = data.draw(st.sampled_from(sorted(DESCRIBED)))
    others = data.draw(st.permutations([f"o{i}={t}" for i, t in enumerate(DESCRIBED)]))
    count = data.draw(st.integers(0, len(others)))
    arguments = data.draw(st.permutations([f"lr={text}", *others[:count]]))
    seed, number = data.draw(st.integers(0, 2**31)), data.draw(st.integers(0, 10**6))

    spec, default = DESCRIBED[text]
    described = Space.of(OmegaConf.create({"choose": {}, "lr": default, "space": {"lr": spec}}))
    space = Sweep.of(swept(loader, *arguments), {}).space
    drawn = RandomSampler(space, seed).sample(number, None)["lr"]
    expected = RandomSampler(described, seed).sample(number, None)["lr"]
    assert drawn == expected
    assert type(drawn) is type(expected)
