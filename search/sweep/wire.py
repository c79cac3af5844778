"""Words and answers as bytes, one line of JSON each: records that are pickled take ten times as long."""

from __future__ import annotations

import json
from typing import Any

from search.records import (
    Decision,
    Event,
    Measured,
    Outcome,
    Paused,
    Report,
    TrialSpec,
    event_from_fields,
    event_to_fields,
)
from search.sweep.executor import Answer, Said, Words


def words_to_bytes(words: Words) -> bytes:
    """Return words without the line's end."""
    return json.dumps([event_to_fields(said) for said in words]).encode()


def words_from_bytes(line: bytes) -> Words:
    """Return the words; raise ValueError for anything else."""
    return tuple([_said(event_from_fields(fields)) for fields in json.loads(line.decode())])


def answer_to_bytes(answer: Answer) -> bytes:
    """Return an answer without the line's end."""
    decisions = [event_to_fields(decision) for decision in answer.decisions]
    return json.dumps([decisions, [vars(trial) for trial in answer.joining]]).encode()


def answer_from_bytes(line: bytes) -> Answer:
    """Return the answer; raise ValueError for anything else."""
    decisions, joining = json.loads(line.decode())
    return Answer(
        tuple([_decision(fields) for fields in decisions]), tuple([TrialSpec(**fields) for fields in joining])
    )


def _said(event: Event) -> Said:
    if not isinstance(event, (Report, Paused, Outcome, Measured)):
        raise ValueError(f"no worker says that: {event}")
    return event


def _decision(fields: Any) -> Decision:
    event = event_from_fields(fields)
    if not isinstance(event, Decision):
        raise ValueError(f"not a decision: {event}")
    return event
