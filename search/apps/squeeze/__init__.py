"""The stage squeeze: what the finished trials amount to, judged once on the test split.

`members` are what there is to choose from, `longer` and `averages` make more of them, `students` are taught by the best
ensemble, `refit` trains on all data, `stage` judges them, `champion` ships the winner.
"""

from search.apps.squeeze.stage import squeeze

__all__ = ["squeeze"]
