"""The types of the components that a user chooses by name: a model, an optimiser, a schedule, data, a sampler, ...

As in `schema`, types stand here and values in `conf/`: a field without a default must be given there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class Component:
    """What every option of an open group has: something to call, and the space of its own keys."""

    _target_: str = MISSING
    space: dict[str, Any] = field(default_factory=dict)
    fits: list[str] | None = None  # kinds of data (table, series, picture); null: any


@dataclass
class Linear(Component):
    """Softmax or least-squares regression on the flattened input."""


@dataclass
class MLP(Component):
    """A multilayer perceptron."""

    width: int = MISSING
    depth: int = MISSING
    dropout: float = MISSING
    activation: str = MISSING
    norm: str = MISSING


@dataclass
class CNN(Component):
    """A small convolutional network."""

    channels: int = MISSING
    blocks: int = MISSING
    kernel: int = MISSING
    dropout: float = MISSING


@dataclass
class ResNet(Component):
    """A residual network for small pictures and for series."""

    channels: int = MISSING
    stages: int = MISSING
    blocks: int = MISSING
    preactivation: bool = MISSING
    dropout: float = MISSING


@dataclass
class GRU(Component):
    """A recurrent network of gated units."""

    hidden: int = MISSING
    layers: int = MISSING
    bidirectional: bool = MISSING
    pooling: str = MISSING
    frame: int = MISSING
    dropout: float = MISSING


@dataclass
class Transformer(Component):
    """A Transformer over patches."""

    width: int = MISSING
    depth: int = MISSING
    heads: int = MISSING
    patch: int = MISSING
    dropout: float = MISSING


@dataclass
class Adam(Component):
    """torch.optim.Adam and AdamW."""

    lr: float = MISSING
    weight_decay: float = MISSING
    betas: list[float] = MISSING


@dataclass
class SGD(Component):
    """torch.optim.SGD."""

    lr: float = MISSING
    momentum: float = MISSING
    nesterov: bool = MISSING
    weight_decay: float = MISSING


@dataclass
class RMSprop(Component):
    """torch.optim.RMSprop."""

    lr: float = MISSING
    alpha: float = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING


@dataclass
class Schedule(Component):
    """What every schedule of ours has. Rates are fractions of the optimiser's own."""

    unit: str = MISSING  # of all times: budget (fractions of the run), epochs, steps (of the optimiser)


@dataclass
class Constant(Schedule):
    """No decay."""

    warmup: float = MISSING  # of each: how long the rate rises first; then the rest is the budget


@dataclass
class StepDecay(Constant):
    """Stairs."""

    every: float = MISSING
    gamma: float = MISSING  # what is left of the rate each time


@dataclass
class Exponential(Constant):
    """The same part of the rate is lost in each moment."""

    gamma: float = MISSING  # what is left of the rate after one `unit`


@dataclass
class Polynomial(Constant):
    """From the base rate to `final` times it; a straight line where `power` is 1."""

    power: float = MISSING
    final: float = MISSING


@dataclass
class Cosine(Constant):
    """Half a cosine from the base rate to `final` times it."""

    final: float = MISSING


@dataclass
class Cyclical(Constant):
    """Triangles (Smith 2015)."""

    mode: str = MISSING  # triangular, triangular2 or exp_range
    step_size: float = MISSING  # half a cycle
    low: float = MISSING
    gamma: float = MISSING  # with exp_range: what is left of the height after one `unit`


@dataclass
class SGDR(Constant):
    """Cosines with warm restarts (Loshchilov and Hutter 2017)."""

    cycle: float = MISSING  # the first one
    multiplier: float = MISSING  # a cycle's length over that of the one before
    final: float = MISSING
    decay: float = MISSING  # of both bounds, with each restart


@dataclass
class OneCycle(Schedule):
    """One rise and one fall, the momentum the other way (Smith and Topin 2018)."""

    rise: float = MISSING
    start: float = MISSING
    final: float = MISSING
    anneal: str = MISSING  # cos or linear
    three_phase: bool = MISSING  # up, down as fast, then to `final`
    low_momentum: float | None = MISSING
    high_momentum: float | None = MISSING


@dataclass
class ImageAugment(Component):
    """Pictures moved, relit, blanked in part and mixed; a strength of 0 is off."""

    shift: float = MISSING
    rotate: float = MISSING
    scale: float = MISSING
    flip: float = MISSING
    crop: float = MISSING
    brightness: float = MISSING
    contrast: float = MISSING
    cutout: float = MISSING
    mixup: float = MISSING
    cutmix: float = MISSING


@dataclass
class SeriesAugment(Component):
    """Series with noise, scaled, shifted, cropped, blanked in part and mixed; a strength of 0 is off."""

    noise: float = MISSING
    scale: float = MISSING
    shift: float = MISSING
    crop: float = MISSING
    mask: float = MISSING
    mixup: float = MISSING


@dataclass
class TableAugment(Component):
    """Rows with noise, values blanked or swapped, and mixed; a strength of 0 is off."""

    noise: float = MISSING
    dropout: float = MISSING
    swap: float = MISSING
    mixup: float = MISSING


@dataclass
class BundledData:
    """Data that a package ships."""

    _target_: str = MISSING
    name: str = MISSING


@dataclass
class FashionMNIST(BundledData):
    """The four IDX files under `root`."""

    root: str = MISSING
    limit: int | None = MISSING


@dataclass
class MNIST1D(BundledData):
    """Series that the package mnist1d makes."""

    shuffled: bool = MISSING


@dataclass
class ImageFolder(BundledData):
    """A folder of pictures for each class, under `root`."""

    root: str = MISSING
    size: int | None = MISSING
    channels: int | None = MISSING


@dataclass
class NPZ(BundledData):
    """Arrays in a file, by their names."""

    path: str = MISSING
    inputs: str = MISSING
    targets: str = MISSING
    test_inputs: str | None = MISSING
    test_targets: str | None = MISSING
    task: str | None = MISSING


@dataclass
class Table(BundledData):
    """A table in a file, with a target column."""

    path: str = MISSING
    target: str = MISSING
    drop: list[str] = MISSING
    task: str | None = MISSING


@dataclass
class Sampler:
    """How parameters are drawn; `kind` is one of random, qmc, tpe, grid."""

    kind: str = MISSING


@dataclass
class Pruner:
    """When poor trials are stopped; `kind` is one of none, asha, promotion, median, hyperband, optuna_sha."""

    kind: str = MISSING


@dataclass
class Asha(Pruner):
    """Asynchronous successive halving (Li et al. 2020) over our own rung table."""

    rungs: list[float] = MISSING  # fractions of a trial's planned epochs
    eta: int = MISSING  # one of eta goes on


@dataclass
class Median(Pruner):
    """Optuna's MedianPruner."""

    startup_trials: int = MISSING
    warmup_steps: int = MISSING


@dataclass
class Hyperband(Pruner):
    """Optuna's HyperbandPruner."""

    min_resource: int = MISSING
    reduction_factor: int = MISSING


@dataclass
class OptunaSha(Pruner):
    """Optuna's SuccessiveHalvingPruner."""

    min_resource: int = MISSING
    reduction_factor: int = MISSING


GROUPS: dict[str, dict[str, type]] = {
    "model": {"linear": Linear, "mlp": MLP, "cnn": CNN, "resnet": ResNet, "gru": GRU, "transformer": Transformer},
    "optimizer": {"adam": Adam, "sgd": SGD, "rmsprop": RMSprop},
    "schedule": {
        "constant": Constant,
        "step": StepDecay,
        "exponential": Exponential,
        "polynomial": Polynomial,
        "cosine": Cosine,
        "cyclical": Cyclical,
        "sgdr": SGDR,
        "one_cycle": OneCycle,
    },
    "augment": {"image": ImageAugment, "series": SeriesAugment, "table": TableAugment},
    "data": {
        "bundled": BundledData,
        "fashion_mnist": FashionMNIST,
        "mnist1d": MNIST1D,
        "image_folder": ImageFolder,
        "npz": NPZ,
        "table": Table,
    },
    "sampler": {"sampler": Sampler},
    "pruner": {"pruner": Pruner, "asha": Asha, "median": Median, "hyperband": Hyperband, "optuna_sha": OptunaSha},
}
"""Types by group and by the name that `conf/` refers to."""
