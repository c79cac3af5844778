"""The champion, packaged into the study's folder and registered in MLflow."""

from __future__ import annotations

import dataclasses

from search.apps.squeeze.members import Members
from search.apps.squeeze.refit import refit_configs
from search.apps.squeeze.students import student_configs
from search.apps.training import TrainingSession
from search.errors import UsageError
from search.files import no_room
from search.post.results import FILE, Results
from search.sweep.study import Study


def register(session: TrainingSession, study: Study, results: Results, members: Members) -> None:
    """Export the champion into the study's folder, and register it in MLflow; keep why where that cannot be."""
    name = session.registered_name
    if name is None:
        return
    from search.post.package import Champion, Member, export, log_champion, model_name

    configs = {**members.configs, **student_configs(session, study), **refit_configs(session, study)}
    champion = next(c for c in results.contenders if c.name == results.champion)
    if gone := sorted(champion.members.keys() - configs.keys()):
        file = session.folder / FILE
        raise UsageError(f"{file}: {gone[0]} is no member that is composed now; delete it, and it is made again")
    packaged = Champion(
        name=champion.name,
        dataset=session.dataset,
        members=[
            Member(directory=session.folder / folder, config=configs[folder], weight=weight)
            for folder, weight in champion.members.items()
        ],
    )
    try:
        exported = export(packaged, session.folder / "champion")
    except Exception as error:  # torch.export refuses networks in many ways; the results stand
        if no_room(error):  # which is no reason to remember
            raise
        problem = f"the champion cannot be exported ({type(error).__name__}: {str(error).splitlines()[0]})"
        session.console.print(problem, style="red", markup=False)
        dataclasses.replace(results, problem=problem).save(session.folder)
        return
    run = session.parent_run(study.journal)
    if run is None:
        session.console.print("MLflow is away: the same command registers the champion later", style="red")
        return
    try:
        model = log_champion(exported, *run, model_name(name), sorted(champion.members))
    except Exception as error:  # noqa: BLE001 - whatever the tracking server does, the results stand
        session.console.print(f"the champion is not registered: {error}", style="red", markup=False)
        return
    dataclasses.replace(results, model=model).save(session.folder)
