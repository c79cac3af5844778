"""Several remarks about one row, told as one finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.checks.check import Found
from search.checks.evidence import Evidence
from search.records import CheckVerdict, worst


@dataclass(frozen=True, kw_only=True)
class Remark:
    """One thing worth saying: `words` have the numbers, `advice` is what to do."""

    verdict: CheckVerdict
    words: str
    advice: str = ""


def warned(words: str, advice: str) -> Remark:
    """Return a remark that something should be looked at."""
    return Remark(verdict=CheckVerdict.WARN, words=words, advice=advice)


def failed(words: str, advice: str) -> Remark:
    """Return a remark that training is pointless before it is mended."""
    return Remark(verdict=CheckVerdict.FAIL, words=words, advice=advice)


def found_of(
    remarks: Sequence[Remark],
    fine: str,
    *,
    expected: Mapping[str, float] | None = None,
    measured: Mapping[str, float] | None = None,
    evidence: tuple[Evidence, ...] = (),
) -> Found:
    """Return the remarks as one finding, the worst first; `fine` is what there is to say without any."""
    order = list(CheckVerdict)
    ranked = sorted(remarks, key=lambda r: -order.index(r.verdict))
    return Found(
        verdict=worst(*(r.verdict for r in ranked)),
        sentence="; ".join(r.words for r in ranked) or fine,
        advice="; ".join(dict.fromkeys(r.advice for r in ranked if r.advice)),
        expected=expected or {},
        measured=measured or {},
        evidence=evidence,
    )


def listed(names: Sequence[object], most: int = 5) -> str:
    """Return the first of the names, and how many more there are."""
    shown = ", ".join(map(str, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
