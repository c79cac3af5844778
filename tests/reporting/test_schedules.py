import numpy as np
import pytest

from search.reporting.schedules import HEIGHT, WIDTH, cycles_line, drawn, momentum_line

FULL, EMPTY = "█", " "


def columns(lines: list[str]) -> list[str]:
    """Return the plot's columns, each from the bottom up."""
    left = max(line.index(mark) for line in lines[:1] for mark in "┤│" if mark in line) + 1
    rows = [line[left:].ljust(WIDTH) for line in lines[:HEIGHT]]
    return ["".join(row[i] for row in reversed(rows)) for i in range(WIDTH)]


def test_a_rate_that_stays_fills_the_plot() -> None:
    lines = drawn(np.full(500, 0.002), 5)
    assert columns(lines) == [FULL * HEIGHT] * WIDTH
    assert lines[0].startswith("0.002 ┤")
    assert lines[HEIGHT // 2].startswith("0.001 ┤")
    assert lines[HEIGHT].startswith("    0 └─")
    assert lines[HEIGHT + 1].split() == ["0", "2.5", "5"]
    assert {len(line) for line in lines} == {WIDTH + len("0.002 ┤")}


def test_a_straight_line_falls_by_as_much_in_each_column() -> None:
    heights = [sum(" ▁▂▃▄▅▆▇█".index(mark) for mark in column) for column in columns(drawn(np.linspace(1, 0, 6000), 1))]
    assert heights == [pytest.approx(64 * (1 - (i + 0.5) / WIDTH), abs=0.51) for i in range(WIDTH)]


def test_a_column_is_the_mean_of_its_steps() -> None:
    assert columns(drawn(np.tile([0.0, 1.0], 600), 1)) == [FULL * (HEIGHT // 2) + EMPTY * (HEIGHT // 2)] * WIDTH


@pytest.mark.parametrize("steps", [1, 2, 59, 61])
def test_runs_of_any_length_are_drawn(steps: int) -> None:
    assert columns(drawn(np.ones(steps), steps)) == [FULL * HEIGHT] * WIDTH


def test_a_rate_of_0_leaves_the_plot_empty() -> None:
    assert columns(drawn(np.zeros(10), 1)) == [EMPTY * HEIGHT] * WIDTH


def test_the_momentum_is_told_in_a_line() -> None:
    assert momentum_line(None) is None
    momenta = np.concatenate([np.linspace(0.95, 0.85, 31), np.linspace(0.85, 0.95, 71)[1:]])
    assert momentum_line(momenta) == "momentum, or the first of betas: 0.95 to 0.85, lowest after 30% of the run"


def test_the_ends_of_cycles_are_told_in_epochs() -> None:
    assert cycles_line((), 100) is None
    assert cycles_line((50, 300), 100) == "cycles end at epoch 0.5, 3"
