"""The stage squeeze: ensembles and a student from the finished trials, judged once on the test split."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from search.apps.report import rows_of
from search.apps.session import Session
from search.keyed import keyed_int
from search.post.package import Champion, Member, export, log_champion
from search.post.results import Contender, Figure, Results
from search.post.selection import combine, cross_fitted, greedy, single_best, uniform
from search.records import PredictSpec, TrialSpec, TrialState
from search.report.progress import WorkDisplay
from search.report.tables import contenders_markdown
from search.sweep.driver import run_all
from search.sweep.study import Study
from search.train.metrics import Array, Metric, metrics_of

_STUDENTS = ("student", "student alone")


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A contender before the test split is opened: members by folder, predictions on validation."""

    name: str
    weights: Mapping[str, float]
    validation: Array


def squeeze(session: Session, study: Study) -> None:
    """Make the contenders, choose the champion on validation, judge all on test, and store and register the result.

    Does nothing where the stored results are of the same trials.
    """
    finished = len(study.outcomes)
    stored = Results.load(session.folder)
    if stored is not None and stored.trials == finished:
        return
    configs = _member_configs(session, study)
    selected = _select(session, list(configs))
    students = _train_students(session, study, configs, selected[-1])
    candidates = [*selected, *students]
    champion = _champion(session.metric, _validation_targets(session), candidates)
    results = _judge(session, candidates, champion, configs, finished, 1 + (stored.test_looks if stored else 0))
    model = _register(session, study, champion, configs)
    results = dataclasses.replace(results, model=model)
    results.save(session.folder)
    _tell(session, study, results)


def _member_configs(session: Session, study: Study) -> dict[str, Mapping[str, Any]]:
    """Return the configuration of every trial that left predictions, by its folder relative to the study."""
    return {
        f"trials/{number:05d}": session.space.configure(study.params[number])
        for number, outcome in sorted(study.outcomes.items())
        if outcome.state is not TrialState.FAILED and (study.directory(number) / "validation.npy").exists()
    }


def _select(session: Session, folders: list[str]) -> list[_Candidate]:
    """Return single best, uniform and greedy, their validation predictions cross-fitted."""
    cfg = session.cfg.squeeze
    metrics = metrics_of(session.dataset.examples.task)
    by = metrics[cfg.metric or "loss"]
    predictions = np.stack([_load(session.folder / folder, "validation") for folder in folders])
    targets = _validation_targets(session)
    methods = {
        "single best": single_best(session.metric),
        f"uniform top {min(cfg.top_k, len(folders))}": uniform(session.metric, cfg.top_k),
        "greedy ensemble": greedy(by, cfg.picks),
    }
    candidates = []
    for name, method in methods.items():
        weights = method(predictions, targets)
        candidates.append(
            _Candidate(
                name=name,
                weights={folder: float(w) for folder, w in zip(folders, weights, strict=True) if w > 0},
                validation=cross_fitted(method, predictions, targets, folds=cfg.folds, seed=session.cfg.seed),
            )
        )
    return candidates


def _train_students(
    session: Session, study: Study, configs: dict[str, Mapping[str, Any]], teacher: _Candidate
) -> list[_Candidate]:
    """Train one network on the ensemble's soft targets and the same one without; add their configs to `configs`."""
    best = study.progress.best
    assert best is not None
    config: dict[str, Any] = session.space.configure(study.params[best.number])
    if session.cfg.squeeze.student is not None:
        node = OmegaConf.to_container(session.cfg.squeeze.student, resolve=True)
        assert isinstance(node, dict)
        config["model"] = {k: v for k, v in node.items() if k != "space"}
    soft_targets = _teach(session, configs, teacher)
    # One seed for both, and not the best trial's: its luck was chosen.
    seed = keyed_int(session.cfg.seed, "student")
    specs = [
        TrialSpec(
            number=i,
            params={},
            config=config,
            seed=seed,
            directory=str(session.folder / "students" / name),
            teacher=taught_by,
        )
        for i, (name, taught_by) in enumerate([("taught", str(soft_targets)), ("alone", None)])
    ]
    epochs = config["trainer"]["epochs"]
    with WorkDisplay(session.console, "distilling the ensemble", _STUDENTS, epochs) as display:
        outcomes = run_all(session.executor, specs, display)
    candidates = []
    for name, spec, outcome in zip(_STUDENTS, specs, outcomes, strict=True):
        if outcome.state is TrialState.FAILED:
            session.console.print(f"{name} failed: {outcome.reason}", style="red", markup=False)
            continue
        folder = str(Path(spec.directory).relative_to(session.folder))
        configs[folder] = config
        candidates.append(
            _Candidate(name=name, weights={folder: 1.0}, validation=_load(Path(spec.directory), "validation"))
        )
    return candidates


def _teach(session: Session, configs: Mapping[str, Mapping[str, Any]], teacher: _Candidate) -> Path:
    """Write the teacher's predictions on the training split; return the file."""
    from search.trial import save_array

    _predict(session, configs, list(teacher.weights), "train")
    path = session.folder / "students" / "teacher.npy"
    path.parent.mkdir(exist_ok=True)
    save_array(path, _combined(session, teacher.weights, "train").astype(np.float32))
    return path


def _champion(metric: Metric, targets: Array, candidates: list[_Candidate]) -> _Candidate:
    """Return the best on validation; of equals the one with fewest members."""

    def rank(candidate: _Candidate) -> tuple[float, int]:
        value = metric(candidate.validation, targets)
        return (-value if metric.maximize else value, len(candidate.weights))

    return min(candidates, key=rank)


def _judge(
    session: Session,
    candidates: list[_Candidate],
    champion: _Candidate,
    configs: Mapping[str, Mapping[str, Any]],
    trials: int,
    looks: int,
) -> Results:
    """Open the test split: predictions of every member, figures of every contender."""
    folders = sorted({folder for candidate in candidates for folder in candidate.weights})
    _predict(session, configs, folders, "test")
    examples, split = session.dataset.examples, session.dataset.split
    test_targets = examples.targets[split.test]
    contenders = tuple(
        Contender(
            name=candidate.name,
            members=candidate.weights,
            validation=_figure(session.metric, candidate.validation, _validation_targets(session)),
            test=_figure(session.metric, _combined(session, candidate.weights, "test"), test_targets),
        )
        for candidate in candidates
    )
    return Results(
        metric=session.metric.name,
        maximize=session.metric.maximize,
        trials=trials,
        test_looks=looks,
        test_size=len(split.test),
        champion=champion.name,
        model=None,
        contenders=contenders,
    )


def _register(
    session: Session, study: Study, champion: _Candidate, configs: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """Export the champion into the study's folder and, with MLflow, into its registry; return the model's address."""
    members = [
        Member(directory=session.folder / folder, config=configs[folder], weight=weight)
        for folder, weight in champion.weights.items()
    ]
    exported = export(
        Champion(name=champion.name, dataset=session.dataset, members=members), session.folder / "champion"
    )
    run = session.parent_run(study.journal)
    if run is None or session.cfg.squeeze.register is None:
        return None
    uri, run_id = run
    return log_champion(exported, uri, run_id, session.cfg.squeeze.register, sorted(champion.weights))


def _tell(session: Session, study: Study, results: Results) -> None:
    metrics: dict[str, float] = {}
    for contender in results.contenders:
        key = contender.name.split(" top ")[0].replace(" ", "_")
        metrics |= {f"validation/{key}": contender.validation.value, f"test/{key}": contender.test.value}
    note = contenders_markdown(results.metric, rows_of(results))
    session.tracker(study.journal).summarize(metrics, note, (session.folder / "results.json",))


def _predict(session: Session, configs: Mapping[str, Mapping[str, Any]], folders: list[str], split: str) -> None:
    """Have the workers predict a split with the members that have not done it yet, an equal share each."""
    missing = [f for f in folders if not (session.folder / f / f"{split}.npy").exists()]
    shares = [missing[i :: session.executor.num_slots] for i in range(session.executor.num_slots)] if missing else []
    work = [
        PredictSpec(number=i, members=tuple((str(session.folder / f), configs[f]) for f in share), split=split)
        for i, share in enumerate(shares)
        if share
    ]
    names = [f"worker {i + 1}" for i in range(len(work))]
    with WorkDisplay(session.console, f"predicting the {split} split", names, 0) as display:
        outcomes = run_all(session.executor, work, display)
    for outcome in outcomes:
        if outcome.failure is not None:
            raise RuntimeError(f"predicting the {split} split failed: {outcome.failure.traceback}")


def _combined(session: Session, weights: Mapping[str, float], split: str) -> Array:
    predictions = np.stack([_load(session.folder / folder, split) for folder in weights])
    return combine(np.array(list(weights.values())), predictions)


def _figure(metric: Metric, predictions: Array, targets: Array) -> Figure:
    low, high = metric.interval(predictions, targets)
    return Figure(value=metric(predictions, targets), low=low, high=high)


def _validation_targets(session: Session) -> Array:
    return session.dataset.examples.targets[session.dataset.split.validation]


def _load(directory: Path, split: str) -> Array:
    array: Array = np.load(directory / f"{split}.npy", allow_pickle=False)
    return array
