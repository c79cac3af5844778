import pytest

from search.records import Failure, FailureKind, Outcome, TrialState
from search.sweep.failures import FailurePolicy, Failures
from tests.kits.doubles import outcome


def failure(kind: FailureKind, message: str = "as told") -> Failure:
    return Failure(kind=kind, message=message)


def failed(message: str = "ValueError: bad luck", kind: FailureKind = FailureKind.EXCEPTION) -> Outcome:
    return outcome(0, TrialState.FAILED, None, 0, message, failure(kind, message))


def fine() -> Outcome:
    return outcome(0, TrialState.COMPLETE, 0.5, 3)


def breaker(window: int = 4, share: float = 0.75) -> Failures:
    return Failures(FailurePolicy(retries={}, window=window, share=share))


def attempts_allowed(failures: Failures, number: int, of: Failure, most: int = 50) -> int:
    """Fail until there is no more attempt; return how often it was tried again."""
    for attempt in range(most):
        if not failures.may_retry(number, of):
            return attempt
        failures.count(number, of)
    return most


@pytest.mark.parametrize("kind", FailureKind)
@pytest.mark.parametrize(("budget", "retried"), [(0, 0), (1, 1), (3, 3), (None, 50)])
def test_a_trial_is_tried_again_as_often_as_its_failures_budget_says(
    kind: FailureKind, budget: int | None, retried: int
) -> None:
    assert attempts_allowed(Failures(FailurePolicy(retries={kind: budget})), 0, failure(kind)) == retried


def test_a_kind_without_a_budget_is_never_tried_again() -> None:
    assert not Failures(FailurePolicy(retries={})).may_retry(0, failure(FailureKind.PREEMPTED))


def test_each_trial_and_each_kind_has_a_budget_of_its_own() -> None:
    failures = Failures(FailurePolicy(retries=dict.fromkeys(FailureKind, 1)))
    failures.count(0, failure(FailureKind.HANG))
    assert not failures.may_retry(0, failure(FailureKind.HANG))
    assert failures.may_retry(0, failure(FailureKind.TIMEOUT))
    assert failures.may_retry(1, failure(FailureKind.HANG))
    assert failures.attempts(0, FailureKind.HANG) == 1
    assert failures.attempts(1, FailureKind.HANG) == 0


def test_the_search_gives_up_once_the_share_of_the_window_failed_for_one_cause() -> None:
    failures = breaker()
    said = [failures.ended(o) for o in (failed(), fine(), failed(), failed())]
    assert said == [None, None, None, "3 of the last 4 trials failed: exception (ValueError)"]


def test_fewer_failures_than_the_share_do_not_end_the_search() -> None:
    failures = breaker()
    assert not any(failures.ended(o) for o in [failed(), failed(), fine(), fine()] * 5)


def test_a_window_that_is_not_full_yet_does_not_end_the_search() -> None:
    failures = breaker()
    assert [failures.ended(failed()) is not None for _ in range(4)] == [False, False, False, True]


def test_what_failed_long_ago_does_not_count() -> None:
    failures = breaker()
    for ended in (failed(), failed(), fine(), fine(), fine()):
        assert failures.ended(ended) is None
    assert failures.ended(failed()) is None


CAUSES = {
    "types of exceptions": (failed("ValueError: a"), failed("KeyError: a")),
    "kinds": (failed("a", FailureKind.NON_FINITE), failed("a", FailureKind.TIMEOUT)),
    "an exception and a kind": (failed("ValueError: a"), failed("ValueError: a", FailureKind.OUT_OF_MEMORY)),
}


@pytest.mark.parametrize(("one", "other"), CAUSES.values(), ids=CAUSES)
def test_causes_are_told_apart(one: Outcome, other: Outcome) -> None:
    failures = breaker()
    assert not any(failures.ended(o) for o in [one, other] * 5)


SAME = {
    "an exception with another message": (failed("ValueError: a"), failed("ValueError: b")),
    "a kind with another message": (failed("a", FailureKind.HANG), failed("b: c", FailureKind.HANG)),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_a_cause_is_the_same_whatever_it_says(one: Outcome, other: Outcome) -> None:
    failures = breaker()
    assert [failures.ended(o) is not None for o in (one, other, one, other)] == [False, False, False, True]


@pytest.mark.parametrize(("window", "share", "enough"), [(20, 0.55, 11), (25, 0.28, 7), (10, 0.9, 9), (1, 1.0, 1)])
def test_the_share_is_reached_when_it_is_met_exactly(window: int, share: float, enough: int) -> None:
    failures = breaker(window, share)
    for ended in [fine()] * (window - enough) + [failed()] * (enough - 1):
        assert failures.ended(ended) is None
    assert failures.ended(failed()) is not None
