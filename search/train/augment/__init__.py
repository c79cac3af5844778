"""Augmentation: training inputs changed at random in ways that leave their targets as they are.

It works on standardised inputs on the device, a batch at a time, each example with draws of its own. All randomness is
of torch's global generators, which the loop seeds for every epoch. A strength of 0 does nothing; where
all are 0 nothing is drawn.
"""

from search.train.augment.build import Augment, augment_of, ours
from search.train.augment.mixing import Mixed
from search.train.augment.table import Columns

__all__ = ["Augment", "Columns", "Mixed", "augment_of", "ours"]
