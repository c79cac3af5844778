"""What a check works with: the data, and setups of it made anew for each experiment."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from search.keyed import keyed_int
from search.train import steps
from search.train.batches import Batch, Batches, LoaderBatches, ResidentBatches
from search.train.data.arrays import Array, Dataset, Examples, Split
from search.train.estimator import Estimator
from search.train.setup import Setup, setup_of

T = TypeVar("T")
INITIALISATIONS, FEWER_INITIALISATIONS = 8, (4, 2)
INITIAL_EXAMPLES, LEAST_EXAMPLES = 256, 64
INITIAL_SECONDS = 10.0
"""For the outputs of all new networks; where they would take longer, there are fewer examples, and then networks."""
_DROPOUTS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((_DropoutNd,), "p"),
    ((nn.MultiheadAttention, nn.RNNBase), "dropout"),
)


@dataclass(frozen=True)
class Bench:
    """One subject under examination. Everything random is keyed by `seed` and the name of the experiment.

    `config` is a trial's, with its defaults; `settings` are those of the stage (`inspect` or `preflight`). `shared` are
    batches that others have of this data already. Training steps take a batch in `micro_batches` parts.
    """

    dataset: Dataset
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    device: torch.device
    seed: int
    shared: Batches | None = None
    micro_batches: int = 1
    _memory: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def examples(self) -> Examples:
        """All examples."""
        return self.dataset.examples

    @property
    def split(self) -> Split:
        """Indices of train, validation and test; no check may use the test split's targets but to count them."""
        return self.dataset.split

    @property
    def classifies(self) -> bool:
        """Tell whether targets are classes."""
        return self.examples.task == "classification"

    def generator(self, *key: str | int) -> np.random.Generator:
        """Return a generator that depends on the seed and the key alone."""
        return np.random.default_rng(keyed_int(self.seed, "check", *key))

    def sample(self, part: str, most: int) -> Array:
        """Return at most so many indices of a part ("train", "validation", "test"), drawn evenly, in rising order."""
        indices = self.split.of(part)
        if len(indices) <= most:
            return np.sort(indices)
        return np.sort(self.generator("sample", part, most).choice(indices, most, replace=False))

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what `make` gives, made once for all checks of this subject that run in one process."""
        if name not in self._memory:
            self._memory[name] = make()
        made: T = self._memory[name]
        return made

    @cached_property
    def batches(self) -> Batches:
        """All data on the device, or through the loader; its processes would start anew for every few batches."""
        if self.shared is not None and not isinstance(self.shared, LoaderBatches):
            return self.shared
        if self.config["trainer"]["loading"] == "loader":
            return LoaderBatches(self.examples, self.device, 0)
        return ResidentBatches(self.examples, self.device)

    def setup(self, changes: Mapping[str, Mapping[str, Any]] | None = None, *, key: str = "") -> Setup:
        """Return a new setup as a trial has it, with other values in nodes of its configuration.

        Setups of one key have the same initial weights.
        """
        config = {**self.config, **{node: {**self.config[node], **new} for node, new in (changes or {}).items()}}
        seed = keyed_int(self.seed, "setup", key)
        return setup_of(
            config,
            self.dataset,
            self.device,
            seed=seed,
            batches=self.batches,
            micro_batches=self.micro_batches,
        )

    def bare_setup(self, changes: Mapping[str, Mapping[str, Any]] | None = None, *, key: str = "") -> Setup:
        """Return a new setup without regularisation: no dropout, weight decay, smoothing, augmentation."""
        changes = {**(changes or {}), "trainer": {**(changes or {}).get("trainer", {}), "label_smoothing": 0.0}}
        setup = self.setup(changes, key=key)
        setup = dataclasses.replace(setup, rules=dataclasses.replace(setup.rules, augment=None))
        without_dropout(setup.model)
        for group in setup.optimizer.param_groups:
            if "weight_decay" in group:
                group["weight_decay"] = 0.0
        return setup

    def batch(self, size: int, *, part: str = "train", key: str = "") -> Batch:
        """Return one batch of a part: inputs (N, *shape), targets (N,), indices (N,); N is at most `size`.

        Of classes, the batch has as many as it can.
        """
        indices = self.split.of(part)
        order = self.generator("batch", part, key).permutation(indices)
        if self.classifies and part != "test":
            order = _in_turn(order, self.examples.targets)
        return next(iter(self.batches(torch.as_tensor(order[:size]), size)))

    def drawn(self, most: int) -> Batch:
        """Return a batch of so many training examples at most, drawn evenly: its classes have the prior's shares."""
        indices = self.sample("train", most)
        return next(iter(self.batches(torch.as_tensor(indices), len(indices))))

    def new_outputs(self) -> tuple[Batch, Tensor]:
        """Return a drawn batch, and what new networks without regularisation give for it before the first step.

        (D, N, C) or (D, N, 1) of D initialisations, as the loss gets them: a single one says more about its draw than
        about how the network is initialised.
        """
        return self.once("new outputs", self._new_outputs)

    def _new_outputs(self) -> tuple[Batch, Tensor]:
        number, examples = self._affordable()
        batch = self.drawn(examples)
        return batch, torch.stack([self.outputs_of(self.new_network(i), batch[0]) for i in range(number)])

    def new_network(self, number: int) -> Estimator:
        """Return one of the networks without regularisation that `new_outputs` are of, in training mode."""
        model: Estimator = self.bare_setup(key=f"initialisation {number}").model.train()
        return model

    def _affordable(self) -> tuple[int, int]:
        """Return how many new networks, and examples, their outputs can be had of in bounded time."""
        batch = self.drawn(INITIAL_EXAMPLES)
        part, model = self.in_parts(batch[0])[0], self.new_network(0)
        for _ in range(2):  # the first pass may have to prepare something
            started = time.perf_counter()
            self.outputs_of(model, part)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            passes = INITIAL_SECONDS / max(time.perf_counter() - started, 1e-9) * len(part)
            if passes >= INITIALISATIONS * INITIAL_EXAMPLES:
                return INITIALISATIONS, INITIAL_EXAMPLES
        examples = max(LEAST_EXAMPLES, int(passes / INITIALISATIONS))
        fewer = (n for n in (INITIALISATIONS, *FEWER_INITIALISATIONS) if n * examples <= passes)
        return next(fewer, FEWER_INITIALISATIONS[-1]), examples

    def outputs_of(self, model: Estimator, inputs: Tensor) -> Tensor:
        """Return what a network gives in the mode that it is in, without gradients, in parts that fit its memory."""
        with torch.no_grad():
            return torch.cat([model(part) for part in self.in_parts(inputs)])

    def in_parts(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return inputs (N, *shape) in parts as large as the trial's steps take, none of a single example."""
        size = max(2, self.config["trainer"]["batch_size"] // self.micro_batches)
        return inputs.tensor_split(max(1, min(math.ceil(len(inputs) / size), len(inputs) // 2)))


def without_dropout(model: nn.Module) -> None:
    """Switch torch's dropout off, whatever mode the model is in: that of layers, of attention and between recurrent."""
    for module in model.modules():
        for kinds, attribute in _DROPOUTS:
            if isinstance(module, kinds):
                setattr(module, attribute, 0.0)


def has_dropout(model: nn.Module) -> bool:
    """Tell whether any of torch's dropout is on in training."""
    pairs = ((module, kinds, attribute) for module in model.modules() for kinds, attribute in _DROPOUTS)
    return any(isinstance(module, kinds) and getattr(module, attribute) for module, kinds, attribute in pairs)


def minibatches(setup: Setup, number: int) -> Iterator[Batch]:
    """Yield so many training batches in the order in which a trial of that setup sees them."""
    size = setup.plan.step_size
    epochs = (
        setup.batches(steps.order_of(setup.dataset, setup.plan, setup.seed, epoch), size)
        for epoch in itertools.count(1)
    )
    yield from itertools.islice(itertools.chain.from_iterable(epochs), number)


def train(setup: Setup, batches: Iterator[Batch]) -> Array:
    """Train on the batches at the base learning rate; return the loss of each, (M,), up to one that is not finite."""
    steps.seed_everything(keyed_int(setup.seed, "epoch", 1))
    setup.model.train()
    losses = []
    for batch in batches:
        total = steps.train_step(
            setup.model,
            setup.optimizer,
            setup.loss,
            batch,
            micro_batches=setup.plan.parts,
            rules=setup.rules,
        )
        losses.append(float(total) / len(batch[1]))
        if not np.isfinite(losses[-1]):
            break
    return np.array(losses)


def copied(setup: Setup) -> Setup:
    """Return the setup with a copy of its network, for an experiment that must not change it; not to be trained."""
    return dataclasses.replace(setup, model=copy_of(setup.model))


def copy_of(model: Estimator) -> Estimator:
    """Return a copy of a network; what it has computed and kept, weight norm's weights say, is copied as a value."""
    computed = (
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    )
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in computed})


def _in_turn(order: Array, targets: Array) -> Array:
    """Return the order with one example of each class in turn, as long as there are any."""
    classes = targets[order]
    turn = np.zeros(len(order), dtype=np.int64)
    for c in np.unique(classes):
        turn[classes == c] = np.arange(np.count_nonzero(classes == c))
    return order[np.argsort(turn, kind="stable")]
