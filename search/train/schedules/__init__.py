"""Learning-rate schedules: the whole curve of a run, known before its first step."""

from search.train.schedules.curve import Curve
from search.train.schedules.cycles import cyclical, one_cycle, sgdr
from search.train.schedules.decays import constant, cosine, exponential, polynomial, step
from search.train.schedules.durations import UNITS, Budget, Unit
from search.train.schedules.reading import curve_of

__all__ = [
    "UNITS",
    "Budget",
    "Curve",
    "Unit",
    "constant",
    "cosine",
    "curve_of",
    "cyclical",
    "exponential",
    "one_cycle",
    "polynomial",
    "sgdr",
    "step",
]
