"""SqueezeNet: fire modules, which squeeze a map to few channels before they expand it."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from lightning_regs.core.checks import Count, Probability, Range, Whole, checked
from lightning_regs.models.layers import ConvNet, InputShape, Norm, check_image, finish, normalized, to_channels_last

# Of each version: filters, size, stride and padding of the first convolution; behind how many fire modules there is a
# pool; how many there are; and the least height and width that the pools leave something of.
_VERSIONS = {
    "1.0": ((96, 7, 2, 0), (0, 3, 7), 8, 21),
    "1.1": ((64, 3, 2, 0), (0, 2, 4), 8, 17),
    "small": ((64, 3, 1, 1), (0, 2), 4, 4),
}
Part = Annotated[float, Range(above=0, below=1)]
Ratio = Annotated[float, Range(above=0, high=1)]


class Fire(nn.Module):
    """Squeeze a map by 1x1 filters, and expand it by 1x1 and 3x3 filters side by side.

    Args:
        channels: Channels of the input (N, C, H, W).
        squeezed: 1x1 filters that squeeze.
        expanded: 1x1 and 3x3 filters that expand; the output has as many channels as both together.
        norm: What is behind each convolution, if it is a layer.
        bypass: ``"simple"`` adds the input to the output where they have as many channels, ``"complex"`` elsewhere a
            1x1 convolution of it.
    """

    def __init__(
        self, channels: int, squeezed: int, expanded: tuple[int, int], norm: str | None, bypass: str | None
    ) -> None:
        super().__init__()
        points, squares = expanded
        self.squeeze = nn.Sequential(*normalized(norm, nn.Conv2d(channels, squeezed, 1)), nn.ReLU())
        self.expand1 = nn.Sequential(*normalized(norm, nn.Conv2d(squeezed, points, 1)), nn.ReLU())
        self.expand3 = nn.Sequential(*normalized(norm, nn.Conv2d(squeezed, squares, 3, padding=1)), nn.ReLU())
        self.bypass: nn.Module | None = None
        if bypass and channels == points + squares:
            self.bypass = nn.Identity()
        elif bypass == "complex":
            self.bypass = nn.Sequential(*normalized(norm, nn.Conv2d(channels, points + squares, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, sum of expanded, H, W)."""
        few = self.squeeze(x)
        out = torch.cat([self.expand1(few), self.expand3(few)], dim=1)
        return out if self.bypass is None else out + self.bypass(x)


class SqueezeNet(ConvNet):
    r"""SqueezeNet; 1,248,424 parameters with 1,000 classes in version 1.0, 122,986 with 10 in the small one.

    Iandola et al., arXiv 1602.07360. A convolution, fire modules with 3x3 max pools of stride 2 between them, dropout,
    a 1x1 convolution to the classes with a ReLU, and the mean over the map. Fire module i, from 0, has
    :math:`e_i = e + g \lfloor i / n \rfloor` filters that expand, of which a share is 3x3, and a ratio of
    :math:`e_i` that squeeze. Versions 1.0 and 1.1 compute what torchvision's do; ``"small"`` is for images of 32x32
    and below, of the first four fire modules behind a 3x3 convolution, and without the last ReLU, with which narrow
    nets leave classes dead from the start. Shape: (N, C, H, W) to (N, num_classes);
    computed in channels_last.

    Args:
        input_shape: (C, H, W), H and W at least 21, 17 or 4 for the three versions.
        num_classes: Number of logits.
        version: ``"1.0"``, ``"1.1"`` or ``"small"``.
        expand: e, the filters that expand in the first modules, at least 2.
        growth: g, how many more each further group of modules has.
        every: n, the modules in a group.
        squeeze: Filters that squeeze, as a ratio to those that expand, in (0, 1].
        share3x3: Share of 3x3 filters among those that expand, in (0, 1); there is at least one of each kind.
        bypass: ``"simple"`` adds the input of a module to its output where channels allow, ``"complex"`` elsewhere
            a 1x1 convolution of it, too. Default None.
        dropout: Probability of dropping a unit of the last map, in [0, 1); the paper's is 0.5. Default 0.
        norm: A :data:`~lightning_regs.models.layers.Norm` behind all convolutions but the last; the paper has None.
        init: A rule of :func:`~lightning_regs.init.initialize` for all convolutions but the last, whose weights are
            N(0, 0.01^2); None keeps torch's. The authors' code takes Xavier's.
    """

    architecture = "squeezenet"

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        version: Literal["1.0", "1.1", "small"] = "small",
        expand: Annotated[int, Range(2)] = 128,
        growth: Whole = 128,
        every: Count = 2,
        squeeze: Ratio = 0.125,
        share3x3: Part = 0.5,
        bypass: Literal["simple", "complex"] | None = None,
        dropout: Probability = 0.0,
        norm: Norm | None = None,
        init: str | None = "xavier_uniform",
    ) -> None:
        super().__init__()
        (channels, size, stride, padding), pools, fires, least = _VERSIONS[version]
        inputs, _, _ = check_image(f"squeezenet {version}", input_shape, least)
        first = nn.Conv2d(inputs, channels, size, stride=stride, padding=padding)
        layers: list[nn.Module] = [*normalized(norm, first), nn.ReLU()]
        for number in range(fires + 1):
            if number in pools:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            if number < fires:
                wide = expand + growth * (number // every)
                squares = min(max(round(share3x3 * wide), 1), wide - 1)
                layers.append(Fire(channels, max(1, round(squeeze * wide)), (wide - squares, squares), norm, bypass))
                channels = wide
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(channels, num_classes)  # at each place of the map, which is a 1x1 convolution
        self.last = nn.Identity() if version == "small" else nn.ReLU()
        finish(self, norm, init, self.head)
        if init is not None:
            nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        places = self.dropout(self.features(to_channels_last(x))).permute(0, 2, 3, 1)
        scores: Tensor = self.last(self.head(places))
        return scores.mean(dim=(1, 2))
