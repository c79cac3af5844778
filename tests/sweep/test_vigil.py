from search.records import FailureKind
from search.sweep.failures import FailurePolicy
from search.sweep.simulated import VirtualClock
from search.sweep.vigil import Overdue, Vigil


def vigil(clock: VirtualClock, hang_seconds: float | None = None, timeout_seconds: float | None = None) -> Vigil:
    return Vigil(FailurePolicy(retries={}, hang_seconds=hang_seconds, timeout_seconds=timeout_seconds), clock)


def test_silence_is_borne_as_long_as_the_policy_says() -> None:
    clock = VirtualClock()
    watched = vigil(clock, hang_seconds=60.0)
    watched.began(0, 7)
    clock.now = 50.0
    watched.heard(0)
    assert list(watched.overdue()) == []
    clock.now = 100.0
    assert list(watched.overdue()) == []
    clock.now = 110.0
    assert list(watched.overdue()) == []
    clock.now = 111.5
    assert list(watched.overdue()) == [(0, FailureKind.HANG, "no report for 60 s (failures.hang_seconds)", 111.5)]
    assert watched.ended(0) == 7
    assert len(watched) == 0


def test_a_trial_may_take_as_long_as_the_policy_says_however_often_it_reports() -> None:
    clock = VirtualClock()
    watched = vigil(clock, timeout_seconds=3600.0)
    watched.began(0, 7)
    clock.now = 3600.0
    watched.heard(0)
    assert list(watched.overdue()) == []
    clock.now = 3602.0
    watched.heard(0)
    assert list(watched.overdue()) == [
        (0, FailureKind.TIMEOUT, "not done after 3600 s (failures.timeout_seconds)", 3602.0)
    ]


def test_work_without_reports_is_not_suspected_of_hanging() -> None:
    clock = VirtualClock()
    watched = vigil(clock, hang_seconds=60.0)
    watched.began(0, 7, reports=False)
    clock.now = 1e9
    assert list(watched.overdue()) == []


def test_without_limits_nothing_is_overdue() -> None:
    clock = VirtualClock()
    watched = vigil(clock)
    watched.began(0, 7)
    clock.now = 1e12
    assert list(watched.overdue()) == []


def test_it_is_looked_at_once_a_second_at_most() -> None:
    clock = VirtualClock()
    watched = vigil(clock, hang_seconds=1.0)
    watched.began(0, 7)
    clock.now = 0.9
    assert list(watched.overdue()) == []
    clock.now = 1.1
    assert len(list(watched.overdue())) == 1
    clock.now = 1.2
    assert list(watched.overdue()) == []


def test_a_driver_that_was_stopped_does_not_blame_those_that_waited_for_it() -> None:
    clock = VirtualClock()
    watched = vigil(clock, hang_seconds=60.0)
    watched.began(0, 7)
    clock.now = 10.0
    assert list(watched.overdue()) == []
    clock.now = 5000.0
    assert list(watched.overdue()) == []
    clock.now = 5055.0
    assert len(list(watched.overdue())) == 1, "silence counts on where it was"


def test_a_trial_of_a_cohort_has_its_share_of_the_time() -> None:
    clock = VirtualClock()
    watched = vigil(clock, hang_seconds=1000.0, timeout_seconds=100.0)
    watched.began(0, 7, trials=3)
    clock.now = 300.0
    assert list(watched.overdue()) == []
    watched.heard(0, joining=1)
    clock.now = 400.0
    assert list(watched.overdue()) == []
    clock.now = 402.0
    assert [(kind, seconds) for _, kind, _, seconds in watched.overdue()] == [(FailureKind.TIMEOUT, 402.0)]


def look_until(watched: Vigil, clock: VirtualClock, end: float) -> list[Overdue]:
    """Look every second; return what was found at the end, with nothing before."""
    while clock.now < end - 1.0:
        clock.now += 1.0
        assert list(watched.overdue()) == []
    clock.now = end
    return list(watched.overdue())


def test_a_cohort_may_be_silent_for_as_long_as_its_open_trials_one_after_the_other() -> None:
    clock = VirtualClock()
    watched = vigil(clock, hang_seconds=60.0)
    watched.began(0, 7, trials=3, num_open=3)
    assert look_until(watched, clock, 180.0) == []
    watched.heard(0, num_open=2)
    assert look_until(watched, clock, 300.0) == []
    watched.heard(0, joining=1, num_open=3)
    message = "no report for 180 s (failures.hang_seconds for each of 3 trials)"
    assert look_until(watched, clock, 481.0) == [(0, FailureKind.HANG, message, 481.0)]


def test_what_measures_may_be_silent_no_longer_than_one_trial() -> None:
    clock = VirtualClock()
    watched = vigil(clock, hang_seconds=60.0, timeout_seconds=20.0)
    watched.began(0, 7, trials=8)
    message = "no report for 60 s (failures.hang_seconds)"
    assert look_until(watched, clock, 61.0) == [(0, FailureKind.HANG, message, 61.0)]
