"""What the report says behind the contenders' table."""

import dataclasses

from search.apps.judgement import behind
from search.apps.report import rows_of
from search.post.results import Anatomy, Calibration, Contender, Figure, Mistake, Mistakes, Results
from search.reporting.tables import contenders_markdown


def contender(name: str, value: float, **more: object) -> Contender:
    plain = Contender(
        name=name, members={"a": 1.0}, validation=None, test=Figure(value=value, low=value - 0.04, high=1.0)
    )
    return dataclasses.replace(plain, **more)  # type: ignore[arg-type]


CALIBRATION = Calibration(error_before=0.1, error=0.05, loss_before=0.3, loss=0.2)
GAIN = Figure(value=0.05, low=-0.01, high=0.11)
RESULTS = Results(
    metric="accuracy",
    maximize=True,
    made_from="x",
    test_looks=1,
    test_size=200,
    champion="greedy ensemble",
    contenders=(
        contender("single best", 0.90),
        contender("greedy ensemble", 0.95, gain=GAIN, temperature=1.25, calibration={"test": CALIBRATION}),
        contender("student", 0.93),
        contender("student alone", 0.90),
    ),
    anatomy=Anatomy(
        name="greedy ensemble",
        metric="loss",
        contributions={"trials/00001": -0.001, "trials/00002": 0.02, "trials/00003": 0.01, "trials/00004": 0.0},
        disagreement=0.041,
    ),
    mistakes=Mistakes(
        wrong=10,
        worst=(Mistake(index=1022, true="8", predicted="1", probability=0.991),),
        classes=("1", "8", "9"),
        confusion=((60, 0, 2), (7, 63, 0), (0, 1, 67)),
    ),
)
MEMBERS = (
    "greedy ensemble: two of its members differ on 4.1% of the validation examples; without one of them loss there is "
    "worse by: trials/00002 0.02, trials/00003 0.01, trials/00004 0"
)
MEMBERS_OF_VALUES = (
    "greedy ensemble: the errors of two of its members correlate by 0.50; without one of them rmse there is worse by: "
    "a 0.5, b 0.25"
)


def test_the_champion_and_the_members_are_told_in_a_few_lines() -> None:
    assert behind(RESULTS) == [
        "the champion's calibration on test: error 0.1000 → 0.0500, loss 0.3000 → 0.2000 at temperature 1.25",
        MEMBERS,
        "the student keeps 60% of what the greedy ensemble has over the student alone, on test",
        "the champion has 10 of 200 wrong on test, most often taken: 8 for 1 (7), 1 for 9 (2), 9 for 8 (1)",
        "its surest mistakes: example 1022 (8 for 1, 0.991)",
    ]


def test_a_regression_has_its_largest_errors() -> None:
    worst = (Mistake(index=3, true=1.5, predicted=-20.25), Mistake(index=5, true=1.0, predicted=2.0))
    anatomy = Anatomy(name="greedy ensemble", metric="rmse", contributions={"a": 0.5, "b": 0.25}, correlation=0.5)
    made = dataclasses.replace(
        RESULTS,
        champion="single best",
        contenders=RESULTS.contenders[:1],
        anatomy=anatomy,
        mistakes=Mistakes(wrong=None, worst=worst),
    )
    assert behind(made) == [
        MEMBERS_OF_VALUES,
        "the champion's largest errors on test: example 3 (-20.25 for 1.5), example 5 (2 for 1)",
    ]


def test_what_an_older_judgement_lacks_is_not_told() -> None:
    plain = dataclasses.replace(RESULTS, contenders=RESULTS.contenders[:1], anatomy=None, mistakes=None)
    assert behind(plain) == []


def test_a_champion_without_a_mistake_has_none_listed() -> None:
    right = Mistakes(wrong=0, worst=(), classes=("a", "b"), confusion=((5, 0), (0, 5)))
    made = dataclasses.replace(RESULTS, contenders=RESULTS.contenders[:1], anatomy=None, mistakes=right)
    assert behind(made) == ["the champion has 0 of 200 wrong on test"]


def test_the_table_has_the_gain_over_the_single_best() -> None:
    lines = contenders_markdown("accuracy", rows_of(RESULTS)).splitlines()
    assert lines[0] == "| accuracy | members | validation | test | gain over the single best |"
    assert lines[3].endswith("| 0.9500 [0.910, 1.000] | +0.0500 [-0.0100, +0.1100] |")
    assert lines[2].endswith("|  |"), "the single best itself"
