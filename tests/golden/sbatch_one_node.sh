#!/bin/bash
#SBATCH --job-name=mine
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=8:00:00
#SBATCH --output=/shared/outputs/mine/slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --dependency=singleton
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
# Written by `submit slurm`. The search pauses when Slurm signals that the time is nearly up; the job is requeued then
# and goes on where it stopped. `scancel --batch --signal=USR1 JOB` asks for the same, `scancel JOB` ends it.
set -u
cd '/shared/my work' || exit 2

python=/shared/venv/bin/python
search=(
  "$python"
  -m
  search.apps.cli
  name=mine
  'enqueue=[{model: mlp, optimizer.lr: 0.01}]'
  output_dir=/shared/outputs/mine
)
cpus=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
gpus=${SLURM_GPUS_ON_NODE:-0}

# Ray's sessions and sockets: of this job alone, and under a short path: a socket's may have 107
# characters, and TMPDIR is often longer. mktemp makes it private, and it goes when the job ends.
temp=$(mktemp -d /tmp/search.XXXXXX) || exit 1
driver="" asked="" head="" nodes=""
# shellcheck disable=SC2317 # called when the script ends
leave() {
  local code=$?
  if [ -n "$nodes" ]; then # before the head, without which they would wait for it
    scancel --signal=TERM "$SLURM_JOB_ID.0" 2>/dev/null # to srun itself, it would kill them
    for _ in {1..40}; do kill -0 "$nodes" 2>/dev/null || break; sleep 0.25; done
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
}
trap leave EXIT
# The signal before the time limit comes to this shell alone and is passed on. TERM (scancel, preemption) Slurm sends
# to every process of the job: passed on, it would be the second one, at which a search leaves without pausing.
trap 'asked=USR1; if [ -n "$driver" ]; then kill -TERM "$driver" 2>/dev/null; else exit 75; fi' USR1
trap 'asked=TERM; [ -n "$driver" ] || exit 75' TERM

# The search starts a Ray of its own, on free ports and with a token of its own, and ends it.
export RAY_TMPDIR=$temp
"${search[@]}" "cluster.cpus=$cpus" "cluster.gpus=$gpus" &
driver=$!

code=0
while :; do
  wait "$driver" && code=0 || code=$? # a signal ends it early
  kill -0 "$driver" 2>/dev/null || break
done
wait "$driver" && code=0 || code=$? # bash remembers
exit "$code"
