"""Whether the checks find what was planted, and are silent where nothing was.

A fault is caught where the right row says fail (warn or fail, if one could train with it all the same) and no unrelated
row says fail. Half of the faults were written without knowing how the checks decide; the table gives both halves.
"""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.table import Table

from search.records import CheckVerdict, Finding
from tests.kits.zoo import Case, caught, findings, said
from tests.zoo import blind, known

SEEDS = range(5)
CAUGHT = 0.95
"""The least share of planted faults that has to be found."""
FALSE = 0.02
"""The largest share of healthy runs that may have a finding worse than pass."""
HALVES = {"known": known.FAULTS, "blind": blind.FAULTS}
FAULTS = (*known.FAULTS, *blind.FAULTS)
HEALTHY = (*known.HEALTHY, *blind.HEALTHY, *known.BUNDLED)
WORSE = (CheckVerdict.WARN, CheckVerdict.FAIL)


def named(cases: tuple[Case, ...]) -> dict[str, Case]:
    return {case.name: case for case in cases}


def told(found: list[Finding]) -> str:
    return "\n".join(f"{f.row} {f.verdict.value}: {f.sentence}" for f in found if f.verdict in WORSE) or "nothing"


def test_there_is_a_fault_for_each_row_and_a_twin_for_each_fault() -> None:
    assert len(named(FAULTS)) == len(FAULTS) >= 40
    rows = {row for case in FAULTS for row in case.rows}
    assert rows >= {f"R{row:02}" for row in range(1, 24)} - {"R15"}  # people's number cannot be wrong
    assert {case.twin for case in FAULTS} <= named(HEALTHY).keys()
    assert len(blind.FAULTS) >= 20


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_a_fault_is_caught_by_its_row_and_no_other_fails(case: Case) -> None:
    found = findings(case, seed=0)
    assert caught(case, found), told(found)


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_a_healthy_run_fails_nowhere(case: Case) -> None:
    found = findings(case, seed=0)
    assert not said(found, CheckVerdict.FAIL), told(found)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_over_five_seeds_faults_are_caught_and_healthy_runs_pass(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("half", "fault", "has to say so", "caught", title=f"planted faults over {len(SEEDS)} seeds")
    shares = []
    for half, cases in HALVES.items():
        counts = []
        for case in cases:
            number = sum(caught(case, findings(case, seed)) for seed in SEEDS)
            word = "fail" if case.fatal else "warn"
            table.add_row(half, case.name, f"{' or '.join(case.rows)}: {word}", f"{number}/{len(SEEDS)}")
            counts.append(number)
        shares.append(sum(counts) / (len(SEEDS) * len(cases)))
        table.add_row(half, f"all {len(cases)}", "", f"{shares[-1]:.1%}", style="bold", end_section=True)
    alarms = {
        f"{case.name}, seed {seed}": worse
        for case in HEALTHY
        for seed in SEEDS
        if said(worse := findings(case, seed), *WORSE)
    }
    with capsys.disabled():
        console = Console(width=150)
        console.print(table)
        total = len(HEALTHY) * len(SEEDS)
        console.print(f"healthy runs with a finding worse than pass: {len(alarms)} of {total}")
        for name, worse in alarms.items():
            console.print(f"{name}: {told(worse)}", markup=False)
    assert sum(s * len(c) for s, c in zip(shares, HALVES.values(), strict=True)) / len(FAULTS) >= CAUGHT
    assert len(alarms) <= FALSE * len(HEALTHY) * len(SEEDS)
    assert not any(said(worse, CheckVerdict.FAIL) for worse in alarms.values())
