"""The command line: `search [key=value ...]`."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import search
from search.apps.clusters import Clusters
from search.apps.completion import with_completion
from search.apps.composed import Composed, composed
from search.apps.exits import GAVE_UP, INTERRUPTED, UNSOUND, USAGE_ERROR
from search.apps.interrupts import raise_on_signals
from search.apps.launching import guard_launchers
from search.apps.naming import register_resolvers
from search.apps.scratch import hydra_elsewhere
from search.config import schema
from search.config.arguments import expand
from search.config.messages import one_line
from search.errors import GaveUpError, NoRoomError, UnsoundError, UsageError
from search.files import no_room

CONFIG = "search"
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What a disk says that takes no more; the program has no part in it."""


def config_folder() -> Path:
    """Return the shipped `conf/`: inside the installed package, or beside it in a checkout."""
    package = Path(search.__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def main() -> int:
    """Run the command line; return the exit code."""
    conf = config_folder()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print several lines and exit with 1
    sys.path.insert(0, str(Path.cwd()))  # the user's own modules, also in workers
    schema.register()
    register_resolvers()
    guard_launchers()
    raise_on_signals()
    try:
        words = with_completion(sys.argv[1:], conf)
        with hydra_elsewhere(expand(words, conf, CONFIG)) as sys.argv[1:], _said_in_full():
            return _run(conf)
    except UsageError as error:
        return _refuse(str(error))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        return _refuse(one_line(error, conf, CONFIG, sys.argv[1:]))
    except BrokenPipeError:  # search --help | head
        _write_into_nothing()
        return 0
    except KeyboardInterrupt:
        print("search: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED


@contextlib.contextmanager
def _said_in_full() -> Iterator[None]:
    """Write what is still to be written before Python ends, which would complain if nobody reads it any more."""
    if any(text.startswith(("-i", "--info")) for text in sys.argv):
        logging.raiseExceptions = False  # it is a log, with a traceback for each line that nobody reads
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _write_into_nothing()


def _write_into_nothing() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(conf: Path) -> int:
    codes: list[int] = []
    clusters, folders = Clusters(), list[Path]()

    @hydra.main(version_base="1.3", config_path=str(conf), config_name=CONFIG)
    def job(cfg: DictConfig) -> None:
        codes.append(0)  # a job began
        codes[-1] = _said(lambda: _stages(composed(cfg), clusters, folders), conf, str(cfg.output_dir))

    try:
        job()
    except (OSError, ValueError) as error:
        if codes or isinstance(error, HydraException | BrokenPipeError):  # some of those are OSErrors, too
            raise
        return _cannot_begin(error)
    finally:
        clusters.close()
    if len(folders) > 1:
        from search.apps.comparison import compare

        compare(folders)
    return max(codes, default=0)


def _said(run: Callable[[], int], conf: Path, folder: str) -> int:
    """Return the exit code, with what went wrong in a line: Hydra would add its own, and drop a multirun's others."""
    try:
        return run()
    except UsageError as error:
        return _refuse(str(error))
    except OmegaConfBaseException as error:
        return _refuse(one_line(error, conf, CONFIG))
    except UnsoundError as error:
        return _refuse(str(error), UNSOUND)
    except GaveUpError as error:
        return _refuse(str(error), GAVE_UP)
    except NoRoomError as error:
        return _stop(folder, str(error))
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        return _stop(folder, error.strerror)


def _stages(checked: Composed, clusters: Clusters, folders: list[Path]) -> int:
    """Run the stages; import what they need, which takes seconds, for none but them. Note the study's folder."""
    if "preview" in checked.cfg.stages:
        from search.apps.preview import preview

        return preview(checked)
    if "predict" in checked.cfg.stages:
        from search.apps.predict import predict

        return predict(checked)
    from search.apps.search import place_of, run

    place = place_of(clusters)
    folders.append(place.folder)
    return run(checked, place)


def _cannot_begin(error: OSError | ValueError) -> int:
    """Say why Hydra, which makes the folder, cannot begin a job."""
    if isinstance(error, OSError) and no_room(error):
        return _stop(error.filename or "...", error.strerror)
    if isinstance(error, OSError) and error.filename:
        return _refuse(f"output_dir: {error.filename} cannot be written ({error.strerror})")
    return _refuse(" ".join(str(error).split()))  # e.g. of flags that exclude each other


def _stop(folder: str, why: str | None) -> int:
    """Say that the disk takes no more."""
    rest = "what has ended is stored, and the same command goes on once there is room"
    return _refuse(f"output_dir={folder}: cannot be written ({why}); {rest}", INTERRUPTED)


def _refuse(message: str, code: int = USAGE_ERROR) -> int:
    print(f"search: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
