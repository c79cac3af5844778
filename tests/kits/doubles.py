"""Work that does what its configuration says: for tests of everything between driver and workers."""

import os
import time
from collections.abc import Callable
from typing import Any

from search.records import (
    Decision,
    Failure,
    FailureKind,
    Outcome,
    Paused,
    Report,
    TrialSpec,
    TrialState,
    Verdict,
    Work,
)
from search.sweep.executor import Run


def scripted(equipment: Any) -> Run:
    """Return a runner; each report's value comes from `config["values"]`, the end from `config["end"]`."""
    del equipment
    return run


def run(work: Work, report: Callable[[Report], Decision]) -> Paused | Outcome:
    """Report the scripted values until told to stop; then complete, fail or die."""
    assert isinstance(work, TrialSpec)
    config = work.config
    values, end = config["values"], config.get("end", "complete")
    if end == "die":
        os._exit(1)
    if end == "hang":
        time.sleep(60)
    steps = 0
    for step, value in enumerate(values, start=1):
        time.sleep(config.get("sleep", 0.0))
        print(f"step {step} of trial {work.number}")
        steps = step
        decision = report(Report(number=work.number, step=step, metrics={"objective": value}, time=time.time()))
        if decision.verdict is not Verdict.GO_ON:
            last = outcome(work.number, TrialState.PRUNED, max(values[:step]), step, decision.reason)
            if decision.verdict is Verdict.STOP:
                return last
            return Paused(number=work.number, step=step, so_far=last, time=last.time)
    if end == "fail":
        failure = Failure(kind=FailureKind.EXCEPTION, message="as told", traceback="Traceback ...")
        return outcome(work.number, TrialState.FAILED, None, steps, "as told", failure)
    return outcome(work.number, TrialState.COMPLETE, max(values), steps, "all epochs done")


def outcome(
    number: int, state: TrialState, value: float | None, steps: int, reason: str = "", failure: Failure | None = None
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
        time=time.time(),
    )


def spec(number: int, values: list[float], directory: str = "", **config: Any) -> TrialSpec:
    """Return work that reports `values`."""
    return TrialSpec(number=number, params={}, config={"values": values, **config}, seed=number, directory=directory)
