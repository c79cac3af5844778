"""The typed schema of a search's configuration (Hydra structured configs).

Types live here, values in `conf/`: a field without a default must be given there, so each default stands in one
place. Nodes that a user may extend (`data`, `model`, ...) are open; the shipped options have types of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from search.config.components import GROUPS


@dataclass
class Metric:
    """The objective: what trials are compared by."""

    name: str | None = MISSING  # null: accuracy for classes, rmse for numbers
    mode: str | None = MISSING  # max or min; null: as the metric's name implies


@dataclass
class Budget:
    """When the search asks for no more trials; totals of the study, so a resumed search spends the rest."""

    trials: int = MISSING  # total
    hours: float | None = MISSING  # wall time; running trials are stopped at their next report
    patience: int | None = MISSING  # finished trials in a row without a better one
    checkpoints: float = MISSING  # GiB of paused trials' checkpoints; who loses one trains again from the seed


@dataclass
class Retries:
    """How often one trial is tried again after a failure of a kind; null: always."""

    exception: int | None = MISSING
    non_finite: int | None = MISSING
    out_of_memory: int | None = MISSING  # each time with batches worked through in twice as many parts
    timeout: int | None = MISSING
    hang: int | None = MISSING
    lost_worker: int | None = MISSING
    preempted: int | None = MISSING


@dataclass
class FailuresNode:
    """What failures cost."""

    retries: Retries = field(default_factory=Retries)
    hang_seconds: float | None = MISSING  # without a report, per trial, before it is ended by force; null: never
    timeout_seconds: float | None = MISSING  # in a worker
    window: int = MISSING  # the search stops once `share` of the last `window` trials failed for one cause
    share: float = MISSING


@dataclass
class Trainer:
    """One trial's training."""

    epochs: int = MISSING
    batch_size: int = MISSING
    threads: int = MISSING  # CPU threads of one trial
    patience: int | None = MISSING  # epochs without improvement before the trial stops itself
    checkpoint_every: int = MISSING  # epochs between checkpoints
    loading: str = MISSING  # memory: the data lies on the device; loader: PyTorch's DataLoader
    loader_workers: int = MISSING  # processes of the DataLoader
    examples: int | None = MISSING  # for training; null: all there are
    sampling: str = MISSING  # shuffled; balanced: each class as often as any other, drawn with replacement
    class_weights: str | None = MISSING  # balanced: each class counts as much in the loss; null: each example
    label_smoothing: float = MISSING  # part of a target that is spread over all classes
    clip_norm: float | None = MISSING  # of all gradients together; null: not clipped
    clip_value: float | None = MISSING  # of each entry of a gradient; null: not clipped
    decay: str = MISSING  # what weight decay is for: all; weights: neither biases nor norms
    accumulate: int = MISSING  # batches whose gradients are summed for one step of the optimiser
    ema: float | None = MISSING  # decay of the weights' moving average, which is then evaluated and kept; null: none
    precision: str = MISSING  # float32; bf16, fp16: matrix products in that, weights in float32
    compile: bool = MISSING  # whether the network goes through torch.compile: pays for long trainings
    diagnostics: bool = MISSING  # whether layers are looked at while they train
    space: dict[str, Any] = field(default_factory=dict)


@dataclass
class Inputs:
    """How large inputs are when the network is given them."""

    resolution: int | None = MISSING  # height and width of pictures, length of series; null: as they are
    features: int | None = MISSING  # of a table, how many columns, those that tell most alone; null: all
    space: dict[str, Any] = field(default_factory=dict)


@dataclass
class Pretrained:
    """Weights of an earlier training that each trial starts from."""

    weights: str | None = MISSING  # a file of safetensors, or of PyTorch (.pt, .pth); null: weights are drawn
    freeze: list[str] = MISSING  # names of layers that are not trained
    lr_factor: float = MISSING  # times the learning rate, for what is loaded and trained
    preprocessing: str = MISSING  # whose mean and standard deviation inputs are standardised with: data or file
    mean: list[float] | None = MISSING  # what the file's were, a channel or feature; null: as the file says
    std: list[float] | None = MISSING
    space: dict[str, Any] = field(default_factory=dict)


@dataclass
class Split:
    """How the examples are divided. Data with a test set of its own keeps it."""

    fractions: list[float] = MISSING  # train, validation, test
    stratify: bool = MISSING  # same class shares in each part
    seed: int = MISSING
    group: str | None = MISSING  # column whose values never stand on both sides
    time: str | None = MISSING  # column to sort by: train on the past, test on the future


@dataclass
class Cluster:
    """Where trials run."""

    kind: str = MISSING
    address: str | None = MISSING
    cpus: int | None = MISSING  # of this machine; null: those this process may use
    gpus: int | None = MISSING  # null: those torch sees
    workers: int | None = MISSING  # null: as many as fit
    cpus_per_trial: float = MISSING
    gpus_per_trial: float | None = MISSING  # fractions share a GPU; null: 1 on a GPU, else 0
    memory_per_trial: float | None = MISSING  # GiB of the nodes' memory; null: not reckoned with
    recycle_trials: int | None = MISSING  # trials after which a worker is replaced; null: never
    recycle_growth: float | None = MISSING  # GiB grown since its first piece of work, after which it is replaced
    grace: float = MISSING  # seconds between the first Ctrl-C or SIGTERM and the exit


@dataclass
class Tracking:
    """Where MLflow keeps the runs."""

    enabled: bool = MISSING
    uri: str | None = MISSING
    experiment: str = MISSING


@dataclass
class Distill:
    """How the student is taught; its loss: mix * soft + (1 - mix) * hard (Hinton et al. 2015)."""

    trials: int = MISSING  # students, of settings drawn from the space below; the first is as set here; 0: none
    temperature: float = MISSING
    mix: float = MISSING
    lr_factor: float = MISSING  # times the best trial's learning rate
    dropout_factor: float = MISSING  # times its network's dropout, where it is taught: that regularises, too
    times: float = MISSING  # the best trial's epochs, also of the student that is not taught
    blends: int = MISSING  # so many an example: inputs between two, which the teacher labels for the student
    transfer: str | None = MISSING  # a file of inputs without labels, which it labels, too; null: none
    space: dict[str, Any] = field(default_factory=dict)


@dataclass
class Longer:
    """How the best trials are left training past their end."""

    trials: int = MISSING  # the best; 0: none
    times: float = MISSING  # their epochs
    restarts: int = MISSING  # warm restarts of the learning rate, each over an equal part; 0: it stays constant
    lr_factor: float = MISSING  # times their learning rate


@dataclass
class SqueezeLimits:
    """What the distinct members of an ensemble may cost together; null: no limit."""

    members: int | None = MISSING
    parameters: int | None = MISSING
    milliseconds: float | None = MISSING  # of one prediction


@dataclass
class Squeeze:
    """What is made of the finished trials."""

    keep: int = MISSING  # trials, the best, whose weights and predictions stay on disk
    top_k: int = MISSING  # members of the uniform ensemble
    picks: int = MISSING  # greedy selection with replacement: number of picks
    start: int = MISSING  # of them the best members, begun with
    patience: int | None = MISSING  # picks in a row without a better ensemble after which it ends; null: never
    bags: int = MISSING  # times that greedy selection goes through a random half of the members; 1: through all, once
    metric: str | None = MISSING  # what selection looks at; null: the loss
    folds: int = MISSING  # cross-fitting of the validation figures
    calibrate: bool = MISSING  # temperatures of probabilities, of each member and of each contender
    limits: SqueezeLimits = field(default_factory=SqueezeLimits)
    refit: int = MISSING  # times the single best is trained again, on training and validation data; 0: not
    longer: Longer = field(default_factory=Longer)
    distill: Distill = field(default_factory=Distill)
    student: Any = None  # a model configuration; null: that of the best trial
    register: str | None = MISSING  # name in MLflow's registry; null: not registered


@dataclass
class Rematch:
    """How the best trials are compared under new seeds."""

    top: int = MISSING  # trials, the best
    seeds: int = MISSING  # trainings of each


@dataclass
class Ablation:
    """How the changes that `ablate` names are compared with their base."""

    seeds: int = MISSING  # trainings of each


@dataclass
class DataCurve:
    """How the best trial is trained on parts of the training split."""

    sizes: Any = MISSING  # at most so many, each twice the one before, up to all; or a list of numbers of examples
    seeds: int = MISSING  # trainings of each
    hold: str = MISSING  # what is the same for all sizes: steps (with more epochs of fewer examples) or epochs


@dataclass
class Predict:
    """What the champion is to predict."""

    input: str | None = MISSING  # csv or parquet for tables; npy or npz for arrays
    output: str | None = MISSING  # csv or parquet; null: the first rows are printed


@dataclass
class Inspect:
    """How the data is looked at."""

    on_fail: str = MISSING  # stop: no trial starts; warn: they start anyway
    examples: int = MISSING  # of them at most are compared with each other; checks of single examples look at all


@dataclass
class Preflight:
    """How the setup is proved before trials start."""

    on_fail: str = MISSING  # stop: no trial starts; warn: they start anyway; skip: nothing is checked
    lr_bounds: str = MISSING  # suggest: show the range test's; apply: narrow the space to them; off: no range test
    steps: int = MISSING  # mini-batches of a short training run
    size: str | None = MISSING  # the key that makes a model larger, e.g. model.hidden; null: found by its name
    human: float | None = MISSING  # what people reach in the metric, shown beside the results


@dataclass
class SearchConfig:
    """The whole configuration."""

    name: str = MISSING
    seed: int = MISSING
    stages: list[str] = MISSING
    output_dir: str = MISSING
    resume: str = MISSING
    device: str = MISSING
    fused: Any = MISSING
    trial: int | None = MISSING  # for the stage train
    enqueue: list[Any] = MISSING
    metric: Metric = field(default_factory=Metric)
    budget: Budget = field(default_factory=Budget)
    failures: FailuresNode = field(default_factory=FailuresNode)
    inspect: Inspect = field(default_factory=Inspect)
    preflight: Preflight = field(default_factory=Preflight)
    split: Split = field(default_factory=Split)
    trainer: Trainer = field(default_factory=Trainer)
    objective: Any = None  # a function of the user's own
    data: Any = MISSING
    model: Any = None
    optimizer: Any = None
    schedule: Any = None
    augment: Any = None
    inputs: Inputs = field(default_factory=Inputs)
    pretrained: Pretrained = field(default_factory=Pretrained)
    loss: Any = None  # a loss of the user's own
    choose: dict[str, Any] = field(default_factory=dict)
    sampler: Any = MISSING
    pruner: Any = MISSING
    cluster: Cluster = field(default_factory=Cluster)
    tracking: Tracking = field(default_factory=Tracking)
    squeeze: Squeeze = field(default_factory=Squeeze)
    ablate: list[str] = MISSING  # names in `changes`
    rematch: Rematch = field(default_factory=Rematch)
    ablation: Ablation = field(default_factory=Ablation)
    data_curve: DataCurve = field(default_factory=DataCurve)
    predict: Predict = field(default_factory=Predict)
    changes: dict[str, Any] = field(default_factory=dict)  # pieces of a trial's configuration, by name


def register() -> None:
    """Put the schema where `conf/` refers to it: `/hydra/schema/...`, because `--help` leaves `hydra/` groups out."""
    store = ConfigStore.instance()
    if "schema" in store.repo["hydra"]:  # making it all takes a sixth as long as composing
        return
    # Hydra copies its sources, with all that is stored, for each group that --help lists: a second in all. What it
    # loads from the store it copies anyway.
    store.__class__.__deepcopy__ = lambda self, _memo: self  # type: ignore[attr-defined]
    store.store(group="hydra/schema", name="search", node=SearchConfig, provider="search")
    for group, options in GROUPS.items():
        for name, node in options.items():
            store.store(group=f"hydra/schema/{group}", name=name, node=node, provider="search")
