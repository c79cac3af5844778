"""What trials are told after a report: as the pruner says, and that they stop once the hours are spent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search.records import Decision, Event, Outcome, Params, Report, TrialState, Verdict
from search.sweep.limits import Hours
from search.sweep.pruners import GO_ON, Arrival, Pruner, Ruling
from search.sweep.study import Study

_OUT_OF_TIME: Ruling = (Verdict.STOP, "budget.hours is spent")


class Judge:
    """Decides on reports and promotions, and records what it decided."""

    def __init__(
        self,
        study: Study,
        pruner: Pruner,
        planned_steps: Callable[[Params], int],
        hours: Hours,
        clock: Callable[[], float],
    ) -> None:
        self._study, self._pruner, self._planned_steps = study, pruner, planned_steps
        self._hours, self._clock = hours, clock

    def planned(self, number: int) -> int:
        """Return how many reports a trial makes if nobody stops it."""
        return self._planned_steps(self._study.params[number])

    def left(self, number: int) -> float:
        """Return what share of its reports a trial has before it if nobody stops it."""
        planned = max(1, self.planned(number))  # an objective's own `epochs` may be 0
        return max(0.0, 1 - self._study.last_step.get(number, 0) / planned)

    def decide(self, reports: Sequence[Report]) -> list[Decision]:
        """Record reports that came at once; return the decisions on them."""
        earlier = {report.number: self._study.decided.get(report.number) for report in reports}
        new = [report for report in reports if report.step > self._study.last_step.get(report.number, 0)]
        for report in new:
            self._study.record(report)
        rulings = dict(zip((report.number for report in new), self._rulings(new), strict=True))
        return [self._answer(report, earlier[report.number], rulings.get(report.number, GO_ON)) for report in reports]

    def may_promote(self) -> bool:
        """Tell whether a paused trial is to go on."""
        return not self._hours.are_spent() and self._pruner.can_promote()

    def promote(self) -> int | None:
        """Let a paused trial go on, if there is one; return its number."""
        number = self._pruner.promote()
        if number is not None:
            step = self._study.last_step.get(number, 0)
            self._study.record(self._decision(number, step, (Verdict.GO_ON, "promoted")))
        return number

    def ended(self, outcome: Outcome) -> None:
        """Take in that a trial is over."""
        comparable = outcome.number >= self._study.comparable_from
        self._pruner.ended(outcome.number, failed=comparable and outcome.state is TrialState.FAILED)

    @property
    def remembers(self) -> bool:
        """Whether the pruner must be told of everything again, in order."""
        return self._pruner.remembers

    def replay(self, event: Event) -> Decision | None:
        """Tell the pruner of a stored event; return the decision that it owes to a report."""
        if isinstance(event, Report) and self.remembers:
            return self.owed(event)
        if isinstance(event, Decision) and event.verdict is Verdict.GO_ON:
            self._pruner.promoted(event.number)
        elif isinstance(event, Outcome):
            self.ended(event)
        return None

    def owed(self, report: Report) -> Decision | None:
        """Return the decision on a stored report, unless it is to go on."""
        if report.number in self._study.outcomes:
            return None
        verdict, reason = self._ask_pruner([report])[0]
        if verdict is Verdict.GO_ON:
            return None
        return Decision(number=report.number, step=report.step, verdict=verdict, reason=reason, time=report.time)

    def _answer(self, report: Report, earlier: Decision | None, ruling: Ruling) -> Decision:
        """Return the decision on a report, recorded where it is news."""
        decision = self._decision(report.number, report.step, ruling)
        told = earlier is not None and earlier.verdict is not Verdict.GO_ON and earlier.step <= report.step
        # It was told so before its worker or the driver died; but it may have come to a rung, and been promoted there.
        overruled = earlier is not None and earlier.verdict is Verdict.PAUSE and not self._pruner.waits(report.number)
        if decision.verdict is not Verdict.GO_ON or (told and overruled):
            self._study.record(decision)
        return decision if earlier is None or not told or overruled else earlier

    def _decision(self, number: int, step: int, ruling: Ruling) -> Decision:
        return Decision(number=number, step=step, verdict=ruling[0], reason=ruling[1], time=self._clock())

    def _rulings(self, reports: Sequence[Report]) -> list[Ruling]:
        """Return what becomes of trials that reported something new."""
        spent = self._hours.are_spent()
        return [
            _OUT_OF_TIME
            if ruling[0] is Verdict.GO_ON and spent and report.step < self.planned(report.number)
            else ruling
            for report, ruling in zip(reports, self._ask_pruner(reports), strict=True)
        ]

    def _ask_pruner(self, reports: Sequence[Report]) -> list[Ruling]:
        """Return what the pruner says; trials of other data are none of its business, nor is one at its end stopped."""
        compared = [report for report in reports if report.number >= self._study.comparable_from]
        arrivals = [
            Arrival(report.number, report.step, report.metrics["objective"], self.planned(report.number))
            for report in compared
        ]
        found = {
            arrival.number: ruling if arrival.step < arrival.planned else GO_ON
            for arrival, ruling in zip(arrivals, self._pruner.decide_together(arrivals), strict=True)
        }
        return [found.get(report.number, GO_ON) for report in reports]
