"""Values of an earlier composition, put into the present one: what is stored is never called, only what is composed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from search.space.trial_config import Settings

_SAID_TO_HYDRA = re.compile(r"_\w+_")
"""Keys such as `_target_`, `_args_` or `_partial_`, which say what is called and how."""


class _OtherShapeError(Exception):
    pass


def renewed(composed: Mapping[str, Any], stored: Mapping[str, Any]) -> Settings | None:
    """Return the composed configuration with the stored values put in, or None where that cannot be.

    The keys must be the same, what is said to Hydra among them with the same values. A stored mapping may stand only
    where the present has one; a list only with plain values in it, unless it is the present one; text only without
    interpolations, which would be resolved like composed ones.
    """
    try:
        made: Settings = _filled(composed, stored)
    except _OtherShapeError:
        return None
    return made


def _filled(composed: Any, stored: Any, key: str = "") -> Any:
    if isinstance(composed, Mapping):
        if not isinstance(stored, Mapping) or composed.keys() != stored.keys():
            raise _OtherShapeError
        return {k: _filled(value, stored[k], str(k)) for k, value in composed.items()}
    if stored == composed:
        return composed
    if _SAID_TO_HYDRA.fullmatch(key) or not all(map(_is_plain, stored if isinstance(stored, list) else [stored])):
        raise _OtherShapeError
    return stored


def _is_plain(value: Any) -> bool:
    """Tell whether a value is nothing but itself: no mapping or list, and no text that OmegaConf reads otherwise."""
    if isinstance(value, str):
        return "${" not in value and value != "???"
    return value is None or isinstance(value, bool | int | float)
