"""Wide residual networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import Parameter

from lightning_regs.models.initialization import initialize
from lightning_regs.models.layers import check_dropout, check_image, check_norm, norm_layer, to_channels_last


class WideBlock(nn.Module):
    r"""Pre-activation residual block: (N, C, H, W) to (N, filters, H / stride, W / stride), rounded up.

    He et al., arXiv 1603.05027, with dropout between the convolutions, Zagoruyko & Komodakis, arXiv 1605.07146:
    ``shortcut + conv3x3(dropout(relu(norm(conv3x3(relu(norm(x)))))))``. The shortcut is ``x`` itself where shape and
    stride allow, else a 1x1 convolution of ``relu(norm(x))``. Without normalisation the convolutions have biases and
    the branch has SkipInit's learned factor :math:`\alpha`, which starts at 0 (De & Smith, arXiv 2002.10444): at the
    start the block is its shortcut.

    Args:
        channels: Number of input channels.
        filters: Number of output channels.
        stride: Step of the first convolution and of the shortcut.
        norm: ``"batch"`` or None.
        dropout: Probability of dropping an activation, in [0, 1).
    """

    skip_scale: Parameter | None

    def __init__(self, channels: int, filters: int, stride: int, norm: str | None, dropout: float) -> None:
        super().__init__()
        bias = norm is None
        self.norm1 = norm_layer(norm, channels, spatial=True)
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=bias)
        self.norm2 = norm_layer(norm, filters, spatial=True)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=bias)
        same = channels == filters and stride == 1
        self.shortcut = None if same else nn.Conv2d(channels, filters, 1, stride, bias=bias)
        self.register_parameter("skip_scale", Parameter(self.conv1.weight.new_zeros(())) if norm is None else None)

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to the shortcut."""
        active = F.relu(self.norm1(x))
        branch: Tensor = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))
        if self.skip_scale is not None:
            branch = self.skip_scale * branch
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(active)
        return shortcut + branch


class WideResNet(nn.Module):
    """Wide ResNet d-k, without normalisation by default, as in Smith et al., arXiv 2101.12176.

    Zagoruyko & Komodakis, arXiv 1605.07146: a 3x3 convolution with 16 filters, three groups of (d - 4) / 6
    :class:`WideBlock` with 16k, 32k and 64k filters and strides 1, 2, 2, then (batch norm) ReLU, the mean over the
    whole map, and ``head``. Shape: (N, C, H, W) to (N, num_classes); computed in channels_last whatever the input's
    memory format. Parameters on 3x32x32 with 10 classes:

    ======  ===============  =========
    d-k     norm="batch"     norm=None
    ======  ===============  =========
    10-1    77,850           77,709
    10-4    1,198,810        1,198,349
    16-4    2,748,890        2,747,536
    ======  ===============  =========

    Args:
        input_shape: (C, H, W), H and W at least 8.
        num_classes: Number of logits.
        depth: Number d of convolutions on the longest path and the head, 6n + 4 with n blocks a group. Default 10.
        width: Factor k on the filters of the groups, an integer. Default 1.
        norm: ``"batch"``, or None for biases and SkipInit.
        dropout: Probability of dropping an activation between the two convolutions of a block, in [0, 1). Default 0.
        init: A key of :data:`~lightning_regs.models.initialization.INITIALIZATIONS`; None keeps torch's. The default,
            ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.

    Raises:
        TypeError: If a size, the depth or the width is not an integer.
        ValueError: If a size, a name or a number is out of its range.
    """

    MINIMUM_SIZE = 8
    STEM = 16

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        depth: int = 10,
        width: int = 1,
        norm: str | None = None,
        dropout: float = 0.0,
        init: str | None = "kaiming_normal",
    ) -> None:
        super().__init__()
        channels, _, _ = check_image("wide_resnet", input_shape, num_classes, self.MINIMUM_SIZE)
        check_norm(norm, ("batch",))
        check_dropout(dropout)
        if not isinstance(depth, int) or not isinstance(width, int):
            raise TypeError(f"depth and width must be integers, as in 10 and 1, got {depth!r} and {width!r}.")
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth must be 6n + 4, with n blocks in each group, got {depth}: take 10, 16, 22, ...")
        if width < 1:
            raise ValueError(f"width must be at least 1, the factor on 16, 32 and 64 filters, got {width}.")
        self.stem = nn.Conv2d(channels, self.STEM, 3, padding=1, bias=norm is None)
        blocks = []
        channels = self.STEM
        for group in range(3):
            filters = self.STEM * width * 2**group
            for block in range((depth - 4) // 6):
                stride = 2 if group > 0 and block == 0 else 1
                blocks.append(WideBlock(channels, filters, stride, norm, dropout))
                channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm_layer(norm, channels, spatial=True)
        self.head = nn.Linear(channels, num_classes)
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        features = F.relu(self.norm(self.blocks(self.stem(to_channels_last(x)))))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits
