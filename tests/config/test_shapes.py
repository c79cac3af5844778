"""Which trials are packed into one worker, as the driver guesses from their configurations."""

import pytest

from search.config.shapes import alone_by, shape_of
from search.space import Space
from tests.config.test_compose import composed

FREE = {
    "learning rate": ("optimizer.lr=0.1",),
    "kind of optimiser": ("optimizer=sgd",),
    "schedule": ("schedule=one_cycle",),
    "dropout": ("model.dropout=0.4",),
    "epochs": ("trainer.epochs=3",),
    "label smoothing": ("trainer.label_smoothing=0.2",),
    "clipping": ("trainer.clip_norm=1",),
    "averages": ("trainer.ema=0.9",),
    "metric": ("metric.name=loss",),
}
BOUND = {
    "width": ("model.width=64",),
    "depth": ("model.depth=3",),
    "network": ("model=linear",),
    "batch size": ("trainer.batch_size=64",),
    "precision": ("trainer.precision=bf16",),
    "augmentation": ("augment=image",),
}
ALONE = {
    "trainer.compile=true": ("trainer.compile=true",),
    "trainer.loading=loader": ("trainer.loading=loader",),
    "trainer.precision=fp16": ("trainer.precision=fp16", "device=cuda"),
    "pretrained.weights": ("pretrained.weights=w.safetensors",),
}


def config(*arguments: str) -> dict[str, object]:
    first = () if any(word.startswith("model=") for word in arguments) else ("model=mlp",)
    space = Space.of(composed(*first, *arguments))
    return space.configure(space.default())


@pytest.mark.parametrize("arguments", FREE.values(), ids=FREE)
def test_trials_of_one_shape_may_differ_in(arguments: tuple[str, ...]) -> None:
    assert shape_of(config(*arguments)) == shape_of(config())


@pytest.mark.parametrize("arguments", BOUND.values(), ids=BOUND)
def test_another_shape_has(arguments: tuple[str, ...]) -> None:
    assert None is not shape_of(config(*arguments)) != shape_of(config())


def test_how_strongly_inputs_are_changed_is_no_matter_of_shape() -> None:
    space = Space.of(composed("model=mlp", "augment=image"))
    strengths = [d for d in space.dimensions if d.name.startswith("augment.")]
    low, high = ({**space.default(), **{d.name: d.at(share) for d in strengths}} for share in (0.1, 0.9))
    assert strengths
    assert shape_of(space.configure(low)) == shape_of(space.configure(high))


@pytest.mark.parametrize(("why", "arguments"), ALONE.items(), ids=ALONE)
def test_some_settings_leave_each_trial_alone(why: str, arguments: tuple[str, ...]) -> None:
    alone = config(*arguments)
    assert shape_of(alone) is None
    assert alone_by(alone) == why


def test_no_setting_leaves_the_default_trial_alone() -> None:
    assert alone_by(config()) is None
