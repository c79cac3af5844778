"""A search whose trials train networks on data."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from omegaconf import OmegaConf

from search.apps.composed import Composed
from search.apps.session import Place, Session
from search.apps.trained import WITHOUT_EFFECT
from search.config.build import named
from search.config.schema import SearchConfig
from search.errors import StrandedError, UsageError
from search.records import Params, TrialState
from search.space import Settings, Space
from search.sweep.executor import Run
from search.sweep.identity import Identity, flatten
from search.sweep.study import Study
from search.train.data.arrays import Array, Dataset, digest_of
from search.train.data.own import load
from search.train.data.split import divide
from search.train.data.table import only_known_words
from search.train.equipment import Equipment
from search.train.metrics import Metric, objective

_GROUPS = ("model", "optimizer", "schedule")


class TrainingSession(Session):
    """The data is loaded here; raises UsageError where it, the objective or the space does not fit.

    `transfer` has the inputs (T, *shape) of `squeeze.distill.transfer`, None where nobody learns such.
    """

    keys: tuple[str, ...] = ("model", "optimizer", "schedule", "trainer", "metric")
    make_run = "search.apps.work:runner"  # which brings torch: not into this process
    metric: Metric

    def __init__(self, composed: Composed, place: Place) -> None:
        super().__init__(composed, place)
        self.named = {group: str(place.choices[group]) for group in _GROUPS if place.choices.get(group)}
        self.dataset = self._load()
        task = self.dataset.examples.task
        self.metric = objective(self.cfg.metric.name, self.cfg.metric.mode, task)
        self.selection_metric = objective(self.cfg.squeeze.metric or "loss", None, task, key="squeeze.metric")
        self.transfer = self._find_transfer()
        self.transfer_digest = None if self.transfer is None else digest_of(self.transfer)
        self.space, self.left_out = composed.space.fitting(self.dataset.examples.kind)
        self._composed_space = self.space
        self._given = tuple(_given(self.cfg))
        self.keys = (*self.keys, *self._given)
        self._weights_digest = self._find_weights() if "pretrained" in self._given else None

    def narrow(self, name: str, low: float, high: float) -> None:
        """Go on with narrower bounds of a dimension: another space, and as such another study."""
        self.space = self.space.narrowed(name, low, high)

    def _load(self) -> Dataset:
        examples = load(self.plain("data"))
        split = divide(examples, self.plain("split"))
        return Dataset(examples=only_known_words(examples, split.train), split=split)

    def _find_transfer(self) -> Array | None:
        """Read the file of inputs that students learn: now, as what is wrong with it would else be told hours later."""
        distill = self.cfg.squeeze.distill
        if distill.transfer is None or not distill.trials or "squeeze" not in self.cfg.stages:
            return None
        from search.post.streams import whole  # brings pyarrow

        name = str(self.cfg.data.get("inputs") or "x")
        return whole(Path(distill.transfer), self.dataset.examples, name=name, key="squeeze.distill.transfer")

    def _find_weights(self) -> str:
        """Give workers the whole path of the weights to start from, and return 16 digits that change with the file."""
        if any(d.path == "pretrained.weights" for d in self.space.dimensions):
            raise UsageError("pretrained.space.weights: cannot vary; give each file a search of its own")
        path = Path(str(self.cfg.pretrained.weights)).absolute()
        OmegaConf.update(self.space.base, "pretrained.weights", str(path))
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
        except OSError as error:
            raise UsageError(f"pretrained.weights={path}: {error.strerror}") from error

    @property
    def registered_name(self) -> str | None:
        """The champion's name in MLflow's registry: one of its own for each job of a multirun."""
        name = self.cfg.squeeze.register
        return name if name is None or self.job is None else f"{name}-{self.job}"

    @cached_property
    def _digest(self) -> str:
        return self.dataset.examples.digest()

    def require_importable(self) -> None:
        """Raise UsageError where the loss cannot be made; what trials build otherwise depends on them."""
        if self.cfg.loss is not None:
            named(str(self.cfg.loss["_target_"]), "loss")

    @property
    def identity(self) -> Identity:
        """Data, split, seeds, metric, components and their spaces."""
        return self._identity_of(self.space)

    @property
    def composed_identity(self) -> Identity:
        """The same, before the space was narrowed."""
        return self._identity_of(self._composed_space)

    def _identity_of(self, space: Space) -> Identity:
        tree = OmegaConf.to_container(space.base, resolve=False)
        assert isinstance(tree, dict)
        tree["pretrained"].pop("weights", None)  # the digest says what is in the file, wherever it lies
        trainer = {k: v for k, v in tree["trainer"].items() if k not in WITHOUT_EFFECT}
        nodes = {str(group): tree[group] for group in (*_GROUPS, *self._given, "choose") if tree[group]}
        return flatten(
            {
                **nodes,
                "trainer": trainer,
                "split": tree["split"],
                "split.seed": self.cfg.split.seed,
                "seed": self.cfg.seed,
                "metric": self.metric.name,
                **({} if self._weights_digest is None else {"pretrained.digest": self._weights_digest}),
                **({"prior": True} if self.dataset.examples.task == "classification" and self.cfg.loss is None else {}),
                "data": self.dataset.examples.name,
                "data.digest": self._digest,
            }
        )

    def equipment(self, device: str, token: tuple[str, str] | None) -> Equipment:
        """Return data and device."""
        return Equipment(
            dataset=self.dataset,
            device=device,
            threads=self.cfg.trainer.threads,
            gpu_share=min(1.0, self.cfg.cluster.gpus_per_trial or 1.0),
            token=token,
        )

    def run_here(self) -> Run:
        """Return what trains in this process; it brings torch."""
        from search.apps.work import runner

        return runner(self.equipment(self.cfg.device, None))

    @property
    def fused(self) -> int | None:
        """As `fused` says."""
        return {"auto": None, "off": 1, False: 1}.get(self.cfg.fused, self.cfg.fused)

    def planned_steps(self, params: Params) -> int:
        """Return the trial's epochs."""
        epochs = params.get("trainer.epochs", self.cfg.trainer.epochs)
        assert isinstance(epochs, int)
        return epochs

    def most_steps(self) -> int:
        """Return the epochs of the longest trial there can be."""
        return self.space.most("trainer.epochs", self.cfg.trainer.epochs)

    @property
    def about(self) -> Mapping[str, object]:
        """The data and what was named."""
        return {
            "data": self.dataset.examples.name,
            "data.digest": self._digest,
            **self.named,
            "trainer.epochs": self.cfg.trainer.epochs,
            "split.fractions": list(self.cfg.split.fractions),
            **({} if self.cfg.preflight.human is None else {"preflight.human": self.cfg.preflight.human}),
        }


def best_trained(session: Session, study: Study) -> tuple[int, Settings] | None:
    """Return the number of the best of the trials that can be composed now, and what it was trained with."""
    return next(from_best(session, study), None)


def from_best(session: Session, study: Study) -> Iterator[tuple[int, Settings]]:
    """Yield the same of all that can be composed now, from the best to the worst."""
    sign = -1.0 if study.maximize else 1.0
    values = {
        number: sign * outcome.value
        for number, outcome in study.outcomes.items()
        if outcome.state is not TrialState.FAILED and outcome.value is not None and number >= study.comparable_from
    }
    for number in sorted(values, key=lambda number: (values[number], number)):
        with contextlib.suppress(StrandedError):
            yield number, session.trained(number, study.params[number], study.composed_from)


def _given(cfg: SearchConfig) -> Iterator[str]:
    """Yield the nodes that a trial is given only where they say something."""
    if cfg.loss is not None:
        yield "loss"
    if cfg.augment is not None or cfg.choose.get("augment"):
        yield "augment"
    if cfg.inputs.space or cfg.inputs.resolution is not None or cfg.inputs.features is not None:
        yield "inputs"
    if cfg.pretrained.weights is not None:
        yield "pretrained"
