"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

from rich.console import Console

from scripts.benchmarks import results
from search.errors import UsageError

BENCHES = {
    "overhead": "trials a second that do nothing, with and without MLflow, beside Ray Tune",
    "idle": "how long a free worker waits for its next job, beside Hydra's Optuna sweeper",
    "scale": "what the ten-thousandth trial costs, and 100,000 trials on 1,000 workers in virtual time",
    "startup": "the time to the help, to a mistake's message, to the first trial that trains",
    "schedules": "what learning-rate schedules are worth on a data set, at equal epochs and over seeds",
    "diagnostics": "what looking at the layers adds to the time of an epoch",
    "selection": "choosing ensembles of thousands of members' predictions, beside the plain loop",
    "squeeze": "what ensembles, snapshots, averages and students gain on test, over the seeds of whole searches",
    "fused": "whole searches with trials trained as one program, beside trials alone and Ray Tune",
    "replay": "what early stopping saves and loses, on learning curves that somebody measured",
}
"""What each one measures; each is a module with `arguments`, `run` and `GOALS`."""
_WIDE = 200
"""Columns of what is written to no terminal: a table takes what it needs."""
_ABOUT = """\
Measures the search. A benchmark with a peer runs the peer beside it, in an environment of its own, which is made once
under ~/.cache/search-bench (or $XDG_CACHE_HOME). Timings on a busy machine mean little: leave it alone meanwhile.

  scripts/bench overhead                       with all defaults: minutes, with progress
  scripts/bench replay --curves DIR --draws 30 a quick look
  scripts/bench idle --json idle.json          the same records for a program: bench, case, system, metric, value
"""


def main() -> int:
    """Run one benchmark; return the exit code."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    asked = next((word for word in sys.argv[1:] if word in BENCHES), None)
    for name, summary in BENCHES.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        if name == asked:
            module = importlib.import_module(f"scripts.benchmarks.{name}")
            command.description = module.__doc__
            module.arguments(command)
        command.add_argument("--json", type=Path, metavar="FILE", help="write the records there, too")
    options = parser.parse_args()
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.absolute().parent}")
    console = Console(stderr=True)
    try:
        records = module.run(options, console)
    except (UsageError, RuntimeError) as error:
        print(f"scripts/bench {options.bench}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    results.show(Console(width=None if sys.stdout.isatty() else _WIDE), records, module.GOALS)
    if options.json is not None:
        results.write(options.json, records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
