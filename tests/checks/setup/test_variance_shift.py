"""R32: dropout together with batch norm, said with R21."""

import re

import pytest
import torch
from torch import nn

from search.checks.setup import variance_shift
from search.checks.setup.parts import Part
from search.records import CheckVerdict
from search.train.models.cnn import CNN
from tests.checks.setup.setups import bench_of, found_by

INPUTS = torch.randn(512, 64, generator=torch.Generator().manual_seed(0)) + 1


def shift_in(*layers: nn.Module) -> list[Part]:
    return variance_shift.look(nn.Sequential(*layers), INPUTS)


def identity(width: int = 64) -> nn.Linear:
    layer = nn.Linear(width, width)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


@pytest.mark.parametrize(("rate", "verdict"), [(0.1, CheckVerdict.PASS), (0.5, CheckVerdict.WARN)])
def test_the_shift_is_that_of_the_paper(rate: float, verdict: CheckVerdict) -> None:
    # x * mask / (1 - p) has the second moment (1 + 1) / (1 - p), and the mean 1 all the same (Li et al. 2019)
    (part,) = shift_in(nn.Dropout(rate), identity(), nn.BatchNorm1d(64))
    assert part.verdict is verdict
    (shift,) = re.findall(r"at 2 the variance is (\S+) times", part.words)
    assert float(shift) == pytest.approx(2 / (1 - rate) - 1, rel=0.05)
    assert bool(part.advice) == (verdict is CheckVerdict.WARN)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.BatchNorm1d(64), nn.Dropout(0.5)),
        (nn.Dropout(0.0), nn.BatchNorm1d(64)),
        (nn.Dropout(0.5), nn.LayerNorm(64)),
    ],
    ids=["behind", "off", "layer norm"],
)
def test_other_orders_shift_nothing(layers: tuple[nn.Module, ...]) -> None:
    assert shift_in(*layers) == []


def test_modes_and_statistics_stay_what_they_were() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(64)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    variance_shift.look(model, INPUTS)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("dropout", "verdict"), [(0.1, CheckVerdict.PASS), (0.4, CheckVerdict.WARN)])
def test_the_check_of_the_modes_names_it(dropout: float, verdict: CheckVerdict) -> None:
    model = {"_target_": f"{CNN.__module__}.CNN", "channels": 8, "blocks": 2, "kernel": 3, "dropout": dropout}
    found = found_by("R21", bench_of(model))
    assert found.verdict is verdict
    assert "dropout before batch norm: at body.9" in found.sentence


class Deep(nn.Module):
    """Stochastic depth: the second norm is left out of every other pass; norms are given their input by name."""

    def __init__(self, parity: int) -> None:
        super().__init__()
        self.parity = parity
        self.dropout, self.first, self.second = nn.Dropout(0.5), nn.BatchNorm1d(64), nn.BatchNorm1d(64)
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        x = self.first(input=self.dropout(x))
        return self.second(x) if self.passes % 2 == self.parity else x


@pytest.mark.parametrize("parity", [0, 1])
def test_norms_that_not_every_pass_has_are_left_out(parity: int) -> None:
    (part,) = variance_shift.look(Deep(parity), INPUTS)
    assert "at first the variance is" in part.words
