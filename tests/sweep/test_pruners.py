import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.records import Report, Verdict
from search.sweep.history import History
from search.sweep.pruners import GO_ON, Arrival, Asha, Promotion, Pruner, make


def asha(maximize: bool = True) -> Asha:
    return Asha(rungs=[1 / 9, 1 / 3], eta=3, maximize=maximize)


def stops(pruner: Pruner, values: list[float], step: int, planned: int = 9) -> list[bool]:
    """Report one value of each trial at a step; tell which were stopped."""
    return [pruner.decide(number, step, value, planned)[0] is Verdict.STOP for number, value in enumerate(values)]


def test_the_first_to_arrive_goes_on_and_then_one_in_three() -> None:
    assert stops(asha(), [0.1, 0.2, 0.3, 0.1, 0.2, 0.1], 1) == [False, False, False, True, False, True]


def together(pruner: Pruner, values: list[float], step: int, planned: int = 9, first: int = 0) -> list[bool]:
    """Report values at a step all at once; tell which trials were stopped."""
    arrivals = [Arrival(first + number, step, value, planned) for number, value in enumerate(values)]
    return [verdict is Verdict.STOP for verdict, _ in pruner.decide_together(arrivals)]


def test_of_those_that_come_together_one_in_three_goes_on() -> None:
    pruner = asha()
    assert together(pruner, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1) == [True] * 4 + [False] * 2
    assert together(pruner, [0.45, 0.7], 1, first=6) == [True, False], "those that came before count, too"


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=12), st.integers(2, 4))
def test_those_that_come_together_are_ruled_on_whatever_their_order(values: list[float], eta: int) -> None:
    def gone_on(values: list[float]) -> list[float]:
        pruner = Asha(rungs=[1 / 9], eta=eta, maximize=True)
        return sorted(v for v, stopped in zip(values, together(pruner, values, 1), strict=True) if not stopped)

    assert gone_on(values) == gone_on(values[::-1])
    least = sorted(values, reverse=True)[math.ceil(len(values) / eta) - 1]
    assert gone_on(values) == sorted(v for v in values if v >= least)


def test_lower_is_better_when_minimising() -> None:
    assert stops(asha(maximize=False), [0.3, 0.2, 0.1, 0.4], 1) == [False, False, False, True]


def test_equal_values_do_not_push_each_other_out() -> None:
    assert not any(stops(asha(), [0.5] * 10, 1))


def test_nothing_is_decided_between_rungs() -> None:
    pruner = asha()
    stops(pruner, [0.9] * 3, 1)
    assert pruner.decide(9, 2, 0.0, 9) == GO_ON


def test_a_trial_is_judged_by_its_best_value_so_far() -> None:
    pruner = asha()
    for number in range(3):
        pruner.decide(number, 3, 0.5, 9)
    assert pruner.decide(7, 2, 0.9, 9) == GO_ON
    assert pruner.decide(7, 3, 0.1, 9) == GO_ON


@pytest.mark.parametrize(("planned", "rungs"), [(27, [3, 9]), (9, [1, 3]), (4, [1, 2]), (2, [1]), (1, [])])
def test_rungs_are_fractions_of_a_trials_planned_steps(planned: int, rungs: list[int]) -> None:
    """A hopeless trial is stopped at rungs and nowhere else."""
    stopped = [step for step in range(1, planned + 1) if stops(asha(), [1.0] * 3 + [0.0], step, planned)[-1]]
    assert stopped == rungs


def test_trials_of_different_length_meet_at_the_same_rung() -> None:
    pruner = asha()
    assert stops(pruner, [1.0] * 3, 3, planned=27) == [False] * 3
    assert pruner.decide(9, 1, 0.0, 9)[0] is Verdict.STOP


class Model:
    """What asynchronous successive halving says, by sorting everything anew at every question; larger is better."""

    def __init__(self, rungs: list[float], eta: int) -> None:
        self.rungs, self.eta = rungs, eta
        self.best: dict[int, float] = {}
        self.arrived: list[dict[int, float]] = [{} for _ in rungs]
        self.gone_on: list[set[int]] = [set() for _ in rungs]
        self.ended: set[int] = set()

    def report(self, number: int, step: int, value: float, planned: int) -> list[int]:
        """Take in a report; return the rungs that it reaches."""
        self.best[number] = max(value, self.best.get(number, value))
        reached = [i for i, rung in enumerate(self.rungs) if max(1, math.ceil(rung * planned - 1e-9)) == step < planned]
        for rung in reached:
            self.arrived[rung][number] = self.best[number]
        for rung in reached[:-1]:
            self.gone_on[rung].add(number)
        return reached

    def ranking(self, rung: int) -> list[int]:
        arrived = self.arrived[rung]
        return sorted(arrived, key=lambda number: (-arrived[number], number))

    def may_go_on(self, rung: int) -> list[int]:
        """Return the best floor(n / eta) of a rung without those that went on or ended, the best first."""
        ranking = self.ranking(rung)
        gone = self.gone_on[rung] | self.ended
        return [number for number in ranking[: len(ranking) // self.eta] if number not in gone]

    def next(self) -> int | None:
        for rung in reversed(range(len(self.rungs))):
            if ready := self.may_go_on(rung):
                self.at = rung
                return ready[0]
        return None

    def end(self, number: int, *, failed: bool) -> None:
        """Take in an end; who failed stands last at the rung ahead."""
        self.ended.add(number)
        ahead = 1 + max((i for i, arrived in enumerate(self.arrived) if number in arrived), default=-1)
        if failed and ahead < len(self.rungs):
            self.arrived[ahead][number] = -math.inf

    def promote(self) -> int | None:
        number = self.next()
        if number is not None:
            self.gone_on[self.at].add(number)
        return number


class Search:
    """A search that hypothesis steers, under the pruner and under its model; the log is what a driver would store."""

    def __init__(self, rungs: list[float], eta: int, planned: list[int]) -> None:
        self.model, self.pruner = Model(rungs, eta), Promotion(rungs=rungs, eta=eta, maximize=True)
        self.planned = planned
        self.running: dict[int, int] = {}
        self.paused: dict[int, int] = {}
        self.log: list[tuple[str, int, int, float]] = []
        self.begun = 0

    def check(self) -> None:
        """Hold the tables against the model."""
        for rung, table in enumerate(self.pruner._tables):
            assert sorted(table.ready) == sorted(self.model.may_go_on(rung))

    def begin(self) -> None:
        self.running[self.begun] = 0
        self.begun += 1

    def report(self, number: int, value: float) -> None:
        planned = self.planned[number % len(self.planned)]
        step = self.running[number] + 1
        self.log.append(("report", number, step, value))
        verdict, _ = self.pruner.decide(number, step, value, planned)
        reached = self.model.report(number, step, value, planned)
        if reached and self.model.next() == number:
            self.model.promote()
            reached = []
        assert (verdict is Verdict.PAUSE) == bool(reached)
        self.running[number] = step
        if reached:
            self.paused[number] = self.running.pop(number)
        elif step == planned:
            self.end(number)

    def end(self, number: int, *, failed: bool = False) -> None:
        self.running.pop(number, None)
        self.paused.pop(number, None)
        self.log.append(("failure" if failed else "end", number, 0, 0.0))
        self.pruner.ended(number, failed=failed)
        self.model.end(number, failed=failed)

    def promote(self) -> None:
        number = self.pruner.promote()
        assert number == self.model.promote()
        if number is not None:
            self.log.append(("promote", number, 0, 0.0))
            self.running[number] = self.paused.pop(number)

    def replayed(self) -> Promotion:
        """Return a new pruner to which everything was told again."""
        again = Promotion(rungs=self.model.rungs, eta=self.model.eta, maximize=True)
        for what, number, step, value in self.log:
            if what == "report":
                again.decide(number, step, value, self.planned[number % len(self.planned)])
            elif what == "promote":
                again.promoted(number)
            else:
                again.ended(number, failed=what == "failure")
        return again


def play(search: Search, data: st.DataObject) -> None:
    """Let hypothesis choose what happens next, and with what value; few values, so that many are equal."""
    moves = data.draw(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50), st.integers(0, 6)), min_size=20, max_size=80)
    )
    for move, which, value in moves:
        begun = sorted(search.running)
        if move == 0 and search.running | search.paused:
            candidates = sorted(search.running | search.paused)
            search.end(candidates[which % len(candidates)], failed=value % 2 == 1)
        elif move <= 2:
            search.promote()
        elif move <= 4 or not begun:
            search.begin()
        else:
            search.report(begun[which % len(begun)], value / 2)
        search.check()


RUNGS = st.sampled_from([[1 / 9, 1 / 3], [1 / 3], [1 / 27, 1 / 9, 1 / 3]])
PLANNED = st.lists(st.sampled_from([2, 4, 9, 27]), min_size=1, max_size=3)


@given(RUNGS, st.integers(2, 4), PLANNED, st.data())
def test_at_every_moment_those_may_go_on_that_the_paper_names(
    rungs: list[float], eta: int, planned: list[int], data: st.DataObject
) -> None:
    play(Search(rungs, eta, planned), data)


@given(RUNGS, st.integers(2, 4), PLANNED, st.data())
def test_a_search_that_is_replayed_stands_where_it_stood(
    rungs: list[float], eta: int, planned: list[int], data: st.DataObject
) -> None:
    search = Search(rungs, eta, planned)
    play(search, data)
    again = search.replayed()
    assert [table.ready for table in again._tables] == [table.ready for table in search.pruner._tables]
    assert again._paused == search.pruner._paused
    assert [again.promote() for _ in range(search.begun)] == [search.model.promote() for _ in range(search.begun)]


@given(RUNGS, st.integers(2, 4), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 6)), max_size=40))
def test_asha_stops_who_is_not_among_the_best_of_those_that_came_before(
    rungs: list[float], eta: int, reports: list[tuple[int, int]]
) -> None:
    pruner, model = Asha(rungs=rungs, eta=eta, maximize=True), Model(rungs, eta)
    for number, (step, value) in enumerate(reports):
        verdict, _ = pruner.decide(number, step, value, 9)
        reached = model.report(number, step, value, 9)
        better = [sum(v > value for v in model.arrived[rung].values()) for rung in reached]
        room = [math.ceil(len(model.arrived[rung]) / eta) for rung in reached]
        stopped = any(b >= r for b, r in zip(better, room, strict=True))
        assert (verdict is Verdict.STOP) == stopped


def promotion(maximize: bool = True) -> Promotion:
    return Promotion(rungs=[1 / 9, 1 / 3], eta=3, maximize=maximize)


def test_everyone_pauses_at_a_rung_but_who_would_be_promoted_at_once() -> None:
    pruner = promotion()
    assert [pruner.decide(number, 1, value, 9)[0] for number, value in enumerate([0.1, 0.2, 0.3])] == [
        Verdict.PAUSE,
        Verdict.PAUSE,
        Verdict.GO_ON,
    ]


def test_lower_is_promoted_when_minimising() -> None:
    pruner = promotion(maximize=False)
    for number, value in enumerate([0.1, 0.2, 0.3]):
        assert pruner.decide(number, 1, value, 9)[0] is Verdict.PAUSE
    assert [pruner.promote(), pruner.promote()] == [0, None]


def test_the_highest_rung_is_served_first() -> None:
    pruner = promotion()
    for number in range(4):
        pruner.decide(number, 3, 0.9 - number / 10, 9)
        pruner.decide(9 - number, 1, 0.5, 9)
    assert [pruner.promote() for _ in range(3)] == [0, 6, None]


def test_who_ended_is_not_promoted_but_keeps_its_place() -> None:
    pruner = promotion()
    for number, value in enumerate([0.9, 0.2, 0.3]):
        pruner.decide(number, 1, value, 9)
    pruner.ended(0, failed=False)
    assert pruner.promote() is None


def test_who_comes_to_the_next_rung_without_having_been_promoted_is_promoted_once() -> None:
    """As one does whose worker dies before it has paused: it goes on from its last checkpoint."""
    pruner = promotion()
    assert [pruner.decide(0, step, 0.9, 9)[0] for step in (1, 3)] == [Verdict.PAUSE, Verdict.PAUSE]
    for number in (1, 2):
        pruner.decide(number, 1, 0.1, 9)
    assert not pruner.can_promote()
    for number in (3, 4):
        pruner.decide(number, 3, 0.1, 9)
    assert [pruner.promote(), pruner.promote()] == [0, None]


def test_optunas_successive_halving_prunes_with_us() -> None:
    history = History(maximize=True)
    config = {"kind": "optuna_sha", "min_resource": 1, "reduction_factor": 2}
    pruner = make(config, most_steps=9, history=history, maximize=True)
    verdicts = []
    for number in range(8):
        history.create(number, {}, {})
        history.report(Report(number=number, step=1, metrics={"objective": -float(number)}, time=0.0))
        verdicts.append(pruner.decide(number, 1, -float(number), 9)[0])
    assert verdicts[-1] is Verdict.STOP
    assert pruner.decide(99, 1, 0.0, 9) == GO_ON, "it is not of this history"


def test_trials_that_diverge_count_as_the_worst_of_their_rung() -> None:
    pruner = promotion()
    assert pruner.decide(0, 1, 0.1, 9)[0] is Verdict.PAUSE
    assert pruner.promote() is None
    pruner.ended(1, failed=True)
    assert pruner.promote() is None, "one of two is not yet one of three"
    pruner.ended(2, failed=True)
    assert pruner.promote() == 0
