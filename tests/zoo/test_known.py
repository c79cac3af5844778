"""Every second fault of the known half, with one seed; `test_zoo` looks at all of them, with five."""

import pytest

from tests.kits.zoo import Case, caught, findings, told
from tests.zoo.known import FAULTS


@pytest.mark.parametrize("case", FAULTS[::2], ids=lambda case: case.name)
def test_a_fault_is_caught_by_its_row_and_no_other_fails(case: Case) -> None:
    found = findings(case, seed=0)
    assert caught(case, found), told(found)
