"""What a study amounts to, from its trials to the contenders, as a user sees it; on a study of yesterday, too."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.apps.squeeze import stage
from search.errors import UsageError
from search.layout import SNAPSHOTS, WEIGHTS
from search.train.data import digits
from tests.kits.champions import dataset_of, prices
from tests.kits.in_process import run

SMALL = (
    "model=cnn",  # with batch norm
    "model.channels=4",
    "~model.space.channels",
    "budget.trials=2",
    "trainer.epochs=2",
    "pruner=none",
    "rematch.top=1",
    "rematch.seeds=2",
    "squeeze.longer.restarts=2",
    "squeeze.distill.trials=2",
    "squeeze.distill.blends=1",
)


def results(study: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((study / "results.json").read_text())
    return found


def members_of(study: Path, name: str) -> list[str]:
    return list(next(c["members"] for c in results(study)["contenders"] if c["name"] == name))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs") / "digits"
    run(folder, *SMALL, "stages=[search,rematch]")
    return folder


@pytest.fixture(scope="module")
def said(study: Path) -> str:
    return run(study, *SMALL, "stages=[squeeze,report]")


@pytest.mark.slow
def test_everything_that_can_be_made_of_trials_is_a_contender(study: Path, said: str) -> None:
    names = [c["name"] for c in results(study)["contenders"]]
    for name in ("single best", "greedy ensemble", "left training", "SWA", "greedy soup", "student", "student alone"):
        assert name in names
        assert name in said
    assert "the greedy soup is of" in said


@pytest.mark.slow
def test_the_best_goes_on_from_its_weights_with_warm_restarts(study: Path, said: str) -> None:
    (trial,) = members_of(study, "single best")
    (longer,) = members_of(study, "left training")
    config = json.loads((study / longer / "config.json").read_text())
    assert config["pretrained"]["weights"] == str(study / trial / WEIGHTS)
    assert config["schedule"]["cycle"] == 0.5
    assert sorted(path.name for path in (study / longer / SNAPSHOTS).iterdir()) == ["0", "1"]


@pytest.mark.slow
def test_the_rematches_show_what_the_single_best_is_worth_without_luck(study: Path, said: str) -> None:
    """As a mean of their own figures, each seed for itself, and as nothing that could be shipped."""
    (trial,) = members_of(study, "single best")
    again = [f"rematch/{Path(trial).name}/{seed}" for seed in "01"]
    assert members_of(study, "rematch mean") == again
    stored = json.loads((study / "rematch.json").read_text())["base"]
    found = next(c for c in results(study)["contenders"] if c["name"] == "rematch mean")
    assert found["validation"]["value"] == pytest.approx(stored["spread"][0])
    assert "rematch mean" in said


@pytest.mark.slow
def test_an_average_is_of_the_snapshots_that_began_alike(study: Path, said: str) -> None:
    (longer,) = members_of(study, "left training")
    (swa,) = members_of(study, "SWA")
    taken = json.loads((study / swa / "taken.json").read_text())
    assert taken == [str(study / longer / SNAPSHOTS / cycle) for cycle in "01"]
    snapshots = members_of(study, "snapshot ensemble")
    assert len({Path(member).parent for member in snapshots}) == 1, "of one training"


@pytest.mark.slow
def test_what_a_soup_was_judged_by_is_at_the_temperature_that_it_is_used_at(study: Path, said: str) -> None:
    soup = next(c for c in results(study)["contenders"] if c["name"] == "greedy soup")
    assert soup["temperatures"] == {}, "sharpened twice it is far too sure"
    on_test = soup["calibration"]["test"]
    assert on_test["loss"] < 1.05 * on_test["loss_before"]


@pytest.mark.slow
def test_students_are_drawn_in_pairs_and_the_teacher_labels_blends(study: Path, said: str) -> None:
    taught = [json.loads((study / "students" / "taught" / k / "config.json").read_text()) for k in "01"]
    alone = [json.loads((study / "students" / "alone" / k / "config.json").read_text()) for k in "01"]
    abouts = [(a.pop("taught"), b.pop("taught")) for a, b in zip(taught, alone, strict=True)]
    dropout = [(a["model"].pop("dropout"), b["model"].pop("dropout")) for a, b in zip(taught, alone, strict=True)]
    assert dropout[0] == (0, 0.1), "the teacher regularises"
    assert taught == alone, "but for the teacher"
    assert all(a["seed"] == b["seed"] and a["teacher"] and b["teacher"] is None for a, b in abouts)
    assert taught[0]["distill"] == {"temperature": 1.0, "mix": 1.0}
    assert taught[0]["optimizer"]["lr"] != taught[1]["optimizer"]["lr"]
    labelled = np.load(study / "students" / "teacher.npy")
    train = 1078
    assert labelled.shape == (2 * train, 10)
    assert not list(study.rglob("transfer.npy"))


def about_of(study: Path, kind: str) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((study / "students" / kind / "0" / "config.json").read_text())["taught"]
    return about


@pytest.fixture
def _no_champion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs take seconds to export and are not what these tests are about."""
    monkeypatch.setattr(stage, "ship", lambda *_: None)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_champion")
def test_the_teacher_labels_a_file_of_inputs_and_another_one_is_learned_anew(
    study: Path, said: str, tmp_path: Path
) -> None:
    copy, file = shutil.copytree(study, tmp_path / "digits"), tmp_path / "more.npy"
    data = dataset_of(digits.load("digits"))
    known, train = data.split.train[:50], len(data.split.train)
    few = ("squeeze.longer.trials=0", "squeeze.distill.trials=1", f"squeeze.distill.transfer={file}")
    told: list[str] = []

    def taught(inputs: np.ndarray[Any, Any]) -> dict[str, int]:
        np.save(file, inputs)
        told.append(run(copy, *SMALL, *few, "stages=[squeeze]"))
        return {kind: (copy / "students" / kind / "0" / WEIGHTS).stat().st_mtime_ns for kind in ("taught", "alone")}

    first = taught(data.examples.inputs[known])
    labels, about = np.load(copy / "students" / "teacher.npy"), about_of(copy, "taught")
    assert labels.shape == (2 * train + 50, 10)
    np.testing.assert_allclose(labels[-50:], labels[:50], atol=1e-5)
    assert not list(copy.rglob("transfer.npy"))
    assert "note: the teacher labels 50 inputs of" in told[0]
    assert "validation or test" not in told[0]
    assert "transfer" not in about_of(copy, "alone")

    assert taught(data.examples.inputs[known]) == first, "the same inputs"
    other = taught(data.examples.inputs[known[:30]])
    assert other["taught"] != first["taught"]
    assert other["alone"] == first["alone"]
    assert about_of(copy, "taught") == {**about, "transfer": about_of(copy, "taught")["transfer"]} != about
    assert np.load(copy / "students" / "teacher.npy").shape == (2 * train + 30, 10)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_champion")
@pytest.mark.parametrize(
    ("lost", "advice"),
    [
        ("trials/00000/validation.npy", "put it back from a copy"),
        ("trials/00001/validation.npy", "put it back from a copy"),
        ("rematch/{best}/1/validation.npy", "stages=[rematch,squeeze] trains it again"),
        ("trials/{best}/weights.safetensors", "put it back from a copy"),
    ],
)
def test_a_members_file_that_is_damaged_is_named_with_what_to_do(
    study: Path, said: str, tmp_path: Path, lost: str, advice: str
) -> None:
    best = Path(members_of(study, "single best")[0]).name
    copy = shutil.copytree(study, tmp_path / "digits")
    file = copy / lost.format(best=best)
    if file.suffix == ".npy":
        file.write_text("junk")
    else:
        file.unlink()
        for predicted in copy.rglob("test.npy"):
            predicted.unlink()
    few = ("squeeze.longer.trials=0", "squeeze.distill.trials=0", "squeeze.top_k=2")
    with pytest.raises(UsageError, match=f"{file}: missing or damaged; .*{re.escape(advice)}"):
        run(copy, *SMALL, *few, "stages=[squeeze]")


@pytest.mark.slow
@pytest.mark.usefixtures("_no_champion")
def test_without_the_best_trials_predictions_no_other_is_called_the_single_best(
    study: Path, said: str, tmp_path: Path
) -> None:
    copy = shutil.copytree(study, tmp_path / "digits")
    file = copy / members_of(study, "single best")[0] / "validation.npy"
    file.unlink()
    with pytest.raises(UsageError, match=f"{file}: missing"):
        run(copy, *SMALL, "stages=[squeeze]")


@pytest.mark.slow
@pytest.mark.usefixtures("_no_champion")
def test_a_table_of_inputs_is_all_that_a_student_learns_beside_its_examples(tmp_path: Path) -> None:
    train, study = len(prices(tmp_path).split.train), tmp_path / "t"
    (tmp_path / "more.csv").write_text("id,colour,price,size\n1,red,much,0.5\n2,violet,,\n")
    given = (
        *("data=csv", f"data.path={tmp_path}/t.csv", "data.target=price", "model=linear", "squeeze.distill.trials=1"),
        *("budget.trials=1", "trainer.epochs=2", "pruner=none", "stages=[search,squeeze]", "squeeze.longer.trials=0"),
        "trainer.loading=loader",  # without blends
    )

    def taught(*words: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        run(study, *given, *words)
        students = study / "students"
        return np.load(students / "teacher.npy"), np.load(students / "taught" / "0" / "validation.npy")

    labels, said = taught(f"squeeze.distill.transfer={tmp_path}/more.csv")
    assert labels.shape == (train + 2,)
    assert np.isfinite(labels).all()
    of_examples, otherwise = taught()
    np.testing.assert_array_equal(of_examples, labels[:train])
    assert not np.array_equal(said, otherwise), "the student has learned them, too"


@pytest.mark.slow
def test_only_contenders_are_shown_the_test_split(study: Path, said: str) -> None:
    chosen = {member for contender in results(study)["contenders"] for member in contender["members"]}
    assert {str(path.parent.relative_to(study)) for path in study.rglob("test.npy")} == chosen
    assert results(study)["test_looks"] == 1


@pytest.mark.slow
def test_where_the_champion_is_wrong_is_drawn_once_and_again_where_the_pictures_are_gone(
    study: Path, said: str
) -> None:
    pictures = study / "judgement"
    assert {path.name for path in pictures.iterdir()} == {"confusion.png", "reliability.png", "mistakes.png"}
    assert "pictures of it are in" in said
    drawn = (pictures / "mistakes.png").read_bytes()
    shutil.rmtree(pictures)
    run(study, *SMALL, "stages=[squeeze]")
    assert (pictures / "mistakes.png").read_bytes() == drawn
    assert results(study)["test_looks"] == 1


@pytest.mark.slow
def test_the_same_again_makes_nothing_and_other_settings_are_a_second_look(study: Path, said: str) -> None:
    before = (study / "results.json").read_bytes()
    run(study, *SMALL, "stages=[squeeze]")
    assert (study / "results.json").read_bytes() == before
    kept = (study / "longer" / "0" / WEIGHTS).stat().st_mtime_ns
    again = run(study, *SMALL, "stages=[squeeze,report]", "squeeze.distill.trials=0", "squeeze.top_k=2")
    assert "student" not in again
    assert "the test split was opened 2 times in this study" in again
    assert (study / "longer" / "0" / WEIGHTS).stat().st_mtime_ns == kept


@pytest.mark.slow
def test_without_snapshots_it_says_why_there_is_no_average(study: Path, said: str, tmp_path: Path) -> None:
    again = run(
        tmp_path / "digits", *SMALL, "stages=[search,squeeze]", "squeeze.longer.trials=0", "squeeze.distill.trials=0"
    )
    assert "note: no SWA: trials/0000" in again
    assert "SWA" not in [c["name"] for c in results(tmp_path / "digits")["contenders"]]
