"""The program with marks: notes when it gets where, as [name, time] a line in the file that SEARCH_MARKS names.

Runs as a program (`startup` starts it), and is imported by the workers of that program.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:  # what is imported when is what is measured
    from search.records import Work
    from search.sweep.executor import LastWord, Run, Talk


def mark(name: str, when: float | None = None) -> None:
    """Note a moment, now unless it is given."""
    with open(os.environ["SEARCH_MARKS"], "a") as file:  # noqa: PTH123 - pathlib is one more import
        file.write(json.dumps([name, time.time() if when is None else when]) + "\n")


def make_run(equipment: Any) -> Run:
    """Return what the program's workers do, with marks. Runs in a worker, once."""
    mark("worker's process", psutil.Process().create_time())
    mark("worker called")
    from search.trial import Runner

    runner = Runner(equipment)
    mark("worker equipped")

    def run(work: Work, talk: Talk) -> LastWord | tuple[LastWord, ...]:
        mark("trial begins")
        return runner(work, talk)

    return run


@contextlib.contextmanager
def _marking_import(package: str) -> Iterator[None]:
    """Note when a package that is imported inside has been."""
    original = builtins.__import__

    def importing(name: str, *args: Any, **kwargs: Any) -> Any:
        module = original(name, *args, **kwargs)
        if name == package and args and args[0].get("__name__") == "search.sweep.ray_cluster":
            mark(f"{package} imported")
        return module

    builtins.__import__ = importing
    try:
        yield
    finally:
        builtins.__import__ = original


def main() -> int:
    """Run the program; return its exit code."""
    from search.apps import cli

    mark("cli imported")
    from search.sweep import ray_cluster, ray_executor

    program, cluster, rays = vars(cli), vars(ray_cluster), vars(ray_executor)
    composed, start_ray, executor = program["composed"], cluster["_start_ray"], rays["RayExecutor"]

    def marked_composed(cfg: Any) -> Any:
        checked = composed(cfg)
        mark("composed")
        return checked

    def marked_start(*where: Any) -> Any:
        mark("Ray wanted")
        with _marking_import("ray"):
            ray = start_ray(*where)
        mark("Ray there")
        return ray

    program["composed"] = marked_composed
    cluster["_start_ray"] = marked_start
    rays["RayExecutor"] = lambda _, *given, **more: executor("scripts.benchmarks.marked:make_run", *given, **more)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
