from collections import Counter

from search.records import FailureKind, Outcome, Report, TrialState, Work, failed
from search.sweep.batch import run_all
from search.sweep.executor import InProcessExecutor, LastWord, Talk
from search.sweep.failures import Failures
from tests.kits import doubles
from tests.kits.bench import POLICY


def test_run_all_returns_outcomes_in_the_order_of_the_work() -> None:
    said: list[Report | Outcome] = []
    work = [doubles.spec(i, [0.1 * i] * (5 - i), sleep=0.01) for i in range(4)]
    with InProcessExecutor(doubles.run, 2) as executor:
        outcomes = run_all(executor, work, said.append, Failures(POLICY))
    assert [o.number for o in outcomes] == [0, 1, 2, 3]
    assert sum(isinstance(s, Outcome) for s in said) == 4


def test_run_all_hands_lost_work_to_another_worker() -> None:
    tries: Counter[int] = Counter()

    def loses_once(work: Work, talk: Talk) -> LastWord | tuple[LastWord, ...]:
        tries[work.number] += 1
        if tries[work.number] == 1:
            return failed(work.number, FailureKind.LOST_WORKER, "died", time=0.0)
        return doubles.run(work, talk)

    with InProcessExecutor(loses_once) as executor:
        outcomes = run_all(executor, [doubles.spec(i, [0.5]) for i in range(2)], lambda _: None, Failures(POLICY))
    assert [o.state for o in outcomes] == [TrialState.COMPLETE] * 2
