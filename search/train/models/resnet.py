"""A residual network for small pictures, and for series."""

from __future__ import annotations

from torch import Tensor, nn

from search.train.models.head import small_head
from search.train.models.inputs import require_axes
from search.train.models.spatial import SPATIAL, Spatial


class ResNet(nn.Module):
    """Stages of residual blocks, averaged over space: (N, C, H, W) or (N, C, L) -> (N, num_outputs).

    The network for small pictures of He et al. 2016 (section 4.2): one 3x3 convolution in front, no pooling before
    the first block, channels doubled and the size halved from stage to stage. With `preactivation` blocks and
    shortcuts are those of "Identity mappings in deep residual networks" (He et al. 2016). Raises UsageError for
    inputs that are neither pictures nor series.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        num_outputs: int,
        channels: int,
        stages: int,
        blocks: int,
        dropout: float,
        preactivation: bool = True,
    ) -> None:
        super().__init__()
        spatial = SPATIAL[require_axes("resnet", in_shape)]
        block = PreactivationBlock if preactivation else Block
        stem: list[nn.Module] = [spatial.convolve(in_shape[0], channels, 3)]
        layers: list[nn.Module] = []
        size_in = channels
        for stage in range(stages):
            width = channels * 2**stage
            for place in range(blocks):
                layers.append(block(spatial, size_in, width, stride=2 if stage and not place else 1))
                size_in = width
        norm = [spatial.norm(size_in if preactivation else channels), nn.ReLU()]
        ahead, behind = ([], norm) if preactivation else (norm, [])
        self.axes = spatial.axes
        self.body = nn.Sequential(*stem, *ahead, *layers, *behind)
        self.dropout = nn.Dropout(dropout)
        self.head = small_head(size_in, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits or values."""
        outputs: Tensor = self.head(self.dropout(self.body(inputs).mean(dim=self.axes)))
        return outputs


class Block(nn.Module):
    """Two convolutions, each with batch norm, beside a shortcut, then a ReLU.

    The last norm's scale starts at 0, so that the block starts as its shortcut (Goyal et al. 2017, section 5.1).
    """

    def __init__(self, spatial: Spatial, size_in: int, size_out: int, stride: int) -> None:
        super().__init__()
        last_norm = spatial.norm(size_out)
        nn.init.zeros_(last_norm.weight)
        self.branch = nn.Sequential(
            spatial.convolve(size_in, size_out, 3, stride),
            spatial.norm(size_out),
            nn.ReLU(),
            spatial.convolve(size_out, size_out, 3),
            last_norm,
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or size_in != size_out:
            self.shortcut.extend([spatial.convolve(size_in, size_out, 1, stride), spatial.norm(size_out)])
        self.activation = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's outputs (N, size_out, ...)."""
        outputs: Tensor = self.activation(self.branch(inputs) + self.shortcut(inputs))
        return outputs


class PreactivationBlock(nn.Module):
    """Batch norm and ReLU in front of each of two convolutions, beside a shortcut that nothing else touches.

    The last convolution starts at 0, so that the block starts as its shortcut: a scale of 0 in front of a ReLU would
    stay there, for the ReLU's gradient at 0 is 0.
    """

    def __init__(self, spatial: Spatial, size_in: int, size_out: int, stride: int) -> None:
        super().__init__()
        last = spatial.convolve(size_out, size_out, 3)
        nn.init.zeros_(last.weight)
        self.first = nn.Sequential(spatial.norm(size_in), nn.ReLU())
        self.branch = nn.Sequential(
            spatial.convolve(size_in, size_out, 3, stride),
            spatial.norm(size_out),
            nn.ReLU(),
            last,
        )
        self.projection = None
        if stride > 1 or size_in != size_out:
            self.projection = spatial.convolve(size_in, size_out, 1, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's outputs (N, size_out, ...)."""
        activated = self.first(inputs)
        shortcut = inputs if self.projection is None else self.projection(activated)
        outputs: Tensor = self.branch(activated) + shortcut
        return outputs
