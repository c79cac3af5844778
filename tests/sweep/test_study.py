from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState as OptunaState

from search.errors import UsageError
from search.records import Report, Started, TrialState
from search.space import Space
from search.sweep.journal import read_attributes
from search.sweep.study import COMPOSED
from tests.kits.bench import ASHA, Bench

ONE: dict[str, Any] = {"seed": 0, "data.digest": "one", "space.lr": 1.0}
OTHER_DATA = {**ONE, "data.digest": "two"}
OTHER_SPACE = {**ONE, "space.lr": 2.0}
NARROW = Space.of(
    OmegaConf.create({"optimizer": {"lr": 0.01, "space": {"lr": {"low": 0.0, "high": 0.02}}}, "choose": {}})
)
OTHER_NODE = {"model": {"width": 8, "space": {"width": {"low": 4, "high": 16}}}, "choose": {}}
ELSEWHERE = Space.of(OmegaConf.create(OTHER_NODE))


@pytest.fixture
def bench(in_memory: Path) -> Bench:
    bench = Bench(in_memory / "study")
    bench.curve = lambda number, _: {"values": [1.0 - number / 100] * 3}
    return bench


@pytest.mark.parametrize("identity", [OTHER_DATA, OTHER_SPACE])
def test_another_study_is_extended_on_request_only(bench: Bench, identity: dict[str, Any]) -> None:
    bench.simulate(2, identity=ONE)
    named = r"(data\.digest: was one, now two|space\.lr: was 1\.0, now 2\.0)"
    with pytest.raises(UsageError, match=rf"{named}: the study .*, or resume=extend"):
        bench.simulate(4, identity=identity)
    assert bench.simulate(4, identity=identity, extend=True).finished == 4
    assert bench.trained == [0, 1, 2, 3]


def test_every_difference_is_named_up_to_a_few(bench: Bench) -> None:
    bench.simulate(1, identity={"a": 1, "b": 2, "c": 3, "d": 4, "e": 5})
    message = r"^a: was 1, now absent; b: was 2, now 3; c: was 3, now 4; and 2 more: the study in"
    with pytest.raises(UsageError, match=message):
        bench.simulate(1, identity={"b": 3, "c": 4, "d": 5, "f": 6, "e": 5})


def test_an_extended_study_is_the_new_one_from_then_on(bench: Bench) -> None:
    bench.simulate(1, identity=ONE)
    bench.simulate(2, identity=OTHER_DATA, extend=True)
    assert bench.simulate(3, identity=OTHER_DATA).finished == 3
    with pytest.raises(UsageError, match=r"data\.digest: was two, now one"):
        bench.simulate(4, identity=ONE)


def test_it_is_known_which_trials_may_be_of_an_earlier_composition(bench: Bench) -> None:
    def composed_from() -> int:
        return int(read_attributes(bench.folder).get(COMPOSED, 0))

    bench.simulate(2, identity=ONE, extend=True)
    bench.simulate(3, identity=ONE, extend=True)
    assert composed_from() == 0, "it is the same all the time"
    bench.simulate(4, identity=OTHER_SPACE, extend=True)
    assert composed_from() == 3
    bench.simulate(5, identity=OTHER_SPACE)
    assert composed_from() == 3
    bench.simulate(6, identity=ONE, extend=True)
    assert composed_from() == 5


def test_values_of_other_data_are_not_compared(bench: Bench) -> None:
    bench.simulate(3, identity=ONE)
    progress = bench.simulate(5, identity=OTHER_DATA, extend=True)
    assert progress.best is not None
    assert progress.best.number == 3, "trial 0 has the higher value"
    assert progress.finished == 5
    again = bench.simulate(5, identity=OTHER_DATA)
    assert again.best is not None
    assert again.best.number == 3, "also in the next driver"


def test_values_of_another_space_are(bench: Bench) -> None:
    bench.simulate(3, identity=ONE)
    progress = bench.simulate(5, identity=OTHER_SPACE, extend=True)
    assert progress.best is not None
    assert progress.best.number == 0


@pytest.mark.parametrize(("identity", "stopped"), [(OTHER_DATA, 0), (OTHER_SPACE, 1)])
def test_rungs_hold_values_of_the_same_data_alone(bench: Bench, identity: dict[str, Any], stopped: int) -> None:
    bench.curve = lambda number, _: {"values": [1.0 if number < 3 else 0.1] * 9}
    bench.simulate(3, identity=ONE, pruner=ASHA, epochs=9)
    progress = bench.simulate(4, identity=identity, extend=True, pruner=ASHA, epochs=9)
    assert progress.states[TrialState.PRUNED] == stopped
    assert progress.finished == 4


def test_a_trial_that_ran_when_the_data_changed_is_no_measure_for_the_new_ones(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [1.0 if number < 3 else 0.1] * 9}

    def interrupt(event: object) -> None:
        if isinstance(event, Report):
            bench.last.interrupt(100.0)

    bench.on_event = interrupt
    bench.simulate(4, slots=3, identity=ONE, pruner={**ASHA, "rungs": [1 / 3]}, epochs=9)
    bench.on_event = lambda event: None
    progress = bench.simulate(4, identity=OTHER_DATA, extend=True, pruner={**ASHA, "rungs": [1 / 3]}, epochs=9)
    assert progress.states == Counter({TrialState.COMPLETE: 4})


@pytest.mark.parametrize("space", [NARROW, ELSEWHERE], ids=["narrower", "other parameters"])
def test_tpe_goes_on_in_another_space(bench: Bench, space: Space) -> None:
    bench.simulate(12, identity=ONE, sampler="tpe")
    progress = bench.simulate(24, identity=OTHER_SPACE, extend=True, sampler="tpe", space=space)
    assert progress.finished == 24
    names = {name for e in bench.events if isinstance(e, Started) and e.number >= 12 for name in e.params}
    assert names == {dimension.path for dimension in space.dimensions}


def test_tpe_does_not_learn_from_other_data(bench: Bench) -> None:
    bench.simulate(3, identity=ONE, sampler="tpe")
    bench.simulate(5, identity=OTHER_DATA, extend=True, sampler="tpe")
    history = bench.last._study.history
    assert history is not None
    assert len(history.study.get_trials(states=[OptunaState.COMPLETE])) == 2
