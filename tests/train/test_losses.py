import numpy as np
import pytest
import torch
from torch import Tensor

from search.train.losses import DistillationLoss, HardLoss, predictions_of

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
LABELS = torch.tensor([0, 2])
VALUES = torch.tensor([[1.0], [4.0]])
TARGETS = torch.tensor([2.0, 2.0])
TRAIN = np.array([7, 2])
"""Example 7 is the teacher's first row, example 2 its second."""
INDICES = torch.tensor([7, 2])
TEACHER = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])


def cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    return -(shares * logits.log_softmax(1)).sum(1).mean()


def distillation(
    teacher: np.ndarray, *, temperature: float = 4.0, mix: float = 1.0, target_std: float = 1.0
) -> DistillationLoss:
    task = "classification" if teacher.ndim == 2 else "regression"
    return DistillationLoss(
        HardLoss(task=task, target_std=target_std),
        teacher,
        TRAIN,
        temperature=temperature,
        mix=mix,
        target_std=target_std,
    )


def test_the_loss_of_classes_is_cross_entropy() -> None:
    expected = cross_entropy(LOGITS, torch.eye(3)[LABELS])
    torch.testing.assert_close(HardLoss(task="classification", target_std=1.0)(LOGITS, LABELS, INDICES), expected)


@pytest.mark.parametrize("target_std", [1.0, 3.0])
def test_the_loss_of_numbers_is_in_units_of_the_targets_variance(target_std: float) -> None:
    loss = HardLoss(task="regression", target_std=target_std)(VALUES, TARGETS, INDICES)
    assert float(loss) == pytest.approx((1 + 4) / 2 / target_std**2)


def test_without_the_teachers_share_distillation_is_the_hard_loss() -> None:
    loss = distillation(TEACHER, mix=0.0)(LOGITS, LABELS, INDICES)
    torch.testing.assert_close(loss, HardLoss(task="classification", target_std=1.0)(LOGITS, LABELS, INDICES))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_soft_loss_is_the_divergence_at_the_temperature_times_its_square(temperature: float) -> None:
    soft = torch.tensor(TEACHER, dtype=torch.float32).pow(1 / temperature)
    soft = soft / soft.sum(1, keepdim=True)
    student = (LOGITS / temperature).softmax(1)
    expected = temperature**2 * (soft * (soft / student).log()).sum(1).mean()
    torch.testing.assert_close(distillation(TEACHER, temperature=temperature)(LOGITS, LABELS, INDICES), expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_soft_loss_of_the_teacher_itself_is_0(temperature: float) -> None:
    logits = torch.tensor(TEACHER, dtype=torch.float32).log() + 3  # a constant changes no probability
    assert float(distillation(TEACHER, temperature=temperature)(logits, LABELS, INDICES)) == pytest.approx(0, abs=1e-5)


def test_soft_and_hard_are_mixed_by_their_shares() -> None:
    soft, hard, mixed = (float(distillation(TEACHER, mix=mix)(LOGITS, LABELS, INDICES)) for mix in (1.0, 0.0, 0.3))
    assert mixed == pytest.approx(0.3 * soft + 0.7 * hard)


def test_each_example_has_its_own_row_of_the_teacher() -> None:
    loss = distillation(TEACHER)
    torch.testing.assert_close(loss(LOGITS.flip(0), LABELS, INDICES.flip(0)), loss(LOGITS, LABELS, INDICES))
    assert float(loss(LOGITS.flip(0), LABELS, INDICES)) != pytest.approx(float(loss(LOGITS, LABELS, INDICES)))


def test_a_teacher_of_numbers_is_imitated_in_units_of_the_targets_variance() -> None:
    loss = distillation(np.array([0.0, 2.0]), target_std=2.0)(VALUES, TARGETS, INDICES)
    assert float(loss) == pytest.approx((1 + 4) / 2 / 4)


def test_a_teacher_that_is_certain_gives_a_finite_loss_and_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = distillation(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), temperature=1.0)(logits, LABELS, INDICES)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_the_gradient_of_the_soft_loss_keeps_its_size_with_the_temperature() -> None:
    # section 2 of Hinton et al. 2015: gradients of soft targets scale with 1/T**2, hence the factor; for small logits
    sizes = []
    for temperature in (8.0, 64.0):
        logits = (LOGITS / 100).requires_grad_()
        distillation(TEACHER, temperature=temperature)(logits, LABELS, INDICES).backward()
        assert logits.grad is not None
        sizes.append(float(logits.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.15)


@pytest.mark.parametrize(
    ("outputs", "task", "expected"),
    [
        (LOGITS, "classification", LOGITS.softmax(1).numpy()),
        (VALUES, "regression", np.array([1.0, 4.0])),
        (VALUES.double(), "regression", np.array([1.0, 4.0])),
    ],
    ids=["classes", "numbers", "double precision"],
)
def test_predictions_are_probabilities_or_values_in_single_precision(
    outputs: Tensor, task: str, expected: np.ndarray
) -> None:
    found = predictions_of(outputs, task)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_has_no_label_has_no_hard_part() -> None:
    """The second example is of the transfer set."""
    hard = HardLoss(task="classification", target_std=1.0)
    loss = DistillationLoss(hard, TEACHER, TRAIN, temperature=2.0, mix=0.6, target_std=1.0, labelled=1)
    soft = distillation(TEACHER, temperature=2.0)(LOGITS, LABELS, INDICES)
    expected = 0.6 * soft + 0.4 * hard(LOGITS[:1], LABELS[:1], INDICES[:1]) / 2
    torch.testing.assert_close(loss(LOGITS, LABELS, INDICES), expected)
    without = loss(LOGITS[1:], torch.tensor([-1]), INDICES[1:])
    alone = DistillationLoss(hard, TEACHER[1:], TRAIN[1:], temperature=2.0, mix=0.6, target_std=1.0, labelled=0)
    torch.testing.assert_close(without, alone(LOGITS[1:], LABELS[1:], INDICES[1:]))
