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
        self.body = nn.Sequential(*(Block(width, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = small_head(width, num_outputs)
        nn.init.xavier_uniform_(self.embed.weight.detach().flatten(1))
        nn.init.trunc_normal_(self.positions, std=_POSITION_STD, a=-2 * _POSITION_STD, b=2 * _POSITION_STD)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits or values."""
        patches = self.embed(filled_up(inputs, self.patch, self.axes)).flatten(2).movedim(1, 2)
        outputs: Tensor = self.head(self.norm(self.body(self.drop(patches + self.positions))).mean(dim=1))
        return outputs


class Block(nn.Module):
    """Attention, then two linear layers, each beside a shortcut: torch's own encoder layer with its norms in front."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)  # starts as Glorot and Bengio 2010 have it already
        self.linear1, self.linear2 = nn.Linear(width, _EXPANSION * width), nn.Linear(_EXPANSION * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout, self.dropout1, self.dropout2 = (nn.Dropout(dropout) for _ in range(3))
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's outputs (N, patches, width)."""
        attended: Tensor = inputs + self.dropout1(self.self_attn(self.norm1(inputs)))
        hidden = self.dropout(functional.gelu(self.linear1(self.norm2(attended))))
        outputs: Tensor = attended + self.dropout2(self.linear2(hidden))
        return outputs


class Attention(nn.MultiheadAttention):
    """Self-attention whose dropout is a layer, as everywhere else, and not part of a function."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, heads, batch_first=True)
        self.drop = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        """Return what each patch takes from all of them, (N, patches, width)."""
        projected = functional.linear(inputs, self.in_proj_weight, self.in_proj_bias)
        parts = projected.view(*inputs.shape[:-1], 3, self.num_heads, self.head_dim)
        queries, keys, values = parts.transpose(-4, -2).unbind(-3)
        shares = (queries @ keys.mT / math.sqrt(self.head_dim)).softmax(dim=-1)
        outputs: Tensor = self.out_proj((self.drop(shares) @ values).transpose(-3, -2).flatten(-2))
        return outputs
