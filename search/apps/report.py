"""The stage report: prints what is stored; computes nothing."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import quote

from search.apps.judgement import behind
from search.apps.session import Session
from search.checks.stored import StageFindings
from search.post.comparison import ABLATION, REMATCH, WITHIN_NOISE, Comparison
from search.post.contenders import REMATCHED
from search.post.data_curve import FACTORS, DataCurve
from search.post.results import FIGURES, Figure, Results
from search.records import Outcome
from search.reporting.tables import (
    AblationRow,
    DataRow,
    Row,
    ablation_table,
    contenders_table,
    data_table,
    rematch_table,
    trials_table,
)
from search.sweep.driver import Driver
from search.sweep.study import Study
from search.tracking.outbox import delivered
from search.tracking.projection import public_uri

_SHOWN_TRIALS = 5
_BASELINES = {
    "majority": "the largest class",
    "mean": "the target's mean",
    "linear": "a linear model",
    "nearest": "the nearest neighbour",
}
"""What the preflight measures of simple models, in words."""
_GO_ON = {
    "budget.trials": "the same command with budget.trials={more}",
    "budget.hours": "the same command with more budget.hours",
    "budget.patience": "the same command with more budget.patience, or null",
    "sampler": "the grid is complete; another sampler or more choices",
}


def report(session: Session, study: Study, driver: Driver) -> None:
    """Print the best trials, the contenders, and how to go on."""
    console = session.console
    outcomes = [o for o in study.outcomes.values() if o.value is not None and o.number >= study.comparable_from]
    outcomes.sort(key=lambda o: (-(o.value or 0.0) if study.maximize else (o.value or 0.0), o.number))
    shown = outcomes[:_SHOWN_TRIALS]
    if shown:
        params = {o.number: session.space.shown(study.params[o.number]) for o in shown}
        console.print(trials_table(_of_what(session), shown, params))
        _beside(session, shown[0])
    _ailing(session, study)
    results = Results.load(session.folder)
    if results is not None:
        print_results(session, results)
    rematch = Comparison.load(session.folder / REMATCH)
    if rematch is not None:
        print_rematch(session, rematch)
    ablation = Comparison.load(session.folder / ABLATION)
    if ablation is not None:
        print_ablation(session, ablation)
    curve = DataCurve.load(session.folder)
    if curve is not None:
        print_data_curve(session, curve)
    _how_to_go_on(session, study, driver, results)


def _ailing(session: Session, study: Study) -> None:
    """Print how many trials each thing ails: what a space wastes its trials on."""
    counts = Counter(
        tag
        for outcome in study.outcomes.values()
        if outcome.number >= study.comparable_from and outcome.diagnosis
        for tag in outcome.diagnosis.split("; ")
    )
    if counts:
        listed = ", ".join(f"{tag} ({number})" for tag, number in counts.most_common())
        session.console.print(f"what ails trials: {listed}", highlight=False)


def _beside(session: Session, best: Outcome) -> None:
    """Print what the best trial has to be held against: baselines that were measured on the same examples, people."""
    stored = StageFindings.load(session.folder, "preflight")
    dumb = next((f for f in stored.findings if f.row == "R13"), None) if stored else None
    measured = {} if dumb is None else {name: dumb.measured[name] for name in _BASELINES if name in dumb.measured}
    figures = {_BASELINES[name]: value for name, value in measured.items()}
    if (human := session.cfg.preflight.human) is not None:
        figures["people"] = human
    if not figures or best.value is None:
        return
    listed = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    session.console.print(f"beside the best trial's {best.value:.4f}: {listed}", highlight=False)
    sign = 1 if session.metric.maximize else -1
    equal = [name for name, value in figures.items() if name != "people" and sign * value >= sign * best.value]
    if equal:
        nothing = {_BASELINES["majority"], _BASELINES["mean"]} & set(equal)
        says = "the inputs may not tell the target" if nothing else "this data may not need a network"
        text = f"the best trial is no better than {' and '.join(equal)}: {says}"
        session.console.print(text, style="yellow", highlight=False)


def _of_what(session: Session) -> str:
    return session.metric.name if session.cfg.objective is not None else f"{session.metric.name} on validation"


def rows_of(results: Results) -> list[Row]:
    """Return the contenders as lines of a table."""
    return [
        Row(
            name=c.name,
            members=None if c.name == REMATCHED else len(c.members),
            validation=None if c.validation is None else _triple(c.validation),
            test=_triple(c.test),
            gain=None if c.gain is None else _triple(c.gain),
            champion=c.name == results.champion,
        )
        for c in results.contenders
    ]


def print_results(session: Session, results: Results) -> None:
    """Print the contenders, what lies behind their figures, and how often the test split was opened."""
    console = session.console
    console.print(contenders_table(results.metric, rows_of(results)))
    for line in behind(results):
        console.print(line, markup=False, highlight=False)
    if any((pictures := session.folder / FIGURES).glob("*.png")):
        console.print(f"pictures of it are in {_short(pictures)}", markup=False, highlight=False)
    if results.test_looks > 1:
        console.print(f"the test split was opened {results.test_looks} times in this study", style="yellow")


def print_ablation(session: Session, ablation: Comparison) -> None:
    """Print what each change was worth."""
    session.console.print(ablation_table(ablation.metric, ablation.base.what, ablation.seeds, lines_of(ablation)))


def print_rematch(session: Session, rematch: Comparison) -> None:
    """Print whether the best trials differ by more than luck."""
    session.console.print(rematch_table(rematch.metric, rematch.seeds, lines_of(rematch)))
    session.console.print(sentence_of(rematch), highlight=False)


def sentence_of(rematch: Comparison) -> str:
    """Return in words what new seeds say of the best trials."""
    within = [v.name for v in rematch.changes if v.verdict == WITHIN_NOISE]
    said = f"over new seeds {rematch.best.name} is the best"
    return f"{said}; within noise of {rematch.base.name}: {', '.join(within)}" if within else said


def lines_of(ablation: Comparison) -> list[AblationRow]:
    """Return the base and its changes as lines of a table."""
    return [
        AblationRow(
            name=v.name,
            what=v.what,
            spread=v.spread,
            pairs=v.pairs,
            gain=v.gain,
            interval=v.interval,
            verdict=v.verdict,
        )
        for v in (ablation.base, *ablation.changes)
    ]


def print_data_curve(session: Session, curve: DataCurve) -> None:
    """Print what more data would bring."""
    session.console.print(data_table(curve.metric, curve.base, curve.seeds, sizes_of(curve)))
    session.console.print(curve.sentence(), markup=False, highlight=False)


def sizes_of(curve: DataCurve) -> list[DataRow]:
    """Return the sizes that were measured, and those asked about, as lines of a table."""
    measured = [
        DataRow(examples=str(size), spread=curve.spread(row), expected=curve.expected(size))
        for row, size in enumerate(curve.sizes)
    ]
    more = [(factor, factor * curve.sizes[-1]) for factor in FACTORS]
    asked = [DataRow(examples=f"{f} x: {n}", spread=None, expected=curve.expected(n)) for f, n in more]
    return [*measured, *(asked if curve.law is not None else [])]


def _how_to_go_on(session: Session, study: Study, driver: Driver, results: Results | None) -> None:
    console, states = session.console, study.progress.states
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    console.print(f"{study.progress.finished} trials ({counted}) in {session.folder}", highlight=False)
    limit = driver.limit_reached()
    if limit is not None:
        go_on = _GO_ON[limit].format(more=2 * study.progress.finished)
        console.print(f"to go on: {go_on}; a new search: name=...", highlight=False)
    if results is not None and results.model is not None:
        console.print(f"the champion: mlflow.pyfunc.load_model('{results.model}') with", highlight=False)
        console.print(f"    MLFLOW_TRACKING_URI={shlex.quote(public_uri(session.tracking_uri or ''))}", highlight=False)
    if (uri := session.tracking_uri) is not None:
        _where_to_compare(session, uri)


def _where_to_compare(session: Session, uri: str) -> None:
    address = public_uri(uri).rstrip("/")
    if uri.startswith("sqlite:"):
        tool = _short(Path(sys.executable).with_name("mlflow"))
        command = f"{shlex.quote(tool)} ui --backend-store-uri {shlex.quote(uri)}"
        session.console.print(f"compare the trials: {command}", highlight=False)
        address = "http://127.0.0.1:5000"
    session.await_tracking()
    state = delivered(session.folder, uri)
    if state is not None:
        only_trials = quote(f"tags.mlflow.parentRunId = '{state.run}'")
        ascending = str(not session.metric.maximize).lower()
        query = f"searchFilter={only_trials}&orderByKey=metrics.%60best%60&orderByAsc={ascending}"
        session.console.print(f"    {address}/#/experiments/{state.experiment}/runs?{query}", highlight=False)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _triple(figure: Figure) -> tuple[float, float, float]:
    return figure.value, figure.low, figure.high
