from __future__ import annotations

import pytest
import torch
from torch import Tensor

from search.train.augment.table import Columns, Table


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


# A number, three words, a number, a column with one word left.
COLUMNS = Columns(
    of=torch.tensor([0, 1, 1, 1, 2, 3]), words=torch.tensor([False, True, True, True, False, True]), number=4
)


def rows(number: int = 2000) -> Tensor:
    words = torch.eye(3)[torch.arange(number) % 3]
    numbers = torch.arange(2.0 * number).reshape(number, 2) + 10
    return torch.cat([numbers[:, :1], words, numbers[:, 1:], torch.ones(number, 1)], dim=1)


def of_words(inputs: Tensor, **strengths: float) -> Tensor:
    torch.manual_seed(0)
    return Table(**strengths)(inputs, COLUMNS)[0]


def test_a_word_is_swapped_as_a_whole() -> None:
    inputs = rows()
    found = of_words(inputs, swap=0.5)
    assert (found[:, 1:4].sum(1) == 1).all()
    assert abs(float((found[:, 1:4] != inputs[:, 1:4]).any(1).float().mean()) - 0.5 * 2 / 3) < 0.05
    assert abs(float((found[:, 0] != inputs[:, 0]).float().mean()) - 0.5) < 0.05


def test_a_word_is_dropped_as_a_whole() -> None:
    found = of_words(rows() + 1, dropout=0.4) == 0
    assert torch.equal(found[:, 1], found[:, 2])
    assert torch.equal(found[:, 1], found[:, 3])
    assert abs(float(found[:, 1].float().mean()) - 0.4) < 0.05
    assert not torch.equal(found[:, 0], found[:, 4])


def test_words_get_no_noise() -> None:
    found = of_words(torch.zeros(5000, 6), noise=0.2)
    torch.testing.assert_close(found.std(0), 0.2 * (~COLUMNS.words).float(), atol=0.01, rtol=0)


def test_where_every_column_is_of_numbers_the_draws_are_those_without_columns() -> None:
    plain = Columns(of=torch.arange(6), words=torch.zeros(6, dtype=torch.bool), number=6)
    found = []
    for columns in (None, plain):
        torch.manual_seed(0)
        found.append(Table(swap=0.3, noise=0.1, dropout=0.2, mixup=0.2)(rows(50), columns)[0])
    assert torch.equal(*found)
