"""Values of an earlier composition in the present one: everything that is called comes from the present."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.space import renewed

COMPOSED: dict[str, Any] = {
    "model": {
        "_target_": "mine.Net",
        "_convert_": "all",
        "width": 64,
        "act": "relu",
        "dropout": None,
        "sizes": [1, 2],
        "head": {"_target_": "mine.Head", "bias": True},
        "parts": [{"_target_": "mine.Part", "n": 1}],
    },
    "trainer": {"epochs": 27},
}


def stored(path: str, value: Any) -> dict[str, Any]:
    """Return what is composed, with another value at a path."""
    tree = copy.deepcopy(COMPOSED)
    *nodes, key = path.split(".")
    at = tree
    for node in nodes:
        at = at[node]
    at[key] = value
    return tree


VALUES = {
    "number": ("model.width", 8),
    "number for another kind": ("model.width", 0.5),
    "word": ("model.act", "tanh"),
    "word with a dollar": ("model.act", "$x {y}"),
    "value for null": ("model.dropout", 0.1),
    "null for a value": ("model.width", None),
    "truth value below": ("model.head.bias", False),
    "list of another length": ("model.sizes", [3, "x", None]),
    "empty list": ("model.sizes", []),
    "list for a number": ("model.width", [8, 16]),
    "number for a list": ("model.sizes", 3),
    "values for a list of nodes": ("model.parts", [1]),
    "in another node": ("trainer.epochs", 9),
}
EVIL = {"_target_": "os.system", "command": "touch evil"}
REFUSED = {
    "another target": ("model._target_", "os.system"),
    "another target below": ("model.head._target_", "os.system"),
    "no target": ("model._target_", None),
    "a list for a target": ("model._target_", ["os.system"]),
    "another way to call": ("model._convert_", "none"),
    "new argument": ("model.more", 1),
    "new positional arguments": ("model._args_", [1]),
    "new target": ("trainer._target_", "os.system"),
    "new node": ("extra", EVIL),
    "mapping for a number": ("model.width", EVIL),
    "mapping for null": ("model.dropout", EVIL),
    "plain mapping for a number": ("model.width", {"a": 1}),
    "empty mapping for null": ("model.dropout", {}),
    "number for a mapping": ("model.head", 1),
    "null for a mapping": ("model.head", None),
    "list for a mapping": ("model.head", [EVIL]),
    "mapping in a list": ("model.sizes", [1, EVIL]),
    "list in a list": ("model.sizes", [[EVIL]]),
    "another node in a list": ("model.parts", [EVIL]),
    "the same node with another value": ("model.parts", [{"_target_": "mine.Part", "n": 2}]),
    "interpolation": ("model.act", "${oc.env:HOME}"),
    "interpolation in a list": ("model.sizes", ["${oc.env:HOME}"]),
    "missing": ("model.width", "???"),
}


def test_the_present_composition_stays_as_it_is() -> None:
    assert renewed(COMPOSED, json.loads(json.dumps(COMPOSED))) == COMPOSED


@pytest.mark.parametrize(("path", "value"), VALUES.values(), ids=VALUES)
def test_stored_values_are_put_in(path: str, value: Any) -> None:
    before = copy.deepcopy(COMPOSED)
    assert renewed(COMPOSED, stored(path, value)) == stored(path, value)
    assert before == COMPOSED


@pytest.mark.parametrize(("path", "value"), REFUSED.values(), ids=REFUSED)
def test_nothing_else_is(path: str, value: Any) -> None:
    assert renewed(COMPOSED, stored(path, value)) is None


@pytest.mark.parametrize("gone", ["model", "trainer"])
def test_a_missing_key_is_another_configuration(gone: str) -> None:
    assert renewed(COMPOSED, {k: v for k, v in COMPOSED.items() if k != gone}) is None


def test_an_interpolation_that_is_composed_may_stand() -> None:
    composed = {"text": "a ${b}"}
    assert renewed(composed, dict(composed)) == composed


LEAVES = st.sampled_from([None, True, 1, 0.5, "a", "${a}", [], [1], [{"_target_": "a"}], {"_target_": "a"}])
NODES = st.recursive(
    LEAVES, lambda inner: st.fixed_dictionaries({"_target_": st.sampled_from(["a", "b"]), "x": inner}), max_leaves=3
)


def said_to_hydra(node: Any, at: str = "") -> dict[str, Any]:
    """Return what a tree says to Hydra, by its place."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return {}
    own = {f"{at}.{k}": v for k, v in node.items() if str(k).startswith("_")}
    return own | {place: v for k, child in node.items() for place, v in said_to_hydra(child, f"{at}.{k}").items()}


@given(composed=NODES, stored=NODES)
def test_what_is_called_is_always_what_is_composed(composed: Any, stored: Any) -> None:
    made = renewed({"model": composed}, {"model": stored})
    if made is not None:
        assert said_to_hydra(made).items() <= said_to_hydra({"model": composed}).items()
