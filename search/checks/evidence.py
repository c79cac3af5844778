"""What a check saw, as plain records: figures to be drawn elsewhere, and tables. Numpy only."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
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


def save(evidence: Evidence, folder: Path, prefix: str) -> str:
    """Write a piece of evidence; return the file's name: `<prefix>-<name>.csv` of a sheet, `.npz` of a figure."""
    if isinstance(evidence, Sheet):
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(evidence.columns)
        writer.writerows(evidence.rows)
        return _write(folder / f"{prefix}-{evidence.name}.csv", text.getvalue().encode())
    plain, arrays = _apart({f.name: getattr(evidence, f.name) for f in dataclasses.fields(evidence)})
    buffer = io.BytesIO()
    meta = json.dumps({"kind": type(evidence).__name__, **plain})
    np.savez_compressed(buffer, meta=np.array(meta), **arrays)  # type: ignore[arg-type]
    return _write(folder / f"{prefix}-{evidence.name}{_SUFFIX}", buffer.getvalue())


def is_figure(file: str) -> bool:
    """Tell whether a file of evidence holds a figure."""
    return file.endswith(_SUFFIX)


def load(path: Path) -> Figure:
    """Return the figure that `save` wrote; raise OSError or ValueError where there is none."""
    with np.load(path, allow_pickle=False) as stored:
        fields = json.loads(str(stored["meta"]))
        kind = _KINDS[fields.pop("kind")]
        arrays = {key: stored[key] for key in stored.files if key != "meta"}
    for key, array in arrays.items():
        field, _, name = key.partition("/")
        if name:
            at, word = name.split("/", 1)
            del at  # keeps their order in the file
            fields.setdefault(field, {})[word] = array
        else:
            fields[field] = array
    for key in ("labels", "captions"):
        if key in fields:
            fields[key] = tuple(fields[key])
    return kind(**fields)


def _apart(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the fields that JSON can hold, and the arrays."""
    plain: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for key, value in fields.items():
        if isinstance(value, np.ndarray):
            arrays[key] = value
        elif isinstance(value, Mapping) and any(isinstance(v, np.ndarray) for v in value.values()):
            arrays |= {f"{key}/{i}/{name}": array for i, (name, array) in enumerate(value.items())}
        else:
            plain[key] = value
    return plain, arrays


def _write(path: Path, content: bytes) -> str:
    write_atomically(path, content)
    return path.name
