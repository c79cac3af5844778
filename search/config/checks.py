"""What a type cannot say: ranges, names from a list, fields that depend on each other."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from search.config.arguments import NEEDED
from search.config.limits import KEYS, METRICS, listed, why_not
from search.config.messages import suggestion
from search.config.schema import SearchConfig
from search.errors import UsageError

STAGES = (
    "inspect",
    "preflight",
    "search",
    "rematch",
    "squeeze",
    "ablate",
    "data_curve",
    "look",
    "report",
    "sync",
    "train",
    "preview",
    "predict",
)
"""The stages that exist, in the order in which they run; the last four run alone and on request only."""

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
    "rematch",
    "squeeze",
    "squeeze.longer",
    "squeeze.distill",
    "squeeze.limits",
    "ablation",
    "data_curve",
    "predict",
)
_OF_PRUNERS = {
    "asha": ("rungs", "eta"),
    "promotion": ("rungs", "eta"),
    "median": ("startup_trials", "warmup_steps"),
    "hyperband": ("min_resource", "reduction_factor"),
    "optuna_sha": ("min_resource", "reduction_factor"),
}
_TIMES = {"warmup", "every", "step_size", "cycle", "rise"}
"""Keys of schedules that are in `unit`."""
_PREDICTIONS = (".csv", ".parquet")
"""How names of files with predictions end."""
_FEWEST_SIZES = 3
"""A curve of three parameters needs as many points."""


def check(cfg: SearchConfig) -> None:
    """Raise UsageError for the first value that cannot work."""
    node = OmegaConf.structured(cfg) if not isinstance(cfg, DictConfig) else cfg
    _require_given(node)
    for key in KEYS:
        _require_possible(node, key)
    _check_name(cfg.name)
    _check_keys(node)
    _check_stages(cfg)
    _check_predict(cfg)
    _check_ablation(cfg)
    _check_data_curve(node)
    _check_split(cfg)
    _check_device(cfg.device)
    _check_pruner(node)
    _check_components(node)
    _check_objective(node)
    _check_loss(node)
    _check_start(cfg)
    _check_pretrained(node)
    _check_preflight(node)
    _check_schedules(node)
    _check_student(node)
    _check_cluster(cfg)
    _check_tracking(node)


def check_values(key: str, values: Iterable[Any], at: str) -> None:
    """Raise UsageError where a key that varies, in the space at `at`, may take a value that cannot work."""
    for value in values:
        if key in KEYS and (why := why_not(key, value)):
            raise UsageError(f"{at}: {key}={'null' if value is None else value} lies in it; {why}")


def _require_possible(cfg: DictConfig, key: str) -> None:
    missing = object()
    value = OmegaConf.select(cfg, key, default=missing)
    if value is not missing and (why := why_not(key, value)):
        raise UsageError(f"{key}={'null' if value is None else value}: {why}")


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
    if cfg.trial is not None and list(cfg.stages) not in (["train"], ["look"]):
        raise UsageError(f"trial={cfg.trial}: needs stages=[train] or stages=[look]")
    if cfg.trial is not None and cfg.trial < 0:
        raise UsageError(f"trial={cfg.trial}: must be at least 0")


def _check_predict(cfg: SearchConfig) -> None:
    given, output = cfg.predict.input, cfg.predict.output
    if "predict" not in cfg.stages:
        return
    if list(cfg.stages) != ["predict"] or given is None:
        raise UsageError("stages=[predict]: runs alone and needs predict.input=FILE, the inputs to predict")
    if output is not None and not output.endswith(_PREDICTIONS):
        raise UsageError(f"predict.output={output}: must end in {' or '.join(_PREDICTIONS)}, or be null")
    if output is not None and Path(output).resolve() == Path(given).resolve():
        raise UsageError(f"predict.output={output}: is predict.input itself; must be another file")


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
        if cfg.metric.name not in METRICS:
            raise UsageError(f"metric.name={cfg.metric.name}: must be one of {listed(METRICS)}")
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


def _check_pretrained(cfg: DictConfig) -> None:
    """Refuse what says how to start from weights where there are none."""
    node = cfg.pretrained
    if node.weights is not None:
        return
    idle = {"freeze": [], "lr_factor": 1, "preprocessing": "data", "mean": None, "std": None, "space": {}}
    for key, value in idle.items():
        if node[key] != value:
            raise UsageError(f"pretrained.{key}={node[key]}: needs pretrained.weights, a file to start from")


def _check_preflight(cfg: DictConfig) -> None:
    """Refuse a key of the model that no model has."""
    size = cfg.preflight.size
    if size is None:
        return
    nodes = [cfg.model, *(cfg.choose.get("model") or {}).values()]
    key = str(size).removeprefix("model.")
    if not any(OmegaConf.select(node, key) is not None for node in nodes if isinstance(node, DictConfig)):
        raise UsageError(f"preflight.size={size}: no such key of the model, e.g. preflight.size=model.width")


def _check_schedules(cfg: DictConfig) -> None:
    """Refuse a space in fractions of the run, as the shipped ones are, where times are in epochs or steps."""
    nodes = {
        "schedule": cfg.schedule,
        **{f"choose.schedule.{k}": v for k, v in (cfg.choose.get("schedule") or {}).items()},
    }
    for at, node in nodes.items():
        unit = node.get("unit") if isinstance(node, DictConfig) else None
        if unit not in ("epochs", "steps"):
            continue
        for key in _TIMES & set(map(str, node.get("space") or {})):
            spec = node.space[key]
            values = spec.get("choices") or [spec.get("high")]
            if all(isinstance(value, int | float) and value < 1 for value in values):
                raise UsageError(
                    f"{at}.space.{key}: draws fractions of the run, and {at}.unit={unit}; "
                    f"give it {unit}, or fix it: ~{at}.space.{key}"
                )


def _check_start(cfg: SearchConfig) -> None:
    if cfg.squeeze.start > cfg.squeeze.picks:
        raise UsageError(f"squeeze.start={cfg.squeeze.start}: must be at most squeeze.picks, {cfg.squeeze.picks}")


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
