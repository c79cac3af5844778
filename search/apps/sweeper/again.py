"""A complete grid's failed jobs, made ready to run again: a record without how they ended takes the first one's place.

In a record how a job ended is final, so what failed stays in that of before, which is kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from search.records import Outcome
from search.sweep.journal import Journal, set_aside, trial_folder

PROGRAM = "program"
"""Attribute of a complete sweep: the program that ran it."""
_OWN = ("uid", PROGRAM)
"""Attributes that a record does not take over."""


def failed_jobs(journal: Journal) -> set[int]:
    """Return the numbers of the jobs that failed; to Optuna, those that returned no number did, too."""
    return {event.number for event, _ in journal.events() if isinstance(event, Outcome) and event.failure is not None}


def forget(journal: Journal, numbers: Collection[int], maximize: tuple[bool, ...]) -> Path:
    """Put a record in an open one's place that has all of it but what became of these jobs; return where that is kept.

    They have begun, then, and wait to be run under their numbers. Until the last moment the record is as it was.
    """
    fresh = journal.folder.with_name(f"{journal.folder.name}.next")
    shutil.rmtree(fresh, ignore_errors=True)  # of one who was killed here
    copied = Journal(fresh, maximize=maximize)
    try:
        _fill(copied, journal, numbers)
    finally:
        copied.close()
    kept = set_aside(journal.folder)
    fresh.rename(journal.folder)
    return kept


def _fill(copied: Journal, journal: Journal, numbers: Collection[int]) -> None:
    for key, value in journal.attributes.items():
        if key not in _OWN:
            copied.set_attribute(key, value)
    for number in range(journal.num_trials):
        trial = journal.optuna_trial(number)
        copied.create(trial.params, trial.distributions)
        there = trial_folder(journal.folder, number)
        if number not in numbers and there.exists():
            shutil.copytree(there, trial_folder(copied.folder, number), copy_function=_linked)
    for event, _ in journal.events():
        if event.number not in numbers:
            copied.append(event)


def _linked(source: str, target: str) -> None:
    """Have a file in a second place without its content twice, where the disk can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
