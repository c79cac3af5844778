"""Whether the checks find what was planted, and are silent where nothing was.

A fault is caught where the right row says fail (warn or fail, if one could train with it all the same) and no unrelated
row says fail. Half of the faults were written without knowing how the checks decide; the table gives both halves.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from rich.console import Console
from rich.table import Table

from search.records import CheckVerdict, Finding
from tests.kits.zoo import Case, caught, findings, said, told
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

Looked = dict[tuple[str, int], list[Finding]]
"""What was found, by case and seed."""


def test_there_is_a_fault_for_each_row_and_a_twin_for_each_fault() -> None:
    names = {case.name for case in FAULTS}
    assert len(names) == len(FAULTS) >= 40
    rows = {row for case in FAULTS for row in case.rows}
    assert rows >= {f"R{row:02}" for row in range(1, 24)} - {"R15"}  # people's number cannot be wrong
    assert {case.twin for case in FAULTS} <= {case.name for case in HEALTHY}
    assert len(blind.FAULTS) >= len(FAULTS) / 2


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_over_five_seeds_faults_are_caught_and_healthy_runs_pass(capsys: pytest.CaptureFixture[str]) -> None:
    planted = looked_at(FAULTS)
    healthy = looked_at(HEALTHY)
    alarms = {about: found for about, found in healthy.items() if said(found, *WORSE)}
    table, share = counted(planted)
    with capsys.disabled():
        console = Console(width=150)
        console.print(table)
        console.print(f"healthy runs with a finding worse than pass: {len(alarms)} of {len(healthy)}")
        for (name, seed), found in alarms.items():
            console.print(f"{name}, seed {seed}: {told(found)}", markup=False)
    assert share >= CAUGHT
    assert len(alarms) <= FALSE * len(healthy)
    assert not any(said(found, CheckVerdict.FAIL) for found in alarms.values())


def looked_at(cases: tuple[Case, ...]) -> Looked:
    """Look at every case with every seed, on two processors."""
    about = [(case.name, seed) for case in cases for seed in SEEDS]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(about, pool.map(looked_at_one, *zip(*about, strict=True)), strict=True))


def looked_at_one(name: str, seed: int) -> list[Finding]:
    case = next(case for case in (*FAULTS, *HEALTHY) if case.name == name)
    return findings(case, seed)


def counted(planted: Looked) -> tuple[Table, float]:
    """Return the table of both halves, and the share of all faults that were caught."""
    table = Table("half", "fault", "has to say so", "caught", title=f"planted faults over {len(SEEDS)} seeds")
    total = 0
    for half, cases in HALVES.items():
        numbers = list(_numbers(cases, planted))
        for case, number in zip(cases, numbers, strict=True):
            word = "fail" if case.fatal else "warn"
            table.add_row(half, case.name, f"{' or '.join(case.rows)}: {word}", f"{number}/{len(SEEDS)}")
        share = sum(numbers) / (len(SEEDS) * len(cases))
        table.add_row(half, f"all {len(cases)}", "", f"{share:.1%}", style="bold", end_section=True)
        total += sum(numbers)
    return table, total / (len(SEEDS) * len(FAULTS))


def _numbers(cases: tuple[Case, ...], planted: Looked) -> Iterator[int]:
    for case in cases:
        yield sum(caught(case, planted[case.name, seed]) for seed in SEEDS)
