"""The stage squeeze: ensembles and a student from the finished trials, judged once on the test split."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from search.apps.refit import refit, refit_configs
from search.apps.summary import tell
from search.apps.training import TrainingSession, best_trained
from search.errors import StrandedError, UsageError
from search.files import no_room
from search.keyed import keyed_int
from search.layout import CONFIG, SNAPSHOTS, predictions_of
from search.post.contenders import Candidate, Selection, champion_of, judged, select, weighted
from search.post.results import FILE, Results
from search.records import PredictSpec, TrialSpec, TrialState
from search.reporting.progress import WorkDisplay
from search.space import Settings, settings_of
from search.sweep.batch import run_all
from search.sweep.study import Study
from search.train.metrics import Array
from search.trial import save_array

Configs = Mapping[str, Settings]
"""A member's configuration by its folder, relative to the study's."""

_STUDENTS = {"student": "students/taught", "student alone": "students/alone"}
_LOOKS = "test_looks"


def squeeze(session: TrainingSession, study: Study) -> None:
    """Bring the stored results up to date with the trials and settings, then MLflow with the results.

    What is stored already is not made again; the test split is opened only for new results.
    """
    made_from = _made_from(session, study)
    results = Results.load(session.folder)
    configs, left_out = _trial_configs(session, study)
    owners = _owners(session.folder, configs)
    configs |= {snapshot: configs[trial] for snapshot, trial in owners.items()}
    if results is None or results.made_from != made_from:
        if left_out:
            note = f"note: the squeeze leaves {len(left_out)} out, the first of them {left_out[0]}"
            session.console.print(note, style="dim", markup=False)
        results = _make(session, study, made_from, configs, owners)
    if results.model is None and results.problem is None and session.tracking_uri is not None:
        results = _register(session, study, results, configs)
    tell(session, study.journal)


def _made_from(session: TrainingSession, study: Study) -> str:
    settings = {k: v for k, v in session.plain("squeeze").items() if k != "register"}
    text = json.dumps([sorted(study.outcomes), settings], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _make(
    session: TrainingSession, study: Study, made_from: str, trained: Configs, owners: Mapping[str, str]
) -> Results:
    """Choose and train the contenders, choose the champion on validation, then open the test split.

    `trained` are trials and their snapshots; `owners` has the trial of each snapshot.
    """
    members = list(trained)
    refits = refit_configs(session, study)
    configs = {**trained, **_student_configs(session, study), **refits}
    if not members:
        raise UsageError(f"squeeze: no trial left predictions in {session.folder / 'trials'}")
    targets = _targets(session, "validation")
    predictions = np.stack([_load(session, folder, "validation") for folder in members])
    cfg = session.cfg.squeeze
    selection = Selection(
        objective=session.metric,
        by=session.selection_metric,
        top_k=cfg.top_k,
        picks=cfg.picks,
        folds=cfg.folds,
        seed=session.cfg.seed,
    )
    candidates = select(members, predictions, targets, selection, owners)
    candidates += _train_students(session, configs, teacher=candidates[-1])
    candidates += refit(session, refits)
    champion = champion_of(candidates, targets, session.metric)

    looks = int(study.journal.attributes.get(_LOOKS, 0)) + 1
    study.journal.set_attribute(_LOOKS, looks)  # before the look: a look that was cut short was one, too
    chosen = sorted({folder for candidate in candidates for folder in candidate.weights})
    _predict(session, configs, chosen, "test")
    test = {folder: _load(session, folder, "test") for folder in chosen}
    test_targets = _targets(session, "test")
    results = Results(
        metric=session.metric.name,
        maximize=session.metric.maximize,
        made_from=made_from,
        test_looks=looks,
        test_size=len(test_targets),
        champion=champion.name,
        contenders=tuple(judged(c, session.metric, targets, test, test_targets) for c in candidates),
    )
    results.save(session.folder)
    return results


def _trial_configs(session: TrainingSession, study: Study) -> tuple[dict[str, Settings], list[StrandedError]]:
    """Return what was trained in every trial that left predictions of this data (the best `squeeze.keep`).

    Also, why some of an earlier composition are left out.
    """
    configs: dict[str, Settings] = {}
    left_out = []
    for number, outcome in sorted(study.outcomes.items()):
        folder = study.directory(number)
        if outcome.state is TrialState.FAILED or number < study.comparable_from:
            continue
        if not (folder / predictions_of("validation")).exists():
            continue
        if not (folder / CONFIG).exists():
            raise UsageError(f"{folder / CONFIG}: missing; put it back from a copy")
        try:
            config = session.trained(number, study.params[number], study.composed_from)
        except StrandedError as error:
            left_out.append(error)
        else:
            configs[str(folder.relative_to(session.folder))] = config
    return configs, left_out


def _owners(study: Path, trials: Iterable[str]) -> dict[str, str]:
    """Return the trial of each snapshot that trials left, both as folders relative to the study's."""
    owners: dict[str, str] = {}
    for trial in trials:
        found = (study / trial / SNAPSHOTS).glob(f"*/{predictions_of('validation')}")
        owners |= {f"{trial}/{SNAPSHOTS}/{cycle}": trial for cycle in sorted(int(path.parent.name) for path in found)}
    return owners


def _student_configs(session: TrainingSession, study: Study) -> dict[str, Settings]:
    """Return the configuration of the students: the best trial's, with another model where one is named."""
    best = best_trained(session, study)
    if best is None:
        return {}
    squeeze = session.plain("squeeze")
    config = {**best[1], "distill": squeeze["distill"]}
    if session.cfg.squeeze.student is not None:
        config["model"] = settings_of(squeeze["student"])
        config.pop("pretrained", None)  # it has weights for another network
    return dict.fromkeys(_STUDENTS.values(), config)


def _train_students(session: TrainingSession, configs: Configs, teacher: Candidate) -> list[Candidate]:
    """Train one network on the ensemble's soft targets and the same one without."""
    folder = session.folder / "students"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier teacher
    folder.mkdir()
    _predict(session, configs, list(teacher.weights), "train")
    taught = {member: _load(session, member, "train") for member in teacher.weights}
    save_array(folder / "teacher.npy", weighted(teacher.weights, taught).astype(np.float32))
    # One seed for both, and not the best trial's: its luck was chosen.
    seed = keyed_int(session.cfg.seed, "student")
    teachers = (str(folder / "teacher.npy"), None)
    specs = [
        TrialSpec(
            number=i, params={}, config=configs[place], seed=seed, directory=str(session.folder / place), teacher=file
        )
        for i, (place, file) in enumerate(zip(_STUDENTS.values(), teachers, strict=True))
    ]
    epochs = specs[0].config["trainer"]["epochs"]
    with WorkDisplay(session.console, "distilling the ensemble", list(_STUDENTS), epochs) as display:
        outcomes = run_all(session.executor, specs, display, session.failures())
    candidates = []
    for (name, place), outcome in zip(_STUDENTS.items(), outcomes, strict=True):
        if outcome.state is TrialState.FAILED:
            session.console.print(f"{name} failed: {outcome.reason}", style="red", markup=False)
        else:
            predictions = _load(session, place, "validation")
            candidates.append(Candidate(name=name, weights={place: 1.0}, validation=predictions))
    return candidates


def _register(session: TrainingSession, study: Study, results: Results, trial_configs: Configs) -> Results:
    """Export the champion into the study's folder, and register it in MLflow; keep why where that cannot be."""
    name = session.registered_name
    if name is None:
        return results
    from search.post.package import Champion, Member, export, log_champion, model_name

    configs = {**trial_configs, **_student_configs(session, study)}
    champion = next(c for c in results.contenders if c.name == results.champion)
    if gone := sorted(champion.members.keys() - configs.keys()):
        file = session.folder / FILE
        raise UsageError(f"{file}: {gone[0]} is no member that is composed now; delete it, and it is made again")
    members = [
        Member(directory=session.folder / folder, config=configs[folder], weight=weight)
        for folder, weight in champion.members.items()
    ]
    packaged = Champion(name=champion.name, dataset=session.dataset, members=members)
    try:
        exported = export(packaged, session.folder / "champion")
    except Exception as error:  # torch.export refuses networks in many ways; the results stand
        if no_room(error):  # which is no reason to remember
            raise
        problem = f"the champion cannot be exported ({type(error).__name__}: {str(error).splitlines()[0]})"
        session.console.print(problem, style="red", markup=False)
        return _saved(session, dataclasses.replace(results, problem=problem))
    run = session.parent_run(study.journal)
    if run is None:
        session.console.print("MLflow is away: the same command registers the champion later", style="red")
        return results
    try:
        model = log_champion(exported, *run, model_name(name), sorted(champion.members))
    except Exception as error:  # noqa: BLE001 - whatever the tracking server does, the results stand
        session.console.print(f"the champion is not registered: {error}", style="red", markup=False)
        return results
    return _saved(session, dataclasses.replace(results, model=model))


def _saved(session: TrainingSession, results: Results) -> Results:
    results.save(session.folder)
    return results


def _predict(session: TrainingSession, configs: Configs, members: Sequence[str], split: str) -> None:
    """Have the workers predict a split with the members that have not done it yet, an equal share each."""
    missing = [m for m in members if not (session.folder / m / predictions_of(split)).exists()]
    if not missing:
        return
    slots = session.executor.num_slots
    work = [
        PredictSpec(number=i, members=tuple((str(session.folder / m), configs[m]) for m in share), split=split)
        for i, share in enumerate(missing[i::slots] for i in range(slots))
        if share
    ]
    names = [f"worker {i + 1}" for i in range(len(work))]
    with WorkDisplay(session.console, f"predicting the {split} split", names, 0) as display:
        outcomes = run_all(session.executor, work, display, session.failures())
    for outcome in outcomes:
        if outcome.failure is not None:
            raise RuntimeError(f"predicting the {split} split failed: {outcome.failure.traceback}")


def _targets(session: TrainingSession, split: str) -> Array:
    return session.dataset.examples.targets[session.dataset.split.of(split)]


def _load(session: TrainingSession, folder: str, split: str) -> Array:
    array: Array = np.load(Path(session.folder) / folder / predictions_of(split), allow_pickle=False)
    return array
