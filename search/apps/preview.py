"""The stage preview: what a search would try and what it may cost. Reads no data, starts and stores nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from search.apps.composed import Composed
from search.checks.stored import StageFindings
from search.config.arguments import CHOOSABLE
from search.config.schema import Cluster, SearchConfig
from search.config.shapes import alone_by
from search.layout import WEIGHTS
from search.records import Outcome, Params
from search.reporting.progress import SteadyConsole
from search.reporting.schedules import cycles_line, drawn, momentum_line
from search.reporting.space import Pace, Plan, Sample, cost_line, grid_line, samples_table, space_table
from search.space import Dimension, Space, num_points
from search.sweep import samplers
from search.sweep.journal import holds_study, read_events, trial_folder
from search.sweep.pruners import rung_steps

_SHOWN_TRIALS = 5
_PACE = {"seconds_per_epoch", "parameters"}
_BYTES_OF_A_WEIGHT = 4
_STEPS_PER_EPOCH = 100
"""Of a schedule's picture, which is drawn before the data is read."""


def preview(composed: Composed) -> int:
    """Print the space, the first trials, the budget and the expected cost; return the exit code."""
    cfg: SearchConfig = composed.cfg  # type: ignore[assignment] # a DictConfig of that schema
    hydra, space, console = HydraConfig.get(), composed.space, SteadyConsole(soft_wrap=True)
    folder = Path(cfg.output_dir).resolve()
    if hydra.mode is RunMode.MULTIRUN:
        folder /= Path(hydra.runtime.output_dir).name
    outcomes = _outcomes(folder)
    console.print(space_table(space, {} if cfg.objective is not None else _named(hydra.runtime.choices)))
    console.print(grid_line(space), highlight=False, markup=False)
    console.print(samples_table(first_trials(space, cfg)))
    for note in _notes(space, cfg):
        console.print(f"note: {note}", style="dim", highlight=False, markup=False)
    console.print(f"budget: {'; '.join(_budget(space, cfg))}", highlight=False, markup=False)
    console.print(cost_line(_pace(folder, outcomes), _plan(space, cfg, len(outcomes))), highlight=False, markup=False)
    if cfg.objective is None:
        for line in _schedules(space, hydra.runtime.choices):
            console.print(line, highlight=False, markup=False)
    return 0


def first_trials(space: Space, cfg: SearchConfig) -> list[Sample]:
    """Return the trials that a new study begins with; random draws where they depend on results."""
    first: list[Params] = [space.default(), *(space.complete(given) for given in cfg.enqueue)]
    kind = "random" if cfg.sampler.kind in samplers.NEED_HISTORY else str(cfg.sampler.kind)
    limit = min(_SHOWN_TRIALS, cfg.budget.trials)
    sampler = samplers.make(kind, space, cfg.seed, first, limit)
    total = limit if sampler.size is None else min(limit, sampler.size)
    chosen = [("enqueue" if number else "default", params) for number, params in enumerate(first[:total])]
    chosen += [(kind, sampler.sample(number, None)) for number in range(len(first), total)]
    return [
        Sample(number=number, chosen_by=by, params=space.shown(params)) for number, (by, params) in enumerate(chosen)
    ]


def _schedules(space: Space, choices: Mapping[str, str | None]) -> Iterator[str]:
    """Yield pictures of the schedules that trials may begin with: the last lines, since PyTorch takes a second more."""
    from search.train.schedules import Budget, curve_of

    options = list(map(str, space.base.choose.get("schedule") or {}))
    for option in options or [str(choices.get("schedule"))]:
        config = next(space.compositions({"schedule": option} if options else {}))
        node, rate, epochs = config["schedule"], config["optimizer"].get("lr"), config["trainer"]["epochs"]
        budget = Budget(steps=epochs * _STEPS_PER_EPOCH, steps_per_epoch=_STEPS_PER_EPOCH)
        curve = curve_of(node, budget)
        of_what = "factor of the learning rate" if rate is None else f"learning rate, with optimizer.lr={rate:g},"
        yield f"schedule={option}: {of_what} over {epochs} epochs"
        yield from drawn(curve.rates * (1.0 if rate is None else rate), epochs)
        yield from filter(None, (momentum_line(curve.momenta), cycles_line(curve.cycle_ends, _STEPS_PER_EPOCH)))
        if node.get("unit", "steps") == "steps":
            yield f"drawn with {_STEPS_PER_EPOCH} steps an epoch: how many there are depends on the data"


def _named(choices: Mapping[str, str | None]) -> dict[str, str]:
    return {group: str(choices[group]) for group in CHOOSABLE if choices.get(group)}


def _notes(space: Space, cfg: SearchConfig) -> Iterator[str]:
    yield from space.defaults_moved()
    if cfg.sampler.kind in samplers.NEED_HISTORY:
        yield f"{cfg.sampler.kind} depends on the results; these are random draws"
    if cfg.objective is None and cfg.preflight.lr_bounds == "apply":
        yield "preflight.lr_bounds=apply: learning rates will be drawn from what the range test leaves of their space"
    if cfg.objective is not None and _most_epochs(space, cfg) is None:
        yield "without objective.epochs, the reports of a whole trial, no trial is stopped early"
    for group, options in space.base.choose.items():
        for option, node in options.items():
            if node.get("fits"):
                yield f"{group}={option} is for {' and '.join(node.fits)} data; for other data the trials are others"


def _budget(space: Space, cfg: SearchConfig) -> Iterator[str]:
    """Yield what limits the search, in words."""
    yield f"{_num_trials(space, cfg)} trials{_epochs_in_words(space, cfg)}, sampler {cfg.sampler.kind}"
    if cfg.budget.hours is not None:
        yield f"at most {cfg.budget.hours:g} hours"
    if cfg.budget.patience is not None:
        yield f"ends after {cfg.budget.patience} trials without a better one"
    yield _pruner_in_words(space, cfg)
    yield _workers_in_words(space, cfg)


def _workers_in_words(space: Space, cfg: SearchConfig) -> str:
    workers = _num_workers(cfg.cluster, cfg.device)
    many = "as many as the cluster has room for" if workers is None else f"up to {workers}"
    return f"workers: {many}, each with {_each_with(space, cfg)}"


def _each_with(space: Space, cfg: SearchConfig) -> str:
    """Return in words what a worker does at a time."""
    if cfg.objective is not None or cfg.fused in ("off", False):
        return "a trial"
    if (why := alone_by(space.configure(space.default()))) is not None:
        return f"a trial ({why})"
    if cfg.fused == "auto":
        return "a trial, or several of one shape where that is faster (fused=auto)"
    return f"up to {cfg.fused} trials of one shape (fused={cfg.fused})"


def _pruner_in_words(space: Space, cfg: SearchConfig) -> str:
    kind = cfg.pruner.kind
    if kind == "none":
        return "none is stopped early"
    if kind not in ("asha", "promotion"):
        return f"{kind} stops the poor ones early"
    epochs = _most_epochs(space, cfg)
    if epochs is None:
        return "none is stopped early"
    steps = rung_steps(cfg.pruner.rungs, epochs)
    if not steps:
        return f"{kind} has no rung within so few epochs"
    rungs = " and ".join(map(str, steps))
    does = "stops" if kind == "asha" else "pauses"
    return f"{kind} {does} all but the best 1/{cfg.pruner.eta} at epoch {rungs}"


def _epochs_in_words(space: Space, cfg: SearchConfig) -> str:
    dimension = _epochs(space, cfg)
    if dimension is not None:
        return f" of {dimension.describe()} epochs"
    epochs = _most_epochs(space, cfg)
    return "" if epochs is None else f" of {epochs} epochs"


def _epochs(space: Space, cfg: SearchConfig) -> Dimension | None:
    path = "trainer.epochs" if cfg.objective is None else "objective.epochs"
    return next((d for d in space.dimensions if d.path == path), None)


def _most_epochs(space: Space, cfg: SearchConfig) -> int | None:
    """Return the epochs of the longest trial; None where an objective of the user's own does not say."""
    if cfg.objective is None:
        return space.most("trainer.epochs", cfg.trainer.epochs)
    epochs = cfg.objective.get("epochs")
    return space.most("objective.epochs", epochs) if isinstance(epochs, int) else None


def _num_trials(space: Space, cfg: SearchConfig) -> int:
    points = num_points(space.dimensions) if cfg.sampler.kind == "grid" else None
    return cfg.budget.trials if points is None else min(cfg.budget.trials, points)


def _num_workers(cluster: Cluster, device: str) -> int | None:
    """Return how many trials may run at a time, as far as this machine tells; None: only the cluster knows."""
    if cluster.kind == "existing":
        return cluster.workers
    fits = math.floor((cluster.cpus or len(os.sched_getaffinity(0))) / cluster.cpus_per_trial + 1e-9)
    gpus = 0 if device == "cpu" else _num_gpus(cluster.gpus)
    share = cluster.gpus_per_trial if cluster.gpus_per_trial is not None else 1.0
    if gpus and share:
        fits = min(fits, math.floor(gpus / share + 1e-9))
    return max(1, min(fits, cluster.workers or fits))


def _num_gpus(configured: int | None) -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*"))) if configured is None else configured


def _plan(space: Space, cfg: SearchConfig, finished: int) -> Plan:
    trials = _num_trials(space, cfg)
    return Plan(
        trials=max(0, trials - finished),
        epochs=_most_epochs(space, cfg) or 1,
        workers=_num_workers(cfg.cluster, cfg.device),
        kept=min(trials, cfg.squeeze.keep),
    )


def _outcomes(folder: Path) -> list[Outcome]:
    """Return how the trials of the study in that folder ended; none where there is no study."""
    events = (event for event, _ in read_events(folder)) if holds_study(folder) else iter(())
    return list({event.number: event for event in events if isinstance(event, Outcome)}.values())


def _pace(folder: Path, outcomes: Sequence[Outcome]) -> Pace | None:
    """Return what training took so far, in the preflight where no trial trained to an end; None before that."""
    trained = [outcome for outcome in outcomes if outcome.steps and outcome.failure is None]
    if not trained:
        return _pace_of_preflight(folder)
    epochs = sum(outcome.steps for outcome in trained)
    sizes = [_size(trial_folder(folder, outcome.number)) for outcome in trained]
    with_weights = [size for size in sizes if size]
    return Pace(
        seconds_per_epoch=sum(outcome.seconds for outcome in trained) / epochs,
        bytes_per_trial=sum(with_weights) / max(1, len(with_weights)),
        epochs_per_trial=epochs / len(trained),
    )


def _pace_of_preflight(folder: Path) -> Pace | None:
    """Return the mean pace of the short runs of all subjects."""
    stored = StageFindings.load(folder, "preflight")
    runs = [f.measured for f in stored.findings if f.measured.keys() >= _PACE] if stored else []
    if not runs:
        return None
    return Pace(
        seconds_per_epoch=sum(run["seconds_per_epoch"] for run in runs) / len(runs),
        bytes_per_trial=_BYTES_OF_A_WEIGHT * sum(run["parameters"] for run in runs) / len(runs),
    )


def _size(trial: Path) -> int:
    """Return what a trial with weights takes on disk; 0 for one whose weights were cleared away."""
    if not (trial / WEIGHTS).exists():
        return 0
    return sum(path.stat().st_size for path in trial.rglob("*") if path.is_file())
