"""The gradient penalty: what SGD does implicitly, as an explicit term of the loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Annotated, Any, Literal, get_args

import torch
from torch import Tensor

from lightning_regs.core.checks import Count, NotNegative, Positive, Shape, checked
from lightning_regs.core.lightning import (
    MisconfigurationException,
    has_static_graph,
    is_compiled,
    log_epoch,
    pl,
    replace_loss,
)
from lightning_regs.regularizers.base import Acts, Regularizer
from lightning_regs.regularizers.parts.double_backward import outside_autocast, sum_of_squares
from lightning_regs.regularizers.parts.rows import Rows, by_difference
from lightning_regs.regularizers.parts.scaling import loss_scale, scale_of
from lightning_regs.regularizers.parts.second_order import explained, gradients_of, twice_differentiable
from lightning_regs.regularizers.parts.selection import trained

Estimator = Literal["exact", "forward_difference", "central_difference"]


@checked
def gradient_penalty(
    loss: Annotated[Tensor, Shape("...", "floating-point")],
    parameters: Iterable[Tensor],
    coefficient: NotNegative | Tensor,
    scale: Positive | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Return the gradient penalty of one batch, and the gradient's norm.

    Smith, Dherin, Barrett, De, "On the Origin of Implicit Regularization in Stochastic Gradient Descent" (2101.12176):

    .. math:: \frac{\lambda}{4} \, \lVert \nabla C_k(w) \rVert^2

    with the squares summed over all parameters. SGD with learning rate :math:`\epsilon` follows, to first order, the
    gradient flow of the loss with the penalty of :math:`\lambda = \epsilon`.

    Args:
        loss: :math:`C_k`, the mean loss of the batch, a scalar with its graph.
        parameters: What the gradient is taken for; those that the loss does not depend on count as zero.
        coefficient: :math:`\lambda`, at least 0.
        scale: What ``loss`` was multiplied by; the penalty is that of the loss before it.

    Returns:
        The penalty, a scalar with the graph of its own gradient, and :math:`\lVert \nabla C_k \rVert` without a graph.
    """
    if loss.numel() != 1:
        raise ValueError(f"loss must be a scalar, got shape {tuple(loss.shape)}; take its mean.")
    trained = [p for p in parameters if p.requires_grad]
    found = [g for g in gradients_of(loss, trained, create_graph=True) if g is not None]
    squared_norm = sum_of_squares(found) / scale**2 if found else loss.new_zeros(())
    return coefficient / 4 * squared_norm, squared_norm.detach().sqrt()


class GradientPenalty(Regularizer, acts=Acts.LOSS):
    r"""Adds :math:`\lambda/4 \, \lVert \nabla C_k \rVert^2` to the loss of each (micro-)batch k.

    Smith, Dherin, Barrett, De, "On the Origin of Implicit Regularization in Stochastic Gradient Descent" (2101.12176).

    Which batch: the one whose loss is differentiated. A batch that is made of micro-batches (``micro_batch_size`` here,
    ``accumulate_grad_batches`` elsewhere) penalises each of them by itself and averages, which is what lets a large
    batch carry the regularization of small ones; the penalty of the averaged gradient would miss the part that goes as
    1 / batch size. With several processes each penalises its own share of the batch, so more processes mean smaller
    micro-batches and a stronger penalty.

    In ``lightning_regs.Classifier`` it drives manual optimization, with everything that automatic optimization gives;
    Lightning refuses two flags of the Trainer there, which are arguments here: ``gradient_clip_val`` (with
    ``gradient_clip_algorithm``) and ``accumulate_grad_batches``. In any other LightningModule it is exact and acts
    wherever Lightning differentiates a loss, in ``manual_backward`` too, under the Trainer's own flags; the user's loss
    stays as it is.

    Logged, as means over an epoch's micro-batches: ``train/gradient_penalty`` (the term itself),
    ``train/gradient_norm``, ``train/penalty_share`` (the penalty's part of loss + penalty, 0 to 1).

    It does not help where the learning rate is large already: then SGD's own implicit penalty is there. Batch norm
    breaks the theory, because a sample's gradient depends on the others of its batch. Momentum changes the implicit
    strength (about 1 / (1 - momentum) of it), not the explicit one.

    Args:
        coefficient: :math:`\lambda`, at least 0; or ``"lr"``: the current learning rate, which doubles the implicit
            strength of plain SGD and follows its schedule.
        estimator: ``"exact"`` differentiates twice. ``"forward_difference"`` and ``"central_difference"`` take the
            gradient again at parameters moved along it, one or two more passes without a second-order graph; with
            :class:`~lightning_regs.Classifier` only. Batch-norm statistics and dropout masks are those of the first
            pass. On smooth networks they agree with ``"exact"`` to within a percent. With ReLUs they do not, whatever
            the step: units that switch within it bend the loss, which a difference sees and a derivative does not.
        micro_batch_size: Samples whose gradients are penalised together; None for the batch as it comes. The last one
            of a batch may be smaller and weighs by its size.
        gradient_clip_val: Clips the gradient of loss and penalties before the step, see above.
        gradient_clip_algorithm: ``"norm"`` or ``"value"``.
        accumulate_grad_batches: Batches a step, see above.
        step_size: Length of the move in parameter space for the differences, above 0; Geiping et al. found 1e-4 to 1e-2
            to work in float32. Rounding enters the step's gradient times ``coefficient * gradient norm / (2 *
            step_size)``: in bfloat16 and float16 take 0.1 or more.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is outside its range, or a name is unknown.
        MisconfigurationException: When the Trainer starts: differences, micro-batches, clipping or accumulation asked
            of a module that is not the Classifier; ``"exact"`` on a compiled module; ``"lr"`` with several learning
            rates.
    """

    coefficient: Annotated[NotNegative | Literal["lr"], "a number of at least 0 or 'lr'"] = "lr"
    estimator: Estimator = "exact"
    micro_batch_size: Count | None = None
    gradient_clip_val: Positive | None = None
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    accumulate_grad_batches: Count = 1
    step_size: Positive = 1e-2
    twice = "each would penalise the other's gradient; use one with the sum of the coefficients"

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        self._sums: Tensor | None = None
        self._driven = self._inside = self._past = False
        self._forward, self._training = ExitStack(), ExitStack()

    @classmethod
    def variants(cls) -> list[Regularizer]:
        """Return one of each estimator, and one with micro-batches."""
        return [
            *(cls(0.2, estimator, step_size=0.1) for estimator in get_args(Estimator)),
            cls("lr", micro_batch_size=3),
        ]

    # -- any LightningModule -----------------------------------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the module can do what was asked."""
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        self._driven = getattr(pl_module, "driver", None) is self
        if not self._driven:
            self._check_foreign(trainer, pl_module)
        precision = str(trainer.precision)
        if self.estimator != "exact" and ("16" in precision and self.step_size < 0.1):
            self.warn_once(
                f"takes differences over a step of {self.step_size:g} under precision {precision}, where rounding is "
                "as large as the difference; use step_size=0.1 or more."
            )
        self._check_eager(pl_module)

    def _check_eager(self, pl_module: pl.LightningModule) -> None:
        for name, module in pl_module.named_modules() if self.estimator == "exact" else ():
            if is_compiled(module):
                raise MisconfigurationException(
                    "GradientPenalty(estimator='exact') differentiates twice, which torch.compile cannot, and "
                    f"{repr(name) if name else type(pl_module).__name__} is compiled; leave it eager, or use "
                    "estimator='forward_difference' with lightning_regs.Classifier."
                )

    def _check_foreign(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        name = type(pl_module).__name__
        if has_static_graph(trainer):
            raise MisconfigurationException(
                f"DDPStrategy(static_graph=True) would reduce the gradients of {name} before the penalty is in them; "
                "leave static_graph out, or train with lightning_regs.Classifier."
            )
        if self.estimator != "exact":
            raise MisconfigurationException(
                f"GradientPenalty(estimator={self.estimator!r}) takes the loss again at other parameters, which "
                f"{name} gives no way to do; use estimator='exact', or train with lightning_regs.Classifier."
            )
        instead = {
            "micro_batch_size": "batches of that size and Trainer(accumulate_grad_batches=...)",
            "gradient_clip_val": f"Trainer(gradient_clip_val={self.gradient_clip_val})",
            "accumulate_grad_batches": f"Trainer(accumulate_grad_batches={self.accumulate_grad_batches})",
        }
        for argument, flag in instead.items():
            if (value := getattr(self, argument)) != getattr(GradientPenalty, argument):
                raise MisconfigurationException(
                    f"GradientPenalty({argument}={value}) is for lightning_regs.Classifier, which optimizes manually; "
                    f"with {name} use {flag} instead."
                )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the penalty to what is differentiated; warn where there is nothing to penalise."""
        super().on_train_start(trainer, pl_module)
        if any(parameter.requires_grad for parameter in pl_module.parameters()):
            self.at_steps.idle = "did nothing in a whole epoch: Lightning made no backward pass, and it adds to those."
        else:
            self.warn_once(f"found no parameter to act on: all of {type(pl_module).__name__} are frozen.")
        if not self._driven:
            undo = replace_loss(trainer, partial(self.penalised, pl_module), partial(self._differentiating, pl_module))
            self._training.callback(undo)
        for parameter in pl_module.parameters() if not (self._driven or pl_module.automatic_optimization) else ():
            if parameter.requires_grad:
                untyped: Any = parameter
                self._training.callback(untyped.register_post_accumulate_grad_hook(self._accumulated).remove)

    def _accumulated(self, parameter: Tensor) -> None:
        self._past |= not self._inside

    @contextmanager
    def _differentiating(self, pl_module: pl.LightningModule) -> Iterator[None]:
        """Tell the backward passes that it adds to from those that it does not see."""
        self._inside = True
        with explained(pl_module):
            yield
        self._inside = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let the forward pass record layers with a fast second derivative."""
        self._forward.close()
        if self._sums is None:  # the first batch of an epoch, as a module may compile itself in each of its hooks
            self._check_eager(pl_module)
        if not self._driven:
            self._forward.enter_context(twice_differentiable())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Leave torch's layers as they were."""
        self._forward.close()

    def release(self) -> None:
        """Leave torch's layers as they were, where a batch was skipped or broken off too."""
        super().release()
        self._forward.close()
        self._training.close()
        self._inside, self._past, self._sums = False, False, None

    def penalised(self, pl_module: pl.LightningModule, loss: Tensor) -> Tensor:
        """Return the loss of a module that optimizes by itself, with the penalty; as Lightning differentiates it."""
        if loss.numel() != 1:
            raise MisconfigurationException(
                f"GradientPenalty is of a mean loss, one number, and {type(pl_module).__name__} differentiates "
                f"{loss.numel()}, of shape {tuple(loss.shape)}; pass their mean to manual_backward."
            )
        trainer, scale = pl_module.trainer, scale_of(pl_module, loss)
        penalty, norm = gradient_penalty(loss, trained(trainer, pl_module), self.strength(trainer), scale)
        self.record(loss.detach().reshape(()) / scale, penalty.detach(), norm)
        return loss + (penalty * scale).to(loss.dtype)

    # -- our Classifier ----------------------------------------------------------------------------------------------

    def backward(self, rows: Rows) -> Tensor:
        """Accumulate the gradient of loss and penalty of some rows; return their loss."""
        strength = self.strength(rows.trainer)
        with explained(rows.module):
            if self.estimator == "exact":
                with twice_differentiable():
                    loss = rows.loss()
                scale = loss_scale(rows.trainer, loss)
                with outside_autocast(loss):
                    penalty, norm = gradient_penalty(loss * scale, rows.trained, strength, scale)
                    rows.accumulate((loss + penalty) * rows.share)
            else:
                loss, norm = by_difference(rows, strength, self.step_size, self.estimator == "central_difference")
                penalty = strength / 4 * norm.square()
        self.record(loss.detach(), penalty.detach(), norm)
        return loss.detach()

    def strength(self, trainer: pl.Trainer) -> float:
        """Return the coefficient to use now, which follows the learning rate only where there is one."""
        if not isinstance(self.coefficient, str):
            return self.coefficient
        rates = {float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups}
        if len(rates) != 1:
            raise MisconfigurationException(
                f"GradientPenalty(coefficient='lr') follows the learning rate, and there are {len(rates)} "
                f"({', '.join(f'{rate:g}' for rate in sorted(rates))}); give the coefficient as a number."
            )
        return rates.pop()

    def record(self, loss: Tensor, penalty: Tensor, norm: Tensor) -> None:
        """Add one micro-batch to the epoch's means; scalars on the device, without their scale."""
        values = torch.stack([loss.float(), penalty.float(), norm.float(), torch.ones_like(norm, dtype=torch.float)])
        # A step that overflowed is skipped by the scaler, and does not count here either.
        values = torch.where(values.isfinite().all(), values, 0)
        self.at_steps.acted = True
        self._sums = values if self._sums is None else self._sums.add_(values)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's means, and start those of the next."""
        if self._past:
            self.at_steps.idle = ""
            self.warn_once(
                f"is not in the gradients of {type(pl_module).__name__}.training_step that come from loss.backward(); "
                "use self.manual_backward(loss) there."
            )
        super().on_train_epoch_end(trainer, pl_module)
        if self._sums is None:
            return
        loss, penalty, norm, count = trainer.strategy.reduce(self._sums, reduce_op="sum").tolist()
        self._sums = None
        # An epoch whose every micro-batch has diverged has no means.
        count = count or math.nan
        share = penalty / (loss + penalty) if loss + penalty else 0.0 * count
        means = {"train/gradient_penalty": penalty / count, "train/gradient_norm": norm / count}
        log_epoch(pl_module, means | {"train/penalty_share": share})
