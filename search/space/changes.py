"""Named changes: pieces of a trial's configuration, each of which an ablation lays over a base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from search.errors import UsageError
from search.space.reading import ABOUT_SEARCHING
from search.space.trial_config import Settings, settings_of

_EXAMPLE = {"model": "dropout", "optimizer": "lr", "schedule": "_target_", "trainer": "epochs", "augment": "mixup"}
"""What can be changed, each with a key that it usually has."""
_MAY_BE_NULL = ("augment",)
_TARGET = "_target_"
_KINDS: tuple[Any, ...] = (bool, int | float, str, list, Mapping)


def changed(base: Mapping[str, Any], change: Mapping[str, Any]) -> Settings:
    """Return a configuration with a change laid over it; a piece that names a `_target_` replaces what was there."""
    laid = dict(base)
    for key, piece in change.items():
        merges = isinstance(piece, Mapping) and _TARGET not in piece
        laid[key] = changed(laid[key], piece) if merges else piece
    return laid


def misfit(base: Mapping[str, Any], change: Mapping[str, Any], at: str) -> str | None:
    """Return why a change cannot be laid over a configuration, None where it can; `at` is the change's address."""
    for key, piece in change.items():
        where, there = f"{at}.{key}", base.get(key)
        if key not in base:
            return f"{where}: no such key; allowed: {', '.join(_keys(base)) or 'nothing'}"
        if isinstance(piece, Mapping) and isinstance(there, Mapping):
            if _TARGET not in piece and (why := misfit(there, piece, where)):
                return why
        elif not _alike(there, piece):
            example = f"{{{', '.join(_keys(there)[:1])}: ...}}" if isinstance(there, Mapping) else there
            return f"{where}={piece}: must be of the kind of what is there, {example}"
    return None


def changed_values(base: DictConfig) -> list[tuple[str, str, Any]]:
    """Return (address, key in a trial's configuration, value) of all that the changes named in `ablate` set.

    Raises UsageError for a change that no trial of this composed configuration could take.
    """
    changes = OmegaConf.to_container(base.changes, resolve=True)
    assert isinstance(changes, dict)
    return [found for name in base.ablate for found in _values_of(base, f"changes.{name}", changes[name])]


def _values_of(base: DictConfig, at: str, change: Any) -> Iterator[tuple[str, str, Any]]:
    if not isinstance(change, Mapping) or not change:
        raise UsageError(f"{at}={change}: must be a piece of a trial's configuration, e.g. {{model: {{dropout: 0}}}}")
    for group, piece in change.items():
        if group not in _EXAMPLE:
            raise UsageError(f"{at}.{group}: cannot be changed; allowed: {', '.join(_EXAMPLE)}")
        if piece is None and group in _MAY_BE_NULL:
            continue
        if not isinstance(piece, Mapping):
            raise UsageError(f"{at}.{group}={piece}: must be a mapping, e.g. {{{_EXAMPLE[group]}: ...}}")
        why = [misfit({group: option}, {group: piece}, at) for option in _options(base, group)]
        if all(why):
            raise UsageError(str(why[0]))
        for key, value in piece.items():
            yield at, f"{group}.{key}", value


def _options(base: DictConfig, group: str) -> list[Any]:
    """Return the nodes that may stand at a trial's `group`."""
    named = base.get(group)
    nodes = list(base.choose.get(group, {}).values()) if named is None else [named]
    return [settings_of(OmegaConf.to_container(node, resolve=True)) for node in nodes] or [None]


def in_words(base: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return what a change makes of its base, e.g. `model.dropout: 0.1 → 0.0`."""
    return ", ".join(_differences(base, config))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "") -> Iterator[str]:
    for key in {**old, **new}:
        before, after = old.get(key, "nothing"), new.get(key, "nothing")
        if before == after:
            continue
        both = isinstance(before, Mapping) and isinstance(after, Mapping)
        if both and before.get(_TARGET) == after.get(_TARGET):
            yield from _differences(before, after, f"{at}{key}.")
        else:
            yield f"{at}{key}: {_short(before)} → {_short(after)}"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value[_TARGET]).rpartition(".")[2] if _TARGET in value else str(dict(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _keys(node: Mapping[str, Any]) -> list[str]:
    return [str(key) for key in node if key not in (*ABOUT_SEARCHING, _TARGET)]


def _alike(old: Any, new: Any) -> bool:
    """Tell whether a value may take another's place: OmegaConf's types are gone where a base is plain."""
    if old is None or new is None:
        return True
    kind = next((kind for kind in _KINDS if isinstance(old, kind)), object)
    return isinstance(new, kind) and (kind is bool or not isinstance(new, bool))
