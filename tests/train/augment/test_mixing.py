from __future__ import annotations

import pytest
import torch
from torch import Tensor

from search.train.augment.mixing import Mixed, mixed


def mix(inputs: Tensor, seed: int = 0, **alphas: float) -> tuple[Tensor, Mixed]:
    torch.manual_seed(seed)
    found, how = mixed(inputs, **alphas)
    assert how is not None
    return found, how


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 10.0])
@pytest.mark.parametrize("shape", [(64, 5), (64, 2, 9), (64, 3, 6, 4)], ids=["table", "series", "pictures"])
def test_mixup_is_the_weighted_mean_of_two_examples(alpha: float, shape: tuple[int, ...]) -> None:
    inputs = torch.randn(shape)
    found, how = mix(inputs, mixup=alpha)
    torch.testing.assert_close(found, how.share * inputs + (1 - how.share) * inputs[how.partners])
    assert how.partners.dtype == torch.int64
    assert torch.equal(how.partners, how.partners_on_cpu)
    assert sorted(how.partners.tolist()) == list(range(64))
    assert how.share.ndim == 0
    assert 0 <= float(how.share) <= 1


def test_shares_are_of_a_beta_distribution() -> None:
    shares = torch.stack([mix(torch.zeros(2, 1), seed, mixup=0.4)[1].share for seed in range(1000)])
    variance = 1 / (4 * (2 * 0.4 + 1))
    assert abs(float(shares.mean()) - 0.5) < 4 * (variance / 1000) ** 0.5  # four standard errors
    assert float(shares.var()) == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_pastes_a_box_and_says_what_is_left(seed: int) -> None:
    inputs = torch.arange(40.0).reshape(-1, 1, 1, 1).expand(40, 2, 10, 7).contiguous()
    found, how = mix(inputs, seed, cutmix=1.0)
    others = inputs[how.partners]
    assert ((found == inputs) | (found == others)).all()
    apart = how.partners != torch.arange(40)
    left = (found == inputs)[apart].float().mean((1, 2, 3))
    torch.testing.assert_close(left, how.share.expand(len(left)))
    pasted = (found != inputs)[apart][:, 0]
    assert torch.equal(pasted.sum((1, 2)), pasted.any(2).sum(1) * pasted.any(1).sum(1))


def test_with_both_a_coin_says_which() -> None:
    inputs = torch.arange(40.0).reshape(-1, 1, 1, 1).expand(40, 1, 8, 8).contiguous()
    blended = 0
    for seed in range(200):
        found, how = mix(inputs, seed, mixup=5.0, cutmix=1.0)
        neither = (found - inputs[how.partners]).abs().amin((1, 2, 3)) > 1e-3
        neither &= (found - inputs).abs().amin((1, 2, 3)) > 1e-3
        blended += int(neither.any())
    assert 70 < blended < 130
