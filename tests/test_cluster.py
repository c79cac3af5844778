"""The texts of a submission, and what the batch script does: run against stand-ins for Slurm and the search."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.cluster import Allocation, Command, next_id, ray_job, sbatch_script, time_limit
from search.errors import UsageError

GOLDEN = Path(__file__).parent / "golden"
COMMAND = Command(
    python="/shared/venv/bin/python",
    words=("name=mine", "enqueue=[{model: mlp, optimizer.lr: 0.01}]", "output_dir=/shared/outputs/mine"),
    folder="/shared/my work",
)
ALLOCATIONS = {
    "one_node": Allocation(cpus=8, time="8:00:00", output="/shared/outputs/mine/slurm-%j.log"),
    "one_node_with_gpus": Allocation(
        gpus=4,
        partition="gpu",
        account="vision",
        output="/shared/all logs/#%j.log",
        extra=("--qos=low", '--comment=it\'s "mine"'),
    ),
    "several_nodes": Allocation(nodes=4, cpus=16, gpus=2, time="2-00", output="/shared/%j.log", pause_before=300),
}
hostile = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


def script(allocation: Allocation, *, command: Command = COMMAND, given: Sequence[str] = ()) -> str:
    return sbatch_script(command, allocation, name="mine", given=given)


# --------------------------------------------------------------------------------------------------------- the text


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_the_batch_script_is_the_one_that_was_agreed_on(name: str) -> None:
    assert script(ALLOCATIONS[name]) == (GOLDEN / f"sbatch_{name}.sh").read_text()


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_the_batch_script_is_well_formed(name: str) -> None:
    path = GOLDEN / f"sbatch_{name}.sh"
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shellcheck := shutil.which("shellcheck"):
        done = subprocess.run([shellcheck, str(path)], capture_output=True, text=True, check=False)
        assert done.stdout == ""


def test_sizes_that_the_user_set_are_left_to_him() -> None:
    text = script(ALLOCATIONS["one_node"], given=("cluster.cpus",))
    assert '"${search[@]}" "cluster.gpus=$gpus" &' in text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90", 5400), ("90:30", 5430), ("8:00:00", 28800)),
        *(("2-00", 172800), ("1-12:30", 131400), ("1-0:0:1", 86401)),
    ],
)
def test_times_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert time_limit(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1-", "-1", "1:2:3:4", "1h"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must be minutes"):
        time_limit(text)


def test_a_limit_that_leaves_no_time_to_search_is_refused() -> None:
    with pytest.raises(UsageError, match="requeued for ever"):
        script(Allocation(time="4", output="log"))


def test_an_option_cannot_smuggle_a_line_into_the_script() -> None:
    with pytest.raises(UsageError, match="line break"):
        script(Allocation(output="log", partition="a\n#SBATCH --uid=0"))
    with pytest.raises(UsageError, match="line break"):
        script(Allocation(output="log", extra=("--comment=a\nrm",)))
    with pytest.raises(UsageError, match="one of sbatch's"):
        script(Allocation(output="log", extra=("--exclusive\nrm",)))


def test_a_used_submission_id_is_followed_by_a_numbered_one() -> None:
    assert next_id("mine", ()) == "mine"
    assert next_id("mine", ("mine", "mine-2", "mine-4")) == "mine-3"


def test_a_ray_job_waits_for_the_search_to_pause_and_tells_nothing_else() -> None:
    job = ray_job(COMMAND, name="mine", study="/shared/outputs/mine", grace=10, working_dir=None)
    assert job.runtime_env == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "15"}}
    assert job.entrypoint.startswith(
        "cd '/shared/my work' && exec /shared/venv/bin/python -m search.apps.cli name=mine"
    )


def test_an_uploaded_folder_takes_the_place_of_this_one() -> None:
    job = ray_job(COMMAND, name="mine", study="/shared/outputs/mine", grace=10, working_dir="/here")
    assert job.runtime_env["working_dir"] == "/here"
    assert job.entrypoint.startswith("exec /shared/venv/bin/python")


# ------------------------------------------------------------------------------------- what a shell makes of the text


@given(words=st.lists(hostile, max_size=4))
@settings(max_examples=40, deadline=None)
def test_words_reach_the_entrypoint_of_a_ray_job_unchanged(words: list[str]) -> None:
    command = Command(python="printf", words=words, folder="/")
    job = ray_job(command, name="mine", study="/", grace=10, working_dir=None)
    shown = job.entrypoint.replace("-m search.apps.cli", r"'%s\0' --")
    done = subprocess.run(["sh", "-c", shown], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[1:-1] == words


@given(words=st.lists(hostile, max_size=4), nodes=st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_words_reach_the_batch_script_unchanged(words: list[str], nodes: int) -> None:
    text = script(Allocation(nodes=nodes, output="log"), command=Command(python="p", words=words, folder="/"))
    at = text.index("search=(")
    assignment = text[at : text.index("\n)\n", at) + 3] if not words else text[at : text.index("\ncpus=")]
    shown = f"python=p; {assignment}\nprintf '%s\\0' \"${{search[@]}}\""
    done = subprocess.run(["bash", "-c", shown], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[3:-1] == words


@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1, max_size=20))
def test_a_quoted_option_is_one_word_without_a_comment(value: str) -> None:
    (line,) = [line for line in script(Allocation(output=value)).split("\n") if line.startswith("#SBATCH --output=")]
    assert shlex.split(line.removeprefix("#SBATCH "), comments=True)[0] == f"--output={value}"


# --------------------------------------------------------------------------------------------- what the script does

SEARCH = """\
#!/bin/bash
# Stands in for `python -m search.apps.cli`: on TERM it takes a moment to pause.
trap 'echo paused >> "$LOG"; sleep 0.3; exit 75' TERM
echo "$@" >> "$LOG"
[ "$CODE" = hang ] || exit "$CODE"
while :; do sleep 0.05; done
"""
SCONTROL = """\
#!/bin/bash
echo "scontrol $*" >> "$LOG"
exit "${REQUEUE:-0}"
"""


class Batch:
    """A batch script that runs, with stand-ins for everything it calls."""

    def __init__(self, folder: Path, code: str, **environment: str) -> None:
        (folder / "bin").mkdir()
        for name, text in {"search": SEARCH, "scontrol": SCONTROL}.items():
            path = folder / "bin" / name
            path.write_text(text)
            path.chmod(0o755)
        self.log = folder / "log"
        command = Command(python=str(folder / "bin" / "search"), words=("name=mine",), folder=str(folder))
        self.process = subprocess.Popen(
            ["bash", "-c", script(Allocation(output="log"), command=command)],
            env={
                **os.environ,
                "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
                "LOG": str(self.log),
                "CODE": code,
                "SLURM_JOB_ID": "17",
                "SLURM_CPUS_ON_NODE": "6",
                **environment,
            },
        )

    def signal(self, number: signal.Signals) -> None:
        deadline = time.monotonic() + 20
        while not self.log.exists() or not self.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.process.send_signal(number)

    def ended(self) -> tuple[int, list[str]]:
        """Return (exit code, what was called)."""
        return self.process.wait(20), self.log.read_text().splitlines()


STARTED = "-m search.apps.cli name=mine cluster.cpus=6 cluster.gpus=0"


@pytest.mark.parametrize("code", ["0", "2", "4", "75"])
def test_a_job_ends_as_its_search_ends(code: str, tmp_path: Path) -> None:
    assert Batch(tmp_path, code).ended() == (int(code), [STARTED])


def test_the_signal_before_the_limit_pauses_the_search_and_requeues_the_job(tmp_path: Path) -> None:
    batch = Batch(tmp_path, "hang")
    batch.signal(signal.SIGUSR1)
    assert batch.ended() == (75, [STARTED, "paused", "scontrol requeue 17"])


def test_a_job_that_cannot_be_requeued_still_ends_as_paused(tmp_path: Path) -> None:
    batch = Batch(tmp_path, "hang", REQUEUE="1")
    batch.signal(signal.SIGUSR1)
    assert batch.ended() == (75, [STARTED, "paused", "scontrol requeue 17"])


def test_a_cancelled_job_is_not_requeued(tmp_path: Path) -> None:
    """Slurm's TERM reaches the search by itself; the script neither repeats it nor leaves before the search."""
    batch = Batch(tmp_path, "hang")
    batch.signal(signal.SIGTERM)
    time.sleep(0.3)
    assert batch.process.poll() is None
    children = Path(f"/proc/{batch.process.pid}/task/{batch.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    assert batch.ended() == (75, [STARTED, "paused"])
