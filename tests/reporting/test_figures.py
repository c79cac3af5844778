import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.checks import evidence
from search.checks.evidence import Bars, Curves, Figure, Matrix, Pictures
from search.reporting.figures import MOST_BYTES, draw, draw_file
from search.reporting.figures.numbers import shrunk, thinned
from search.reporting.figures.words import in_line, wrapped

RNG = np.random.default_rng(0)
INF, NAN, HUGE = float("inf"), float("nan"), 1.7e308
WORDS = "a _$\\frac{1$ 模型 \t\n\x00 \U0001f600 " + "very long " * 40


def pictures(inputs: Any, *captions: str) -> Pictures:
    return Pictures(name="p", title="pictures", inputs=np.asarray(inputs), captions=captions)


def curves(*values: Any, **more: Any) -> Curves:
    lines = {f"line {i}": np.stack([np.arange(1.0, len(y) + 1), y]) for i, y in enumerate(map(np.asarray, values))}
    return Curves(**{"name": "c", "title": "curves", "x": "step", "y": "loss", "lines": lines, **more})


def bars(*values: Any, **more: Any) -> Bars:
    labels = tuple(f"class {i}" for i in range(max(map(len, values), default=0)))
    named = {f"split {i}": np.asarray(y) for i, y in enumerate(values)}
    return Bars(**{"name": "b", "title": "bars", "y": "examples", "labels": labels, "bars": named, **more})


def matrix(values: Any) -> Matrix:
    return Matrix(name="m", title="matrix", x="input", y="output", values=np.asarray(values))


USUAL: dict[str, Figure] = {
    "grey pictures": pictures(RNG.random((10, 1, 8, 8)), "3", "7 or 9"),
    "coloured pictures": pictures(RNG.integers(0, 255, (3, 3, 32, 32), np.uint8)),
    "pictures of five channels": pictures(RNG.random((2, 5, 8, 8))),
    "wide pictures": pictures(RNG.random((5, 1, 4, 600))),
    "volumes": pictures(RNG.random((2, 1, 3, 8, 8))),
    "series": pictures(RNG.random((20, 2, 50)), *map(str, range(20))),
    "series of many channels": pictures(RNG.random((2, 30, 7))),
    "rows of a table": pictures(RNG.random((4, 6))),
    "numbers": pictures(RNG.random(4)),
    "more captions than pictures": pictures(np.zeros((1, 1, 2, 2)), "a", "b", "c"),
    "curves": curves([3, 2, 1], [3, 1], marks={"best": 2.0, "close to it": 2.01}, levels={"chance": 2.3, "near": 2.3}),
    "logarithmic curves": curves([3, 0, 1, -1, 1e-9], log_x=True, log_y=True, marks={"none": 0.0}, levels={"": -1.0}),
    "nothing positive": curves([-3, -2, 0], log_y=True),
    "forty curves": curves(*RNG.random((40, 5))),
    "a long curve": curves(RNG.random(100_000)),
    "bars": bars([3, 4], [1, 2], levels={"even": 3.5, "at most": 9.0}),
    "bars of several lengths": bars([3, 4, 5], [1], []),
    "a thousand bars": bars(RNG.normal(size=1000)),
    "bars without labels": bars([1, 2, 3], labels=()),
    "numbers in a small matrix": matrix(RNG.integers(0, 9, (3, 3))),
    "both signs": matrix(RNG.normal(size=(20, 30))),
    "a tall matrix": matrix(RNG.random((500, 2))),
    "a large matrix": matrix(RNG.random((700, 900))),
    "a row": matrix([1.0, 2.0]),
    "truths": matrix([[True, False], [False, True]]),
}
ODD: dict[str, Figure] = {
    "corrupt pictures": pictures([[[[NAN, INF], [-INF, 1]]], [[[NAN] * 2] * 2]]),
    "constant pictures": pictures(np.full((2, 3, 4, 4), 7.0)),
    "huge pictures": pictures(np.array([HUGE, -HUGE, 0, 1]).reshape(1, 1, 2, 2)),
    "complex pictures": pictures(np.full((2, 1, 4, 4), 1 + 2j)),
    "corrupt series": pictures([[[NAN, 1, INF, 2]], [[NAN] * 4]]),
    "series of one step": pictures(np.ones((2, 1, 1))),
    "corrupt curves": curves([1, NAN, INF, 2, -INF], levels={"a": NAN, "b": INF}, marks={"c": -INF}),
    "huge curves": curves([HUGE, -HUGE, 0], levels={"a": HUGE}),
    "huge logarithmic curves": curves([HUGE, 5e-324, 1], log_y=True),
    "a constant curve": curves([2, 2, 2]),
    "a point": curves([2.0]),
    "a point on logarithmic axes": curves([2.0], log_x=True, log_y=True),
    "corrupt bars": bars([1, NAN, INF, -INF], [NAN] * 4),
    "huge bars": bars([HUGE, -HUGE]),
    "bars of zero": bars([0, 0, 0]),
    "a corrupt matrix": matrix([[1, NAN], [INF, -INF]]),
    "a huge matrix": matrix([[HUGE, -HUGE], [0, 1]]),
    "a matrix of NaN": matrix([[NAN, NAN]]),
    "a constant matrix": matrix(np.full((3, 3), -2.0)),
    "odd words": Curves(
        name="w",
        title=WORDS,
        x=WORDS,
        y=WORDS,
        lines={WORDS: np.ones((2, 3)), "_hidden": np.ones((2, 3)), "": np.ones((2, 3))},
        marks={WORDS: 1.0},
        levels={WORDS: 1.0},
    ),
    "odd captions": Pictures(name="w", title=WORDS, inputs=np.ones((2, 1, 3, 3)), captions=(WORDS, "x" * 300)),
    "odd labels": Bars(name="w", title=WORDS, y=WORDS, labels=(WORDS, ""), bars={WORDS: np.ones(2), "_": np.ones(2)}),
    "odd axes": Matrix(name="w", title=WORDS, x=WORDS, y=WORDS, values=np.eye(2)),
}
NOTHING: dict[str, Figure] = {
    "no pictures": pictures(np.zeros((0, 1, 8, 8))),
    "pictures without pixels": pictures(np.zeros((2, 1, 0, 8))),
    "no series": pictures(np.zeros((0, 1, 8)), "caption"),
    "no lines": curves(),
    "lines without points": curves([], []),
    "lines of NaN": curves([NAN, NAN]),
    "lines of another shape": Curves(name="c", title="t", x="x", y="y", lines={"a": np.ones(3)}),
    "no bars": bars(),
    "bars without values": bars([], []),
    "no matrix": matrix(np.zeros((0, 3))),
}


def drawn(figure: Figure) -> np.ndarray[Any, Any]:
    """Return the pixels (H, W, 3) of what is drawn, which has the size it may have."""
    content = draw(figure)
    assert len(content) <= MOST_BYTES
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    assert 400 <= image.width <= 1200
    assert 100 <= image.height <= 1600
    return np.asarray(image.convert("RGB"))


def has(pixels: np.ndarray[Any, Any], *colour: int) -> bool:
    return bool((pixels == colour).all(axis=-1).any())


@pytest.mark.parametrize("figure", [*USUAL.values(), *ODD.values()], ids=[*USUAL, *ODD])
def test_it_is_drawn(figure: Figure) -> None:
    pixels = drawn(figure)
    assert pixels.shape[0] > 110  # more than the figure of nothing
    assert pixels.min() < 128


@pytest.mark.parametrize("figure", NOTHING.values(), ids=NOTHING)
def test_of_nothing_the_title_is_drawn(figure: Figure) -> None:
    pixels = drawn(figure)
    assert pixels.shape[0] <= 111
    assert pixels[:40].min() < 128


def test_a_small_picture_is_magnified_evenly_to_one_scale() -> None:
    checks = np.indices((8, 8)).sum(axis=0) % 2
    pixels = drawn(pictures(np.stack([checks, checks * 0.5])[:, None]))
    for level in (0, 255, 128):
        mask = (pixels == level).all(axis=-1)
        assert mask.sum() >= 32 * 27 * 27
    lines = (pixels[:, 16 : 16 + 216] == 0).all(axis=-1)
    assert set(lines.sum(axis=1)) >= {4 * 27}  # 8 pixels of 27 a side, every second black


def test_what_is_not_finite_is_red_in_a_picture() -> None:
    assert has(drawn(pictures([[[[NAN, 1], [0, 1]]]])), 214, 39, 40)
    assert not has(drawn(pictures([[[[0.5, 1], [0, 1]]]])), 214, 39, 40)


def test_three_channels_are_colours() -> None:
    red = np.zeros((1, 3, 4, 4))
    red[:, 0] = 9.0
    assert has(drawn(pictures(red)), 255, 0, 0)
    assert not has(drawn(pictures(red[:, :2])), 255, 0, 0)


def test_no_more_than_64_pictures_are_shown() -> None:
    inputs = np.zeros((300, 1, 8, 8))
    some, many = drawn(pictures(inputs[:64])), drawn(pictures(inputs))
    assert some.shape == many.shape


def test_noise_is_drawn_coarser_until_it_is_small_enough() -> None:
    drawn(pictures(RNG.normal(size=(64, 3, 130, 130))))


def test_the_same_figure_gives_the_same_file() -> None:
    assert draw(USUAL["curves"]) == draw(USUAL["curves"])


def test_a_file_is_drawn_beside_itself(tmp_path: Path) -> None:
    name = evidence.save(USUAL["bars"], tmp_path, "R03")
    to = draw_file(tmp_path / name)
    assert to == tmp_path / "R03-b.png"
    assert to.read_bytes() == draw(USUAL["bars"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["R03-b.npz", "R03-b.png"]


def test_a_file_without_a_figure_is_refused(tmp_path: Path) -> None:
    (tmp_path / "R03-b.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError):
        draw_file(tmp_path / "R03-b.npz")
    with pytest.raises(FileNotFoundError):
        draw_file(tmp_path / "R04-b.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["R03-b.npz"]


# ----------------------------------------------------------------------------------------------- parts of a figure


def test_thinning_keeps_every_peak() -> None:
    y = np.zeros(10_000)
    y[1234], y[7777] = 5.0, -3.0
    x, kept = thinned(np.arange(10_000), y, 200)
    assert len(kept) <= 200
    assert (np.diff(x) > 0).all()
    assert {1234, 7777} <= set(x)


def test_thinning_keeps_gaps() -> None:
    y = np.r_[np.zeros(500), np.full(500, NAN)]
    assert np.isnan(thinned(np.arange(1000), y, 100)[1]).any()


def test_shrinking_takes_means() -> None:
    values = np.arange(12.0).reshape(3, 4)
    assert shrunk(values, 3, 2).tolist() == [[0.5, 2.5], [4.5, 6.5], [8.5, 10.5]]
    assert shrunk(values, 1, 1).tolist() == [[5.5]]
    assert shrunk(values, 9, 9) is values


def test_words_are_shortened_where_they_tell_least() -> None:
    assert in_line("blocks.11.attention.weight", 16) == "blocks.1….weight"
    assert in_line("two\n words", 16) == "two words"
    assert wrapped("one two three four", 8, 2) == "one two\nthree…"


def test_words_are_no_formulas_and_have_boxes_for_what_the_font_lacks() -> None:
    assert in_line("$a 模\x00", 16) == r"\$a □□"
    assert in_line("_private", 16) == " _private"
