"""Setups in which nothing is wrong, with one seed."""

import pytest

from search.records import CheckVerdict
from tests.kits.zoo import Case, findings, said, told
from tests.zoo import blind, known


@pytest.mark.parametrize("case", [*known.HEALTHY, *blind.HEALTHY, *known.BUNDLED], ids=lambda case: case.name)
def test_a_healthy_run_fails_nowhere(case: Case) -> None:
    found = findings(case, seed=0)
    assert not said(found, CheckVerdict.FAIL), told(found)
