"""The stored judgement: read as it was written, or said to be damaged."""

import dataclasses
import json
from pathlib import Path

import pytest

from search.errors import UsageError
from search.post.results import FILE, Anatomy, Calibration, Contender, Figure, Mistake, Mistakes, Results

FIGURE = Figure(value=0.9, low=0.8, high=1.0)
CALIBRATION = Calibration(error_before=0.1, error=0.05, loss_before=0.3, loss=0.2)
RESULTS = Results(
    metric="accuracy",
    maximize=True,
    made_from="x",
    test_looks=1,
    test_size=10,
    champion="single best",
    contenders=(
        Contender(name="single best", members={"trials/00001": 1.0}, validation=FIGURE, test=FIGURE),
        Contender(
            name="greedy ensemble",
            members={"trials/00001": 0.5, "trials/00002": 0.5},
            validation=None,
            test=FIGURE,
            gain=Figure(value=0.01, low=-0.01, high=0.02),
            temperature=1.2,
            calibration={"test": CALIBRATION},
        ),
    ),
    anatomy=Anatomy(name="greedy ensemble", metric="accuracy", disagreement=0.1, contributions={"trials/00001": 0.01}),
    mistakes=Mistakes(
        wrong=1,
        worst=(Mistake(index=7, true="a", predicted="b", probability=0.9),),
        classes=("a", "b"),
        confusion=((4, 1), (0, 5)),
    ),
)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert Results.load(tmp_path) is None
    RESULTS.save(tmp_path)
    assert Results.load(tmp_path) == RESULTS


def test_figures_that_are_no_numbers_are_kept(tmp_path: Path) -> None:
    worst = (Mistake(index=7, true=1.0, predicted=float("inf")),)
    made = dataclasses.replace(RESULTS, mistakes=Mistakes(wrong=None, worst=worst))
    made.save(tmp_path)
    assert Results.load(tmp_path) == made


def test_results_of_before_there_was_as_much_in_them_are_read(tmp_path: Path) -> None:
    RESULTS.save(tmp_path)
    plain = json.loads((tmp_path / FILE).read_text())
    del plain["anatomy"], plain["mistakes"]
    for contender in plain["contenders"]:
        del contender["gain"], contender["temperature"], contender["calibration"]
    (tmp_path / FILE).write_text(json.dumps(plain))
    found = Results.load(tmp_path)
    assert found is not None
    assert found.mistakes is None
    assert [(c.gain, c.temperature, c.calibration) for c in found.contenders] == [(None, 1.0, {})] * 2


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]", b"{}", b'{"contenders": [3]}', b'{"metric": "acc'])
def test_damaged_results_are_named_with_the_way_out(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(damage)
    with pytest.raises(UsageError, match=r"results.json: damaged; delete it, and the same command makes it again"):
        Results.load(tmp_path)


@pytest.mark.parametrize(
    ("figures", "maximize", "kept"),
    [
        ({"student alone": 0.90, "student": 0.93, "greedy ensemble": 0.95}, True, 0.6),
        ({"student alone": 0.90, "student": 0.88, "greedy ensemble": 0.95}, True, -0.4),
        ({"student alone": 2.0, "student": 1.5, "greedy ensemble": 1.0}, False, 0.5),
        ({"student alone": 0.95, "student": 0.96, "greedy ensemble": 0.95}, True, None),
        ({"student alone": 0.95, "student": 0.96, "greedy ensemble": 0.96}, True, None),  # within noise
        ({"student alone": 0.90, "greedy ensemble": 0.96}, True, None),
    ],
)
def test_what_a_student_keeps_is_a_share_of_the_ensembles_gain(
    figures: dict[str, float], maximize: bool, kept: float | None
) -> None:
    contenders = tuple(
        Contender(name=name, members={}, validation=None, test=Figure(value=value, low=value - 0.02, high=value + 0.02))
        for name, value in figures.items()
    )
    made = dataclasses.replace(RESULTS, contenders=contenders, maximize=maximize)
    assert made.kept_by_student("greedy ensemble") == (None if kept is None else pytest.approx(kept))
