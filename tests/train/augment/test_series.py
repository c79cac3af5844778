from __future__ import annotations

import torch
from torch import Tensor

from search.train.augment.series import Series


def changed(inputs: Tensor, **strengths: float) -> Tensor:
    torch.manual_seed(0)
    found, mixed = Series(**strengths)(inputs)
    assert mixed is None
    return found


def ramps(number: int = 200, length: int = 20) -> Tensor:
    """Two channels that rise by 1 and fall by 2 a step."""
    steps = torch.arange(float(length))
    return torch.stack([steps, -2 * steps]).expand(number, 2, length).contiguous()


def test_a_shift_is_in_whole_steps_and_goes_on_with_the_ends() -> None:
    inputs = ramps()
    found = changed(inputs, shift=0.25)
    steps = torch.arange(20)
    moves = set()
    for before, after in zip(inputs, found, strict=True):
        move = next(m for m in range(-5, 6) if torch.equal(after, before[:, (steps + m).clamp(0, 19)]))
        moves.add(move)
    assert moves == set(range(-5, 6))


def test_a_crop_is_stretched_to_the_whole_length() -> None:
    found = changed(ramps(), crop=0.5)
    rises = found.diff(dim=2)
    torch.testing.assert_close(rises, rises[:, :, :1].expand_as(rises), atol=1e-4, rtol=0)
    torch.testing.assert_close(rises[:, 1], -2 * rises[:, 0], atol=1e-4, rtol=0)
    assert 0.4999 <= float(rises[:, 0].min()) < 0.55
    assert 0.95 < float(rises[:, 0].max()) <= 1.0001
    assert float(found[:, 0, 0].max()) > 5
    assert float(found[:, 0, -1].min()) < 14


def test_a_series_is_scaled_as_a_whole() -> None:
    inputs = torch.randn(300, 2, 8)
    factors = changed(inputs, scale=0.3) / inputs
    torch.testing.assert_close(factors, factors[:, :1, :1].expand_as(factors))
    assert 0.6999 <= float(factors.min()) < 0.75
    assert 1.25 < float(factors.max()) <= 1.3001


def test_noise_has_its_standard_deviation_at_each_step() -> None:
    found = changed(torch.zeros(2000, 2, 10), noise=0.5)
    torch.testing.assert_close(found.std(), torch.tensor(0.5), atol=0.01, rtol=0)
    assert abs(float((found[:, :, 1:] * found[:, :, :-1]).mean())) < 0.01


def test_a_mask_blanks_steps_in_a_row_in_all_channels() -> None:
    blank = changed(torch.ones(500, 2, 20), mask=0.2) == 0
    assert torch.equal(blank[:, 0], blank[:, 1])
    assert int(blank[:, 0].sum(1).max()) == 4
    edges = blank[:, 0].int().diff(dim=1).abs().sum(1)
    assert int(edges.max()) == 2
    assert blank[:, 0].any(0).all()


def test_a_series_of_one_step_is_taken() -> None:
    found = changed(torch.ones(4, 2, 1), shift=0.5, crop=0.5, noise=0.1, mask=0.1)
    assert found.isfinite().all()
