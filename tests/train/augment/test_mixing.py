from __future__ import annotations

import pytest
import torch
from torch import Tensor

from search.train.augment.mixing import Mixed, mixed


def mix(inputs: Tensor, **alphas: float) -> tuple[Tensor, Mixed]:
    torch.manual_seed(0)
    found, how = mixed(inputs, **alphas)
    assert how is not None
    return found, how


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 10.0])
@pytest.mark.parametrize("shape", [(64, 5), (64, 2, 9), (64, 3, 6, 4)], ids=["table", "series", "pictures"])
def test_mixup_is_the_weighted_mean_of_two_examples(alpha: float, shape: tuple[int, ...]) -> None:
    inputs = torch.randn(shape)
    found, how = mix(inputs, mixup=alpha)
    share = how.share.reshape(-1, *(1,) * (inputs.ndim - 1))
    torch.testing.assert_close(found, share * inputs + (1 - share) * inputs[how.partners])
    assert how.partners.dtype == torch.int64
    assert sorted(how.partners.tolist()) == list(range(64))
    assert ((how.share >= 0) & (how.share <= 1)).all()
    assert len(how.share.unique()) > 1


def test_shares_are_of_a_beta_distribution() -> None:
    _, how = mix(torch.zeros(20_000, 1), mixup=0.4)
    variance = 1 / (4 * (2 * 0.4 + 1))
    assert abs(float(how.share.mean()) - 0.5) < 4 * (variance / 20_000) ** 0.5  # four standard errors
    assert float(how.share.var()) == pytest.approx(variance, rel=0.03)


def test_cutmix_pastes_a_box_and_says_what_is_left() -> None:
    inputs = torch.arange(400.0).reshape(-1, 1, 1, 1).expand(400, 2, 10, 7).contiguous()
    found, how = mix(inputs, cutmix=1.0)
    others = inputs[how.partners]
    assert ((found == inputs) | (found == others)).all()
    apart = how.partners != torch.arange(400)
    left = (found == inputs)[apart].float().mean((1, 2, 3))
    torch.testing.assert_close(left, how.share[apart])
    pasted = (found == others)[apart][:, 0]
    assert torch.equal(pasted.sum((1, 2)), pasted.any(2).sum(1) * pasted.any(1).sum(1))
    assert float(how.share.min()) < 0.2
    assert float(how.share.max()) > 0.9


def test_with_both_a_coin_says_which() -> None:
    inputs = torch.arange(1000.0).reshape(-1, 1, 1, 1).expand(1000, 1, 8, 8).contiguous()
    found, how = mix(inputs, mixup=5.0, cutmix=1.0)
    blended = (found - inputs[how.partners]).abs().amin((1, 2, 3)) > 1e-3
    blended &= (found - inputs).abs().amin((1, 2, 3)) > 1e-3
    assert 400 < int(blended.sum()) < 600
    share = how.share.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(
        found.mean((1, 2, 3)), (share * inputs + (1 - share) * inputs[how.partners]).mean((1, 2, 3)), atol=0.05, rtol=0
    )
