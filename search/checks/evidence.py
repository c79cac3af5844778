"""What a check saw, as plain records: figures to be drawn elsewhere, and tables. Numpy only."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search.files import write_atomically

Array = np.ndarray[Any, Any]
_SUFFIX = ".npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Inputs side by side: pictures (N, C, H, W) with C of 1 or 3 (others show the first), or series (N, C, L).

    Values may be of any range: all pictures share one scale.
    """

    name: str
    title: str
    inputs: Array
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Lines y over x, each an array (2, M); `marks` are vertical lines with their words, `levels` horizontal ones."""

    name: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Array]
    marks: Mapping[str, float] = dataclasses.field(default_factory=dict)
    levels: Mapping[str, float] = dataclasses.field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Bars:
    """Groups of bars: for each name an array with a value a label; `levels` are horizontal lines with their words."""

    name: str
    title: str
    y: str
    labels: tuple[str, ...]
    bars: Mapping[str, Array]
    levels: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """A matrix (rows, columns) in colours."""

    name: str
    title: str
    x: str
    y: str
    values: Array


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table of words and numbers, the most important rows first."""

    name: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[object, ...]]


Figure = Pictures | Curves | Bars | Matrix
Evidence = Figure | Sheet
_KINDS: dict[str, type[Figure]] = {kind.__name__: kind for kind in (Pictures, Curves, Bars, Matrix)}
_ARRAYS = ("inputs", "values")
_NAMED_ARRAYS = ("lines", "bars")
_NOT_IN_NAMES = re.compile(r"[^\w.=+-]+")
"""What no file's name should hold; the names of layers may."""


def save(evidence: Evidence, folder: Path, prefix: str) -> str:
    """Write a piece of evidence; return the file's name: `<prefix>-<name>.csv` of a sheet, `.npz` of a figure.

    Raises ValueError for what a file of numbers cannot hold: arrays of objects, values that are no numbers or words.
    """
    stem = f"{prefix}-{_NOT_IN_NAMES.sub('-', evidence.name)}"
    if isinstance(evidence, Sheet):
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(evidence.columns)
        writer.writerows(evidence.rows)
        return _write(folder / f"{stem}.csv", text.getvalue().encode(errors="backslashreplace"))
    plain, arrays = _apart({f.name: getattr(evidence, f.name) for f in dataclasses.fields(evidence)})
    try:
        meta = json.dumps({"kind": type(evidence).__name__, **plain}, default=_number)
    except TypeError as error:
        raise ValueError(f"{stem}: {error}") from error
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, meta=np.array(meta), **arrays)
    return _write(folder / f"{stem}{_SUFFIX}", buffer.getvalue())


def is_figure(file: str) -> bool:
    """Tell whether a file of evidence holds a figure."""
    return file.endswith(_SUFFIX)


def load(path: Path) -> Figure:
    """Return the figure that `save` wrote; raise OSError or ValueError where there is none."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return _together(json.loads(str(stored["meta"])), stored)
    except (KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path.name} holds no figure: {error}") from error


def _apart(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the fields that JSON can hold, and the arrays; of those in a mapping, JSON holds the names in order."""
    plain: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for key, value in fields.items():
        if key in _ARRAYS:
            arrays[key] = np.asarray(value)
        elif key in _NAMED_ARRAYS:
            plain[key] = list(value)
            arrays |= {f"{key}/{i}": np.asarray(array) for i, array in enumerate(value.values())}
        else:
            plain[key] = value
    return plain, arrays


def _together(plain: dict[str, Any], arrays: Mapping[str, Array]) -> Figure:
    """Return the figure of what `_apart` returned."""
    kind = _KINDS[plain.pop("kind")]
    fields: dict[str, Any] = {}
    for key in (field.name for field in dataclasses.fields(kind)):
        if key in _ARRAYS:
            fields[key] = arrays[key]
        elif key in _NAMED_ARRAYS:
            fields[key] = {name: arrays[f"{key}/{i}"] for i, name in enumerate(plain[key])}
        else:
            fields[key] = tuple(plain[key]) if isinstance(plain[key], list) else plain[key]
    return kind(**fields)


def _number(value: Any) -> Any:
    """Return a number of numpy as one of Python."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no number")


def _write(path: Path, content: bytes) -> str:
    write_atomically(path, content)
    return path.name
