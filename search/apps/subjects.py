"""The setups that a preflight looks at: each option of a choice once, the rest at its defaults."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from search.records import Params
from search.space import Dimension, Space

_RATE = "optimizer.lr"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One of the setups that a search would vary."""

    name: str
    """In words, e.g. `model=cnn`; empty where there is one only."""
    params: Params
    rate: Dimension | None
    """The dimension of its learning rate, where it varies over a range."""

    @property
    def folder(self) -> str:
        """Return a folder's name for it, another one for each."""
        plain = re.sub(r"[^\w.=+\-]", "_", self.name)
        if plain == self.name.replace(" ", "_"):
            return plain
        return f"{plain}-{hashlib.blake2b(self.name.encode(), digest_size=4).hexdigest()}"


def subjects(space: Space) -> list[Subject]:
    """Return the composed default, then each other option of a choice in its place."""
    default = space.default()
    choices = {d.name: d.choices for d in space.dimensions if d.name in space.base.choose}
    sets = [default]
    for group, options in choices.items():
        sets += [space.complete({group: option}) for option in options if option != default[group]]
    several = [group for group, options in choices.items() if len(options) > 1]
    return [
        Subject(
            name=" ".join(f"{group}={params[group]}" for group in several),
            params=params,
            rate=next((d for d in space.dimensions if d.path == _RATE and d.name in params and not d.choices), None),
        )
        for params in sets
    ]
