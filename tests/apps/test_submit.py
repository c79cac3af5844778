"""`search-submit` as users give it: what it prints, refuses, and hands to sbatch."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kits.commands import environment


def submit(folder: Path, *arguments: str, code: int = 0, **variables: str) -> tuple[str, list[str]]:
    """Run the command in a folder; return (standard output, lines of standard error) and check its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "search.apps.submit", *arguments],
        cwd=folder,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr.splitlines()


def words(entrypoint: str) -> list[str]:
    """Return the overrides in a Ray job's entrypoint."""
    parts = shlex.split(entrypoint)
    return parts[parts.index("search.apps.cli") + 1 :]


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


# ----------------------------------------------------------------------------------------------------------- dry runs


def test_a_dry_run_shows_the_job_that_attaches_to_the_cluster_and_touches_nothing(tmp_path: Path) -> None:
    enqueue = "enqueue=[{model: mlp, optimizer.lr: 0.01}]"
    out, _ = submit(tmp_path, "ray", "--dry-run", "--", "name=mine", enqueue)
    job = json.loads(out)
    study = str(tmp_path / "outputs" / "mine")
    assert (job["submission_id"], job["metadata"]) == ("mine", {"search.study": study})
    attach = ["cluster=existing", "cluster.address=auto"]
    assert words(job["entrypoint"]) == ["name=mine", enqueue, *attach, f"output_dir={study}"]
    assert job["entrypoint"].startswith(f"cd {tmp_path} && exec {sys.executable} -m ")
    assert left_in(tmp_path) == []


def test_a_cluster_that_was_given_stays(tmp_path: Path) -> None:
    out, _ = submit(tmp_path, "ray", "--dry-run", "--", "cluster=existing", "cluster.address=head:6379")
    assert words(json.loads(out)["entrypoint"])[:-1] == ["cluster=existing", "cluster.address=head:6379"]


def test_nothing_of_the_environment_is_told_to_ray(tmp_path: Path) -> None:
    out, _ = submit(tmp_path, "ray", "--dry-run", "--", SECRET="hunter2", SEARCH_OUTPUTS="/shared/all")
    assert list(json.loads(out)["runtime_env"]["env_vars"]) == ["RAY_JOB_STOP_WAIT_TIME_S"]
    assert "hunter2" not in out
    assert words(json.loads(out)["entrypoint"])[-1] == "output_dir=/shared/all/digits"


def test_a_folder_of_configurations_comes_before_the_overrides(tmp_path: Path) -> None:
    """Hydra takes its overrides in one run."""
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "net.yaml").write_text("_target_: my_models.Net\nhidden: 4\nspace: {}\n")
    out, _ = submit(tmp_path, "ray", "--dry-run", "--", "name=x", "--config-dir", "mine", "model=net")
    assert words(json.loads(out)["entrypoint"])[:4] == ["--config-dir", "mine", "name=x", "model=net"]


def test_a_dry_run_shows_the_batch_script_and_touches_nothing(tmp_path: Path) -> None:
    out, _ = submit(
        tmp_path, "slurm", "--dry-run", "--nodes=2", "--gpus=4", "--sbatch-arg=--qos=low", "--", "name=mine"
    )
    lines = out.splitlines()
    assert {"#SBATCH --nodes=2", "#SBATCH --gpus-per-node=4", "#SBATCH --qos=low", "#SBATCH --requeue"} <= set(lines)
    assert f"#SBATCH --output={tmp_path}/outputs/mine/slurm-%j.log" in lines
    assert left_in(tmp_path) == []


def test_a_strange_folder_survives(tmp_path: Path) -> None:
    strange = tmp_path / "it's 100 % $HOME, [ünï] #1 ${x}\\"
    strange.mkdir()
    out, _ = submit(strange, "ray", "--dry-run", "--", "name=mine")
    job = json.loads(out)
    assert job["metadata"]["search.study"] == f"{strange}/outputs/mine"
    again, _ = submit(tmp_path, "ray", "--dry-run", "--", *words(job["entrypoint"]))
    assert json.loads(again)["metadata"] == job["metadata"]


# --------------------------------------------------------------------------------------------------------- mistakes

MISTAKES = {
    "no place": ([], "the following arguments are required: ray|slurm (submit --help)"),
    "unknown place": (["moon"], "argument ray|slurm: invalid choice: 'moon' (choose from 'ray', 'slurm')"),
    "no dashes": (["ray", "name=x"], "name=x: no such option (overrides come behind --); submit ray --help"),
    "unknown option": (["slurm", "--node=2"], "--node=2: no such option; submit slurm --help"),
    "no nodes": (["slurm", "--nodes=0"], "argument --nodes: 0: must be a whole number above 0"),
    "unknown key": (["ray", "--", "trainer.epoch=3"], "trainer.epoch: no such key; did you mean epochs? allowed:"),
    "unknown option of a group": (
        ["slurm", "--", "model=rnn"],
        "model=rnn: no such option; allowed: cnn, gru, linear, mlp, resnet, transformer",
    ),
    "impossible space": (["slurm", "--", "optimizer.space.lr.low=1"], "optimizer.space.lr: low=1 lies above high=0.01"),
    "multirun": (["ray", "--", "-m", "seed=1,2"], "-m: a job takes overrides and --config-dir, and is one search"),
    "no such folder": (["ray", "--", "--config-dir=gone"], "--config-dir=gone: no such folder"),
    "nothing to upload": (["ray", "--working-dir=gone"], "--working-dir=gone: no such folder"),
    "never resumed": (["slurm", "--", "resume=never"], "resume=never: a job goes on with what its study holds"),
    "a cluster of its own": (["slurm", "--", "cluster=existing"], "cluster.address: must be given"),
    "another address": (
        ["slurm", "--", "cluster=existing", "cluster.address=a:1"],
        "cluster: leave it out: Ray is started inside the allocation",
    ),
    "short time": (["slurm", "--time=4"], "--time=4: too short: the search pauses 120 seconds before its end"),
    "short pause": (["slurm", "--", "cluster.grace=100"], "--pause-before=120: must leave 30 seconds beside cluster"),
    "no url": (["ray", "--address=head:6379"], "--address=head:6379: must be the job server's, e.g. http://"),
    "nobody there": (["ray", "--address=http://127.0.0.1:9"], "--address=http://127.0.0.1:9: no job server of Ray"),
    "no sbatch": (["slurm"], "sbatch: not found on this machine; --dry-run prints the script"),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda name: name.replace(" ", "-"))
def test_a_mistake_is_answered_in_one_line(mistake: str, tmp_path: Path) -> None:
    arguments, expected = MISTAKES[mistake]
    out, lines = submit(tmp_path, *arguments, code=2, PATH="/nowhere")
    assert lines[-1].startswith(f"submit: {expected}")
    assert (out, len(lines)) == ("", 1)


@pytest.mark.parametrize("where", [[], ["ray"], ["slurm"]], ids=["itself", "ray", "slurm"])
def test_help_teaches(where: list[str], tmp_path: Path) -> None:
    out, _ = submit(tmp_path, *where, "--help")
    assert "usage: submit" in out
    assert len(out.splitlines()) > 12


# ------------------------------------------------------------------------------------------------------------ sbatch

SBATCH = """\
#!/bin/sh
cat > "$(dirname "$0")/script"
echo "$@"
"""


def with_sbatch(folder: Path, text: str) -> str:
    path = folder / "bin" / "sbatch"
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o755)
    return f"{path.parent}:{os.environ['PATH']}"


def test_what_sbatch_gets_is_what_the_dry_run_shows(tmp_path: Path) -> None:
    arguments = ("slurm", "--cpus=2", "--", "name=mine", "seed=3")
    path = with_sbatch(tmp_path, SBATCH)
    shown, _ = submit(tmp_path, *arguments[:1], "--dry-run", *arguments[1:])
    submit(tmp_path, *arguments, PATH=path)
    assert (tmp_path / "bin" / "script").read_text() == shown
    assert (tmp_path / "outputs" / "mine").is_dir()  # for the log


def test_what_sbatch_refuses_is_passed_on_in_one_line(tmp_path: Path) -> None:
    path = with_sbatch(tmp_path, "#!/bin/sh\necho sbatch: error: invalid partition >&2\nexit 1\n")
    _, lines = submit(tmp_path, "slurm", PATH=path, code=2)
    assert lines == ["submit: sbatch: error: invalid partition"]
