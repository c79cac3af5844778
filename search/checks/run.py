"""Runs one check in a worker: the finding and its evidence go to the check's folder."""

from __future__ import annotations

import dataclasses
import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from search.checks import evidence, findings
from search.checks.bench import Bench, minibatches, train
from search.checks.check import Check, Found, skipped
from search.checks.rows import PREFLIGHT, check_of
from search.files import no_room
from search.records import CheckSpec, CheckVerdict, Finding
from search.traces import told
from search.train.batches import Batches
from search.train.data.arrays import Dataset
from search.train.loop import predict

BatchesOf = Callable[[Mapping[str, Any]], Batches]
"""Gives the batches of the data as a `trainer` node asks for them."""


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

    def _kept(self, piece: evidence.Evidence, folder: Path, row: str) -> Iterator[str]:
        """Write a piece of evidence and its picture; yield their files, as far as they could be made."""
        try:
            name = evidence.save(piece, folder, row)
            yield name
            if evidence.is_figure(name):
                yield self._draw(folder / name).name
        except Exception as error:
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


def _look(check: Check, bench: Bench) -> Found:
    """Return what the check found; where it raised, whether that is the setup's fault or the check's."""
    try:
        return check.look(bench)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        if no_room(error):
            raise
        traceback.print_exc()
        broken = _broken(bench) if check.row in PREFLIGHT else None
        if broken is None:
            return skipped(f"the check itself did not come to an end: {told(error)}")
        return Found(
            verdict=CheckVerdict.FAIL,
            sentence=f"the setup does not train: {broken}",
            advice="mend it; the traceback is in log.txt beside the finding",
        )


def _broken(bench: Bench) -> str | None:
    """Return why a training step raises, or an evaluation after it, if one does."""
    try:
        setup = bench.setup()
        train(setup, minibatches(setup, 1))
        few = bench.sample("validation", setup.plan.batch_size)
        predict(setup.model, setup.batches, few, bench.examples.task)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - see above
        return told(error)
    return None


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return plain floats without NaN and infinities: JSON knows none."""
    return {name: float(value) for name, value in numbers.items() if math.isfinite(float(value))}
