"""What failures cost: how often each cause is tried again, how long silence is borne, when a search gives up."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from search.records import Failure, FailureKind, Outcome, Piece

AnyPiece = TypeVar("AnyPiece", bound=Piece)


@dataclass(frozen=True, kw_only=True)
class FailurePolicy:
    """Budgets and limits.

    `retries` says how often one trial is tried again after a failure of each kind (None: always; absent: never). A
    trial is ended by force `hang_seconds` after its last sign, or `timeout_seconds` after it was handed to a worker. A
    cohort is given that for each of its trials: for a sign, those that are open; for its end, all that it took in. The
    search stops once `share` of the last `window` ended trials failed for one cause.
    """

    retries: Mapping[FailureKind, int | None]
    hang_seconds: float | None = None
    timeout_seconds: float | None = None
    window: int = 10
    share: float = 0.9


class Failures:
    """Counts a search's failures against a policy."""

    def __init__(self, policy: FailurePolicy) -> None:
        self.policy = policy
        self._attempts: Counter[tuple[int, FailureKind]] = Counter()
        self._causes: deque[str | None] = deque(maxlen=policy.window)

    def count(self, number: int, failure: Failure) -> None:
        """Take in that an attempt at a trial failed."""
        self._attempts[number, failure.kind] += 1

    def attempts(self, number: int, kind: FailureKind) -> int:
        """Return how often a trial failed in that way."""
        return self._attempts[number, kind]

    def may_retry(self, number: int, failure: Failure) -> bool:
        """Tell whether the budget of the failure's kind allows for another attempt at the trial."""
        budget = self.policy.retries.get(failure.kind, 0)
        return budget is None or self._attempts[number, failure.kind] < budget

    def eased(self, spec: AnyPiece) -> AnyPiece:
        """Return the work with batches in twice as many parts for every time that its memory was short."""
        times = self._attempts[spec.number, FailureKind.OUT_OF_MEMORY]
        return dataclasses.replace(spec, micro_batches=2**times) if times else spec

    def ended(self, outcome: Outcome) -> str | None:
        """Take in how a trial ended; return why the search should stop, where too many failed for one cause."""
        window = self.policy.window
        self._causes.append(None if outcome.failure is None else _cause(outcome.failure))
        if outcome.failure is None or len(self._causes) < window:
            return None
        cause, count = Counter(filter(None, self._causes)).most_common(1)[0]
        return f"{count} of the last {window} trials failed: {cause}" if count / window >= self.policy.share else None


def _cause(failure: Failure) -> str:
    """Return the kind, with the exception's type, which a message begins with."""
    kind, _, _ = failure.message.partition(":")
    return f"{failure.kind} ({kind})" if failure.kind is FailureKind.EXCEPTION else str(failure.kind)
