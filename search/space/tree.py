"""A space as the tree that it is: dimensions side by side, and under each option of a choice what it brings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from search.records import ParamValue
from search.space.dimension import Dimension

Option = tuple[str, ParamValue]
"""A choice's name and one of its values."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A line of the tree: a dimension, or an option with what stands under it."""

    depth: int
    dimension: Dimension
    option: Option | None = None


def branches(dimensions: Sequence[Dimension], under: Option | None = None, depth: int = 0) -> Iterator[Branch]:
    """Yield the tree from the top; options only of choices that bring something."""
    for dimension in _standing(dimensions, under):
        yield Branch(depth=depth, dimension=dimension)
        options: list[Option] = [(dimension.name, value) for value in dimension.choices]
        if any(_standing(dimensions, option) for option in options):
            for option in options:
                yield Branch(depth=depth + 1, dimension=dimension, option=option)
                yield from branches(dimensions, option, depth + 2)


def num_points(dimensions: Sequence[Dimension], under: Option | None = None) -> int | None:
    """Return how many combinations `Space.grid` gives, without going through them; None where one is continuous."""
    sizes = [_num_points_of(dimensions, dimension) for dimension in _standing(dimensions, under)]
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def _num_points_of(dimensions: Sequence[Dimension], dimension: Dimension) -> int | None:
    if not dimension.choices:
        return dimension.size
    sizes = [num_points(dimensions, (dimension.name, value)) for value in dimension.choices]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _standing(dimensions: Sequence[Dimension], under: Option | None) -> list[Dimension]:
    return [dimension for dimension in dimensions if dimension.option == under]
