"""Maxout: a unit is the largest of some linear pieces."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_regs.core.checks import Count, checked


class Maxout(nn.Module):
    r"""Makes a unit of each ``pieces`` neighbours by their maximum, :math:`h_j = \max_{i < p} z_{j p + i}`.

    Goodfellow, Warde-Farley, Mirza, Courville, Bengio 2013, "Maxout Networks", arXiv:1302.4389, section 3: behind a
    linear layer of K p outputs, an activation of K convex functions that are learned, made to go with dropout. Where
    pieces are equal they share the gradient.

    Shapes: ``(..., K p, ...)`` to ``(..., K, ...)``. ``Classifier(architecture_args={"activation": "maxout"})`` builds
    an MLP of such units; in another net the layer before it needs K p outputs.

    Args:
        pieces: p, how many numbers a unit is the maximum of; the paper's nets on MNIST have 5.
        dim: The dimension that holds them: the last behind linear layers, 1 for maps ``(N, C, H, W)``.

    Raises:
        ValueError: At construction, if ``pieces`` is below 1; in the forward pass, if it does not divide the size.
    """

    @checked
    def __init__(self, pieces: Count = 5, dim: int = -1) -> None:
        super().__init__()
        self.pieces, self.dim = pieces, dim

    def forward(self, x: Tensor) -> Tensor:
        """Return the units."""
        if x.shape[self.dim] % self.pieces:
            raise ValueError(
                f"Maxout takes the largest of each {self.pieces} of dimension {self.dim}, and {tuple(x.shape)} has "
                f"{x.shape[self.dim]} there; give the layer before it a multiple of {self.pieces} outputs."
            )
        return torch.unflatten(x, self.dim, (-1, self.pieces)).amax(self.dim + (self.dim >= 0))

    def extra_repr(self) -> str:
        """Show the number of pieces."""
        return f"pieces={self.pieces}, dim={self.dim}"
