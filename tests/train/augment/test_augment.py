"""What all augmentations have in common, and how a configuration names one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from search.apps.cli import config_folder
from search.config.components import GROUPS
from search.errors import UsageError
from search.train.augment import augment_of
from search.train.augment.image import Image
from search.train.augment.series import Series
from search.train.augment.table import Table

KINDS: dict[str, tuple[type, tuple[int, ...], str]] = {
    "image": (Image, (64, 3, 12, 9), "picture"),
    "series": (Series, (64, 2, 30), "series"),
    "table": (Table, (64, 7), "table"),
}
STRENGTHS: list[tuple[str, dict[str, float]]] = [
    *(("image", {name: 0.2}) for name in ("shift", "scale", "crop", "brightness", "contrast", "cutout")),
    *(("image", {name: 0.5}) for name in ("flip", "mixup", "cutmix")),
    ("image", {"rotate": 20.0}),
    *(("series", {name: 0.2}) for name in ("noise", "scale", "shift", "crop", "mask", "mixup")),
    *(("table", {name: 0.2}) for name in ("noise", "dropout", "swap", "mixup")),
    ("image", {"shift": 0.1, "rotate": 5.0, "flip": 0.5, "contrast": 0.1, "cutout": 0.3, "mixup": 0.2, "cutmix": 1.0}),
    ("series", {"noise": 0.1, "shift": 0.1, "crop": 0.1, "scale": 0.1, "mask": 0.1, "mixup": 0.2}),
    ("table", {"noise": 0.1, "dropout": 0.1, "swap": 0.1, "mixup": 0.2}),
]
EACH = pytest.mark.parametrize(("kind", "strengths"), STRENGTHS, ids=lambda v: v if isinstance(v, str) else "+".join(v))


def batch(kind: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(KINDS[kind][1], generator=torch.Generator().manual_seed(3)).to(dtype)


def augmented(kind: str, inputs: Tensor, strengths: dict[str, float], seed: int = 0) -> tuple[Tensor, Any]:
    torch.manual_seed(seed)
    found: tuple[Tensor, Any] = KINDS[kind][0](**strengths)(inputs)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_with_everything_off_a_batch_stays_as_it_is_and_nothing_is_drawn(kind: str) -> None:
    inputs = batch(kind)
    before = torch.get_rng_state()
    found, mixed = KINDS[kind][0]()(inputs)
    assert torch.equal(found, inputs)
    assert mixed is None
    assert torch.equal(torch.get_rng_state(), before)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_type_are_kept_and_the_batch_given_is_not_written_to(
    kind: str, strengths: dict[str, float], dtype: torch.dtype
) -> None:
    inputs = batch(kind, dtype)
    given = inputs.clone()
    found, _ = augmented(kind, inputs, strengths)
    assert found.shape == inputs.shape
    assert found.dtype == dtype
    assert found.isfinite().all()
    assert not torch.equal(found, inputs)
    assert torch.equal(inputs, given)


@EACH
def test_the_same_seed_gives_the_same_batch_and_another_one_another(kind: str, strengths: dict[str, float]) -> None:
    inputs = batch(kind)
    first, again, other = (augmented(kind, inputs, strengths, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@EACH
def test_each_example_has_draws_of_its_own(kind: str, strengths: dict[str, float]) -> None:
    inputs = batch(kind)
    inputs[1::2] = inputs[:1]  # every second example the same, beside others that it may be mixed with
    found, _ = augmented(kind, inputs, strengths)
    twins = found[1::2]
    assert len({tuple(example.flatten().tolist()) for example in twins}) >= 2


@EACH
def test_a_single_example_is_taken(kind: str, strengths: dict[str, float]) -> None:
    found, _ = augmented(kind, batch(kind)[:1], strengths)
    assert found.isfinite().all()


@EACH
def test_no_value_on_the_device_is_waited_for(kind: str, strengths: dict[str, float]) -> None:
    """A tensor of the device "meta" has no values: reading one raises."""
    found, mixed = augmented(kind, batch(kind).to("meta"), strengths)
    assert found.device.type == "meta"
    if mixed is not None:
        assert (mixed.partners.device.type, mixed.share.device.type) == ("meta", "meta")
        assert sorted(mixed.partners_on_cpu.tolist()) == list(range(64))


OUT_OF_BOUNDS = [
    ("image", "shift", -0.1),
    ("image", "rotate", 181.0),
    ("image", "crop", 1.0),
    ("image", "flip", 1.5),
    ("image", "mixup", float("nan")),
    ("series", "noise", -1.0),
    ("series", "mask", True),
    ("table", "swap", "much"),
    ("table", "dropout", 2),
]


@pytest.mark.parametrize(("kind", "name", "value"), OUT_OF_BOUNDS)
def test_a_strength_out_of_bounds_is_refused(kind: str, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^augment\.{name}={value}: must be a number in 0 to "):
        KINDS[kind][0](**{name: value})


# ------------------------------------------------------------------------------------------- from a configuration


def doubled(inputs: Tensor, factor: float = 2.0) -> Tensor:
    return inputs * factor


def cut(inputs: Tensor) -> Tensor:
    return inputs[:, 1:]


def counted(inputs: Tensor) -> int:
    return len(inputs)


class Shaken(nn.Module):
    """A user's module, with a weight that must not be trained."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(strength))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.strength


class Idle:
    """Nothing to call."""


def own(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{name}", **arguments}


def test_without_a_node_there_is_none() -> None:
    assert augment_of(None, "picture") is None


@pytest.mark.parametrize("option", KINDS)
def test_what_is_shipped_has_types_a_space_and_works_at_its_defaults(option: str) -> None:
    plain = yaml.safe_load(Path(config_folder(), "augment", f"{option}.yaml").read_text())
    del plain["defaults"]
    space, fits = plain.pop("space"), plain.pop("fits")
    kind, shape, meant = KINDS[option]
    assert fits == [meant]
    assert set(space) <= {field.name for field in dataclasses.fields(kind)} == set(plain) - {"_target_"}
    assert {0.0} == {spec["choices"][0] if "choices" in spec else spec["low"] for spec in space.values()}
    assert set(plain) <= {field.name for field in dataclasses.fields(GROUPS["augment"][option])}
    augment = augment_of(plain, meant)
    assert augment is not None
    found, mixed = augment(torch.randn(shape))
    assert mixed is None
    assert not torch.equal(found, torch.zeros(shape))


@pytest.mark.parametrize("option", KINDS)
@pytest.mark.parametrize("kind", ["picture", "series", "table", "other"])
def test_data_of_another_kind_is_refused(option: str, kind: str) -> None:
    target, _, meant = KINDS[option]
    node = {"_target_": f"{target.__module__}.{target.__qualname__}"}
    if kind == meant:
        assert augment_of(node, kind) is not None
        return
    with pytest.raises(UsageError, match=rf"^augment={option}: fits {meant} data only, and this is a {kind}$"):
        augment_of(node, kind)


@pytest.mark.parametrize(
    ("node", "expected"),
    [(own("doubled"), 2.0), (own("doubled", factor=3.0), 3.0), (own("Shaken", strength=1.0), 2.0)],
    ids=["function", "function with a setting", "module"],
)
def test_a_users_own_is_called(node: dict[str, Any], expected: float) -> None:
    augment = augment_of(node, "other")
    assert augment is not None
    found, mixed = augment(torch.ones(4, 2, 2, 2, 2))
    assert torch.equal(found, torch.full((4, 2, 2, 2, 2), expected))
    assert not found.requires_grad
    assert mixed is None


@pytest.mark.parametrize(
    ("name", "what"),
    [("cut", r"\(4, 2\) torch.float32 for \(4, 3\) torch.float32"), ("counted", r"int for \(4, 3\) torch.float32")],
)
def test_a_users_own_that_changes_the_shape_is_refused(name: str, what: str) -> None:
    augment = augment_of(own(name), "table")
    assert augment is not None
    with pytest.raises(UsageError, match=f"^augment: gives {what}; it must give the same$"):
        augment(torch.ones(4, 3))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"shift": 0.1}, r"^augment: needs a _target_"),
        (own("Missing"), r"^augment\._target_="),
        (own("Idle"), r"^augment\._target_=.*: gives Idle, nothing to call"),
        (own("doubled", strength=1), r"^augment\.strength: no argument of doubled"),
        ({"_target_": "search.train.augment.table.Table", "swap": 3}, r"^augment\.swap=3: must be a number in 0 to 1$"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(node: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        augment_of(node, "table")
    assert "\n" not in str(refusal.value)
