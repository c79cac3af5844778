"""Pictures in folders, one a class."""

from __future__ import annotations

import mimetypes
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from search.errors import UsageError
from search.train.data.arrays import Array, Examples

_MODES = {
    **dict.fromkeys(("1", "L", "LA"), 1),
    **dict.fromkeys(("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"), 3),
}
"""Channels by PIL's mode, of those with up to 8 bits a value."""
_CONVERTED = {1: "L", 3: "RGB"}
_LITTER = ("thumbs.db", "desktop.ini")
"""What file managers leave behind, beside hidden files."""


def load(name: str, root: str, size: int | None = None, channels: int | None = None) -> Examples:
    """Return the pictures of `root/<class>/`, uint8 (N, channels, H, W); classes are in the order of their names.

    Where `root` holds `train/` and `test/`, the classes are in these, and the latter is the test set. `size` scales
    each picture's shorter side to so many pixels and cuts the longer one around its middle; without it all must be of
    one size. `channels` is 1 (grey) or 3 (RGB); without it 1 where all are grey, else 3. Transparency is left out.
    Raises UsageError for a file that is no picture, naming it, for folders that are no classes, and for folders and
    pictures that would not be read.
    """
    if channels not in (None, 1, 3):
        raise UsageError(f"data.channels={channels}: must be 1, 3 or null")
    if size is not None and size < 1:
        raise UsageError(f"data.size={size}: must be at least 1, or null")
    folder = Path(root)
    if not folder.is_dir():
        raise UsageError(f"data.root={root}: no such folder")
    has_test = (folder / "train").is_dir() and (folder / "test").is_dir()
    if has_test:
        _require_no_others(folder, root)
        _require_no_pictures(folder, root)
    files = _files(folder / "train" if has_test else folder, root)
    test = _files(folder / "test", root) if has_test else {}
    if unknown := sorted(set(test) - set(files)):
        raise UsageError(f"data.root={root}: test/{unknown[0]} has no counterpart in train/")
    classes = tuple(files)
    labelled = [(path, classes.index(c)) for part in (files, test) for c, paths in part.items() for path in paths]
    own = np.arange(sum(map(len, files.values())), len(labelled), dtype=np.int64)
    return Examples(
        name=name,
        inputs=_stacked([path for path, _ in labelled], root, size, channels),
        targets=np.array([label for _, label in labelled], dtype=np.int64),
        task="classification",
        classes=classes,
        test=own if has_test else None,
    )


def _require_no_others(folder: Path, root: str) -> None:
    """Raise UsageError for a folder beside `train/` and `test/`: of validation, say."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and path.name not in ("train", "test"):
            raise UsageError(
                f"data.root={root}: {path.name}/ beside train/ and test/ is not read; must be these two alone "
                "(validation is divided from train, see split.fractions)"
            )


def _files(folder: Path, root: str) -> dict[str, list[Path]]:
    """Return the files of each class, both in the order of their names."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        there = f"only one folder, {classes[0]}" if classes else "no folders"
        raise UsageError(f"data.root={root}: {folder} holds {there}; must hold a folder of pictures for each class")
    _require_no_pictures(folder, root)
    files = {name: _pictures(folder / name, root) for name in classes}
    for name, paths in files.items():
        if not paths:
            raise UsageError(f"data.root={root}: {folder / name} holds no picture")
    return files


def _require_no_pictures(folder: Path, root: str) -> None:
    """Raise UsageError for a picture that lies beside the folders of the classes."""
    for path in sorted(folder.iterdir()):
        kind = mimetypes.guess_type(path.name, strict=False)[0] or ""
        if path.is_file() and kind.startswith("image/") and not path.name.startswith("."):
            raise UsageError(f"data.root={root}: {path} is in no class; must lie in the folder of one, or elsewhere")


def _pictures(folder: Path, root: str) -> list[Path]:
    there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in there:
        if path.is_dir():
            raise UsageError(
                f"data.root={root}: {path} is a folder among the pictures of {folder.name}; must hold a folder of "
                "pictures for each class, or train/ and test/ that do"
            )
    return [path for path in there if path.name.lower() not in _LITTER]


def _stacked(paths: list[Path], root: str, size: int | None, channels: int | None) -> Array:
    """Return the pictures (N, C, H, W)."""
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(partial(_picture, root=root, size=size, channels=channels), paths))
    if channels is None and len({picture.shape[-1] for picture in pictures}) > 1:  # grey ones among RGB ones
        pictures = [np.broadcast_to(picture, (*picture.shape[:2], 3)) for picture in pictures]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            one, other = (f"{p.shape[1]}x{p.shape[0]}" for p in (pictures[0], picture))
            raise UsageError(
                f"data.root={root}: {path} has {other} pixels, {paths[0].name} has {one}; set data.size to scale all "
                "to one size"
            )
    return np.ascontiguousarray(np.moveaxis(np.stack(pictures), -1, 1))


def _picture(path: Path, root: str, size: int | None, channels: int | None) -> Array:
    """Return one picture (H, W, C), uint8, turned as its camera says."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            opened.load()
            picture = ImageOps.exif_transpose(opened)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what PIL's readers raise
        why = " ".join(str(error).split())
        raise UsageError(f"data.root={root}: {path} is not a picture that can be read ({why})") from error
    if picture.mode not in _MODES:
        raise UsageError(
            f"data.root={root}: {path} is of PIL's mode {picture.mode}; only up to 8 bits a value are read, so "
            "convert it"
        )
    picture = picture.convert(_CONVERTED[channels or _MODES[picture.mode]])
    if size is not None:
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
    array = np.asarray(picture)
    return array[..., None] if array.ndim == 2 else array
