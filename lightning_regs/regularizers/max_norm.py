"""Max-norm: no unit's incoming weights grow longer than a bound."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.regularizers.base import Regularizer, check_number
from lightning_regs.regularizers.selection import Selection, check_selection, select


def max_norm(weight: Tensor, value: float) -> Tensor:
    r"""Project the incoming weights of each unit on the ball of a radius: :math:`w_i \min(1, c / \lVert w_i \rVert_2)`.

    Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", section 5.1.

    Args:
        weight: One unit an entry of the first dimension: rows ``(N, I)`` of a linear layer, filters ``(N, C, H, W)`` of
            a convolution.
        value: The radius c, above 0.

    Returns:
        The weight, of the same shape; units within the ball are as they were, bit for bit.

    Raises:
        TypeError: If ``value`` is no number.
        ValueError: If ``value`` is not above 0, or ``weight`` has fewer than two dimensions.
    """
    check_number("value", value, open_low=True)
    if weight.ndim < 2:
        raise ValueError(f"max_norm takes weights of at least two dimensions, got shape {tuple(weight.shape)}.")
    precise = torch.promote_types(weight.dtype, torch.float32)
    norms = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True, dtype=precise)
    factors: Tensor = (value / norms).clamp(max=1.0)
    return weight * factors.to(weight.dtype)


class MaxNorm(Regularizer):
    r"""Max-norm regularization (Srivastava et al. 2014, JMLR 15, section 5.1).

    After each optimizer step the vector of incoming weights :math:`w_i` of every unit, a row of a linear layer or a
    filter of a convolution, is projected on the ball of radius c: :math:`w_i \leftarrow w_i \min(1, c / \lVert w_i
    \rVert_2)`. Biases are no part of it. The bound lets a training start with large learning rates, which noise such as
    dropout's makes useful, without the weights blowing up.

    Does not help: with small learning rates or in short trainings, where the bound hardly binds; its use is together
    with dropout, a large learning rate and much momentum. Before a batch norm the length of a filter does not change
    the function, so there the bound acts through the effective learning rate.

    By default it acts on all weights: parameters of at least two dimensions that no normalisation layer owns. The
    first dimension is taken to count the units, so leave transposed convolutions and embeddings out by ``parameters``.
    Frozen parameters and those without a gradient are not touched, and the initial weights only after the first step.

    Composes with every method here, and with dropout; pruned weights stay zero. Not with a second MaxNorm on the same
    parameters, nor with FSDP or DeepSpeed, which cut weights in pieces. Each net of ``Classifier(replicas=...)`` is
    bounded by itself.

    Args:
        value: The radius c, above 0; the paper advises 3 to 4, and has 2 on MNIST.
        parameters: What to act on: None for weights; ``"all"``; a glob of parameter names or a list of them
            (``"encoder.*.weight"``); or a function ``(name, parameter) -> bool``.

    Raises:
        TypeError: At construction, if an argument is of another type.
        ValueError: At construction, if ``value`` is not above 0.
        MisconfigurationException: When training starts, if a glob matches no name, a parameter has one dimension, or
            the strategy cuts weights in pieces.
    """

    def __init__(self, value: float = 3.0, parameters: Selection = None) -> None:
        super().__init__()
        self.value = check_number("value", value, open_low=True)
        self.parameters = check_selection(parameters)
        self._after_step: list[RemovableHandle] = []

    @classmethod
    def variants(cls) -> list[Regularizer]:
        """Return one that binds in small nets."""
        return [cls(value=0.5)]

    @property
    def acts_on_replicas(self) -> bool:
        """Whether it acts on each net of stacked ones alone: a unit's norm does."""
        return True

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Refuse a second bound on the same parameters."""
        if isinstance(other, MaxNorm) and self.parameters == other.parameters:
            return "both bound the same parameters, so the smaller value counts; use one"
        return None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the weights, and see to it that each step ends with the projection."""
        self._release()
        sharded = (pl.strategies.FSDPStrategy, pl.strategies.DeepSpeedStrategy, pl.strategies.ModelParallelStrategy)
        if isinstance(trainer.strategy, sharded):
            raise MisconfigurationException(
                f"MaxNorm needs whole weights, and {type(trainer.strategy).__name__} cuts them in pieces; use DDP."
            )
        units = 2 if getattr(pl_module, "replicas", None) else 1  # the leading dimensions that count them
        selected: set[Any] = set()
        for name, w in select(pl_module, self.parameters, units + 1):
            if w.ndim <= units:
                raise MisconfigurationException(
                    f"MaxNorm bounds the incoming weights of units, and {name!r} of shape {tuple(w.shape)} has none; "
                    "leave it out with `parameters`."
                )
            selected.add(w)
        held = {w for o in trainer.optimizers for group in o.param_groups for w in group["params"]}
        if not any(w in held and w.requires_grad for w in selected):
            self.warn_once(f"found no weight to act on in {type(pl_module).__name__}: none that an optimizer trains.")

        def project(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            trained = (w for group in optimizer.param_groups for w in group["params"] if w.grad is not None)
            for w in (w for w in trained if w in selected):
                w.data.copy_(max_norm(w.data.flatten(0, units - 1), self.value).view_as(w))

        self._after_step = [optimizer.register_step_post_hook(project) for optimizer in trainer.optimizers]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let go of the optimizers."""
        self._release()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let go of the optimizers."""
        self._release()

    def _release(self) -> None:
        for handle in self._after_step:
            handle.remove()
        self._after_step = []
