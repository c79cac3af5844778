"""Configuration is data: what a study's folder says that trials were trained with is compared, never called."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from search.apps.squeeze import stage
from search.apps.trained import trained
from search.errors import StrandedError, UsageError
from search.post import program
from search.records import ParamValue
from search.space import Space
from tests.kits.commands import events, results
from tests.kits.in_process import change, mark, run, unfinish

SMALL = (
    *("choose.model=[mlp,linear]", "trainer.epochs=1", "pruner=none", "budget.trials=4", "squeeze.top_k=2"),
    *("squeeze.longer.trials=0", "squeeze.distill.trials=0"),
)
EXTENDED = "resume=extend"
STAGES = {"squeeze": ["stages=[squeeze]"], "train": ["stages=[train]", "trial=1"], "search": ["stages=[search]"]}
AGAIN = {"the same": [], "another space": [EXTENDED, "optimizer.space.lr.high=0.02"]}


@pytest.fixture(scope="module", autouse=True)
def _without_pictures_and_onnx() -> object:
    """Both take seconds and are not what these tests are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "to_onnx", lambda *_: "no program.onnx: not here")
        patch.setattr(stage, "draw", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "study"
    run(folder, *SMALL, "stages=[search]")
    return folder


@pytest.fixture
def study(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "study"))


def models(study: Path) -> dict[int, str]:
    return {e["number"]: e["params"]["model"] for e in events(study, "started")}


def number_of(study: Path, model: str) -> int:
    return next(number for number, chosen in models(study).items() if chosen == model)


def state_of(study: Path, number: int) -> tuple[str, str]:
    ended = [e for e in events(study, "outcome") if e["number"] == number]
    return ended[-1]["state"], ended[-1]["reason"]


# ------------------------------------------------------------------------------------------------ nothing is called


def evil(marker: Path) -> dict[str, Any]:
    return {"_target_": f"{mark.__module__}.mark", "path": str(marker)}


PLACES: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "for the model": lambda config, node: config.update(model=node),
    "in the model": lambda config, node: config["model"].update(fits=node),
    "in a list": lambda config, node: config["optimizer"].update(betas=[node, 0.999]),
    "for the figure": lambda config, node: config.update(metric=node),
}


def test_it_would_be_seen(tmp_path: Path) -> None:
    instantiate(evil(tmp_path / "evil"))
    assert (tmp_path / "evil").exists()


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("place", PLACES)
def test_what_a_file_names_is_never_called(study: Path, tmp_path: Path, stage: str, again: str, place: str) -> None:
    marker = tmp_path / "evil"
    change(study, 1, lambda config: PLACES[place](config, evil(marker)))
    if stage == "search":
        unfinish(study, 1)
    try:
        said = run(study, *SMALL, *STAGES[stage], *AGAIN[again])
    except UsageError as error:
        said = str(error)
    assert not marker.exists()
    if place == "for the figure":  # which the study's identity holds: that of the file is not even looked at
        return
    if stage == "squeeze" and again != "the same":
        assert "note: the squeeze leaves 1 out" in said
    elif stage == "search" and again != "the same":
        assert state_of(study, 1)[0] == "failed"
    else:
        assert "trials/00001" in said or "another one; choose another name" in said
        assert "\n" not in said


# ----------------------------------------------------------------------------------------------- values are compared

SPACE = Space.of(
    OmegaConf.create(
        {
            "choose": {"model": {"a": {"_target_": "a.A", "n": 1, "parts": [1, 2]}, "b": {"_target_": "b.B"}}},
            "optimizer": {"lr": 0.1, "space": {"lr": {"low": 0.0, "high": 1.0}}},
            "schedule": {"_target_": "c.C"},
            "trainer": {"epochs": 3, "threads": 1, "checkpoint_every": 1, "loading": "memory", "loader_workers": 0},
            "metric": {"name": None},
        }
    )
)
PARAMS: dict[str, ParamValue] = {"model": "a", "optimizer.lr": 0.25}
KEYS = ("model", "optimizer", "schedule", "trainer", "metric")
BEGAN = SPACE.configure(PARAMS, KEYS)
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "value": (lambda config: config["model"].update(parts=[3]), "model.parts: was [3], now [1, 2]"),
    "value that was drawn": (lambda config: config["optimizer"].update(lr=0.5), "optimizer.lr: was 0.5, now 0.25"),
    "target": (lambda config: config["model"].update(_target_="b.B"), "model._target_: was b.B, now a.A"),
    "key": (lambda config: config["model"].update(more=1), "model.more: was 1, now absent"),
    "no key": (lambda config: config["model"].pop("n"), "model.n: was absent, now 1"),
    "node": (lambda config: config.update(more={"x": 1}), "more.x: was 1, now absent"),
    "no node": (lambda config: config.pop("schedule"), "schedule._target_: was absent, now c.C"),
    "number for a node": (lambda config: config.update(trainer=3), "trainer: was 3, now absent"),
    "lines": (lambda config: config["model"].update(more="a\nb"), "model.more: was 'a\\nb', now absent"),
    "key of lines": (lambda config: config["model"].update({"a\nb": 1}), "'model.a\\nb': was 1, now absent"),
}


def written(folder: Path, edit: Callable[[dict[str, Any]], Any] = lambda config: None) -> Path:
    config = json.loads(json.dumps(BEGAN))
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


def test_an_untouched_file_is_what_is_composed(tmp_path: Path) -> None:
    assert trained(SPACE, KEYS, PARAMS, written(tmp_path), earlier=False) == BEGAN


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_told_with_both_values(tmp_path: Path, what: str) -> None:
    edit, shown = CHANGES[what]
    file = written(tmp_path, edit)
    with pytest.raises(UsageError) as refused:
        trained(SPACE, KEYS, PARAMS, file, earlier=False)
    said = str(refused.value)
    assert said.startswith(f"{file}: {shown}")
    assert "put the file back from a copy, compose that again, or resume=extend" in said
    assert "\n" not in said


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff"], ids=lambda text: text[:4].hex())
@pytest.mark.parametrize("earlier", [False, True])
def test_a_damaged_file_is_refused(tmp_path: Path, text: bytes, earlier: bool) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(UsageError, match=r"/config.json: damaged; put it back from a copy$"):
        trained(SPACE, KEYS, PARAMS, tmp_path / "config.json", earlier=earlier)


def test_settings_without_effect_and_the_figure_are_those_of_now(tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["metric"] = {"name": "loss"}
        config["trainer"] = {"epochs": 3, "threads": 8}

    assert trained(SPACE, KEYS, PARAMS, written(tmp_path, edit), earlier=False) == BEGAN
    other = {**PARAMS, "of.another": 1}
    assert trained(SPACE, KEYS, other, written(tmp_path, edit), earlier=True) == BEGAN


def test_an_earlier_trial_keeps_its_values(tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["model"].update(n=7, parts=[5])
        config["trainer"].update(epochs=9)

    made = trained(SPACE, KEYS, {"optimizer.lr": 4.0}, written(tmp_path, edit), earlier=True)
    assert made["model"] == {"_target_": "a.A", "n": 7, "parts": [5]}
    assert made["trainer"] == {**BEGAN["trainer"], "epochs": 9}


@pytest.mark.parametrize("earlier", [False, True])
def test_pretrained_weights_are_where_they_lie_now(tmp_path: Path, earlier: bool) -> None:
    def space(folder: str) -> Space:
        base = OmegaConf.to_container(SPACE.base)
        assert isinstance(base, dict)
        node = {"weights": f"{folder}/w.pt", "lr_factor": 0.1, "space": {}}
        return Space.of(OmegaConf.create({**base, "pretrained": node}))

    keys = (*KEYS, "pretrained")
    params: dict[str, ParamValue] = {**PARAMS, **({"of.another": 1} if earlier else {})}
    (tmp_path / "config.json").write_text(json.dumps(space("/then").configure(PARAMS, keys)))
    made = trained(space("/now"), keys, params, tmp_path / "config.json", earlier=earlier)
    assert made["pretrained"] == {"weights": "/now/w.pt", "lr_factor": 0.1}


STRANDED = {
    "an option that is gone": ({"model": "rnn", "optimizer.lr": 0.1}, lambda config: None),
    "another option's keys": ({"model": "b", "optimizer.lr": 4.0}, lambda config: None),
    "other keys": (PARAMS, lambda config: config["model"].update(more=1)),
    "another target": (PARAMS, lambda config: config["schedule"].update(_target_="os.system")),
}


@pytest.mark.parametrize(("params", "edit"), STRANDED.values(), ids=STRANDED)
def test_an_earlier_trial_without_a_place_is_stranded(
    tmp_path: Path, params: dict[str, ParamValue], edit: Callable[[dict[str, Any]], Any]
) -> None:
    with pytest.raises(StrandedError, match=r"began with an option or keys that are no longer composed$"):
        trained(SPACE, KEYS, params, written(tmp_path, edit), earlier=True)


def test_a_trial_that_left_nothing_is_composed_from_its_parameters_or_stranded(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    assert trained(SPACE, KEYS, PARAMS, file, earlier=False) == BEGAN
    with pytest.raises(StrandedError):
        trained(SPACE, KEYS, {"optimizer.lr": 0.5}, file, earlier=True)


def test_other_parameters_are_those_of_an_earlier_space_or_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a trial has other parameters than are composed now \(model='x\\ny'\)"):
        trained(SPACE, KEYS, {"model": "x\ny"}, written(tmp_path), earlier=False)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_refuses_a_change(study: Path, stage: str) -> None:
    file = change(study, 1, lambda config: config["optimizer"].update(betas=[0.5, 0.9]))
    if stage == "search":
        unfinish(study, 1)
    before = (study / "events.jsonl").read_bytes(), file.read_bytes()
    with pytest.raises(UsageError, match=f"^{file}: optimizer.betas: was .0.5, 0.9., now .0.9, 0.999.: "):
        run(study, *SMALL, *STAGES[stage])
    assert before == ((study / "events.jsonl").read_bytes(), file.read_bytes())


def test_stored_results_do_not_hide_a_change(study: Path) -> None:
    run(study, *SMALL, "stages=[squeeze]")
    change(study, 0, lambda config: config["optimizer"].update(lr=3))
    with pytest.raises(UsageError, match=r"trials/00000/config.json: optimizer.lr: was 3, now 0.001: "):
        run(study, *SMALL, "stages=[squeeze]")


# ---------------------------------------------------------------------------------------------- an untouched study


def test_an_untouched_study_is_squeezed_and_its_trials_trained_again(study: Path) -> None:
    said = run(study, *SMALL, "stages=[squeeze]")
    assert "the squeeze leaves" not in said
    assert results(study)["contenders"]
    value = next(e["value"] for e in events(study, "outcome") if e["number"] == 1)
    assert f"accuracy {value:.6f}" in run(study, *SMALL, *STAGES["train"])


# ------------------------------------------------------------------------------------------------ an earlier space

EARLIER = {
    "another bound": ["optimizer.space.lr.high=0.02", "optimizer.space.lr.low=0.01"],
    "one dimension more": ["+trainer.space.batch_size={choices: [16, 32]}"],
    "another constant": ["optimizer.betas=[0.8,0.9]"],
    "more options": ["choose.model=[mlp,linear,cnn]"],
}


@pytest.mark.parametrize("what", EARLIER)
def test_trials_of_an_earlier_space_keep_their_values(study: Path, what: str) -> None:
    def stored(number: int) -> Any:
        return json.loads((study / "trials" / f"{number:05d}" / "config.json").read_text())

    before = [stored(number) for number in range(4)]
    unfinish(study, 1)
    space = [*(SMALL[1:] if what == "more options" else SMALL), *EARLIER[what]]
    run(study, *space, EXTENDED, "stages=[search]")
    assert state_of(study, 1)[0] == "complete"
    assert [stored(number) for number in range(4)] == before
    said = run(study, *space, "stages=[squeeze]")  # without resume=extend: it was said once
    assert "the squeeze leaves" not in said
    assert results(study)["contenders"]


def test_an_option_that_is_no_longer_composed_is_left_out(study: Path) -> None:
    linear = [number for number, model in models(study).items() if model == "linear"]
    first = f"trials/{min(linear):05d}: began with an option or keys that are no longer composed"
    unfinish(study, *linear[1:])
    space = ["model=mlp", *SMALL[1:], EXTENDED]
    said = run(study, *space, "stages=[search,squeeze]")
    assert f"note: the squeeze leaves 1 out, the first of them {study / first}" in " ".join(said.split())
    members = {member for contender in results(study)["contenders"] for member in contender["members"]}
    assert not members & {f"trials/{number:05d}" for number in linear}
    for number in linear[1:]:
        state, why = state_of(study, number)
        assert state == "failed"
        assert why.endswith(f"trials/{number:05d}: began with an option or keys that are no longer composed")
    assert len(linear) >= 2
    assert "note:" not in run(study, *space, "stages=[squeeze]"), "what is stored is not made again"


def test_trials_that_cannot_go_on_are_no_reason_to_give_up(study: Path) -> None:
    linear = [number for number, model in models(study).items() if model == "linear"]
    unfinish(study, *linear)
    limit = ["failures.window=1", "failures.share=0.1", "failures.retries.exception=3", "budget.trials=6"]
    run(study, "model=mlp", *SMALL[1:], EXTENDED, *limit, "stages=[search]")
    assert {e["number"] for e in events(study, "outcome")} == set(range(6))
    assert not events(study, "retried")


def test_results_that_name_a_stranger_are_refused(study: Path) -> None:
    run(study, *SMALL, "stages=[squeeze]")
    stored = results(study)
    for contender in stored["contenders"]:
        contender["members"] = {"../../elsewhere": 1.0}
    (study / "results.json").write_text(json.dumps(stored))
    with pytest.raises(UsageError, match=r"results.json: ../../elsewhere is no member that is composed now; delete it"):
        run(study, *SMALL, "stages=[squeeze]", "tracking=sqlite")


def test_the_base_of_an_ablation_is_what_its_trial_was_trained_with(study: Path) -> None:
    """Though a search that goes on with others of its kind would be trained for longer, over another space."""
    longer = [*SMALL, EXTENDED, "trainer.epochs=2", "~optimizer.space.weight_decay"]
    run(study, *longer, "stages=[ablate]", "ablate=[weight_decay]", "ablation.seeds=2")
    config = json.loads((study / "ablation" / "base" / "0" / "config.json").read_text())
    best = json.loads((study / "ablation.json").read_text())["base"]["what"].removeprefix("trial ")
    began = json.loads((study / "trials" / f"{int(best):05d}" / "config.json").read_text())
    assert config["trainer"]["epochs"] == began["trainer"]["epochs"] == 1
    assert config["optimizer"] == began["optimizer"]
