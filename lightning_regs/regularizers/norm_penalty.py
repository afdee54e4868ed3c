"""Norm penalties: L1 and L2 of the weights, in the gradient or decoupled from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_regs.core.checks import NotNegative, checked
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.regularizers.base import Acts, Regularizer, example, regularizers_of
from lightning_regs.regularizers.parts.scaling import scale_left
from lightning_regs.regularizers.parts.selection import Parameters, select
from lightning_regs.regularizers.parts.stepping import calls_its_closure_once

# Parameters of one learning rate; how far they decay; 1 where they do and 0 where not, in a tensor where a scaler may
# skip the step; what is taken off after it, where that is not what is there then.
Decay = tuple[list[Tensor], Any, Tensor | float, list[Tensor] | None]


@checked
def norm_penalty(parameters: Iterable[Tensor], p: Literal[1, 2] = 2) -> Tensor:
    r"""Return the penalty: :math:`\sum |w|` for p = 1, :math:`\frac{1}{2} \sum w^2` for p = 2.

    Its gradient is sign(w) for p = 1 (0 at 0), and w for p = 2.

    Args:
        parameters: At least one tensor.
        p: 1 or 2.

    Returns:
        A scalar, differentiable.

    Raises:
        ValueError: If ``p`` is neither 1 nor 2, or there are no parameters.
    """
    parts = [w.abs().sum() if p == 1 else 0.5 * w.square().sum() for w in parameters]
    if not parts:
        raise ValueError("norm_penalty needs at least one parameter, got none.")
    return torch.stack(parts).sum()


class NormPenalty(Regularizer, acts=Acts.GRADIENTS):
    r"""L1 and L2 penalties of the weights (Krogh & Hertz 1991), coupled or decoupled (arXiv:1711.05101).

    Coupled, the loss gains :math:`c \sum |w|` (p = 1) or :math:`\frac{c}{2} \sum w^2` (p = 2): its gradient is added to
    the accumulated, unscaled and all-reduced one before it is clipped, once an optimizer step. With p = 2 that is what
    ``weight_decay`` of ``torch.optim.SGD`` does. Decoupled, the weights themselves move, past momentum and adaptive
    scaling: for p = 2 by :math:`w \leftarrow w (1 - \eta c)` before the step, as ``AdamW`` does; for p = 1 by the soft
    threshold :math:`w \leftarrow sign(w) \max(|w| - \eta c, 0)` after it, the proximal gradient step, which gives exact
    zeros. :math:`\eta` is the learning rate of the parameter's group at that step. The logged loss does not contain the
    penalty.

    By default it acts on weights alone: parameters of at least two dimensions that no normalisation layer owns; biases
    and the scales of norms are left out. Frozen parameters and those without a gradient are skipped, and where a
    ``GradScaler`` skips a step, nothing moves.

    Does not help: the scale of weights before a batch norm does not change the function, so there L2 acts through the
    effective learning rate; coupled L2 under Adam is weakest where gradients are large. It adds to the ``weight_decay``
    of the optimizer, which for ``AdamW`` is 0.01 unless set to 0.

    Composes with every method here; p = 1 and p = 2 together are the elastic net. Not with another NormPenalty of the
    same p on the same parameters. Not with FSDP's flattened parameters, nor, coupled, with sparse gradients. With
    SAM by ``first_step`` and ``second_step`` instead of ``step`` a coupled penalty is in the second gradient alone.

    Args:
        coefficient: c, at least 0.
        p: 1 or 2.
        decoupled: Move the weights instead of adding to the gradient.
        parameters: What to act on: None for weights; ``"all"``; a glob of parameter names or a list of them
            (``"encoder.*.weight"``); or a function ``(name, parameter) -> bool``.

    Raises:
        TypeError: At construction, if ``parameters`` is of another type.
        ValueError: At construction, if ``coefficient`` is negative or ``p`` neither 1 nor 2.
        MisconfigurationException: When training starts, if a glob matches no name, or another NormPenalty does the same
            to the same parameters; at a step, if a gradient is sparse.
    """

    coefficient: NotNegative = example(1e-2, default=1e-4)
    p: Literal[1, 2] = example(2, 1)
    decoupled: bool = example(False, True)
    parameters: Parameters = None
    acts_on_replicas = True  # as each weight's penalty does

    @property
    def in_graph(self) -> bool:  # type: ignore[override]
        """Whether a captured step can contain it: all but a soft threshold, which is a number of the learning rate."""
        return not (self.decoupled and self.p == 1)

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Refuse a second penalty of the same p on parameters that are known to be the same."""
        if not isinstance(other, NormPenalty) or other.p != self.p:
            return None
        if self.parameters == other.parameters or "all" in (self.parameters, other.parameters):
            return f"both penalise the L{self.p} norm of the same parameters; use one with the sum of the coefficients"
        return None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the parameters to act on."""
        if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in trainer.optimizers):
            raise MisconfigurationException(
                "NormPenalty changes gradients once a step, and LBFGS takes many of them with a loss that would not "
                "contain the penalty; add lightning_regs.functional.norm_penalty to the loss in your training_step."
            )
        super().on_train_start(trainer, pl_module)
        named = select(pl_module, self.parameters)
        self._selected = {id(w): name for name, w in named}
        for other in regularizers_of(trainer):
            if isinstance(other, NormPenalty) and other is not self and other.p == self.p:
                for name in (other._selected[i] for i in self._selected if i in other._selected):
                    raise MisconfigurationException(
                        f"two NormPenalty(p={self.p}) act on {name!r}; let their `parameters` not overlap."
                    )
        if not self.coefficient:
            return
        if self.decoupled:
            self.at_steps.act(self._begin_decay, self._decay)
        else:
            self.at_steps.change_gradients(lambda optimizer: self._add(trainer, optimizer))
        which = "a weight of at least two dimensions" if self.parameters is None else "selected"
        where = f"parameter to act on in {type(pl_module).__name__}"
        self.check_found(trainer, {w for _, w in named}, where, f" is {which}")

    @torch.no_grad()
    def _add(self, trainer: pl.Trainer, optimizer: Optimizer) -> bool:
        """Add to the gradients of an optimizer."""
        chosen = self._chosen(optimizer)
        for weights, _ in chosen:
            gradients = [w.grad for w in weights if w.grad is not None]
            for w, gradient in zip(weights, gradients, strict=True):
                if gradient.is_sparse:
                    raise MisconfigurationException(
                        f"NormPenalty cannot add to the sparse gradient of {self._selected[id(w)]!r}; leave it out "
                        "with `parameters`, or use decoupled=True."
                    )
            terms = list(torch._foreach_sign(weights)) if self.p == 1 else weights
            if (scale := scale_left(trainer, optimizer, weights[0].device)) is not None:
                terms = list(torch._foreach_mul(terms, scale))
            torch._foreach_add_(gradients, terms, alpha=self.coefficient)
        return bool(chosen)

    def _begin_decay(self, optimizer: Optimizer) -> list[Decay]:
        """Decay as AdamW does, before the step, or return what and by how much to decay after it."""
        # The scaler calls no step that it skips, but for fused optimizers, which it tells by this attribute.
        found_inf: Tensor | None = getattr(optimizer, "found_inf", None)
        found: list[Decay] = []
        for weights, lr in self._chosen(optimizer):
            device, strength = weights[0].device, lr * self.coefficient
            active = 1.0 if found_inf is None else (found_inf.to(device, non_blocking=True) == 0).float()
            # A learning rate in a tensor is not looked at: reading it would wait for its device.
            if self.p == 2 and not isinstance(strength, Tensor) and strength > 1:
                raise MisconfigurationException(
                    f"NormPenalty(coefficient={self.coefficient:g}, decoupled=True) at the learning rate {lr:g} would "
                    "turn the sign of the weights, as their product is above 1; lower one of the two."
                )
            away = None
            if self.p == 2 and calls_its_closure_once(optimizer):
                torch._foreach_mul_(weights, 1 - strength * active)
            elif self.p == 2:
                # The next gradient is of a move from these weights, and would be of a move from smaller ones.
                away = list(torch._foreach_mul(weights, strength))
            found.append((weights, strength, active, away))
        return found

    def _decay(self, found: Sequence[Decay]) -> None:
        """Take off what was not yet taken off before the step."""
        for weights, strength, active, away in found:
            if self.p == 1:
                # w - clamp(w, -s, s) is the soft threshold.
                away = list(torch._foreach_clamp_max(weights, float(strength)))
                torch._foreach_clamp_min_(away, -float(strength))
                if isinstance(active, Tensor):
                    torch._foreach_mul_(away, active)
            if away is not None:
                torch._foreach_sub_(weights, away)

    def _chosen(self, optimizer: Optimizer) -> list[tuple[list[Tensor], Any]]:
        """Return the parameters to act on, by learning rate and device."""
        chosen: dict[tuple[int, torch.device], list[Tensor]] = {}
        for i, group in enumerate(optimizer.param_groups):
            for w in group["params"]:
                if id(w) in self._selected and w.grad is not None and w.requires_grad:
                    chosen.setdefault((i, w.device), []).append(w)
        return [(weights, optimizer.param_groups[i]["lr"]) for (i, _), weights in chosen.items()]
