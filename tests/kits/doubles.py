"""Work that does what its configuration says: for tests of everything between driver and workers."""

import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.layout import CHECKPOINT
from search.records import (
    CohortSpec,
    Decision,
    Failure,
    FailureKind,
    Measured,
    MeasureSpec,
    Outcome,
    Paused,
    Report,
    TrialSpec,
    TrialState,
    Verdict,
    Work,
)
from search.sweep.executor import LastWord, Run, Said, Talk
from search.sweep.simulated import Playing, Script, WorkerLostError

Begun = Callable[[TrialSpec], TrialSpec]
_HANGING_SECONDS = 60.0


def scripted(equipment: Any) -> Run:
    """Return a runner; each report's value comes from `config["values"]`, the end from `config["end"]`."""
    del equipment
    return run


def script(clock: Callable[[], float] = time.time) -> Script:
    """Return the same work for virtual time; `config["sleep"]` is the time between reports."""
    return lambda work: _play(work, clock)


def run(work: Work, talk: Talk, begun: Begun = lambda spec: spec) -> LastWord | tuple[LastWord, ...]:
    """Play the script for real; `begun` is what each trial is before it begins."""
    if isinstance(work, CohortSpec):
        return _run_cohort(work, talk, begun)
    if isinstance(work, MeasureSpec):
        return measured(work, time=time.time())
    assert isinstance(work, TrialSpec)
    playing = _play(begun(work), time.time)
    try:
        seconds, said = next(playing)
        while True:
            time.sleep(min(seconds, _HANGING_SECONDS))
            print(f"step {said.step} of trial {work.number}")
            if work.config.get("end") == "die behind a report":
                threading.Timer(0.2, os._exit, [1]).start()
            seconds, said = playing.send(talk(said))
    except StopIteration as end:
        last: LastWord = end.value[1]
        return last
    except WorkerLostError:
        os._exit(1)


def _run_cohort(work: CohortSpec, talk: Talk, begun: Begun) -> tuple[LastWord, ...]:
    """Play the scripts of all trials step by step."""
    playing = {trial.number: _play(begun(trial), time.time) for trial in work.trials}
    told: dict[int, Decision] = {}
    while True:
        words: list[tuple[float, Said]] = []
        for number, script in list(playing.items()):
            try:
                words.append(script.send(told[number]) if number in told else next(script))
                print(f"a step of trial {number}")
            except StopIteration as end:
                words.append(end.value)
                del playing[number]
            except WorkerLostError:
                os._exit(1)
        time.sleep(min(max(seconds for seconds, _ in words), _HANGING_SECONDS))
        said = tuple(each for _, each in words)
        if not playing:
            return tuple(each for each in said if not isinstance(each, Report))
        answer = talk.exchange(said)
        told = {decision.number: decision for decision in answer.decisions}
        playing |= {trial.number: _play(begun(trial), time.time) for trial in answer.joining}


def measured(work: MeasureSpec, size: int = 8, seconds: float = 1.0, time: float = 0.0) -> Measured:
    """Return a measurement of one's choice."""
    rates = {"1": 100.0, str(size): 100.0 * size}
    return Measured(
        number=work.number,
        shape=work.shape,
        rates=rates,
        size=size,
        reason="as told",
        seconds=seconds,
        time=time,
        waiting=work.waiting,
    )


def _play(work: Work, clock: Callable[[], float]) -> Playing:
    """Report the scripted values, from behind a checkpoint on, until told to leave; then complete, fail or die."""
    if isinstance(work, MeasureSpec):
        return 1.0, measured(work, time=clock() + 1.0)
    assert isinstance(work, TrialSpec)
    config = work.config
    values, end, sleep = config["values"], config.get("end", "complete"), config.get("sleep", 0.0)
    if end == "die":
        raise WorkerLostError
    if end == "raise":
        raise ValueError("the work of all of them")
    step = _stored_step(work)
    while step < len(values):
        step += 1
        metrics = {"objective": values[step - 1]}
        seconds = math.inf if end == "freeze" else sleep
        decision = yield seconds, Report(number=work.number, step=step, metrics=metrics, time=clock() + sleep)
        verdict = decision.verdict
        so_far = outcome(work.number, TrialState.PRUNED, max(values[:step]), step, decision.reason, time=clock())
        if verdict is Verdict.STOP:
            return 0.0, so_far
        if verdict is Verdict.PAUSE and step < len(values):
            _store_step(work, step)
            if end == "die as it pauses":
                raise WorkerLostError
            leaving = config.get("leaving", 0.0)
            return leaving, Paused(number=work.number, step=step, so_far=so_far, time=clock() + leaving)
    if end == "complete":
        return 0.0, outcome(work.number, TrialState.COMPLETE, max(values), step, "all epochs done", time=clock())
    failure = Failure(kind=FailureKind(end), message=config.get("message", "as told"), traceback="Traceback ...")
    return 0.0, outcome(work.number, TrialState.FAILED, None, step, failure.message, failure, time=clock())


def _stored_step(spec: TrialSpec) -> int:
    path = Path(spec.directory) / CHECKPOINT
    return int(path.read_text()) if spec.directory and path.exists() else 0


def _store_step(spec: TrialSpec, step: int) -> None:
    if spec.directory:
        Path(spec.directory).mkdir(parents=True, exist_ok=True)
        (Path(spec.directory) / CHECKPOINT).write_text(str(step))


def outcome(
    number: int,
    state: TrialState,
    value: float | None,
    steps: int,
    reason: str = "",
    failure: Failure | None = None,
    time: float = 0.0,
) -> Outcome:
    """Return an Outcome with the usual rest."""
    return Outcome(
        number=number,
        state=state,
        value=value,
        best_step=None if value is None else steps,
        steps=steps,
        reason=reason,
        failure=failure,
        seconds=0.1,
        time=time,
    )


def spec(number: int, values: list[float], directory: str = "", **config: Any) -> TrialSpec:
    """Return work that reports `values`."""
    return TrialSpec(number=number, params={}, config={"values": values, **config}, seed=number, directory=directory)
