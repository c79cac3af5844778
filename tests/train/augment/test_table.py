from __future__ import annotations

import pytest
import torch
from torch import Tensor

from search.train.augment.table import Table


def changed(inputs: Tensor, **strengths: float) -> Tensor:
    torch.manual_seed(0)
    found, mixed = Table(**strengths)(inputs)
    assert mixed is None
    return found


def test_values_are_swapped_within_their_feature() -> None:
    inputs = torch.arange(4000.0).reshape(1000, 4)
    found = changed(inputs, swap=0.3)
    assert ((found % 4) == (inputs % 4)).all()
    share = float((found != inputs).float().mean())
    assert abs(share - 0.3) < 0.03
    assert set((found != inputs).sum(1).tolist()) >= {0, 1, 2}  # one by one, not whole rows


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_values_are_dropped_to_the_mean_by_their_share(share: float) -> None:
    dropped = changed(torch.ones(1000, 4), dropout=share) == 0
    assert abs(float(dropped.float().mean()) - share) < 0.02
    assert set(dropped.sum(1).tolist()) >= ({0, 1} if share < 1 else {4})


def test_noise_has_its_standard_deviation_in_each_feature() -> None:
    found = changed(torch.zeros(5000, 3), noise=0.2)
    torch.testing.assert_close(found.std(0), torch.full((3,), 0.2), atol=0.01, rtol=0)
    assert abs(float((found[:, 0] * found[:, 1]).mean())) < 0.01
