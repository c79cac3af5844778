"""A Transformer over patches."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from search.errors import UsageError
from search.train.models.head import small_head
from search.train.models.inputs import filled_up, require_axes
from search.train.models.spatial import SPATIAL

_POSITION_STD = 0.02
_EXPANSION = 4  # width of a block's two linear layers between, over the network's


class Transformer(nn.Module):
    """Self-attention among the patches of a series (N, C, L) or of a picture (N, C, H, W) -> (N, num_outputs).

    The Vision Transformer (Dosovitskiy et al. 2021) with learned positions, norms in front (Xiong et al. 2020) and
    the mean of the patches in place of a class token (Beyer et al. 2022). A patch has `patch` steps, or pixels a side;
    zeros fill up the last ones. Raises UsageError for inputs that are neither series nor pictures, and where `heads`
    does not divide `width`.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        num_outputs: int,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.axes = require_axes("transformer", in_shape)
        if width % heads:
            raise UsageError(f"model.heads={heads}: does not divide model.width={width}; take a divisor of it")
        self.patch = patch
        self.embed = SPATIAL[self.axes].convolution(in_shape[0], width, patch, stride=patch)
        num_patches = math.prod(math.ceil(size / patch) for size in in_shape[1:])
        self.positions = nn.Parameter(torch.empty(1, num_patches, width))
        self.drop = nn.Dropout(dropout)
        self.body = nn.Sequential(*(_block(width, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = small_head(width, num_outputs)
        nn.init.xavier_uniform_(self.embed.weight.detach().flatten(1))
        nn.init.trunc_normal_(self.positions, std=_POSITION_STD, a=-2 * _POSITION_STD, b=2 * _POSITION_STD)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits or values."""
        patches = self.embed(filled_up(inputs, self.patch, self.axes)).flatten(2).movedim(1, 2)
        outputs: Tensor = self.head(self.norm(self.body(self.drop(patches + self.positions))).mean(dim=1))
        return outputs


def _block(width: int, heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    block = nn.TransformerEncoderLayer(
        width, heads, _EXPANSION * width, dropout, functional.gelu, batch_first=True, norm_first=True
    )
    for layer in (block.linear1, block.linear2):  # attention's own start as Glorot and Bengio 2010 have it already
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return block
