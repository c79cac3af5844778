"""Figures over the seeds of searches, from results made up here."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from scripts.benchmarks.results import Record, show
from scripts.benchmarks.squeeze import CASES, FASHION, GOALS, cases_of, plain_name, records_of, search
from scripts.benchmarks.statistics import mean_of
from search.errors import UsageError
from search.post.results import Contender, Figure, Results


def results(maximize: bool = True, **test: float) -> Results:
    """Return results with these figures on test, each 0.1 wide and its gain 0.2."""
    contenders = [
        Contender(
            name=name.replace("_", " "),
            members={"trials/00000": 1.0},
            validation=None,
            test=Figure(value=value, low=value - 0.05, high=value + 0.05),
            gain=Figure(value=0.0, low=-0.1, high=0.1) if name.startswith("greedy") else None,
        )
        for name, value in test.items()
    ]
    return Results(
        metric="accuracy",
        maximize=maximize,
        made_from="",
        test_looks=1,
        test_size=100,
        champion="single best",
        contenders=tuple(contenders),
    )


def seed(single: float, greedy: float, student: float, alone: float, *, maximize: bool = True) -> Results:
    figures = {"single_best": single, "greedy_ensemble": greedy, "student": student, "student_alone": alone}
    return results(maximize, **figures)


def figures(found: list[Record]) -> dict[tuple[str, str], float]:
    return {(record.system, record.metric): record.value for record in found}


def test_a_contender_has_its_mean_and_its_gain_over_the_seeds() -> None:
    found = figures(records_of("a case", [seed(0.5, 0.6, 0.6, 0.5), seed(0.7, 0.72, 0.7, 0.6)]))
    assert found["greedy ensemble", "test"] == pytest.approx(0.66)
    assert found["greedy ensemble", "gain"] == pytest.approx(0.06)
    expected = mean_of([0.1, 0.02])
    assert found["greedy ensemble", "gain low"] == pytest.approx(expected.low)
    assert found["greedy ensemble", "gain high"] == pytest.approx(expected.high)
    assert ("single best", "gain") not in found


def test_a_gain_is_positive_where_an_error_is_less() -> None:
    found = figures(records_of("a case", [seed(0.5, 0.4, 0.4, 0.5, maximize=False)] * 2))
    assert found["greedy ensemble", "gain"] == pytest.approx(0.1)
    assert found["student's share", "share"] == pytest.approx(1.0)


def test_one_seed_has_the_intervals_over_its_examples() -> None:
    found = figures(records_of("a case", [seed(0.5, 0.6, 0.6, 0.5)]))
    assert (found["greedy ensemble", "low"], found["greedy ensemble", "high"]) == pytest.approx((0.55, 0.65))
    assert (found["greedy ensemble", "gain low"], found["greedy ensemble", "gain high"]) == (-0.1, 0.1)
    assert found["student", "gain low"] != found["student", "gain low"]


def test_the_share_is_of_mean_gains_beside_the_mean_of_shares() -> None:
    found = figures(records_of("a case", [seed(0.5, 0.6, 0.6, 0.5), seed(0.5, 0.8, 0.5, 0.5)]))
    assert found["student's share", "share"] == pytest.approx(0.1 / 0.4)
    assert found["student's share", "mean of shares"] == pytest.approx(0.5)


def test_a_contender_that_some_seeds_lack_is_of_the_others() -> None:
    found = figures(records_of("a case", [results(single_best=0.5, SWA=0.6), results(single_best=0.7)]))
    assert found["SWA", "seeds"] == 1
    assert found["SWA", "gain"] == pytest.approx(0.1)
    assert found["single best", "seeds"] == 2
    assert not any(system == "student's share" for system, _ in found)


def test_ensembles_of_other_sizes_are_one_row() -> None:
    assert plain_name("uniform top 10") == "uniform top k"
    assert plain_name("weighted top 7") == "weighted top k"
    assert plain_name("left training 2") == "left training 2"


def test_what_is_undefined_is_shown_and_meets_no_goal() -> None:
    console = Console(width=200, file=io.StringIO())
    show(console, records_of("mnist1d mlp", [seed(0.5, 0.5, 0.6, 0.5)] * 2), GOALS)
    assert "nan (>= 0.5 missed)" in console.file.getvalue()  # type: ignore[attr-defined]


def test_cases_are_picked_by_how_they_begin() -> None:
    console = Console(file=io.StringIO())
    assert [case.name for case in cases_of(["mnist1d"], None, console)] == ["mnist1d mlp", "mnist1d cnn"]
    with pytest.raises(UsageError, match=r"--case mnist2d: none of digits, "):
        cases_of(["digits", "mnist2d"], None, console)


def test_fashion_is_left_out_where_nobody_says_where_it_is(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    assert FASHION not in cases_of(None, None, console)
    assert "fashion mlp is left out" in console.file.getvalue()  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="--fashion DIR"):
        cases_of(["fashion"], None, console)
    cases = cases_of(None, tmp_path, console)
    assert [case.name for case in cases] == [case.name for case in CASES]
    assert f"data.root={tmp_path}" in cases[-1].words


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes the study's folder, its first word, and ends with the second."""
    script = 'echo trouble; mkdir -p "$SEARCH_OUTPUTS/$0"; exit $1'
    monkeypatch.setattr("scripts.benchmarks.squeeze.PROGRAM", ["sh", "-c", script])


def test_the_time_of_a_whole_search_is_kept_for_later_calls(program: None, tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    seconds = search("a", ["a", "0"], tmp_path, console)
    assert seconds is not None
    assert search("a", ["a", "0"], tmp_path, console) == seconds
    assert search("a", ["a", "0", "more"], tmp_path, console) is None
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_search_that_failed_shows_its_end_and_its_log(program: None, tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    with pytest.raises(RuntimeError, match=r"search a ended with 4; .*a\.log"):
        search("a", ["a", "4"], tmp_path, console)
    assert "trouble" in console.file.getvalue()  # type: ignore[attr-defined]
    assert search("a", ["a", "0"], tmp_path, console) is None
