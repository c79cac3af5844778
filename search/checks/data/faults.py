"""A fault of inputs, with the examples or columns that have it."""

from __future__ import annotations

from dataclasses import dataclass

from search.checks.data.remarks import Remark
from search.checks.evidence import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Fault:
    """What is wrong, and the indices that have it, with a number each: of examples, or of columns (channels)."""

    remark: Remark
    indices: Array
    values: Array
    what: str
    of_examples: bool = True
