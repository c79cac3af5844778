"""What a type cannot say: ranges, names from a list, fields that depend on each other."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from search.config.arguments import NEEDED
from search.config.messages import suggestion
from search.config.schema import SearchConfig
from search.errors import UsageError

STAGES = (
    "inspect",
    "preflight",
    "search",
    "squeeze",
    "ablate",
    "data_curve",
    "look",
    "report",
    "sync",
    "train",
    "preview",
)
"""The stages that exist, in the order in which they run; the last three run alone and on request only."""

RETRIED = ("exception", "non_finite", "out_of_memory", "timeout", "hang", "lost_worker", "preempted")
_CLOSED = (
    "metric",
    "budget",
    "inspect",
    "preflight",
    "failures",
    "failures.retries",
    "split",
    "inputs",
    "pretrained",
    "trainer",
    "cluster",
    "tracking",
    "squeeze",
    "squeeze.distill",
    "ablation",
    "data_curve",
)
_OF_PRUNERS = {
    "asha": ("rungs", "eta"),
    "promotion": ("rungs", "eta"),
    "median": ("startup_trials", "warmup_steps"),
    "hyperband": ("min_resource", "reduction_factor"),
    "optuna_sha": ("min_resource", "reduction_factor"),
}
_METRICS = (None, "accuracy", "loss", "rmse", "mae", "r2")
_CHOICES: dict[str, tuple[Any, ...]] = {
    "resume": ("auto", "must", "never", "extend"),
    "fused": ("auto", "off", False),  # YAML reads off as false
    "metric.mode": (None, "max", "min"),
    "inspect.on_fail": ("stop", "warn"),
    "preflight.on_fail": ("stop", "warn", "skip"),
    "preflight.lr_bounds": ("suggest", "apply", "off", False),
    "data_curve.hold": ("steps", "epochs"),
    "pretrained.preprocessing": ("data", "file"),
    "trainer.loading": ("memory", "loader"),
    "trainer.sampling": ("shuffled", "balanced"),
    "trainer.class_weights": (None, "balanced"),
    "trainer.decay": ("all", "weights"),
    "trainer.precision": ("float32", "bf16", "fp16"),
    "sampler.kind": ("random", "qmc", "tpe", "grid"),
    "pruner.kind": ("none", "asha", "promotion", "median", "hyperband", "optuna_sha"),
    "cluster.kind": ("local", "existing"),
    "squeeze.metric": _METRICS,
    "data.task": (None, "classification", "regression"),
}
_AT_LEAST: dict[str, float] = {
    "budget.trials": 1,
    "budget.patience": 1,
    "inspect.examples": 100,
    "preflight.steps": 20,
    "inputs.resolution": 1,
    "inputs.features": 1,
    "trainer.epochs": 1,
    "trainer.batch_size": 1,
    "trainer.threads": 1,
    "trainer.patience": 1,
    "trainer.checkpoint_every": 1,
    "trainer.loader_workers": 0,
    "trainer.examples": 2,
    "trainer.accumulate": 1,
    "squeeze.refit": 0,
    "budget.checkpoints": 0,
    "failures.window": 1,
    **{f"failures.retries.{kind}": 0 for kind in RETRIED},
    "cluster.workers": 1,
    "cluster.cpus": 1,
    "cluster.gpus": 0,
    "cluster.gpus_per_trial": 0,
    "cluster.recycle_trials": 1,
    "cluster.grace": 1,
    "seed": 0,
    "split.seed": 0,
    "squeeze.keep": 1,
    "squeeze.top_k": 1,
    "squeeze.picks": 1,
    "squeeze.folds": 2,
    "ablation.seeds": 2,
    "data_curve.seeds": 2,
    "pruner.eta": 2,
    "pruner.startup_trials": 0,
    "pruner.warmup_steps": 0,
    "pruner.min_resource": 1,
    "pruner.reduction_factor": 2,
    "data.limit": 1,
}
_ABOVE_ZERO = (
    "budget.hours",
    "cluster.cpus_per_trial",
    "cluster.memory_per_trial",
    "cluster.recycle_growth",
    "failures.hang_seconds",
    "failures.timeout_seconds",
    "squeeze.distill.temperature",
    "pretrained.lr_factor",
    "trainer.clip_norm",
    "trainer.clip_value",
)


_FEWEST_SIZES = 3
"""A curve of three parameters needs as many points."""


def check(cfg: SearchConfig) -> None:
    """Raise UsageError for the first value that cannot work."""
    node = OmegaConf.structured(cfg) if not isinstance(cfg, DictConfig) else cfg
    _require_given(node)
    for key, allowed in _CHOICES.items():
        _each(node, key, partial(_is_in, allowed), f"must be one of {_listed(allowed)}")
    for key, bound in _AT_LEAST.items():
        _each(node, key, partial(_is_at_least, bound), f"must be at least {bound:g}")
    for key in _ABOVE_ZERO:
        _each(node, key, lambda v: v is None or v > 0, "must be above 0")
    _each(node, "failures.share", lambda v: 0 < v <= 1, "must lie above 0 and up to 1")
    _each(node, "squeeze.distill.mix", lambda v: 0 <= v <= 1, "must lie in 0 to 1")
    _each(node, "trainer.label_smoothing", lambda v: 0 <= v < 1, "must lie in 0 to below 1")
    _each(node, "trainer.ema", lambda v: v is None or 0 < v < 1, "must lie between 0 and 1")
    _check_name(cfg.name)
    _check_keys(node)
    _check_stages(cfg)
    _check_ablation(cfg)
    _check_data_curve(node)
    _check_split(cfg)
    _check_device(cfg.device)
    _check_pruner(node)
    _check_components(node)
    _check_objective(node)
    _check_loss(node)
    _check_preflight(node)
    _check_student(node)
    _check_cluster(cfg)
    _check_tracking(node)


def check_values(key: str, values: Iterable[Any], at: str) -> None:
    """Raise UsageError where a key that varies, in the space at `at`, may take a value that cannot work."""
    for value in values:
        if key in _AT_LEAST and isinstance(value, int | float) and value < _AT_LEAST[key]:
            raise UsageError(f"{at}: {key}={value} lies in it; must be at least {_AT_LEAST[key]:g}")


def _listed(allowed: tuple[Any, ...]) -> str:
    return ", ".join("null" if a is None else str(a) for a in allowed if a is not False)


def _is_in(allowed: tuple[Any, ...], value: Any) -> bool:
    return value in allowed


def _is_at_least(bound: float, value: Any) -> bool:
    return value is None or bool(value >= bound)


def _each(cfg: DictConfig, key: str, holds: Callable[[Any], bool], message: str) -> None:
    missing = object()
    value = OmegaConf.select(cfg, key, default=missing)
    if value is not missing and not holds(value):
        raise UsageError(f"{key}={'null' if value is None else value}: {message}")


def _require_given(cfg: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UsageError(f"{missing[0]}: must be given, e.g. {missing[0]}=...")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w.=+\-]{1,120}", name) or set(name) == {"."}:
        raise UsageError(f"name={name}: must be 1 to 120 letters, digits and . _ - = + (it names a folder)")


def _check_keys(cfg: DictConfig) -> None:
    """Refuse what `+key=value` adds where it has no effect; components take what their target takes."""
    for at in _CLOSED:
        node = OmegaConf.select(cfg, at)
        allowed = [field.name for field in dataclasses.fields(OmegaConf.get_type(node))]  # type: ignore[arg-type]
        for key in map(str, node):
            if key not in allowed:
                raise UsageError(f"{at}.{key}: no such key; {suggestion(key, allowed)}")


def _check_stages(cfg: SearchConfig) -> None:
    if not cfg.stages:
        raise UsageError(f"stages=[]: must name at least one of {', '.join(STAGES)}")
    for stage in cfg.stages:
        if stage not in STAGES:
            raise UsageError(f"stages: {stage} does not exist; {suggestion(stage, STAGES)}")
    if "train" in cfg.stages and (list(cfg.stages) != ["train"] or cfg.trial is None):
        raise UsageError("stages=[train]: runs alone and needs trial=N, the number of the trial to run again")
    if "sync" in cfg.stages and (list(cfg.stages) != ["sync"] or not cfg.tracking.enabled):
        raise UsageError("stages=[sync]: runs alone and needs tracking")
    if "preview" in cfg.stages and list(cfg.stages) != ["preview"]:
        raise UsageError("stages=[preview]: runs alone")
    if cfg.trial is not None and not {"train", "look"} & set(cfg.stages):
        raise UsageError(f"trial={cfg.trial}: is for stages=[train] and stages=[look]")
    if cfg.trial is not None and cfg.trial < 0:
        raise UsageError(f"trial={cfg.trial}: must be at least 0")


def _check_ablation(cfg: SearchConfig) -> None:
    """Refuse names of no change; what each one changes is held against the space, which is not known here."""
    names = list(cfg.ablate)
    if list(cfg.stages) == ["ablate"] and not names:
        raise UsageError(f"stages=[ablate]: needs ablate=[...]; allowed: {', '.join(map(str, cfg.changes))}")
    for name in names:
        if name not in cfg.changes:
            raise UsageError(f"ablate: {name} is none of changes; {suggestion(name, list(map(str, cfg.changes)))}")
        if names.count(name) > 1:
            raise UsageError(f"ablate: {name} stands there twice")
        if not re.fullmatch(r"[\w\-]{1,120}", name) or name == "base":
            raise UsageError(f"changes.{name}: must be 1 to 120 letters, digits and _ - other than base (a folder)")


def _check_data_curve(cfg: DictConfig) -> None:
    sizes = cfg.data_curve.sizes
    if isinstance(sizes, int) and not isinstance(sizes, bool) and sizes >= _FEWEST_SIZES:
        return
    given = list(sizes) if isinstance(sizes, ListConfig) else []
    whole = all(isinstance(size, int) and not isinstance(size, bool) for size in given)
    if not whole or len(given) < _FEWEST_SIZES or given != sorted(set(given)) or given[0] < 1:
        raise UsageError(
            f"data_curve.sizes={given or sizes}: must be a number of at least {_FEWEST_SIZES} sizes, or a rising list "
            f"of as many numbers of examples"
        )


def _check_split(cfg: SearchConfig) -> None:
    fractions = list(cfg.split.fractions)
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UsageError(f"split.fractions={fractions}: must be three positive numbers that add up to 1")
    if cfg.split.group and cfg.split.time:
        raise UsageError(f"split.group={cfg.split.group}: cannot be combined with split.time={cfg.split.time}")


def _check_device(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"device={device}: must be auto, cpu, cuda or cuda:<number>")


def _check_components(cfg: DictConfig) -> None:
    for group in NEEDED:
        if cfg.get(group) is None and not cfg.choose.get(group):
            raise UsageError(f"{group}: nothing is chosen; {group}=... or choose.{group}=[...]")


def _check_cluster(cfg: SearchConfig) -> None:
    if cfg.cluster.kind == "existing":
        if not cfg.cluster.address:
            raise UsageError("cluster.address: must be given with cluster=existing: HOST:PORT, or auto")
        if ":" in cfg.device:
            raise UsageError(f"device={cfg.device}: on a cluster Ray chooses the GPU; use device=cuda")


def _check_tracking(cfg: DictConfig) -> None:
    written = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(written, dict)
    if re.search(r"//[^/@$]*:[^/@$]+@", str(written["tracking"]["uri"])):
        raise UsageError(
            "tracking.uri: holds a password, which would be stored with the study; set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or write tracking.uri='${oc.env:NAME}'"
        )


def _check_objective(cfg: DictConfig) -> None:
    objective = cfg.objective
    if objective is None:
        _each(cfg, "metric.name", partial(_is_in, _METRICS), f"must be one of {_listed(_METRICS)}")
    elif not isinstance(objective, DictConfig):
        raise UsageError(f"objective={objective}: must be a node with _target_, the dotted name of a function")
    elif not objective.get("_target_"):
        raise UsageError("objective: needs a _target_, the dotted name of a function")
    elif cfg.pruner.kind == "promotion":
        raise UsageError("pruner.kind=promotion: pauses trials, which a function cannot; use asha")
    elif cfg.ablate:
        raise UsageError(f"ablate={list(cfg.ablate)}: is for networks, not for an objective of your own")
    elif "data_curve" in cfg.stages or not {"search", "report", "sync", "train", "preview"} & set(cfg.stages):
        raise UsageError(f"stages={list(cfg.stages)}: is for networks, not for an objective of your own")


def _check_loss(cfg: DictConfig) -> None:
    loss = cfg.loss
    if loss is not None and not (isinstance(loss, DictConfig) and loss.get("_target_")):
        raise UsageError(f"loss={loss}: must be a node with _target_, e.g. +loss._target_=torch.nn.HuberLoss, or null")


def _check_preflight(cfg: DictConfig) -> None:
    """Refuse a key of the model that no model has."""
    size = cfg.preflight.size
    if size is None:
        return
    nodes = [cfg.model, *(cfg.choose.get("model") or {}).values()]
    key = str(size).removeprefix("model.")
    if not any(OmegaConf.select(node, key) is not None for node in nodes if isinstance(node, DictConfig)):
        raise UsageError(f"preflight.size={size}: no such key of the model, e.g. preflight.size=model.width")


def _check_student(cfg: DictConfig) -> None:
    student = cfg.squeeze.student
    if student is not None and not (isinstance(student, DictConfig) and student.get("_target_")):
        raise UsageError(f"squeeze.student={student}: must be the configuration of a model, with _target_, or null")


def _check_pruner(cfg: DictConfig) -> None:
    kind = cfg.pruner.kind
    for key in _OF_PRUNERS.get(kind, ()):
        if key not in cfg.pruner:
            raise UsageError(f"pruner.kind={kind}: needs pruner.{key}; write pruner={kind} instead")
    rungs = OmegaConf.select(cfg, "pruner.rungs", default=[])
    if not all(0 < rung < 1 for rung in rungs) or list(rungs) != sorted(set(rungs)):
        raise UsageError(f"pruner.rungs={list(rungs)}: must be rising fractions between 0 and 1")
