"""The champion, packaged into the study's folder and registered in MLflow."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from search.apps.source import source_tags
from search.apps.squeeze.averages import FOLDER as AVERAGES
from search.apps.squeeze.longer import add_longer
from search.apps.squeeze.members import Members
from search.apps.squeeze.refit import refit_configs
from search.apps.squeeze.students import student_configs, taught_in
from search.apps.training import TrainingSession, best_trained
from search.errors import UsageError
from search.files import no_room
from search.post.contenders import GREEDY
from search.post.results import FILE, Contender, Results
from search.sweep.study import Study
from search.tracking.outbox import await_delivery
from search.tracking.runs import runs_of_trials

if TYPE_CHECKING:
    from search.post.lineage import Lineage
    from search.post.program import Champion


def ship(session: TrainingSession, study: Study, results: Results, members: Members) -> None:
    """Export the champion into the study's folder, and register it in MLflow; keep why where that cannot be."""
    from search.post.lineage import exported_from
    from search.post.package import log_champion, model_name
    from search.post.program import export

    name = session.registered_name if session.tracking_uri is not None else None
    folder = session.folder / "champion"
    is_there = exported_from(folder) == (results.made_from, results.champion)
    if results.problem is not None or (is_there and (name is None or results.model is not None)):
        return
    chosen = next(c for c in results.contenders if c.name == results.champion)
    _complete(session, study, members)
    champion = _champion(session, results, chosen, members)
    run = None if name is None else session.parent_run(study.journal)
    lineage = _lineage(session, study, results, members, run)
    try:
        exported = export(champion, lineage, folder)
    except Exception as error:  # torch.export refuses networks in many ways; the results stand
        if no_room(error) or isinstance(error, OSError):  # which is no reason to remember
            raise
        why = next(iter(str(error).splitlines()), "")
        problem = f"the champion cannot be exported ({type(error).__name__}: {why})"
        session.console.print(problem, style="red", markup=False)
        dataclasses.replace(results, problem=problem).save(session.folder)
        return
    for why in exported.without:
        session.console.print(f"note: the champion has {why}", style="dim", markup=False)
    if name is None or results.model is not None:
        return
    if run is None:
        session.console.print("MLflow is away: the same command registers the champion later", style="red")
        return
    try:
        model = log_champion(exported, lineage, *run, model_name(name))
    except Exception as error:  # noqa: BLE001 - whatever the tracking server does, the results stand
        session.console.print(f"the champion is not registered: {error}", style="red", markup=False)
        return
    dataclasses.replace(results, model=model).save(session.folder)


def _complete(session: TrainingSession, study: Study, members: Members) -> None:
    """Add every folder that a contender may be of, as it is composed now: results may be of an earlier run."""
    add_longer(session, study, members)
    best = best_trained(session, study)
    if best is not None:
        for folder in sorted((session.folder / AVERAGES).glob("*")):
            members.add(f"{AVERAGES}/{folder.name}", best[1], f"trials/{best[0]:05d}")
    for place, config in student_configs(session, study).items():
        members.add(place, config)
    for place, config in refit_configs(session, study).items():
        members.add(place, config, f"trials/{config['refit']['trial']:05d}")


def _champion(session: TrainingSession, results: Results, chosen: Contender, members: Members) -> Champion:
    """Return what is to be packaged."""
    from search.post.program import Champion, Member

    if gone := sorted(chosen.members.keys() - members.configs.keys()):
        file = session.folder / FILE
        raise UsageError(f"{file}: {gone[0]} is no member that is composed now; delete it, and it is made again")
    if other := sorted(f for f in chosen.members if results.digests.get(f) not in (None, members.digest_of(f))):
        file = session.folder / FILE
        raise UsageError(f"{file}: {other[0]} was trained anew since; delete it, and it is made again")
    packed = [
        Member(
            directory=session.folder / folder,
            config=members.configs[folder],
            weight=weight,
            temperature=chosen.temperatures.get(folder, 1.0),
        )
        for folder, weight in chosen.members.items()
    ]
    return Champion(name=chosen.name, dataset=session.dataset, members=packed, temperature=chosen.temperature)


def _lineage(
    session: TrainingSession, study: Study, results: Results, members: Members, run: tuple[str, str] | None
) -> Lineage:
    """Return where the champion comes from; `run` is MLflow's address and the id of the search's run there."""
    from search.post.lineage import Lineage, trial_of

    contenders = {c.name: c for c in results.contenders}
    chosen = contenders[results.champion]
    teachers = contenders[GREEDY].members if any(taught_in(folder) for folder in chosen.members) else {}
    numbers = {f: n for f in (*chosen.members, *teachers) if (n := trial_of(members.origin_of(f))) is not None}
    runs: dict[int, str] = {}
    if run is not None and await_delivery(session.folder, run[0], study.journal.size()):
        with contextlib.suppress(Exception):  # MLflow went away since: its absence is said where it is needed
            runs = runs_of_trials(*run, study.journal.uid, set(numbers.values()))
    return Lineage(
        study=session.job or session.cfg.name,
        uid=study.journal.uid,
        commit=source_tags().get("mlflow.source.git.commit"),
        data=session.dataset.examples.name,
        data_digest=str(session.identity["data.digest"]),
        made_from=results.made_from,
        champion=chosen.name,
        metric=results.metric,
        validation=chosen.validation,
        test=chosen.test,
        test_size=results.test_size,
        test_looks=results.test_looks,
        members=chosen.members,
        teachers=teachers,
        runs={folder: runs[number] for folder, number in numbers.items() if number in runs},
    )
