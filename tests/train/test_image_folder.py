"""Pictures in folders: real files, written by PIL."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.errors import UsageError
from search.train.data.image_folder import load


def picture(shape: tuple[int, ...] = (4, 6, 3), seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def put(path: Path, array: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two pictures each, 4x6 in RGB."""
    for i, name in enumerate(("cat/b.png", "cat/a.png", "dog/c.bmp", "dog/d.png")):
        put(tmp_path / name, picture(seed=i))
    return tmp_path


def test_each_folder_is_a_class_in_the_order_of_names(root: Path) -> None:
    data = load("p", str(root))
    assert (data.kind, data.classes, data.test) == ("picture", ("cat", "dog"), None)
    assert (data.inputs.shape, data.inputs.dtype) == ((4, 3, 4, 6), np.uint8)
    assert data.targets.tolist() == [0, 0, 1, 1]
    for i, seed in enumerate((1, 0, 2, 3)):
        np.testing.assert_array_equal(np.moveaxis(data.inputs[i], 0, -1), picture(seed=seed))


def test_a_test_folder_becomes_the_test_set(tmp_path: Path) -> None:
    for i, name in enumerate(("train/cat/a.png", "train/dog/b.png", "train/dog/c.png", "test/cat/d.png")):
        put(tmp_path / name, picture(seed=i))
    put(tmp_path / "test/dog/e.png", picture(seed=4))
    data = load("p", str(tmp_path))
    assert data.targets.tolist() == [0, 1, 1, 0, 1]
    assert data.test is not None
    assert data.test.tolist() == [3, 4]
    np.testing.assert_array_equal(np.moveaxis(data.inputs[3], 0, -1), picture(seed=3))


def test_grey_pictures_have_one_channel_unless_there_is_colour_or_it_is_asked_for(root: Path, tmp_path: Path) -> None:
    grey = tmp_path / "grey"
    for name in ("cat/a.png", "dog/b.png"):
        put(grey / name, picture((4, 6)))
    assert load("p", str(grey)).inputs.shape == (2, 1, 4, 6)
    assert load("p", str(grey), channels=3).inputs.shape == (2, 3, 4, 6)
    put(grey / "dog/c.png", picture())
    mixed = load("p", str(grey)).inputs
    assert mixed.shape == (3, 3, 4, 6)
    np.testing.assert_array_equal(mixed[0], np.stack([picture((4, 6))] * 3))
    assert load("p", str(grey), channels=1).inputs.shape == (3, 1, 4, 6)


def test_palettes_and_transparency_are_read_as_colours(tmp_path: Path) -> None:
    solid = np.zeros((4, 6, 4), dtype=np.uint8)
    solid[..., :2], solid[..., 3] = (200, 100), 255
    put(tmp_path / "a/x.png", solid)
    (tmp_path / "b").mkdir()
    Image.fromarray(solid[..., :3]).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "b/y.png")
    data = load("p", str(tmp_path)).inputs
    np.testing.assert_array_equal(data, np.broadcast_to(np.array([200, 100, 0])[:, None, None], (2, 3, 4, 6)))


def test_a_size_scales_the_shorter_side_and_cuts_the_longer_one_around_its_middle(root: Path) -> None:
    wide = np.zeros((4, 12, 3), dtype=np.uint8)
    wide[:, 4:8] = 255
    put(root / "cat/a.png", wide)
    data = load("p", str(root), size=2)
    assert data.inputs.shape == (4, 3, 2, 2)
    assert data.inputs[0].min() > 200


def test_a_photograph_is_turned_as_its_camera_says(root: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(picture((6, 4, 3))).save(root / "cat/a.png", exif=turned)
    np.testing.assert_array_equal(
        np.moveaxis(load("p", str(root)).inputs[0], 0, -1), np.rot90(picture((6, 4, 3)), k=-1)
    )


def test_hidden_files_and_those_of_file_managers_are_passed_over(root: Path) -> None:
    for name in ("cat/.DS_Store", "dog/Thumbs.db", ".git/HEAD"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("x")
    assert len(load("p", str(root))) == 4


def torn(root: Path) -> None:
    (root / "cat/a.png").write_bytes((root / "cat/a.png").read_bytes()[:60])


REFUSED: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "two sizes": (
        lambda root: put(root / "dog/d.png", picture((5, 6, 3))),
        {},
        "data.root={root}: {root}/dog/d.png has 6x5 pixels, a.png has 6x4; set data.size",
    ),
    "torn": (torn, {}, "data.root={root}: {root}/cat/a.png is not a picture that can be read ("),
    "no picture": (
        lambda root: (root / "dog/notes.txt").write_text("x"),
        {},
        "data.root={root}: {root}/dog/notes.txt is not a picture",
    ),
    "empty": (lambda root: (root / "dog/e.png").touch(), {}, "data.root={root}: {root}/dog/e.png is not a picture"),
    "16 bits": (
        lambda root: put(root / "cat/a.png", picture((4, 6)).astype(np.uint16)),
        {},
        "data.root={root}: {root}/cat/a.png is of PIL's mode I;16; only up to 8 bits",
    ),
    "an empty class": (lambda root: (root / "eel").mkdir(), {}, "data.root={root}: {root}/eel holds no picture"),
    "a folder among the pictures": (
        lambda root: (root / "dog/more").mkdir(),
        {},
        "data.root={root}: {root}/dog/more is a folder among the pictures of dog; must hold a folder of pictures for",
    ),
    "a test folder beside classes": (
        lambda root: put(root / "test/cat/a.png", picture()),
        {},
        "data.root={root}: {root}/test/cat is a folder among the pictures of test",
    ),
    "a picture in no class": (
        lambda root: put(root / "e.png", picture()),
        {},
        "data.root={root}: {root}/e.png is in no class; must lie in the folder of one",
    ),
    "one class": (lambda root: None, {"root": "cat"}, "data.root={root}/cat: {root}/cat holds no folders"),
    "no folder": (lambda root: None, {"root": "gone"}, "data.root={root}/gone: no such folder"),
    "two channels": (lambda root: None, {"channels": 2}, "data.channels=2: must be 1, 3 or null"),
    "no size": (lambda root: None, {"size": 0}, "data.size=0: must be at least 1, or null"),
}


@pytest.mark.parametrize(("spoil", "arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_learned_from_is_refused_in_one_line(
    root: Path, spoil: Callable[[Path], Any], arguments: dict[str, Any], reason: str
) -> None:
    spoil(root)
    with pytest.raises(UsageError) as refusal:
        load(**{"name": "p", **arguments, "root": str(root / arguments.get("root", "."))})
    assert str(refusal.value).startswith(reason.format(root=root)), str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_single_class_is_none(tmp_path: Path) -> None:
    put(tmp_path / "cat/a.png", picture())
    with pytest.raises(UsageError, match=r"holds only one folder, cat; must hold a folder of pictures for each class"):
        load("p", str(tmp_path))


def test_a_class_of_the_test_set_must_be_one_of_training(tmp_path: Path) -> None:
    for name in ("train/cat/a.png", "train/dog/b.png", "test/cat/c.png", "test/cow/d.png"):
        put(tmp_path / name, picture())
    with pytest.raises(UsageError, match=r"data\.root=.*: test/cow has no counterpart in train/$"):
        load("p", str(tmp_path))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("val/cat/d.png", "val/ beside train/ and test/ is not read; must be these two alone"),
        ("d.png", "{root}/d.png is in no class"),
        ("train/d.png", "{root}/train/d.png is in no class"),
        ("test/d.png", "{root}/test/d.png is in no class"),
    ],
)
def test_what_would_not_be_read_beside_train_and_test_is_refused(tmp_path: Path, more: str, reason: str) -> None:
    for name in ("train/cat/a.png", "train/dog/b.png", "test/cat/c.png", "test/dog/c.png", more):
        put(tmp_path / name, picture())
    (tmp_path / "labels.csv").touch()  # which has no pictures
    with pytest.raises(UsageError) as refusal:
        load("p", str(tmp_path))
    assert str(refusal.value).startswith(f"data.root={tmp_path}: {reason.format(root=tmp_path)}")


def test_a_validation_folder_in_place_of_a_test_folder_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    for name in ("train/cat/a.png", "train/dog/b.png", "val/cat/c.png"):
        put(tmp_path / name, picture())
    with pytest.raises(UsageError, match=r"^data\.root=.*train/cat is a folder .* or train/ and test/ that do$"):
        load("p", str(tmp_path))
