"""Runs one check in a worker: the finding and its evidence go to the check's folder."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from search.checks import evidence, findings
from search.checks.bench import Bench
from search.checks.check import Check, Found, skipped
from search.checks.rows import PREFLIGHT, check_of
from search.checks.trials.look import look
from search.errors import UsageError
from search.files import no_room, unfinished, write_atomically
from search.layout import LOOK, NOT_DRAWN
from search.records import CheckSpec, CheckVerdict, Finding, Verdict
from search.traces import told, user_line
from search.train.batches import BatchesOf
from search.train.data.arrays import Dataset, Split
from search.train.estimator import Estimator
from search.train.steps import NonFiniteError

T = TypeVar("T")
BATCH = 32
"""Examples of a step that is taken only to see whether it can be."""


class Checker:
    """Runs checks one after the other; those of one subject share what the bench made once."""

    def __init__(
        self, dataset: Dataset, device: torch.device, batches_of: BatchesOf, draw: Callable[[Path], Path]
    ) -> None:
        """`draw` makes a picture of a file with a figure, beside it."""
        self._dataset, self._device, self._batches_of, self._draw = dataset, device, batches_of, draw
        self._bench: Bench | None = None

    def __call__(self, spec: CheckSpec) -> None:
        """Look, and write down what was found; raises only what is no fault of the setup's, a full disk, say."""
        folder = Path(spec.directory)
        folder.mkdir(parents=True, exist_ok=True)
        finding, pieces = finding_of(check_of(spec.row), self._bench_of(spec), spec.subject)
        findings.save(finding, folder)  # the verdict first: no picture is worth it
        names = [name for piece in pieces for name in self._kept(piece, folder, spec.row)]
        findings.save(dataclasses.replace(finding, evidence=tuple(names)), folder)

    def look(self, directory: Path, model: Estimator | None, micro_batches: int = 1) -> None:
        """Draw what can be seen of a trial that has ended; `model` has its best weights, None where they are gone.

        The folder is there when all is in it. What cannot be drawn is named in a file of it, with the reason.
        """
        folder = unfinished(directory / LOOK)
        shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
        folder.mkdir()
        try:
            missing: list[str] = []
            for name, pieces in look(directory, model, self._dataset, self._device, micro_batches):
                reason = self._drawn(pieces, folder)
                missing += [] if reason is None else [f"{name}: {reason}\n"]
            if missing:
                write_atomically(folder / NOT_DRAWN, "".join(missing).encode())
            shutil.rmtree(directory / LOOK, ignore_errors=True)
            folder.rename(directory / LOOK)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _drawn(self, pieces: Iterator[evidence.Evidence], folder: Path) -> str | None:
        """Write pieces of evidence as far as they come; return why one did not."""
        tried = _tried(lambda: [list(self._kept(piece, folder, LOOK)) for piece in pieces])
        return None if isinstance(tried, list) else _told(tried)

    def _kept(self, piece: evidence.Evidence, folder: Path, row: str) -> Iterator[str]:
        """Write a piece of evidence and its picture; yield their files, as far as they could be made."""
        try:
            name = evidence.save(piece, folder, row)
            yield name
            if evidence.is_figure(name):
                yield self._draw(folder / name).name
        except Exception as error:  # a figure that cannot be drawn is no reason to lose what was found
            if no_room(error):
                raise
            traceback.print_exc()

    def _bench_of(self, spec: CheckSpec) -> Bench:
        bench = self._bench
        wanted = (spec.config, spec.settings, spec.seed, spec.micro_batches)
        if bench is None or wanted != (bench.config, bench.settings, bench.seed, bench.micro_batches):
            bench = self._bench = Bench(
                dataset=self._dataset,
                config=spec.config,
                settings=spec.settings,
                device=self._device,
                seed=spec.seed,
                shared=self._batches_of(spec.config["trainer"]),
                micro_batches=spec.micro_batches,
            )
        return bench


def finding_of(check: Check, bench: Bench, subject: str = "") -> tuple[Finding, tuple[evidence.Evidence, ...]]:
    """Return what a check finds, whatever it raises, and its evidence."""
    found = _look(check, bench)
    finding = Finding(
        row=check.row,
        title=check.title,
        verdict=found.verdict,
        sentence=found.sentence,
        subject=subject,
        expected=_finite(found.expected),
        measured=_finite(found.measured),
        advice=found.advice,
    )
    return finding, found.evidence


def _tried(look: Callable[[], T]) -> T | BaseException:
    """Return what a look gives, or what it raised: user code may raise anything, and the other looks go on.

    Short memory and a full disk are raised: the engine eases the one, and the other ends the search.
    """
    try:
        with _process_kept(), torch.enable_grad():
            return look()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        if no_room(error):
            raise
        traceback.print_exc()
        return error


def _look(check: Check, bench: Bench) -> Found:
    """Return what the check found; where it raised, whether that is the setup's fault or the check's."""
    found = _tried(lambda: check.look(bench))
    if isinstance(found, Found):
        return found
    broken = _broken(bench)
    if broken is None:
        who = "your code raised" if user_line(found) else "the check itself did not come to an end:"
        return skipped(f"{who} {_told(found)}")
    if check.row not in PREFLIGHT:
        return skipped(f"the network cannot be looked at (preflight says why): {_told(broken)}")
    return Found(
        verdict=CheckVerdict.FAIL, sentence=f"the setup does not train: {_told(broken)}", advice=_advice(broken)
    )


@contextlib.contextmanager
def _process_kept() -> Iterator[None]:
    """Put back what the user's code may change for all that comes after it in the process."""
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    on_devices = torch.cuda.get_rng_state_all() if used else []
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if on_devices:
            torch.cuda.set_rng_state_all(on_devices)


def _told(error: BaseException) -> str:
    """Return the error in one line; what the engine says of a setup is a sentence without its class."""
    return " ".join(str(error).split()) if isinstance(error, UsageError) else told(error)


def _advice(error: BaseException) -> str:
    if "grad can be implicitly created only for scalar outputs" in str(error):
        return "the loss must return one number: take the mean"
    return "the traceback is in log.txt beside the finding"


def _broken(bench: Bench) -> Exception | SystemExit | None:
    """Return what a training of one epoch on two small batches raises, or its evaluation, if it does."""
    try:
        with _process_kept(), torch.enable_grad():
            setup = bench.setup()
            size = min(setup.plan.batch_size, BATCH)
            parts = {"train": bench.sample("train", 2 * size), "validation": bench.sample("validation", size)}
            few = Split(**parts, test=bench.split.test[:0])
            short = dataclasses.replace(
                setup,
                dataset=Dataset(examples=bench.examples, split=few),
                plan=dataclasses.replace(setup.plan, epochs=1, batch_size=size),
            )
            short.training().fit(lambda *_: (Verdict.GO_ON, ""))
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except NonFiniteError:  # of a learning rate, say, which others judge
        return None
    except (Exception, SystemExit) as error:
        if no_room(error):
            raise
        return error
    return None


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return plain floats without NaN and infinities: JSON knows none."""
    return {name: float(value) for name, value in numbers.items() if math.isfinite(float(value))}
