"""Information dropout: noise that a net learns to add wherever it can do without what is there."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C import _functorch
from torch.nn.modules.conv import _ConvNd

from lightning_regs.core.checks import Positive, checked

_LEAST = 1e-3  # of the noise, for its logarithm; the authors' code has it too


class InformationDropout(nn.Module):
    r"""A layer whose activations f get noise of a learned strength: :math:`z = f(x) e^{\alpha(x) \epsilon}`.

    Achille & Soatto, "Information Dropout", arXiv:1611.01353. :math:`\epsilon \sim N(0, 1)`, and :math:`\alpha(x) =
    0.001 + \alpha_{max} \, sigmoid(s(x))` with a second layer s of the same kind and input. What z tells about x, see
    :meth:`information`, enters the loss by an :class:`~lightning_regs.layers.InformationPenalty`, without which the net
    learns to have no noise.

    In evaluation there is no noise. Its mean is :math:`e^{\alpha^2 / 2}` and not 1, so a batch norm behind it has seen
    other units than it gets in evaluation; :func:`~lightning_regs.layers.update_batch_norm` estimates its statistics
    anew, without noise, as the authors do at the end. The activation is part of the layer, and a ReLU behind it changes
    nothing; so it is not for the layer that makes the logits: ``Classifier(layers=[{"replace": "Linear", "named":
    "body.*", "by": "InformationDropout"}], regularizers=[InformationPenalty()])``.

    Args:
        layer: A linear or convolutional layer, or a ``Sequential`` that begins with one; its shapes are the shapes
            here. It is kept as ``layer``; s is ``noise``, with new weights.
        activation: ``"relu"``, with a log-uniform prior of z, or ``"softplus"``, with a log-normal one that is learned.
        max_alpha: :math:`\alpha_{max}`, above 0; the authors have 0.7 on CIFAR-10.

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
        # A weight that is computed, by a parametrization or a hook, would not be drawn anew.
        if not isinstance(first, (nn.Linear, _ConvNd)) or "weight" not in first._parameters:
            raise TypeError(f"layer must be or begin with a plain linear or convolutional one, got {layer!r}.")
        self.layer, self.noise, self.activation, self.max_alpha = layer, copy.deepcopy(first), activation, max_alpha
        self.noise.reset_parameters()
        for weight in self.noise.parameters():
            weight.requires_grad = True  # also beside a layer that is frozen
        if activation == "softplus":
            at: Any = {"dtype": first.weight.dtype, "device": first.weight.device}
            self.prior_mean, self.prior_log_std = (nn.Parameter(torch.zeros((), **at)) for _ in range(2))
        # The nats a sample of each training pass, () or of stacked nets (R,), while something adds them to a loss; else
        # they are not computed.
        self.passes: list[Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch as the layer and its activation do, in training with noise."""
        units: Tensor = getattr(F, self.activation)(self.layer(x))
        if not self.training:
            return units
        # In at least float32, so that each precision draws the same noise.
        wide = torch.promote_types(units.dtype, torch.float32)
        alpha = _LEAST + self.max_alpha * torch.sigmoid(self.noise(x).to(wide))
        if self.passes is not None and torch.is_grad_enabled():  # else of no loss, as a pass of monte_carlo
            nats = self.information(units.to(wide), alpha).sum() / len(units)
            # Of stacked nets those of all, (R,): what vmap hands to a layer is of no use after it.
            self.passes.append(_functorch.get_unwrapped(nats) if _functorch.is_batchedtensor(nats) else nats)
        return units * torch.exp(alpha * torch.randn_like(alpha)).to(units.dtype)

    def information(self, units: Tensor, alpha: Tensor) -> Tensor:
        r"""Return what each unit f with noise of strength alpha tells about its sample, in nats.

        It is z's divergence from the prior. For softplus :math:`KL(N(\log f, \alpha^2) \| N(\mu, \sigma^2))`, as in
        proposition 4; for ReLU :math:`-\log(\alpha / (0.001 + \alpha_{max}))`, that of proposition 3 less its value at
        the greatest noise. As in the authors' code, this holds at a ReLU's zeros too, and f counts as 1e-4 below it.
        """
        if self.activation == "relu":
            return -torch.log(alpha / (_LEAST + self.max_alpha))
        away, log_std = torch.log(units.clamp_min(1e-4)) - self.prior_mean, self.prior_log_std
        return log_std - torch.log(alpha) + (alpha.square() + away.square()) / (2 * torch.exp(2 * log_std)) - 0.5
