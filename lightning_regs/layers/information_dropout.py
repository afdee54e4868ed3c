"""Information dropout: noise that a net learns to add wherever it can do without what is there."""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lightning_regs.core.checks import Positive, Shape, checked

_LEAST = 1e-3  # of the noise, for its logarithm; the authors' code has it too
Units = Annotated[Tensor, Shape("N ...", "floating-point")]


@checked
def log_uniform_information(alpha: Units, max_alpha: Positive) -> Tensor:
    r"""Return what noisy rectified units tell about a sample, in nats: :math:`-\log(\alpha / \alpha_{max})`.

    It is the divergence of :math:`\log z \sim N(\log f, \alpha^2)` from a uniform prior, which does not depend on f,
    less that of the greatest noise. Achille & Soatto, "Information Dropout", arXiv:1611.01353, proposition 3; as in
    their code, a unit that is 0 counts like all others.

    Args:
        alpha: The noise :math:`\alpha` of each unit ``(N, ...)``.
        max_alpha: The greatest noise that there can be.

    Returns:
        The information of each unit ``(N, ...)``, at least 0.
    """
    return -torch.log(alpha / max_alpha)


@checked
def log_normal_information(units: Units, alpha: Units, mean: Tensor, std: Tensor) -> Tensor:
    r"""Return what noisy positive units tell about a sample: :math:`KL(N(\log f, \alpha^2) \| N(\mu, \sigma^2))`.

    Achille & Soatto, "Information Dropout", arXiv:1611.01353, proposition 4.

    Args:
        units: The units f ``(N, ...)`` without noise; below 1e-4 they count as that, as in the authors' code.
        alpha: The noise :math:`\alpha` of each of them.
        mean: :math:`\mu`, a scalar or one a unit.
        std: :math:`\sigma`, above 0, alike.

    Returns:
        The information of each unit in nats ``(N, ...)``, at least 0.
    """
    away = torch.log(units.clamp_min(1e-4)) - mean
    return torch.log(std / alpha) + (alpha.square() + away.square()) / (2 * std.square()) - 0.5


class InformationDropout(nn.Module):
    r"""A layer whose activations f get noise of a learned strength: :math:`z = f(x) e^{\alpha(x) \epsilon}`.

    Achille & Soatto, "Information Dropout: Learning Optimal Representations Through Noisy Computation",
    arXiv:1611.01353. :math:`\epsilon \sim N(0, 1)`, and :math:`\alpha(x) = 0.001 + \alpha_{max} \, sigmoid(s(x))`
    with a second layer s of the same kind and input. What z tells about x costs: the loss gains it by an
    :class:`~lightning_regs.layers.InformationPenalty`, without which the net learns to have no noise. The prior of z
    is log-uniform for ReLU and log-normal, with learned mean and deviation, for softplus.

    In evaluation there is no noise. The mean of the noise is :math:`e^{\alpha^2 / 2}` and not 1, so the statistics of a
    batch norm behind it are of other units than in evaluation; the authors estimate them anew, without noise, at the
    end. The activation is part of the layer; a ReLU behind it changes nothing. In a net, and not in the place of the
    layer that makes the logits: ``Classifier(layers=[{"replace": "Linear", "named": "body.*", "by":
    "InformationDropout"}], regularizers=[InformationPenalty()])``.

    Args:
        layer: A linear or convolutional layer, or a ``Sequential`` that begins with one; its shapes are the shapes
            here. It is kept as ``layer``; s is ``noise``, with new weights.
        activation: ``"relu"`` or ``"softplus"``.
        max_alpha: :math:`\alpha_{max}`, above 0; the paper has 0.7 on CIFAR-10.

    Raises:
        TypeError: If the layer is of another kind.
        ValueError: If a name is unknown or a number out of range.
    """

    @checked
    def __init__(
        self, layer: nn.Module, activation: Literal["relu", "softplus"] = "relu", max_alpha: Positive = 0.7
    ) -> None:
        super().__init__()
        first: Any = layer[0] if isinstance(layer, nn.Sequential) and len(layer) else layer
        if not isinstance(first, (nn.Linear, _ConvNd)):
            raise TypeError(f"layer must be or begin with a linear or convolutional one, got {layer!r}.")
        self.layer, self.noise, self.activation, self.max_alpha = layer, copy.deepcopy(first), activation, max_alpha
        self.noise.reset_parameters()
        if activation == "softplus":
            self.prior_mean, self.prior_log_std = (nn.Parameter(first.weight.new_zeros(())) for _ in range(2))
        # The nats a sample of each training pass, while something adds them to a loss; else they are not computed.
        self.passes: list[Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch as the layer and its activation do, in training with noise."""
        units: Tensor = getattr(F, self.activation)(self.layer(x))
        if not self.training:
            return units
        # In at least float32, so that each precision draws the same noise.
        wide = torch.promote_types(units.dtype, torch.float32)
        alpha = _LEAST + self.max_alpha * torch.sigmoid(self.noise(x).to(wide))
        if self.passes is not None:
            self.passes.append(self._information(units.to(wide), alpha).sum() / len(units))
        return units * torch.exp(alpha * torch.randn_like(alpha)).to(units.dtype)

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"activation={self.activation!r}, max_alpha={self.max_alpha}"

    def _information(self, units: Tensor, alpha: Tensor) -> Tensor:
        if self.activation == "relu":
            return log_uniform_information(alpha, _LEAST + self.max_alpha)
        return log_normal_information(units, alpha, self.prior_mean, self.prior_log_std.exp())
