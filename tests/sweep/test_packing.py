"""Which trials share a worker."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.records import CohortSpec, MeasureSpec, TrialSpec
from search.sweep.packing import MEASURED, TURN, WORTH, Handed, Load, Packer
from tests.kits.doubles import measured, spec

SHAPES = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=80)
FUSED = st.sampled_from([1, 2, 8, 32, None])
SLOTS = st.integers(1, 9)
CHANCE = st.booleans()


def shaped(number: int, shape: str | None) -> TrialSpec:
    return spec(number, [], shape=shape)


def shape_of(trial: TrialSpec) -> str | None:
    shape = trial.config["shape"]
    assert shape is None or isinstance(shape, str)
    return shape


def packer(
    fused: int | None, shapes: Sequence[str | None] = (), again: Sequence[tuple[int, str | None]] = ()
) -> Packer:
    """Return one where new trials 0, 1, ... of these shapes wait, and these that are taken up again."""
    made = Packer(shape_of, fused)
    for number, shape in enumerate(shapes):
        made.new(shaped(number, shape))
    for number, shape in again:
        made.again(shaped(number, shape), alone=False)
    return made


def numbers(work: Handed | None) -> list[int]:
    """Return the trials that a worker is to train; none where it measures."""
    if isinstance(work, CohortSpec):
        return [trial.number for trial in work.trials]
    return [work.number] if isinstance(work, TrialSpec) else []


def test_trials_of_the_first_ones_shape_go_together() -> None:
    packed = packer(8, "abcabca")
    assert [numbers(packed.hand_out(Load(num_slots=1))) for _ in range(4)] == [[0, 3, 6], [1, 4], [2, 5], []]


def test_what_has_no_shape_is_alone() -> None:
    packed = packer(8, ["a", None, "a", None])
    assert [numbers(packed.hand_out(Load(num_slots=1))) for _ in range(3)] == [[0, 2], [1], [3]]


def test_a_cohort_of_one_is_a_plain_trial() -> None:
    assert isinstance(packer(8, "ab").hand_out(Load(num_slots=1)), TrialSpec)


def test_without_fusing_trials_are_handed_out_one_by_one_in_order() -> None:
    packed = packer(1, "aaaa", again=[(9, "a"), (7, "a")])
    assert not packed.fuses
    assert [numbers(packed.hand_out(Load(num_slots=1))) for _ in range(6)] == [[9], [7], [0], [1], [2], [3]]


def test_work_is_left_for_the_other_workers() -> None:
    packed = packer(8, "a" * 10)
    assert [len(numbers(packed.hand_out(Load(num_slots=4)))) for _ in range(5)] == [3, 2, 2, 1, 1]


@pytest.mark.parametrize(("elsewhere", "taken"), [(0.0, 4), (1.0, 5), (4.5, 7), (9.0, 8)])
def test_a_free_worker_leaves_less_for_others_the_more_they_have_to_do(elsewhere: float, taken: int) -> None:
    assert len(numbers(packer(32, "a" * 8).hand_out(Load(num_slots=2, elsewhere=elsewhere)))) == taken


def test_trials_that_are_not_drawn_yet_count_as_work_for_the_others() -> None:
    assert len(numbers(packer(8, "a" * 10).hand_out(Load(num_slots=4, undrawn=100)))) == 8


def test_who_is_taken_up_again_goes_first_and_may_have_company() -> None:
    packed = packer(8, "aab", again=[(12, "b"), (11, "a"), (14, "b")])
    assert [numbers(packed.hand_out(Load(num_slots=1))) for _ in range(2)] == [[12, 14, 2], [11, 0, 1]]


def test_only_who_is_taken_up_again_goes_once_a_limit_is_reached() -> None:
    packed = packer(8, "aab", again=[(12, "b"), (14, "b")])
    assert [numbers(packed.hand_out(Load(num_slots=1), new=False)) for _ in range(2)] == [[12, 14], []]
    assert numbers(packed.hand_out(Load(num_slots=1))) == [0, 1]


def test_who_must_be_alone_is_alone_and_so_is_who_needs_less_memory() -> None:
    packed = packer(8, "aa")
    packed.again(shaped(7, "a"), alone=True)
    packed.again(
        TrialSpec(number=8, params={}, config={"shape": "a"}, seed=0, directory="", micro_batches=2), alone=False
    )
    assert [numbers(packed.hand_out(Load(num_slots=1))) for _ in range(3)] == [[7], [8], [0, 1]]


# ------------------------------------------------------------------------------------------------------------ measuring


def test_a_shape_is_measured_first_while_its_trials_wait() -> None:
    packed = packer(None, "a" * 40)
    first = packed.hand_out(Load(num_slots=2))
    assert isinstance(first, MeasureSpec)
    assert (first.number, first.shape, len(first.trials)) == (0, "a", MEASURED)
    assert numbers(packed.hand_out(Load(num_slots=2))) == [0], "a free worker takes one of them meanwhile"
    packed.measured(measured(first, size=4))
    assert numbers(packed.hand_out(Load(num_slots=2))) == [1, 2, 3, 4]


def test_other_shapes_go_before_single_trials_of_one_that_is_measured() -> None:
    packed = packer(None, "aaaabbaa")
    assert isinstance(packed.hand_out(Load(num_slots=4)), MeasureSpec)
    assert [numbers(packed.hand_out(Load(num_slots=4))) for _ in range(3)] == [[4], [5], [0]], (
        "two of a shape are not worth measuring"
    )


def test_each_shape_is_measured_once() -> None:
    packed = packer(None, "aaaabbbb")
    handed: list[object] = []
    while (work := packed.hand_out(Load(num_slots=1))) is not None:
        if isinstance(work, MeasureSpec):
            packed.measured(measured(work, size=1))
        handed.append(work.shape if isinstance(work, MeasureSpec) else work.number)
    assert handed == ["a", 0, 1, 2, 3, "b", 4, 5, 6, 7]


def test_few_trials_are_not_worth_measuring() -> None:
    assert isinstance(packer(None, "a" * (WORTH - 1)).hand_out(Load(num_slots=1)), TrialSpec)
    assert isinstance(packer(None, "a" * WORTH).hand_out(Load(num_slots=1)), MeasureSpec)


def test_nothing_is_measured_while_there_are_workers_enough_for_one_trial_each() -> None:
    assert numbers(packer(None, "a" * 8).hand_out(Load(num_slots=8))) == [0]
    assert isinstance(packer(None, "a" * 8).hand_out(Load(num_slots=8, undrawn=1)), MeasureSpec)


# -------------------------------------------------------------------------------------------------------------- joining


def test_a_cohort_is_filled_up_with_trials_of_its_shape() -> None:
    packed = packer(4, "aaaaabaa")
    work = packed.hand_out(Load(num_slots=1))
    assert work is not None
    cohort = packed.occupancy(work)
    assert cohort is not None
    assert packed.join(cohort, Load(num_slots=1)) == (), "it is full"
    cohort.present -= 2
    assert [trial.number for trial in packed.join(cohort, Load(num_slots=1))] == [4, 6]
    assert (cohort.present, cohort.taken) == (4, 6)
    cohort.present -= 2
    assert [trial.number for trial in packed.join(cohort, Load(num_slots=1))] == [7]
    assert packed.join(cohort, Load(num_slots=1)) == ()
    assert numbers(packed.hand_out(Load(num_slots=1))) == [5]


def test_nobody_joins_a_plain_trial() -> None:
    packed = packer(4, "ab")
    work = packed.hand_out(Load(num_slots=1))
    assert work is not None
    assert packed.occupancy(work) is None


def test_a_cohort_takes_no_more_than_its_share_of_what_waits() -> None:
    packed = packer(8, "a" * 13)
    work = packed.hand_out(Load(num_slots=2))
    assert work is not None
    cohort = packed.occupancy(work)
    assert cohort is not None
    cohort.present -= 6
    assert len(packed.join(cohort, Load(num_slots=2, here=1.0))) == 3
    cohort.present -= 3
    assert len(packed.join(cohort, Load(num_slots=2, here=1.0, elsewhere=4.0))) == 3, "the other has enough to do"


@pytest.mark.parametrize("others", ["", "b"])
def test_a_cohort_ends_after_its_turn(others: str) -> None:
    packed = packer(4, "aaaa" + others + "a" * 36)
    work = packed.hand_out(Load(num_slots=1))
    assert work is not None
    cohort = packed.occupancy(work)
    assert cohort is not None
    for _ in range(20):
        cohort.present -= 2
        packed.join(cohort, Load(num_slots=1))
    assert cohort.taken == TURN * 4


# ----------------------------------------------------------------------------------------------------------- properties


@given(FUSED, SHAPES, st.lists(st.sampled_from(["a", "b", None]), max_size=20), SLOTS)
def test_whatever_waits_is_handed_out_once_and_in_turn(
    fused: int | None, shapes: list[str | None], again: list[str | None], slots: int
) -> None:
    packed = packer(fused, shapes, [(1000 + i, shape) for i, shape in enumerate(again)])
    waiting = {1000 + i: shape for i, shape in enumerate(again)} | dict(enumerate(shapes))
    measuring: list[MeasureSpec] = []
    while waiting:
        assert packed.num_again + packed.num_new == len(waiting)
        work = packed.hand_out(Load(num_slots=slots))
        assert work is not None, "a free worker never waits"
        if isinstance(work, MeasureSpec):
            assert fused is None
            assert work.shape not in [other.shape for other in measuring]
            measuring.append(work)
            continue
        handed = numbers(work)
        known = {waiting[number] for number in handed}
        assert len(known) == 1, "one shape"
        assert len(handed) <= max(1, math.ceil(len(waiting) / slots)), "no worker hogs"
        assert handed == [n for n in waiting if waiting[n] in known][: len(handed)], "in the order in which they wait"
        being_measured = [each.shape for each in measuring]
        assert handed[0] == next(
            (n for n, shape in waiting.items() if shape not in being_measured), next(iter(waiting))
        ), "the first one that waits"
        if fused is None or known == {None}:
            assert len(handed) == 1
        else:
            assert len(handed) <= fused
        for number in handed:
            del waiting[number]
    assert packed.hand_out(Load(num_slots=slots)) is None


@given(SHAPES, SLOTS, st.integers(1, 40), st.data())
def test_once_measured_a_shape_is_packed_by_its_size(
    shapes: list[str | None], slots: int, size: int, data: st.DataObject
) -> None:
    packed = packer(None, shapes)
    left = set(range(len(shapes)))
    measuring: list[MeasureSpec] = []
    sizes: dict[str | None, int] = {}
    while left:
        if data.draw(CHANCE) and measuring:
            done = measuring.pop()
            packed.measured(measured(done, size=size))
            sizes[done.shape] = size
        work = packed.hand_out(Load(num_slots=slots))
        if isinstance(work, MeasureSpec):
            measuring.append(work)
            assert {trial.number for trial in work.trials} <= left, "they wait"
            assert WORTH <= len(work.trials) <= MEASURED
            continue
        handed = numbers(work)
        assert 1 <= len(handed) <= sizes.get(shapes[handed[0]], 1)
        assert len(handed) <= max(1, math.ceil(len(left) / slots))
        assert set(handed) <= left
        left -= set(handed)


@given(SHAPES, st.integers(2, 8), SLOTS, st.data())
def test_a_cohort_that_is_filled_up_never_grows_beyond_what_it_began_with(
    shapes: list[str | None], fused: int, slots: int, data: st.DataObject
) -> None:
    packed = packer(fused, shapes)
    while (work := packed.hand_out(Load(num_slots=slots))) is not None:
        cohort = packed.occupancy(work)
        if cohort is None:
            continue
        for _ in range(data.draw(st.integers(0, 4))):
            cohort.present -= data.draw(st.integers(0, cohort.present))
            waiting = packed.num_new
            joining = packed.join(cohort, Load(num_slots=slots))
            assert all(shape_of(trial) == cohort.shape for trial in joining)
            assert cohort.present <= cohort.size <= fused
            assert len(joining) <= max(1, math.ceil(waiting / slots))
            if cohort.present < cohort.size and not joining and cohort.taken < TURN * cohort.size:
                assert cohort.shape not in [shape_of(t) for t in _left(packed)]


def _left(packed: Packer) -> list[TrialSpec]:
    return [trial for queue in packed._queues.values() for trial in queue.trials()]


def test_a_shape_is_measured_again_once_twice_as_many_wait_as_the_largest_cohort_that_was_tried() -> None:
    packed = packer(None, "a" * 5)
    work = packed.hand_out(Load(num_slots=1))
    assert isinstance(work, MeasureSpec)
    assert (len(work.trials), work.waiting) == (5, 5)
    packed.measured(measured(work, size=5))
    for number in range(5, 9):
        packed.new(shaped(number, "a"))
    assert isinstance(packed.hand_out(Load(num_slots=1)), CohortSpec)
    for number in range(9, 20):
        packed.new(shaped(number, "a"))
    again = packed.hand_out(Load(num_slots=1))
    assert isinstance(again, MeasureSpec)
    packed.measured(measured(again, size=8))
    assert isinstance(packed.hand_out(Load(num_slots=1)), CohortSpec), "no larger cohort would have been better"


def test_where_memory_was_short_once_more_trials_do_not_fit_later() -> None:
    packed = packer(32, "a" * 40)
    for size in (8, 32):
        packed.no_room(shaped(0, "a"), size)
    assert len(numbers(packed.hand_out(Load(num_slots=1)))) == 4
