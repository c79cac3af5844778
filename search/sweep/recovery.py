"""Taking up a study where an earlier driver left it, or died."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search.records import Decision, Event, FailureKind, Measured, Params, Report, Retried, failed
from search.sweep.attempts import Attempts
from search.sweep.journal import outcome_on_disk
from search.sweep.judging import Judge
from search.sweep.limits import Hours
from search.sweep.packing import Packer
from search.sweep.study import Study

_DRAWN_FOR_OTHER_DATA = "was drawn for other data, and never began"


class Recovery:
    """Replays a study through all that must know of it, and finds out what became of the unfinished."""

    def __init__(self, study: Study, hours: Hours, judge: Judge, packer: Packer, attempts: Attempts) -> None:
        self._study, self._hours, self._judge = study, hours, judge
        self._packer, self._attempts = packer, attempts

    def run(self, draw_again: Callable[[int, Sequence[Params]], Params | None]) -> None:
        """Let rungs and budgets stand as they stood, and take up what was running.

        `draw_again` is as in `Study.restore`.
        """
        self._study.restore(draw_again)
        self._replay_all()
        self._take_up_begun()
        self._look_at_waiting()

    def _replay_all(self) -> None:
        owed: Decision | None = None
        last: Event | None = None
        for last, _ in self._study.journal.events():
            self._hours.replay(last)
            self._study.replay(last)
            owed = self._judge.replay(last)
            if isinstance(last, Retried):
                self._attempts.count(last)
            elif isinstance(last, Measured):
                self._packer.measured(last)
        if isinstance(last, Report) and not self._judge.remembers:
            owed = self._judge.owed(last)
        if owed is not None:
            self._study.record(owed)  # the driver died between a report and its decision

    def _take_up_begun(self) -> None:
        for number in self._study.unfinished():
            if (left := outcome_on_disk(self._study.directory(number))) is not None:
                self._attempts.finish(left)  # the driver died before it heard of it
            elif (why := self._attempts.stranded(number)) is not None:
                self._end_unheard(number, why)
            elif not self._study.rests(number):
                self._attempts.wait(number)

    def _look_at_waiting(self) -> None:
        for number in list(self._study.waiting):
            if (left := outcome_on_disk(self._study.directory(number))) is not None:
                self._study.begin(number)  # which a power failure took from the study
                self._attempts.finish(left)
            elif number < self._study.composed_from and (why := self._outdated(number)) is not None:
                self._end_unheard(number, why)

    def _outdated(self, number: int) -> str | None:
        """Return why it is not worth while, or not possible, to begin a trial of an earlier composition."""
        return _DRAWN_FOR_OTHER_DATA if number < self._study.comparable_from else self._attempts.stranded(number)

    def _end_unheard(self, number: int, why: str) -> None:
        """End a trial that cannot go on.

        It is nobody's failure: no attempt is counted, and it is no reason to give up. It ended when the study was last
        heard of: the time since then is not the search's.
        """
        self._attempts.end(failed(number, FailureKind.EXCEPTION, why, time=self._hours.last_heard()))
