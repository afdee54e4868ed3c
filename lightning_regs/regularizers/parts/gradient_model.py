"""What predicts the gradient of a layer's output: a part of the net while it trains, and of no state of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_regs.core.names import GRADIENT_MODEL


class GradientModel(nn.Module):
    """A perceptron from units ``(N, C, ...)``, and labels ``(N, K)``, to the gradient of each place; zero at first."""

    def __init__(self, features: int, num_classes: int, hidden: Sequence[int], seed: int) -> None:
        super().__init__()
        self.features, widths, layers = features, [features + num_classes, *hidden], list[nn.Module]()
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            for seen, width in itertools.pairwise(widths):
                layers += [nn.Linear(seen, width), nn.BatchNorm1d(width), nn.ReLU()]
            layers.append(nn.Linear(widths[-1], features))
        for zero in layers[-1].parameters():
            nn.init.zeros_(zero)
        self.layers = nn.Sequential(*layers)
        self.register_load_state_dict_post_hook(_lacks_nothing)  # type: ignore[no-untyped-call]

    def forward(self, units: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the predicted gradients of samples' losses, of the shape of the units."""
        places = seen = units.movedim(1, -1)
        if labels is not None:
            each = labels.view(len(labels), *[1] * (units.ndim - 2), -1).expand(*places.shape[:-1], -1)
            seen = torch.cat([places, each.to(places)], -1)
        rows = seen.flatten(0, -2)
        self.layers.train(self.training and len(rows) > 1)  # batch norm has no statistics of one
        return self.layers(rows).view(places.shape).movedim(-1, 1)  # type: ignore[no-any-return]

    def state_dict(self, *args: Any, destination: Any = None, **options: Any) -> Any:
        """Add nothing to the state of the net."""
        return {} if destination is None else destination


def _lacks_nothing(_: nn.Module, keys: Any) -> None:
    keys.missing_keys[:] = [key for key in keys.missing_keys if GRADIENT_MODEL not in key.split(".")]
