"""What a submitted search looks like, as text: the request of a Ray job and the batch script of a Slurm job.

Nothing here runs or connects to anything. Words of a command arrive as the list that a shell made of them and are
quoted again one by one, so that spaces, quotes, brackets and `$` mean on the cluster what they meant at submission.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.errors import UsageError

STUDY = "search.study"
"""Key of a Ray job's metadata that names the study's folder: what tells that two jobs are the same search."""
_TO_LEAVE = 5
"""Seconds that Ray waits longer, before it kills a stopped driver, than the search takes to pause its trials."""
_TIMES = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A search, as it is started on the cluster."""

    python: str
    words: Sequence[str]
    folder: str | None
    """Where it runs; None: where the cluster starts it."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The program and its arguments."""
        return (self.python, "-m", "search.apps.cli", *self.words)


# ---------------------------------------------------------------------------------------------------------- Ray


@dataclass(frozen=True, kw_only=True)
class RayJob:
    """The request to Ray's job server."""

    entrypoint: str
    submission_id: str
    metadata: dict[str, str]
    runtime_env: dict[str, Any]
    """Anybody who may list jobs can read it: no secrets."""


def ray_job(command: Command, *, name: str, study: str, grace: float, working_dir: str | None) -> RayJob:
    """Return the request that runs the command as job `name`; a working_dir is uploaded and replaces its folder."""
    line = f"exec {shlex.join(command.argv)}"  # exec: Ray's SIGTERM reaches the search, and no shell beside it
    if working_dir is None and command.folder is not None:
        line = f"cd {shlex.quote(command.folder)} && {line}"
    # Ray kills a stopped driver after 3 seconds, unless the job's own environment says otherwise.
    environment: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(math.ceil(grace) + _TO_LEAVE)}}
    if working_dir is not None:
        environment["working_dir"] = working_dir
    return RayJob(entrypoint=line, submission_id=name, metadata={STUDY: study}, runtime_env=environment)


def next_id(name: str, taken: Collection[str]) -> str:
    """Return name, name-2, name-3, ...: the first that is free.

    Ray takes no submission id twice; deleting the old job first is "not supported and may lead to unexpected behavior".
    """
    number = 1
    while (candidate := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return candidate


# -------------------------------------------------------------------------------------------------------- Slurm


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """What is asked of Slurm; None leaves it to the partition."""

    nodes: int = 1
    cpus: int | None = None
    gpus: int | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    output: str
    pause_before: int = 120
    """Seconds before the time limit at which the search is told to pause."""
    extra: Sequence[str] = field(default_factory=tuple)
    """Further options of sbatch, as they are; they come last, so they win."""


def time_limit(text: str) -> int:
    """Return the seconds of a time as Slurm reads it: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS."""
    match = _TIMES.fullmatch(text)
    if match is None:
        raise UsageError(f"--time={text}: must be minutes, HH:MM:SS or D-HH:MM:SS")
    days, first, second, third = (int(part or 0) for part in match.group("days", "first", "second", "third"))
    if match["days"] is not None:
        return ((days * 24 + first) * 60 + second) * 60 + third
    return (first * 60 + second) * 60 + third if match["third"] is not None else first * 60 + second


def sbatch_script(command: Command, allocation: Allocation, *, name: str, given: Collection[str]) -> str:
    """Return the batch script that runs the command under Slurm; `given` are the keys that the user set.

    Raises UsageError where the time limit leaves nothing to search in.
    """
    if allocation.time is not None and time_limit(allocation.time) <= 2 * allocation.pause_before:
        raise UsageError(
            f"--time={allocation.time}: too short: the search pauses {allocation.pause_before} seconds before its end "
            f"and would be requeued for ever; give more time or a smaller --pause-before"
        )
    words = "\n".join(f"  {shlex.quote(word)}" for word in command.argv[1:])
    parts = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in _options(allocation, name)),
        _PREPARE.format(folder=shlex.quote(command.folder or "."), python=shlex.quote(command.python), words=words),
        _ONE_NODE.format(sizes=_sizes(given)) if allocation.nodes == 1 else _SEVERAL_NODES,
        _WAIT,
    ]
    return "\n".join(parts)


def _options(allocation: Allocation, name: str) -> Iterable[str]:
    options: dict[str, object] = {
        "job-name": name,
        "nodes": allocation.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": allocation.cpus,
        "gpus-per-node": allocation.gpus,
        "time": allocation.time,
        "partition": allocation.partition,
        "account": allocation.account,
        "output": allocation.output,
        "open-mode": "append",  # of a job that was requeued, too
        "dependency": "singleton",  # the same search submitted twice: the second waits, and goes on
        "signal": f"B:USR1@{allocation.pause_before}",
    }
    yield from (f"--{key}={_value(str(value))}" for key, value in options.items() if value is not None)
    yield "--requeue"
    for option in allocation.extra:
        key, equals, value = option.partition("=")
        if not re.fullmatch(r"--?[\w-]+", key, re.ASCII):
            raise UsageError(
                f"--sbatch-arg={option.splitlines()[0]}: must be one of sbatch's, e.g. --sbatch-arg=--qos=low"
            )
        yield f"{key}={_value(value)}" if equals else key


def _value(text: str) -> str:
    """Quote the value of an option as sbatch reads it: it is no shell, and `#` begins a comment."""
    if "\n" in text:
        raise UsageError(f"{text.splitlines()[0]}...: an option of sbatch cannot hold a line break")
    return text if _PLAIN.fullmatch(text) else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _sizes(given: Collection[str]) -> str:
    """Return the words that hold a Ray of the search's own to the allocation: by itself it takes the whole machine."""
    return "".join(f' "cluster.{key}=${key}"' for key in ("cpus", "gpus") if f"cluster.{key}" not in given)


_PREPARE = """\
# Written by `submit slurm`. The search pauses when Slurm signals that the time is nearly up; the job is requeued then
# and goes on where it stopped. `scancel --batch --signal=USR1 JOB` asks for the same, `scancel JOB` ends it.
set -u
cd {folder} || exit 2

python={python}
search=(
  "$python"
{words}
)
cpus=${{SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}}
gpus=${{SLURM_GPUS_ON_NODE:-0}}

# Ray's sessions and sockets: of this job alone, and under a short path: a socket's may have 107
# characters, and TMPDIR is often longer. mktemp makes it private, and it goes when the job ends.
temp=$(mktemp -d /tmp/search.XXXXXX) || exit 1
driver="" asked="" head="" nodes=""
# shellcheck disable=SC2317 # called when the script ends
leave() {{
  local code=$?
  if [ -n "$nodes" ]; then # before the head, without which they would wait for it
    scancel --signal=TERM "$SLURM_JOB_ID.0" 2>/dev/null # to srun itself, it would kill them
    for _ in {{1..40}}; do kill -0 "$nodes" 2>/dev/null || break; sleep 0.25; done
    kill -TERM "$nodes" 2>/dev/null
  fi
  if [ -n "$head" ]; then kill -TERM "$head" 2>/dev/null; wait "$head"; fi
  rm -rf "$temp"
  # Requeued by a signal of its own only: a job that somebody cancelled stays cancelled.
  if [ "$asked" = USR1 ] && [ "$code" -ne 0 ]; then
    echo "submit: paused; requeueing job $SLURM_JOB_ID" >&2
    scontrol requeue "$SLURM_JOB_ID" || echo "submit: cannot be requeued; submit it again to go on" >&2
  fi
  exit "$code"
}}
trap leave EXIT
# The signal before the time limit comes to this shell alone and is passed on. TERM (scancel, preemption) Slurm sends
# to every process of the job: passed on, it would be the second one, at which a search leaves without pausing.
trap 'asked=USR1; if [ -n "$driver" ]; then kill -TERM "$driver" 2>/dev/null; else exit 75; fi' USR1
trap 'asked=TERM; [ -n "$driver" ] || exit 75' TERM
"""

_ONE_NODE = """\
# The search starts a Ray of its own, on free ports and with a token of its own, and ends it.
export RAY_TMPDIR=$temp
"${{search[@]}}"{sizes} &
driver=$!
"""

_SEVERAL_NODES = """\
# A Ray of this job alone: a token of its own, free ports, and ended by process, never by `ray stop`, which would end
# those of other jobs on a shared node.
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n')
export RAY_AUTH_TOKEN
read -r ip port client_port < <("$python" -m search.sweep.ray_nodes place) && [ -n "$client_port" ] || exit 1
start=("$python" -m ray.scripts.scripts start --block "--num-cpus=$cpus" "--num-gpus=$gpus"
  --dashboard-agent-listen-port=0 --log-style=record)

"${start[@]}" --head "--node-ip-address=$ip" "--port=$port" "--ray-client-server-port=$client_port" \\
  --include-dashboard=false "--temp-dir=$temp" >"$temp/head.log" 2>&1 &
head=$!
"$python" -m search.sweep.ray_nodes wait "$ip:$port" 1 || { cat "$temp/head.log" >&2; exit 1; }

# shellcheck disable=SC2016 # expanded on the node, whose sockets need a short path, too, as above
srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --relative=1 --cpus-per-task="$cpus" \\
  bash -c 'temp=$(mktemp -d /tmp/search.XXXXXX) || exit 1; trap "rm -rf $temp" EXIT
    trap "told=1; kill -TERM \\$ray" TERM; "$@" "--temp-dir=$temp" >"$temp/ray.log" 2>&1 & ray=$!; wait $ray; wait $ray
    [ -n "$told" ] || cat "$temp/ray.log" >&2' \\
  node "${start[@]}" "--address=$ip:$port" &
nodes=$!
"$python" -m search.sweep.ray_nodes wait "$ip:$port" "$SLURM_JOB_NUM_NODES" || exit 1

"${search[@]}" cluster=existing "cluster.address=$ip:$port" &
driver=$!
"""

_WAIT = """\
code=0
while :; do
  wait "$driver" && code=0 || code=$? # a signal ends it early
  kill -0 "$driver" 2>/dev/null || break
done
wait "$driver" && code=0 || code=$? # bash remembers
exit "$code"
"""
