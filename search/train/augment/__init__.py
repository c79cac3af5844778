"""Augmentation: training inputs changed at random in ways that leave their targets as they are.

It works on standardised inputs on the device, a batch at a time, each example with draws of its own. All randomness is
of torch's global generators, which the loop seeds for every epoch. A strength of 0 does nothing and draws nothing.
"""

from search.train.augment.build import Augment, augment_of
from search.train.augment.mixing import Mixed

__all__ = ["Augment", "Mixed", "augment_of"]
