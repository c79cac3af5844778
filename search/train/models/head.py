"""The last layer of every bundled network."""

from __future__ import annotations

from torch import nn

SCALE = 0.03


def small_head(size_in: int, num_outputs: int) -> nn.Linear:
    """Return a linear layer whose outputs start near 0, so that a new network says the prior and nothing else.

    Weights are the usual ones, uniform within 1/sqrt(size_in), times `SCALE`: at full size a new network's loss is
    up to twice that of knowing nothing, and its first steps are spent on unlearning that (Karpathy 2019). They are
    not 0: else the layers below would get no gradient in the first step.
    """
    head = nn.Linear(size_in, num_outputs)
    head.weight.data *= SCALE
    nn.init.zeros_(head.bias)
    return head
