"""Submit a search to a cluster: `search-submit ray|slurm [options] -- [key=value ...]`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra.errors import HydraException
from omegaconf import flag_override
from omegaconf.errors import OmegaConfBaseException

from search.apps.cli import CONFIG, config_folder
from search.apps.composed import Composed, composed
from search.apps.exits import INTERRUPTED, USAGE_ERROR
from search.apps.naming import register_resolvers
from search.cluster import Allocation, Command, RayJob, next_id, ray_job, sbatch_script
from search.config import schema
from search.config.arguments import expand, override
from search.config.messages import one_line
from search.errors import UsageError

_ADDRESS = "http://127.0.0.1:8265"
_KEY = re.compile(r"[+~]*([\w.@/\-]+)")

_HELP = """\
Submit a search to a cluster. Behind `--` stands what you would give to `search`; it is checked here, before anything
is submitted. The job runs in the folder you stand in; every node must see that folder, this Python environment and the
study (output_dir is made absolute). Submitted again, a search that ended or was stopped goes on where it stopped.

  submit ray --address http://head:8265 -- name=mine budget.trials=500
  submit slurm --gpus 4 --time 8:00:00 -- name=mine budget.trials=500 cluster.gpus_per_trial=0.5
  submit slurm --nodes 4 --cpus 16 --sbatch-arg=--qos=low --dry-run -- name=mine
"""
_RAY_HELP = """\
Submit to a running Ray cluster, through its job server. The job is called like the study; where that name is used up,
name-2 and so on. A study that a job searches already is refused. `ray job stop ID` pauses the trials; submit it again
to go on. A cluster with tokens wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, here as everywhere.
"""
_SLURM_HELP = """\
Submit to Slurm, with a Ray inside the allocation. Before the time limit the trials pause, the job is requeued and goes
on. Submitted twice, the second waits for the first. `scancel --batch --signal=USR1 JOB` pauses and requeues at once,
`scancel JOB` ends it.
"""


class _Parser(argparse.ArgumentParser):
    """Answers a mistake in one line, as the product does."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} ({self.prog} --help)")


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:]
    at = arguments.index("--") if "--" in arguments else len(arguments)
    try:
        options, words = _options(arguments[:at]), arguments[at + 1 :]
        study = _study(words)
        if options.where == "ray":
            return _submit_to_ray(options, study)
        return _submit_to_slurm(options, study)
    except UsageError as error:
        print(f"submit: {error}", file=sys.stderr)
        return USAGE_ERROR
    except (HydraException, OmegaConfBaseException) as error:
        print(f"submit: {one_line(error, config_folder(), CONFIG, arguments[at + 1 :])}", file=sys.stderr)
        return USAGE_ERROR


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="submit", description=_HELP, formatter_class=formatter, allow_abbrev=False)
    where = parser.add_subparsers(dest="where", required=True, metavar="ray|slurm")
    ray = where.add_parser(
        "ray",
        help="to a running Ray cluster",
        description=_RAY_HELP,
        formatter_class=formatter,
        allow_abbrev=False,
    )
    ray.add_argument(
        "--address", metavar="URL", help=f"the job server (default: $RAY_API_SERVER_ADDRESS, else {_ADDRESS})"
    )
    ray.add_argument("--working-dir", metavar="DIR", help="upload this folder and run in it, where none is shared")
    ray.add_argument(
        "--wait", action=argparse.BooleanOptionalAction, default=True, help="follow its output until it ends"
    )
    slurm = where.add_parser(
        "slurm", help="to Slurm", description=_SLURM_HELP, formatter_class=formatter, allow_abbrev=False
    )
    slurm.add_argument("--nodes", type=_count, default=1, metavar="N")
    slurm.add_argument("--cpus", type=_count, metavar="N", help="of each node")
    slurm.add_argument("--gpus", type=_count, metavar="N", help="of each node")
    slurm.add_argument("--time", metavar="TIME", help="the limit after which it is requeued, e.g. 8:00:00 or 2-00")
    slurm.add_argument("--partition", metavar="NAME")
    slurm.add_argument("--account", metavar="NAME")
    slurm.add_argument("--output", metavar="FILE", help="the log (default: slurm-%%j.log in the study)")
    slurm.add_argument(
        "--pause-before", type=_count, metavar="S", help="pause this long before the limit (default: 120 seconds)"
    )
    slurm.add_argument(
        "--sbatch-arg", action="append", default=[], metavar="OPTION", help="another one of sbatch's; repeatable"
    )
    for each in (ray, slurm):
        each.add_argument("--python", default=sys.executable, help="that has search, on the cluster (default: this)")
        each.add_argument("--dry-run", action="store_true", help="print what would be submitted; touch nothing")
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        hint = " (overrides come behind --)" if "=" in unknown[0] and not unknown[0].startswith("-") else ""
        raise UsageError(f"{unknown[0]}: no such option{hint}; {parser.prog} {known.where} --help")
    return known


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number above 0")
    return int(text)


# ------------------------------------------------------------------------------------------------ what is submitted


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Study:
    name: str
    folder: str
    grace: float
    flags: tuple[str, ...]
    overrides: tuple[str, ...]

    @property
    def given(self) -> frozenset[str]:
        """The keys that the user set."""
        return frozenset(match[1] for word in self.overrides if (match := _KEY.match(word)))

    def words(self, *added: str) -> tuple[str, ...]:
        """Return the words of the job: flags first, since Hydra wants overrides in one run."""
        return (*self.flags, *self.overrides, *added, override("output_dir", self.folder))


def _study(words: Sequence[str]) -> _Study:
    """Compose what the job will compose; raise what `search` would raise."""
    flags, overrides = _divided(words)
    schema.register()
    register_resolvers()
    checked = _composed([*flags, *overrides], flags[1] if flags else None)
    cfg = checked.cfg
    if cfg.resume == "never":
        raise UsageError("resume=never: a job goes on with what its study holds; leave it out")
    return _Study(
        name=cfg.name,
        folder=os.path.abspath(cfg.output_dir),  # noqa: PTH100 - resolved, it may be this machine's name for it
        grace=cfg.cluster.grace,
        flags=tuple(flags),
        overrides=tuple(overrides),
    )


def _divided(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return ([--config-dir, DIR] or nothing, overrides)."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            flags = ["--config-dir", value if equals else next(rest, "")]
        elif word.startswith("-"):
            raise UsageError(f"{word}: a job takes overrides and --config-dir, and is one search")
        else:
            overrides.append(word)
    return flags, overrides


def _composed(words: Sequence[str], folder: str | None) -> Composed:
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    conf = config_folder()
    overrides = [word for word in expand(words, conf, CONFIG) if word not in ("--config-dir", folder)]
    path = create_config_search_path(str(conf))
    if folder is not None:
        if not Path(folder).is_dir():
            raise UsageError(f"--config-dir={folder}: no such folder")
        path.prepend("command-line", f"file://{Path(folder).resolve()}", anchor="schema")  # that stays the last
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2(task_name="search", config_search_path=path)
    cfg = hydra.compose_config(
        config_name=CONFIG, overrides=overrides, run_mode=RunMode.RUN, from_shell=True, with_log_configuration=False
    )
    with flag_override(cfg, ["struct", "readonly"], False):
        del cfg["hydra"]  # what it interpolates exists in a running job only
    return composed(cfg)


# -------------------------------------------------------------------------------------------------------------- Ray


def _submit_to_ray(options: argparse.Namespace, study: _Study) -> int:
    attach = [] if "cluster" in study.given else ["cluster=existing"]
    attach += [] if "cluster.address" in study.given or "cluster=local" in study.overrides else ["cluster.address=auto"]
    command = Command(python=options.python, words=study.words(*attach), folder=str(Path.cwd()))
    uploaded = None if options.working_dir is None else str(Path(options.working_dir).resolve())
    if uploaded is not None and not Path(uploaded).is_dir():
        raise UsageError(f"--working-dir={options.working_dir}: no such folder")
    job = ray_job(command, name=study.name, study=study.folder, grace=study.grace, working_dir=uploaded)
    if options.dry_run:
        print(json.dumps(dataclasses.asdict(job), indent=2, ensure_ascii=False))
        return 0
    address = options.address or os.environ.get("RAY_API_SERVER_ADDRESS") or _ADDRESS
    if not address.startswith(("http://", "https://")):
        raise UsageError(f"--address={address}: must be the job server's, e.g. {_ADDRESS}")
    return _submit_job(job, address, study, wait=options.wait)


def _submit_job(job: RayJob, address: str, study: _Study, *, wait: bool) -> int:
    from search.sweep.ray_jobs import Jobs

    jobs = Jobs(address)
    if running := jobs.running(study.folder):
        raise UsageError(f"{running}: searches in {study.folder} already; ray job stop {running} ends it")
    job = dataclasses.replace(job, submission_id=next_id(study.name, jobs.ids))
    jobs.submit(job)
    print(f"submitted {job.submission_id} to {address}; the study is in {study.folder}", flush=True)
    if not wait:
        return 0
    try:
        ended, code = jobs.follow(job.submission_id)
    except KeyboardInterrupt:
        print(f"submit: {job.submission_id} runs on; ray job logs -f {job.submission_id}", file=sys.stderr)
        return 0
    print(f"{job.submission_id}: {ended}")
    return INTERRUPTED if ended == "STOPPED" else code if code is not None else int(ended != "SUCCEEDED")


# ------------------------------------------------------------------------------------------------------------ Slurm


def _submit_to_slurm(options: argparse.Namespace, study: _Study) -> int:
    for key in ("cluster", "cluster.kind", "cluster.address"):
        if key in study.given:
            raise UsageError(f"{key}: leave it out: Ray is started inside the allocation")
    pause_before = options.pause_before or 120
    if pause_before < study.grace + 30:
        raise UsageError(f"--pause-before={pause_before}: must leave 30 seconds beside cluster.grace={study.grace:g}")
    script = sbatch_script(
        Command(python=options.python, words=study.words(), folder=str(Path.cwd())),
        Allocation(
            nodes=options.nodes,
            cpus=options.cpus,
            gpus=options.gpus,
            time=options.time,
            partition=options.partition,
            account=options.account,
            output=options.output or f"{study.folder.replace('%', '%%')}/slurm-%j.log",
            pause_before=pause_before,
            extra=options.sbatch_arg,
        ),
        name=study.name,
        given=study.given,
    )
    if options.dry_run:
        sys.stdout.write(script)
        return 0
    if options.output is None:
        _make(Path(study.folder))  # Slurm makes no folder for a log: the job would fail without a word
    try:
        done = _run(["sbatch"], script)
    except FileNotFoundError:
        raise UsageError("sbatch: not found on this machine; --dry-run prints the script") from None
    if done.returncode:
        said = " ".join(done.stderr.split()).removeprefix("sbatch: ")
        raise UsageError(f"sbatch: {said or f'exit code {done.returncode}'}")
    print(f"{done.stdout.strip()}; the study is in {study.folder}")
    return 0


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"output_dir: {folder} cannot be written ({error.strerror})") from None


def _run(command: Sequence[str], text: str) -> subprocess.CompletedProcess[Any]:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, errors="surrogateescape")


if __name__ == "__main__":
    sys.exit(main())
