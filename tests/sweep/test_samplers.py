import dataclasses

import optuna
import pytest
from omegaconf import OmegaConf

from search.errors import UsageError
from search.records import Params, Report, TrialState
from search.space import Space
from search.sweep.history import History
from search.sweep.samplers import make
from tests.kits.doubles import outcome

CONDITIONAL = {
    "optimizer": {"lr": 0.1, "space": {"lr": {"low": 1e-4, "high": 1.0, "log": True}}},
    "choose": {
        "model": {
            "mlp": {"width": 8, "space": {"width": {"choices": [8, 16]}}},
            "cnn": {"channels": 4, "space": {"channels": {"low": 2, "high": 6}}},
        }
    },
}
SPACE = Space.of(OmegaConf.create(CONDITIONAL))


@pytest.fixture
def history() -> History:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return History(maximize=True)


def draw(kind: str, history: History, numbers: list[int], seed: int = 0, space: Space = SPACE) -> list[Params]:
    sampler = make(kind, space, seed, [], 100)
    return [sampler.sample(number, history) for number in numbers]


@pytest.mark.parametrize("kind", ["random", "qmc"])
def test_a_trial_depends_on_seed_and_number_alone(kind: str, history: History) -> None:
    in_order = draw(kind, history, [0, 1, 2, 3, 4])
    assert draw(kind, history, [4, 1, 3]) == [in_order[4], in_order[1], in_order[3]]
    assert draw(kind, history, [0], seed=1) != in_order[:1]


@pytest.mark.parametrize("kind", ["random", "qmc", "tpe"])
def test_draws_lie_in_the_space_with_only_what_the_choice_brings(kind: str, history: History) -> None:
    allowed = {d.name: d for d in SPACE.dimensions}
    for params in draw(kind, history, list(range(16))):
        assert all(allowed[name].contains(value) for name, value in params.items())
        other = {"mlp": "model.cnn.channels", "cnn": "model.mlp.width"}[str(params["model"])]
        assert other not in params
        assert len(params) == 3


def test_qmc_spreads_more_evenly_than_chance(history: History) -> None:
    """The first 16 points of a scrambled Sobol sequence put exactly one into each sixteenth of an axis."""
    space = Space.of(OmegaConf.create({"a": {"x": 0.5, "space": {"x": {"low": 0.0, "high": 1.0}}}, "choose": {}}))
    cells = sorted(int(float(p["a.x"] or 0) * 16) for p in draw("qmc", history, list(range(16)), space=space))
    assert cells == list(range(16))


def test_tpe_suggests_near_what_was_good(history: History) -> None:
    """After 40 trials that liked high learning rates: how many of 20 suggestions lie in the upper half of the range.

    Draws without memory reach 17 with probability 0.0013 (binomial).
    """
    sampler = make("tpe", SPACE, 0, [], 100)
    for number in range(40):
        params = sampler.sample(number, history)
        distributions = {d.name: d.distribution() for d in SPACE.dimensions if d.name in params}
        value = float(params["optimizer.lr"] or 0.0)
        history.study.add_trial(optuna.create_trial(params=dict(params), distributions=distributions, value=value))
    suggested = [float(sampler.sample(n, history)["optimizer.lr"] or 0.0) for n in range(40, 60)]
    assert sum(rate > 1e-2 for rate in suggested) >= 17


def test_a_continuous_dimension_has_no_grid() -> None:
    with pytest.raises(UsageError, match=r"sampler=grid: optimizer\.lr is continuous; give it choices"):
        make("grid", SPACE, 0, [], 100)


def test_the_grid_leaves_out_what_ran_first(history: History) -> None:
    space = Space.of(OmegaConf.create({"a": {"x": 2, "space": {"x": {"low": 1, "high": 3}}}, "choose": {}}))
    sampler = make("grid", space, 0, [{"a.x": 2}], 100)
    assert sampler.size == 3
    assert [sampler.sample(n, history) for n in (1, 2)] == [{"a.x": 1}, {"a.x": 3}]


def test_reports_of_several_objectives_are_nothing_to_optuna() -> None:
    history = History(maximize=[False, True])
    history.create(0, {}, {})
    history.report(Report(number=0, step=1, metrics={"objective": 0.5}, time=0.0))
    history.tell(dataclasses.replace(outcome(0, TrialState.COMPLETE, None, 1), values=(0.5, 1.0)))
    assert history.study.trials[0].values == [0.5, 1.0]


@pytest.mark.parametrize(("kind", "ahead"), [("random", True), ("qmc", True), ("tpe", False)])
def test_only_who_looks_at_results_must_not_draw_ahead(kind: str, ahead: bool) -> None:
    assert make(kind, SPACE, 0, [], 10).ahead is ahead
