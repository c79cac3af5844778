"""A search over a function of the user's own: what it may return and report, and what is said where it does not."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.errors import GaveUpError, UsageError
from search.sweep.reading import ReadStudy, read_study
from tests.kits.in_process import run, unfinish

MODULE = """\
import sys

import numpy as np
import optuna


def height(cfg, trial):
    return (cfg.x - 1.0) ** 2


def mapping(cfg, trial):
    return {"side": 7, "height": np.float32(cfg.x), "words": "not a figure"}


def curve(cfg, trial):
    assert trial.directory.is_dir()
    for epoch in range(1, cfg.epochs + 1):
        trial.report(epoch, height=cfg.x / epoch, seed=trial.seed)
    (trial.directory / "mine.txt").write_text(f"{trial.number} {trial.params['objective.x']}")


def counted(cfg, trial):
    for step in np.arange(1, 4):
        trial.report(step, height=cfg.x)
    trial.report(height=cfg.x)
    return cfg.x


def through_the_package(cfg, trial):
    import search

    search.report(height=cfg.x)
    return search.current_trial().number


def last(cfg, trial):
    print("the last one")


def troubled(cfg, trial):
    return globals()[cfg.kind](cfg, trial)


def fine(cfg, trial):
    return 1.0


def raises(cfg, trial):
    raise ValueError("the user's\\nown mistake")


def leaves(cfg, trial):
    sys.exit(3)


def interrupts(cfg, trial):
    raise KeyboardInterrupt


def is_nan(cfg, trial):
    return float("nan")


def reports_nan(cfg, trial):
    trial.report(1, height=float("nan"))


def returns_words(cfg, trial):
    return "0.5"


def returns_two(cfg, trial):
    return 1.0, 2.0


def returns_nothing(cfg, trial):
    return None


def returns_another(cfg, trial):
    return {"depth": 1.0}


def reports_another(cfg, trial):
    trial.report(1, depth=1.0)


def reports_words(cfg, trial):
    trial.report(1, height="high")


def goes_back(cfg, trial):
    trial.report(2, height=1.0)
    trial.report(1, height=1.0)


def has_a_typo(cfg, trial):
    return cfg.hight


def takes_too_much(cfg):
    return 1.0


def prunes_itself(cfg, trial):
    trial.report(1, height=4.0)
    raise optuna.TrialPruned("hopeless")
"""
MINIMIZED = ("metric.name=height", "metric.mode=min", "stages=[search]")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "own_objectives.py").write_text(MODULE)
    (folder / "own_half_written_objective.py").write_text("def f(:\n")
    return folder


@pytest.fixture(autouse=True)
def importable(sources: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(sources)
    yield
    sys.modules.pop("own_objectives", None)


def over_x(function: str, **more: object) -> str:
    """Return the override for an objective with one dimension."""
    others = "".join(f", {key}: {value}" for key, value in more.items())
    return f"objective={{_target_: own_objectives.{function}, x: 0.5{others}, space: {{x: {{low: 0.0, high: 2.0}}}}}}"


def searched(folder: Path, function: str, *overrides: str, **more: object) -> ReadStudy:
    run(folder, over_x(function, **more), *MINIMIZED, "budget.trials=4", *overrides)
    return read_study(folder)


# --------------------------------------------------------------------------------------------------- what it may do


def test_a_number_is_the_trials_value(tmp_path: Path) -> None:
    study = searched(tmp_path, "height")
    assert (study.metric, study.maximize, len(study.trials)) == ("height", False, 4)
    for trial in study.trials:
        x = trial.params["objective.x"]
        assert isinstance(x, float)
        assert trial.value == (x - 1.0) ** 2
    assert study.best_value == min(trial.value or 0.0 for trial in study.trials)


def test_a_mapping_brings_the_metric_and_other_figures(tmp_path: Path) -> None:
    trial = searched(tmp_path, "mapping").trials[0]
    assert trial.value == 0.5
    assert trial.metrics == {"side": 7.0, "height": 0.5}


def test_more_may_be_better(tmp_path: Path) -> None:
    study = searched(tmp_path, "height", "metric.mode=max")
    assert study.maximize
    assert study.best_value == max(trial.value or 0.0 for trial in study.trials)


def test_reports_make_a_curve_and_the_last_one_stands_for_what_is_not_returned(tmp_path: Path) -> None:
    trial = searched(tmp_path, "curve", "pruner=none", epochs=4).trials[0]
    assert {step: figures["height"] for step, figures in trial.curve.items()} == {1: 0.5, 2: 0.25, 3: 0.5 / 3, 4: 0.125}
    assert (trial.value, trial.steps) == (0.125, 4)
    assert (trial.directory / "mine.txt").read_text() == "0 0.5"


def test_a_step_may_be_one_of_numpys_or_left_out(tmp_path: Path) -> None:
    assert list(searched(tmp_path, "counted", "pruner=none").trials[0].curve) == [1, 2, 3, 4]


def test_the_package_reports_to_the_trial_that_runs(tmp_path: Path) -> None:
    study = searched(tmp_path, "through_the_package", "pruner=none")
    assert [trial.value for trial in study.trials] == [0.0, 1.0, 2.0, 3.0]


def test_poor_trials_are_stopped_at_the_rungs_of_its_epochs(tmp_path: Path) -> None:
    study = searched(tmp_path, "curve", "pruner=asha", "budget.trials=12", epochs=9)
    pruned = [trial for trial in study.trials if trial.state == "pruned"]
    assert pruned
    assert {trial.steps for trial in pruned} <= {1, 3}
    best = study.best_trial
    assert (best.state, best.steps) == ("complete", 9)
    assert not any((trial.directory / "mine.txt").exists() for trial in pruned)  # it was told in the report


def test_a_function_may_prune_itself(tmp_path: Path) -> None:
    trial = searched(tmp_path, "prunes_itself").trials[0]
    assert (trial.state, trial.reason, trial.value) == ("pruned", "hopeless", 4.0)


def test_the_report_shows_the_best_and_how_to_go_on(tmp_path: Path) -> None:
    searched(tmp_path, "height")
    said = run(tmp_path, over_x("height"), *MINIMIZED[:2], "stages=[report]", "budget.trials=4")
    assert "best trials by height" in said
    assert "None" not in said  # the epoch of one that never reported
    assert "4 trials (4 complete)" in said


def test_its_name_is_the_studys() -> None:
    from hydra import compose, initialize_config_dir

    from search.apps.cli import CONFIG, config_folder
    from search.apps.naming import register_resolvers

    register_resolvers()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        names = {
            word: compose(CONFIG, overrides=[word]).name
            for word in (over_x("height"), "data=digits", "+data.more=1", "name=mine")
        }
    assert list(names.values()) == ["height", "digits", "digits", "mine"]


# ------------------------------------------------------------------------------------------------ the other stages


def test_one_trial_again_in_this_process(tmp_path: Path) -> None:
    study = searched(tmp_path, "curve", "pruner=none", epochs=3)
    again = run(tmp_path, over_x("curve", epochs=3), *MINIMIZED[:2], "stages=[train]", "trial=2")
    assert f"objective.x: {study.trials[2].params['objective.x']}" in again
    assert "epoch 3: objective" in again
    assert f"height {study.trials[2].value:.6f} at epoch 3" in again
    assert read_study(tmp_path).trials == study.trials


@pytest.mark.parametrize("kind", ["raises", "leaves"])
def test_one_failed_trial_again_shows_the_users_traceback(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    troubled = troubled_by(tmp_path, kind, "fine")
    with pytest.raises(AssertionError) as printed:  # the exit code is not 0
        run(tmp_path, troubled_override(kind, "fine"), *MINIMIZED[:2], "stages=[train]", "trial=0")
    assert 'own_objectives.py", line' in str(printed.value)
    assert "calls.py" not in str(printed.value)
    assert troubled.trials[1].value == 1.0


def test_it_goes_on_after_some_trials_where_it_stopped(tmp_path: Path) -> None:
    before = searched(tmp_path, "height")
    unfinish(tmp_path, 2)
    after = searched(tmp_path, "height", "budget.trials=6")
    assert [trial.params for trial in after.trials[:4]] == [trial.params for trial in before.trials]
    assert [trial.value for trial in after.trials[:4]] == [trial.value for trial in before.trials]
    assert len(after.trials) == 6
    assert (after.trials[0].directory / "outcome.json").exists()


@pytest.mark.parametrize(
    ("function", "more", "overrides", "said"),
    [
        ("height", {"more": 1}, [], "objective.more: was absent, now 1"),
        ("height", {}, ["metric.mode=max"], "metric.mode: was min, now max"),
        ("height", {}, ["objective.space.x.high=3.0"], "objective.space.x.high: was 2.0, now 3.0"),
    ],
)
def test_other_settings_are_refused_with_the_difference(
    tmp_path: Path, function: str, more: dict[str, object], overrides: list[str], said: str
) -> None:
    searched(tmp_path, "height")
    with pytest.raises(UsageError) as refused:
        searched(tmp_path, function, *overrides, **more)
    assert said in str(refused.value)


# ------------------------------------------------------------------------------------------------- what goes wrong


def troubled_override(*kinds: str) -> str:
    return (
        f"objective={{_target_: own_objectives.troubled, kind: {kinds[0]}, "
        f"space: {{kind: {{choices: [{', '.join(kinds)}]}}}}}}"
    )


def troubled_by(folder: Path, *kinds: str) -> ReadStudy:
    """Search over what may go wrong, in that order."""
    run(
        folder,
        troubled_override(*kinds),
        *MINIMIZED,
        "sampler=grid",
        "failures.window=100",
        f"budget.trials={len(kinds)}",
        "failures.retries.out_of_memory=0",
    )
    return read_study(folder)


REASONS = {
    "raises": ("exception", "ValueError: the user's own mistake (own_objectives.py:{line} in raises)"),
    "leaves": ("exception", "SystemExit: 3 (own_objectives.py:{line} in leaves)"),
    "interrupts": ("exception", "KeyboardInterrupt (own_objectives.py:{line} in interrupts)"),
    "is_nan": ("non-finite", "FloatingPointError: the function returned nan"),
    "reports_nan": (
        "non-finite",
        "FloatingPointError: height is nan at step 1 (own_objectives.py:{line} in reports_nan)",
    ),
    "returns_words": ("exception", "the function returned '0.5'; it must return a number, or a mapping with height"),
    "returns_two": ("exception", "the function returned (1.0, 2.0); it must return a number, or a mapping with height"),
    "returns_nothing": ("exception", "the function returned None; it must return a number, or a mapping with height"),
    "returns_another": ("exception", "the function returned {{'depth': 1.0}}; it must return a number, or a mapping"),
    "reports_another": ("exception", "needs height, by which trials are compared; got depth (own_objectives.py:{line}"),
    "reports_words": ("exception", "search.report(height='high'): must be a number (own_objectives.py:{line}"),
    "goes_back": ("exception", "search.report(step=1): must be a whole number, not below 2, the last one"),
    "has_a_typo": ("exception", "own_objectives.py:{line} in has_a_typo)"),
    "takes_too_much": ("exception", "TypeError: takes_too_much() takes 1 positional argument but 2 were given"),
}


def line_of(kind: str) -> int:
    """Return the number of the last line of a function."""
    lines = MODULE.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"def {kind}("))
    return next((i for i in range(start, len(lines)) if not lines[i]), len(lines))


@pytest.fixture(scope="module")
def troubled(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> ReadStudy:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(sources)
        return troubled_by(tmp_path_factory.mktemp("troubled"), "fine", *REASONS)


@pytest.mark.parametrize("kind", REASONS)
def test_what_goes_wrong_in_a_trial_is_told_with_the_users_line_and_the_search_goes_on(
    troubled: ReadStudy, kind: str
) -> None:
    trial = next(trial for trial in troubled.trials if trial.params["objective.kind"] == kind)
    cause, reason = REASONS[kind]
    assert (trial.state, trial.failure) == ("failed", cause)
    assert reason.format(line=line_of(kind)) in trial.reason
    assert troubled.best_value == 1.0


@pytest.mark.parametrize("kind", REASONS)
def test_the_engines_part_of_a_traceback_is_gone(troubled: ReadStudy, kind: str) -> None:
    number = next(trial.number for trial in troubled.trials if trial.params["objective.kind"] == kind)
    (ended,) = [
        event
        for line in (troubled.folder / "events.jsonl").read_text().splitlines()
        if (event := json.loads(line))["event"] == "outcome" and event["number"] == number
    ]
    trace = ended["failure"]["traceback"]
    assert trace
    assert "search/jobs" not in trace
    assert "search/sweep" not in trace


def test_all_failing_gives_up(tmp_path: Path) -> None:
    with pytest.raises(GaveUpError, match=r"all 2 trials failed; the first was trial 0: ValueError: the user's own"):
        troubled_by(tmp_path, "raises", "leaves")


WRONG: dict[str, tuple[list[Any], str]] = {
    "nobody said which way": (["metric.mode=null"], "metric.mode: must be max or min, because only an objective of"),
    "pauses": (["pruner=promotion"], "pruner.kind=promotion: pauses trials, which a function cannot; use asha"),
    "an ablation": (["ablate=[dropout]"], "ablate=['dropout']: is for networks, not for an objective of your own"),
    "a squeeze alone": (["stages=[squeeze]"], "stages=['squeeze']: is for networks, not for an objective of your own"),
    "a bracket without an end to it": (["pruner=hyperband"], "pruner=hyperband: needs objective.epochs"),
    "no function": (["objective=3"], "objective=3: must be a node with _target_, the dotted name of a function"),
    "no target": (["objective._target_=null"], "objective: needs a _target_, the dotted name of a function"),
    "a mistyped function": (
        ["objective._target_=own_objectives.hight"],
        "objective._target_=own_objectives.hight: own_objectives has no hight; did you mean height?",
    ),
    "no such module": (
        ["objective._target_=own_nothing.f"],
        "objective._target_=own_nothing.f: No module named 'own_n",
    ),
    "half a module": (
        ["objective._target_=own_half_written_objective.f"],
        "objective._target_=own_half_written_objective.f: invalid syntax (own_half_written_objective.py:1)",
    ),
    "a function of the notebook's": (
        ["objective._target_=__main__.f"],
        "objective._target_=__main__.f: must stand in a module that workers can import",
    ),
    "a value that is none": (["+objective.space.x.hgih=3"], "hgih"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_answered_before_anything_runs(tmp_path: Path, mistake: str) -> None:
    overrides, said = WRONG[mistake]
    with pytest.raises(UsageError) as refused:
        run(tmp_path, over_x("height"), *MINIMIZED, *overrides)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "trials").exists()
