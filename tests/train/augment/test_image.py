from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from search.train.augment.image import Image


def dots(number: int = 200, size: tuple[int, int] = (21, 11)) -> Tensor:
    """Black pictures with one white pixel in the middle."""
    pictures = torch.zeros(number, 1, *size)
    pictures[:, :, size[0] // 2, size[1] // 2] = 1.0
    return pictures


def planes(number: int = 50, size: tuple[int, int] = (40, 24)) -> Tensor:
    """Two channels: each pixel's row and column, in pixels."""
    rows, columns = torch.meshgrid(torch.arange(float(size[0])), torch.arange(float(size[1])), indexing="ij")
    return torch.stack([rows, columns]).expand(number, 2, *size).contiguous()


def slopes(pictures: Tensor, reach: int = 3) -> Tensor:
    """By how much each channel changes a pixel downwards and to the right in the middle, (N, 2 channels, 2 ways)."""
    row, column = pictures.shape[2] // 2, pictures.shape[3] // 2
    around = pictures[:, :, row - reach : row + reach, column - reach : column + reach]
    return torch.stack([around.diff(dim=2).mean((2, 3)), around.diff(dim=3).mean((2, 3))], dim=2)


def changed(inputs: Tensor, **strengths: float) -> Tensor:
    torch.manual_seed(0)
    found, mixed = Image(**strengths)(inputs)
    assert mixed is None
    return found


def test_a_shift_is_in_whole_pixels_within_its_bounds() -> None:
    pictures = changed(dots(), shift=0.2)
    torch.testing.assert_close(pictures.sum(dim=(1, 2, 3)), torch.ones(200))
    torch.testing.assert_close(pictures.amax(dim=(1, 2, 3)), torch.ones(200), atol=1e-4, rtol=0)
    _, _, rows, columns = (pictures > 0.5).nonzero(as_tuple=True)
    assert {int(r) - 10 for r in rows} == set(range(-4, 5))
    assert {int(c) - 5 for c in columns} == set(range(-2, 3))


def test_the_border_goes_on_outside_of_a_shifted_picture() -> None:
    pictures = torch.full((50, 1, 8, 8), 3.0)
    torch.testing.assert_close(changed(pictures, shift=0.5), pictures)


def test_a_rotation_is_one_of_pixels_whatever_the_sides_are() -> None:
    found = slopes(changed(planes(), rotate=30.0))
    downwards, rightwards = found[:, 0], found[:, 1]
    torch.testing.assert_close(downwards.norm(dim=1), torch.ones(50), atol=1e-3, rtol=0)
    torch.testing.assert_close(rightwards.norm(dim=1), torch.ones(50), atol=1e-3, rtol=0)
    torch.testing.assert_close((downwards * rightwards).sum(1), torch.zeros(50), atol=1e-3, rtol=0)
    angles = torch.atan2(downwards[:, 1], downwards[:, 0]) * 180 / math.pi
    assert angles.abs().max() <= 30.01
    assert angles.min() < -15 < 15 < angles.max()


def test_a_scale_is_the_same_along_both_sides_and_within_its_bounds() -> None:
    found = slopes(changed(planes(), scale=0.25))
    torch.testing.assert_close(found[:, 0, 0], found[:, 1, 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[:, 0, 1], torch.zeros(50), atol=1e-3, rtol=0)
    assert 1 / 1.2501 <= float(found[:, 0, 0].min()) < 0.9
    assert 1.1 < float(found[:, 0, 0].max()) <= 1.2501


def test_a_crop_is_of_what_is_in_the_picture_and_from_anywhere() -> None:
    pictures = changed(planes(), crop=0.3)
    size = torch.tensor(pictures.shape[2:])
    found = slopes(pictures)
    assert 0.699 <= float(found[:, 0, 0].min()) < 0.8
    assert float(found[:, 0, 0].max()) <= 1.001
    first, last = pictures[:, :, 0, 0], pictures[:, :, -1, -1]
    shown = (last - first) / (size - 1) * size  # of pixels with their sides
    torch.testing.assert_close(shown / size, found[:, :1, 0].expand(-1, 2), atol=0.05, rtol=0)
    assert first.max(dim=0).values.gt(1).all()
    assert last.min(dim=0).values.lt(size - 2).all()


def test_a_flip_mirrors_its_share_exactly() -> None:
    inputs = torch.randn(2000, 1, 3, 4)
    pictures = changed(inputs, flip=0.25)
    mirrored = (pictures == inputs.flip(-1)).all(dim=(1, 2, 3))
    same = (pictures == inputs).all(dim=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 0.25 - 4 * 0.0097 < float(mirrored.float().mean()) < 0.25 + 4 * 0.0097  # four standard errors


def test_cutout_blanks_a_square_that_the_border_may_cut() -> None:
    blank = changed(torch.ones(500, 2, 12, 20), cutout=0.5) == 0
    assert torch.equal(blank[:, 0], blank[:, 1])
    rows, columns = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert torch.equal(blank[:, 0].sum(dim=(1, 2)), rows * columns)
    assert (int(rows.max()), int(columns.max())) == (6, 6)
    assert (int(rows.min()), int(columns.min())) == (3, 3)
    assert blank[:, 0].any(0).all()


def test_light_is_that_of_a_whole_picture() -> None:
    inputs = torch.randn(300, 3, 6, 6)
    brighter = changed(inputs, brightness=0.5) - inputs
    torch.testing.assert_close(brighter, brighter[:, :1, :1, :1].expand_as(inputs), atol=1e-5, rtol=0)
    assert 0.4 < float(brighter.abs().max()) <= 0.5001
    harder = changed(inputs, contrast=0.3)
    torch.testing.assert_close(harder.mean((1, 2, 3)), inputs.mean((1, 2, 3)), atol=1e-5, rtol=0)
    factors = harder.std((1, 2, 3)) / inputs.std((1, 2, 3))
    assert 0.6999 <= float(factors.min()) < 0.75
    assert 1.25 < float(factors.max()) <= 1.3001


@pytest.mark.parametrize("shape", [(4, 1, 1, 1), (4, 3, 1, 5)])
def test_tiny_pictures_are_taken(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    found, _ = Image(shift=0.5, rotate=90.0, scale=0.5, flip=0.5, crop=0.5, cutout=0.5, mixup=0.2, cutmix=1.0)(
        torch.randn(shape)
    )
    assert found.shape == shape
    assert found.isfinite().all()
