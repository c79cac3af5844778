"""What single values may be: names from a list, bounds. Held against what is given, and against what may be drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RETRIED = ("exception", "non_finite", "out_of_memory", "timeout", "hang", "lost_worker", "preempted")
METRICS = (None, "accuracy", "loss", "rmse", "mae", "r2")
CHOICES: dict[str, tuple[Any, ...]] = {
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
    "squeeze.metric": METRICS,
    "data.task": (None, "classification", "regression"),
}
AT_LEAST: dict[str, float] = {
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
    "squeeze.longer.trials": 0,
    "squeeze.longer.restarts": 0,
    "squeeze.distill.trials": 0,
    "squeeze.distill.blends": 0,
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
    "squeeze.start": 0,
    "squeeze.patience": 1,
    "squeeze.bags": 1,
    "squeeze.folds": 2,
    "rematch.top": 1,
    "rematch.seeds": 2,
    "squeeze.limits.members": 1,
    "squeeze.limits.parameters": 1,
    "ablation.seeds": 2,
    "data_curve.seeds": 2,
    "pruner.eta": 2,
    "pruner.startup_trials": 0,
    "pruner.warmup_steps": 0,
    "pruner.min_resource": 1,
    "pruner.reduction_factor": 2,
    "data.limit": 1,
}
ABOVE_ZERO = (
    "budget.hours",
    "cluster.cpus_per_trial",
    "cluster.memory_per_trial",
    "cluster.recycle_growth",
    "failures.hang_seconds",
    "failures.timeout_seconds",
    "squeeze.distill.temperature",
    "squeeze.distill.lr_factor",
    "squeeze.distill.times",
    "squeeze.longer.times",
    "squeeze.longer.lr_factor",
    "squeeze.limits.milliseconds",
    "pretrained.lr_factor",
    "trainer.clip_norm",
    "trainer.clip_value",
)
WITHIN: dict[str, tuple[Callable[[float], bool], str]] = {
    "failures.share": (lambda v: 0 < v <= 1, "must lie above 0 and up to 1"),
    "squeeze.distill.dropout_factor": (lambda v: 0 <= v <= 1, "must lie in 0 to 1"),
    "squeeze.distill.mix": (lambda v: 0 <= v <= 1, "must lie in 0 to 1"),
    "trainer.label_smoothing": (lambda v: 0 <= v < 1, "must lie in 0 to below 1"),
    "trainer.ema": (lambda v: 0 < v < 1, "must lie between 0 and 1"),
}
OR_MORE: dict[str, int] = {"fused": 2}
"""Keys of `CHOICES` that may be a whole number instead, from this one on."""
KEYS = (*CHOICES, *AT_LEAST, *ABOVE_ZERO, *WITHIN)


def why_not(key: str, value: Any) -> str | None:
    """Return what a key must be, where it cannot be that value."""
    if key in CHOICES:
        return _why_no_choice(key, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None if value is None else "must be a number"
    if key in AT_LEAST and not value >= AT_LEAST[key]:
        return f"must be at least {AT_LEAST[key]:g}"
    if key in ABOVE_ZERO and not value > 0:
        return "must be above 0"
    if key in WITHIN and not WITHIN[key][0](value):
        return WITHIN[key][1]
    return None


def _why_no_choice(key: str, value: Any) -> str | None:
    least = OR_MORE.get(key)
    if any(value == choice and type(value) is type(choice) for choice in CHOICES[key]):  # 0 is not false
        return None
    if least is not None and type(value) is int and value >= least:
        return None
    number = "" if least is None else f", or a whole number from {least} on"
    return f"must be one of {listed(CHOICES[key])}{number}"


def listed(allowed: tuple[Any, ...]) -> str:
    """Return the allowed values in one line, as they are written in YAML."""
    return ", ".join("null" if a is None else str(a) for a in allowed if a is not False)
