"""The folders of a multirun's jobs, through the real command line; no job of these begins."""

from pathlib import Path

import pytest

from tests.kits.commands import one_after_another

EXPERIMENT = "# @package _global_\nhydra: {sweep: {subdir: ../../filed}}\n"
LEAVING = {
    "above": (["hydra.sweep.subdir=../../evil"], "hydra.sweep.subdir='outputs/digits/../../evil': leads to"),
    "absolute": (["hydra.sweep.subdir=/tmp/no-such-evil"], "hydra.sweep.subdir='/tmp/no-such-evil': leads to"),
    "the second job's": (
        ["tracking.experiment=a,../../hop", "hydra.sweep.subdir=${tracking.experiment}"],
        "hydra.sweep.subdir='outputs/digits/../../hop'",
    ),
    "by its number": (["hydra.sweep.subdir=../../${hydra:job.num}"], "hydra.sweep.subdir='outputs/digits/../../0'"),
    "of an experiment": (["--config-dir=mine", "+experiment=evil"], "hydra.sweep.subdir='outputs/digits/../../filed'"),
    "by a link": (["output_dir=linked", "hydra.sweep.subdir=out"], "hydra.sweep.subdir='linked/out': leads to"),
    "beside the job's": (["hydra.output_subdir=../../../evil"], "hydra.output_subdir="),
    "in one batch each": (["hydra.sweeper.max_batch_size=1", "hydra.sweep.subdir=../evil"], "hydra.sweep.subdir="),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user") / "a" / "b"
    (folder / "mine" / "experiment").mkdir(parents=True)
    (folder / "mine" / "experiment" / "evil.yaml").write_text(EXPERIMENT)
    (folder / "linked").mkdir()
    (folder / "linked" / "out").symlink_to(folder / "mine")
    return folder


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, tuple[int, str, list[str]]]:
    commands = {name: [*words, "seed=1,2", "device=gpu", "-m"] for name, (words, _) in LEAVING.items()}
    commands["inside"] = ["-m", "seed=1,2", "device=gpu", "output_dir=inside", "hydra.sweep.subdir=${seed}/../x${seed}"]
    return one_after_another(folder, commands)


@pytest.mark.parametrize("setting", LEAVING, ids=lambda name: name.replace(" ", "-"))
def test_a_job_that_would_leave_the_sweeps_folder_is_refused(
    setting: str, answers: dict[str, tuple[int, str, list[str]]]
) -> None:
    code, said, _ = answers[setting]
    assert said.startswith(f"search: {LEAVING[setting][1]}")
    assert "must stay inside" in said
    assert said.count("\n") == 1
    assert code == 2


def test_nothing_is_made_outside_and_no_job_begins(
    folder: Path, answers: dict[str, tuple[int, str, list[str]]]
) -> None:
    assert {path.name for path in folder.parents[1].rglob("*")} & {"evil", "filed", "hop", "0"} == set()
    assert not Path("/tmp/no-such-evil").exists()
    jobs = {path.parent for path in folder.parents[1].rglob(".hydra")}
    assert jobs == {folder / "inside" / "x1", folder / "inside" / "x2"}
    assert list((folder / "mine").iterdir()) == [folder / "mine" / "experiment"]


def test_a_job_that_stays_inside_begins(answers: dict[str, tuple[int, str, list[str]]]) -> None:
    assert [line.split(":")[1] for line in answers["inside"][1].splitlines()] == [" device=gpu", " device=gpu"]
