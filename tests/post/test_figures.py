"""Pictures of where a champion is wrong: of classes all three, of tables and values what there is to see."""

import numpy as np
import pytest

from search.checks.evidence import Curves, Matrix, Pictures
from search.post.calibration import expected_calibration_error, reliability
from search.post.figures import figures_of
from search.post.judgement import mistakes_of
from search.reporting.figures import draw
from tests.kits.pools import noisy

SIZE = 200


def test_classes_of_pictures_have_a_confusion_their_reliability_and_the_worst_mistakes() -> None:
    (predictions,), targets = noisy([1.0], SIZE)
    inputs = np.random.default_rng(0).integers(0, 255, (2 * SIZE, 1, 8, 8)).astype(np.uint8)
    mistakes = mistakes_of(predictions, targets, SIZE + np.arange(SIZE), "abc")
    confusion, curve, pictures = figures_of("student", predictions, targets, mistakes, inputs)
    assert isinstance(confusion, Matrix)
    assert np.trace(confusion.values) == (predictions.argmax(axis=1) == targets).sum()
    assert f"{mistakes.wrong} of {SIZE} wrong" in confusion.title
    assert isinstance(curve, Curves)
    assert (np.diff(curve.lines["champion"][0]) > 0).all()
    assert isinstance(pictures, Pictures)
    np.testing.assert_array_equal(pictures.inputs[0], inputs[mistakes.worst[0].index])
    assert str(mistakes.worst[0].index) in pictures.captions[0]
    for figure in (confusion, curve, pictures):
        assert draw(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(4,), (1, 5)])
def test_of_values_only_inputs_that_can_be_seen_are_drawn(shape: tuple[int, ...]) -> None:
    targets = np.arange(5.0)
    mistakes = mistakes_of(targets + 1, targets, np.arange(5), ())
    found = figures_of("single best", targets + 1, targets, mistakes, np.zeros((5, *shape)))
    assert [figure.name for figure in found] == (["values", "mistakes"] if len(shape) == 2 else ["values"])
    assert isinstance(found[0], Curves)
    np.testing.assert_array_equal(found[0].lines["champion"], [targets, targets + 1])


def test_a_champion_without_mistakes_has_none_to_show() -> None:
    targets = np.array([0, 1, 1])
    mistakes = mistakes_of(np.eye(2)[targets], targets, np.arange(3), "ab")
    found = figures_of("single best", np.eye(2)[targets], targets, mistakes, np.zeros((3, 1, 2, 2)))
    assert [figure.name for figure in found] == ["confusion", "reliability"]


def test_bins_hold_every_example_once() -> None:
    (predictions,), targets = noisy([1.0], SIZE)
    confidence, right, sizes = reliability(predictions, targets)
    assert sizes.sum() == SIZE
    assert (right * sizes).sum() == pytest.approx((predictions.argmax(axis=1) == targets).sum())
    assert (np.abs(confidence - right) * sizes).sum() / SIZE == expected_calibration_error(predictions, targets)
