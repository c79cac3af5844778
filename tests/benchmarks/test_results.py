import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from scripts.benchmarks.results import Goal, Record, against, median, read, show, shown_number, write


def record(value: float, *, case: str = "small", system: str = "search", metric: str = "trials/s") -> Record:
    return Record(bench="overhead", case=case, system=system, metric=metric, value=value)


def test_records_are_written_as_a_flat_list_and_read_back(tmp_path: Path) -> None:
    records = [record(1.5), record(0.5, system="tune")]
    write(tmp_path / "r.json", records)
    assert read(tmp_path / "r.json") == records
    first = json.loads((tmp_path / "r.json").read_text())[0]
    assert first == {"bench": "overhead", "case": "small", "system": "search", "metric": "trials/s", "value": 1.5}


def test_the_ratio_to_the_peer_is_a_record_where_both_have_a_figure() -> None:
    records = [record(6.0), record(2.0, system="tune"), record(9.0, case="alone"), record(1.0, metric="s")]
    assert against(records, "trials/s", "tune") == [record(3.0, system="search / tune")]


def test_a_peer_that_did_nothing_gives_no_ratio() -> None:
    assert against([record(6.0), record(0.0, system="tune")], "trials/s", "tune") == []


def test_the_median_is_taken_figure_by_figure() -> None:
    runs = [[record(value), record(10 * value, case="large")] for value in (3.0, 1.0, 2.0)]
    assert median(runs) == [record(2.0), record(20.0, case="large")]


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal(metric="trials/s", least=7), 7.0, True),
        (Goal(metric="trials/s", least=7), 6.9, False),
        (Goal(metric="trials/s", most=7), 7.1, False),
        (Goal(metric="trials/s", least=1, most=7), 3.0, True),
        (Goal(metric="trials/s", least=1), float("nan"), False),
        (Goal(metric="trials/s", most=1), float("nan"), False),
    ],
)
def test_a_goal_is_met_or_missed(goal: Goal, value: float, met: bool) -> None:
    assert goal.met_by(record(value)) is met


def test_a_goal_concerns_its_metric_its_system_and_the_cases_that_begin_alike() -> None:
    goal = Goal(metric="trials/s", case="small", most=1)
    assert goal.concerns(record(0.0, case="small, asha"))
    assert not goal.concerns(record(0.0, case="large"))
    assert not goal.concerns(record(0.0, system="tune"))
    assert not goal.concerns(record(0.0, metric="s"))


def test_the_table_has_a_row_a_system_and_says_which_goals_are_met() -> None:
    console = Console(width=120, file=io.StringIO())
    show(console, [record(6.0), record(2.0, system="tune"), record(3.0, system="search / tune")], [RATIO])
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "3 (>= 7 missed)" in text
    assert text.count("small") == 1


RATIO = Goal(metric="trials/s", system="search / tune", least=7)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3.0, "3"),
        (0.0, "0"),
        (0.0012345, "0.001234"),
        (375606.4, "375,606"),
        (99.5, "99.5"),
        (1e7, "10,000,000"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_are_shown_with_four_digits_that_count(value: float, shown: str) -> None:
    assert shown_number(value) == shown
