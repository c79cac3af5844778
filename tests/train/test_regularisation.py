"""What a trainer's settings do to a step: clipping, smoothing, weights, averages, precision, fewer examples."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search.errors import UsageError
from search.records import Verdict
from search.train import steps
from search.train.average import Average
from search.train.data.arrays import Dataset, Examples, Split
from search.train.data.subset import with_fewer
from search.train.loop import Fitted
from search.train.setup import Setup, setup_of
from tests.kits.zoo import LINEAR, MLP, config, digits, divided

CPU = torch.device("cpu")
PLAIN: dict[str, Any] = config()["trainer"]
RARE = np.array([0] * 54 + [1] * 6)


def made(trainer: dict[str, Any] | None = None, *, model: dict[str, Any] = MLP, **nodes: Any) -> Setup:
    """Return a setup of 200 digits in two epochs."""
    settings = {**PLAIN, "epochs": 2, **(trainer or {})}
    return setup_of(config(model, trainer=settings, **nodes), divided(digits(0, 200), 0), CPU, seed=1)


def uneven(targets: Any = RARE) -> Dataset:
    numbers = np.asarray(targets).dtype.kind == "f"
    examples = Examples(
        name="made",
        inputs=np.random.default_rng(0).normal(size=(len(targets), 4)).astype(np.float32),
        targets=np.asarray(targets, dtype=np.float32 if numbers else np.int64),
        task="regression" if numbers else "classification",
        classes=() if numbers else ("no", "yes", "other")[: max(2, len(np.unique(targets)))],
    )
    everything = np.arange(len(targets))
    return Dataset(examples=examples, split=Split(train=everything, validation=everything, test=everything))


def fitted(setup: Setup) -> tuple[Fitted, dict[int, dict[str, float]]]:
    trace: dict[int, dict[str, float]] = {}

    def report(step: int, figures: Any) -> tuple[Verdict, str]:
        trace[step] = dict(figures)
        return Verdict.GO_ON, ""

    return setup.training().fit(report), trace


def moved(trainer: dict[str, Any]) -> Tensor:
    """Return how far one plain step of SGD at rate 1 moves each weight: its gradient as it was followed."""
    setup = made(trainer, optimizer={"_target_": "torch.optim.SGD", "lr": 1.0})
    before = [p.detach().clone() for p in setup.model.parameters()]
    batch = next(iter(setup.batches(torch.arange(32), 32)))
    steps.train_step(setup.model, setup.optimizer, setup.loss, batch, rules=setup.rules)
    return torch.cat([(a - b.detach()).flatten() for a, b in zip(before, setup.model.parameters(), strict=True)])


def test_the_norm_of_all_gradients_is_clipped_and_their_direction_kept() -> None:
    free, clipped = moved({}), moved({"clip_norm": 0.01})
    assert float(free.norm()) > 0.1
    assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm(), atol=1e-4, rtol=1e-2)


def test_each_entry_of_a_gradient_is_cut_to_the_value() -> None:
    free, clipped = moved({}), moved({"clip_value": 0.002})
    torch.testing.assert_close(clipped, free.clamp(-0.002, 0.002), atol=1e-6, rtol=1e-3)


def test_accumulated_batches_are_one_large_batch() -> None:
    model = {**MLP, "dropout": 0.0}
    _, parts = fitted(made({"batch_size": 8, "accumulate": 4}, model=model))
    _, whole = fitted(made({"batch_size": 32}, model=model))
    for step in whole:
        assert parts[step] == pytest.approx(whole[step], rel=1e-4)


def test_decay_of_weights_alone_spares_biases_and_norms() -> None:
    cnn = {"_target_": "search.train.models.cnn.CNN", "channels": 4, "blocks": 1, "kernel": 3, "dropout": 0.0}
    first, second = made({"decay": "weights"}, model=cnn).optimizer.param_groups
    assert first["weight_decay"] == 1e-2
    assert {p.ndim for p in first["params"]} == {2, 4}
    assert second["weight_decay"] == 0.0
    assert {p.ndim for p in second["params"]} == {1}
    assert len(made({"decay": "all"}, model=cnn).optimizer.param_groups) == 1


def test_label_smoothing_spreads_a_part_of_the_target() -> None:
    outputs, targets = torch.randn(5, 10), torch.arange(5)
    smooth = made({"label_smoothing": 0.2}).loss(outputs, targets, targets)
    logs = outputs.log_softmax(dim=1)
    by_hand = -(0.8 * logs[range(5), targets] + 0.2 * logs.mean(dim=1)).mean()
    torch.testing.assert_close(smooth, by_hand)


def test_with_balanced_weights_a_rare_class_counts_as_much_as_any_other() -> None:
    setup = setup_of(config(LINEAR, trainer={**PLAIN, "class_weights": "balanced"}), uneven(), CPU, seed=1)
    right = torch.tensor([[9.0, -9.0]]).repeat(60, 1)
    loss = setup.loss(right, torch.from_numpy(RARE), torch.arange(60))
    assert float(loss) == pytest.approx(9.0, rel=1e-3)  # half of it all: 18 for each of the rare class
    assert not setup.model.target_mean.any()  # and a new network says that both are as likely


def test_balanced_weights_make_the_same_step_in_parts() -> None:
    gradients = []
    for parts in (1, 4):
        trainer = {**PLAIN, "class_weights": "balanced"}
        setup = setup_of(config(LINEAR, trainer=trainer), uneven(), CPU, seed=1)
        batch = next(iter(setup.batches(torch.arange(40, 60), 20)))
        steps.train_step(setup.model, setup.optimizer, setup.loss, batch, micro_batches=parts)
        gradients.append(torch.cat([p.grad.flatten() for p in setup.model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients)


def test_balanced_sampling_draws_each_class_as_often() -> None:
    order = steps.balanced_order(np.arange(600), np.repeat(RARE, 10), seed=1, epoch=1, step_size=32)
    assert len(order) == 600
    assert 0.4 < float((order >= 540).float().mean()) < 0.6
    assert not torch.equal(order, steps.balanced_order(np.arange(600), np.repeat(RARE, 10), 1, 2, 32))


def test_a_balanced_training_sees_the_rare_class() -> None:
    _, trace = fitted(setup_of(config(LINEAR, trainer={**PLAIN, "sampling": "balanced"}), uneven(), CPU, seed=1))
    assert np.isfinite(trace[9]["train/loss"])


@pytest.mark.parametrize("key", ["class_weights", "label_smoothing", "sampling"])
def test_what_is_for_classes_is_refused_for_numbers_in_one_line(key: str) -> None:
    value = 0.1 if key == "label_smoothing" else "balanced"
    whole = config(LINEAR, trainer={**PLAIN, key: value})
    with pytest.raises(UsageError, match=f"trainer.{key}={value}: is for classes"):
        setup_of(whole, uneven(np.linspace(0, 1, 40)), CPU, seed=1)


def test_a_loss_of_ones_own_is_not_smoothed_from_outside() -> None:
    whole = config(LINEAR, loss={"_target_": "torch.nn.CrossEntropyLoss"}, trainer={**PLAIN, "label_smoothing": 0.1})
    with pytest.raises(UsageError, match=r"trainer.label_smoothing=0.1: cannot be combined with a loss of your own"):
        setup_of(whole, uneven(), CPU, seed=1)


# ------------------------------------------------------------------------------------------------- average of weights


def test_the_average_follows_the_weights_by_its_decay() -> None:
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)
    average = Average(model, 0.5)
    by_hand = 0.0
    for step in range(1, 6):
        nn.init.constant_(model.weight, float(step))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        by_hand = decay * by_hand + (1 - decay) * step
    assert float(average.weights["weight"]) == pytest.approx(by_hand)


def test_the_average_is_judged_and_kept_and_the_network_trains_on_with_its_own_weights() -> None:
    averaged, plain = made({"ema": 0.9}), made()
    (fit, trace), (_, others) = fitted(averaged), fitted(plain)
    assert trace[1]["train/loss"] == others[1]["train/loss"]
    assert trace[2]["train/loss"] == others[2]["train/loss"]
    assert trace[2]["val/loss"] != others[2]["val/loss"]
    again = averaged.training().predict(averaged.dataset.split.validation)
    np.testing.assert_array_equal(again, fit.predictions)


def test_an_interrupted_average_goes_on_where_it_was(tmp_path: Any) -> None:
    _, whole = fitted(made({"ema": 0.9, "epochs": 4, "checkpoint_every": 1}))
    checkpoint, trace = tmp_path / "checkpoint", {}

    def pause(step: int, figures: Any) -> tuple[Verdict, str]:
        return (Verdict.PAUSE, "") if step == 2 else (Verdict.GO_ON, "")

    made({"ema": 0.9, "epochs": 4, "checkpoint_every": 1}).training().fit(pause, checkpoint)
    made({"ema": 0.9, "epochs": 4, "checkpoint_every": 1}).training().fit(
        lambda step, figures: (trace.update({step: dict(figures)}), (Verdict.GO_ON, ""))[1], checkpoint
    )
    assert trace == {step: whole[step] for step in (3, 4)}


# ------------------------------------------------------------------------------------------------------ precision


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_lower_precision_learns_nearly_the_same(precision: str) -> None:
    _, low = fitted(made({"precision": precision, "epochs": 4}))
    _, full = fitted(made({"epochs": 4}))
    assert low[4]["train/loss"] != full[4]["train/loss"]
    assert low[4]["train/loss"] == pytest.approx(full[4]["train/loss"], rel=0.1)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_targets_beyond_a_lower_precision_are_learned(precision: str) -> None:
    numbers = 2e5 + 1e5 * np.random.default_rng(0).normal(size=60)
    trainer = {**PLAIN, "precision": precision}
    setup = setup_of(config(LINEAR, trainer=trainer), uneven(numbers), CPU, seed=1)
    fit, _ = fitted(setup)
    assert np.abs(fit.predictions - numbers).mean() < 2e5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own use
def test_compiled_training_is_the_same_training() -> None:
    setup = made({"compile": True, "epochs": 1})
    names = list(setup.model.state_dict())
    _, compiled = fitted(setup)
    _, plain = fitted(made({"epochs": 1}))
    assert compiled[1]["train/loss"] == pytest.approx(plain[1]["train/loss"], rel=1e-3)
    assert list(setup.model.state_dict()) == names


# ------------------------------------------------------------------------------------------------ fewer examples


def test_smaller_sets_are_parts_of_larger_ones_with_the_classes_shares() -> None:
    whole = uneven(np.repeat(RARE, 10))
    sets = [with_fewer(whole, number, seed=3).split.train for number in (20, 60, 300)]
    for smaller, larger in itertools.pairwise(sets):
        assert set(smaller) <= set(larger)
    for number, chosen in zip((20, 60, 300), sets, strict=True):
        assert len(chosen) == number
        assert abs(int((whole.examples.targets[chosen] == 1).sum()) - number / 10) <= 1
    assert not np.array_equal(sets[0], with_fewer(whole, 20, seed=4).split.train)


@pytest.mark.parametrize("number", [3, 10, 20])
def test_a_rare_class_keeps_an_example(number: int) -> None:
    whole = uneven(np.repeat([0, 1, 2], [990, 9, 1]))
    sets = [with_fewer(whole, n, seed=3).split.train for n in (number, number + 1)]
    assert set(sets[0]) < set(sets[1])
    assert np.bincount(whole.examples.targets[sets[0]]).tolist() == [number - 2, 1, 1]


@pytest.mark.parametrize("number", [1, 61])
def test_more_than_there_are_is_refused(number: int) -> None:
    with pytest.raises(UsageError, match=f"trainer.examples={number}: must be 2 to 60"):
        with_fewer(uneven(), number, seed=0)


# ---------------------------------------------------------------------------------------------------------- refit


def test_a_refit_leaves_no_example_out() -> None:
    whole = config(trainer={**PLAIN, "examples": 20})
    setup = setup_of(whole, divided(digits(0, 200), 0), CPU, seed=1, refit_epochs=2)
    assert len(setup.dataset.split.train) == 120


class Lazy(nn.Module):
    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(num_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.net(inputs)
        return outputs


def test_lazy_layers_have_shapes_before_anything_is_made_of_them() -> None:
    setup = made({"ema": 0.9, "decay": "weights"}, model={"_target_": f"{__name__}.Lazy"})
    assert [group["weight_decay"] for group in setup.optimizer.param_groups] == [1e-2, 0.0]
    _, trace = fitted(setup)
    assert np.isfinite(trace[2]["train/loss"])


def test_a_refit_keeps_its_last_weights_after_so_many_epochs() -> None:
    plain = {**PLAIN, "epochs": 9}
    whole = config(trainer=plain)
    data = divided(digits(0, 200), 0)
    fit, trace = fitted(setup_of(whole, data, CPU, seed=1, refit_epochs=5))
    assert (fit.best_step, fit.steps, list(trace)) == (5, 5, [1, 2, 3, 4, 5])
    _, first = fitted(setup_of(whole, data, CPU, seed=1))
    assert trace[5] == first[5]  # the schedule is that of the whole plan


def test_a_plan_may_keep_its_last_weights_and_figures() -> None:
    data = divided(digits(0, 200), 0)
    rising = {**config()["optimizer"], "lr": 0.3}  # the last epoch is not the best one
    fits = {
        keep: fitted(
            setup_of(config(trainer={**PLAIN, "epochs": 9, "keep": keep}, optimizer=rising), data, CPU, seed=1)
        )
        for keep in ("best", "last")
    }
    (best, trace), (last, same) = fits["best"], fits["last"]
    assert trace == same
    assert best.best_step < last.best_step == 9
    assert last.figures == trace[9]
