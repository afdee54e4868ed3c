"""WeightMask: training of a subnetwork, whose other weights stay exactly zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lightning_regs.core.checks import Range, checked, warn
from lightning_regs.core.lightning import MisconfigurationException, averaged_modules, check_whole_weights, pl
from lightning_regs.pruning.layers import Globs, left_alone, prunable, trained
from lightning_regs.pruning.masks import Mask, plain_names
from lightning_regs.pruning.prune import Scope, emptied, prune, warn_of_emptied
from lightning_regs.regularizers.base import Acts, Regularizer
from lightning_regs.regularizers.parts.stepping import parameters_of

__all__ = ["WeightMask", "zero_pruned"]


@checked
@torch.no_grad()
def zero_pruned(weights: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
    r"""Set pruned weights to zero in place: :math:`w \leftarrow m \odot w`.

    Args:
        weights: Of any shapes, on one device each.
        masks: 0 and 1, a tensor for each weight, of its shape, type and device.
    """
    if [w.shape for w in weights] != [m.shape for m in masks]:
        raise ValueError(
            f"weights and masks must have the same shapes, got {[tuple(w.shape) for w in weights]} and "
            f"{[tuple(m.shape) for m in masks]}."
        )
    if weights:
        torch._foreach_mul_(list(weights), list(masks))


class WeightMask(Regularizer, acts=Acts.WEIGHTS):
    r"""Trains the subnetwork :math:`f(x; m \odot w)` of a mask m, as in the lottery ticket hypothesis (1803.03635).

    What comes out is what training with the mask in the forward pass gives: :math:`\partial L / \partial w \odot m`
    is the gradient that clipping, penalties and the optimizer see, and pruned weights are exactly zero at every step,
    through momentum, Adam's moments, weight decay, loss scaling, accumulation and several processes. When training
    starts, pruned weights and their optimizer state are set to zero, and so are the averages of Lightning's
    ``WeightAveraging``, ``EMAWeightAveraging`` and ``StochasticWeightAveraging``; what other callbacks put into the
    module for validation, or in the end, is masked there. The module stays what it is, with the keys of its
    ``state_dict``; the mask is saved with the callback. Without a Trainer that fits, nothing happens.

    The mask is the one given, or it is determined once, when training starts; a training that is resumed from a
    checkpoint takes the checkpoint's unless one was given, and so does a second ``fit`` with this object. ``mask``
    can be read and set between trainings; set it to None to have it determined anew.

    Does not help: masked training takes as long as dense training, as zeros are multiplied like other numbers; on CPUs
    choose ``fused=True`` for Adam, whose other forms take roots of zeros, slowly. A random or reinitialised subnetwork
    is worse than the dense one at the densities where a winning ticket is not.

    Composes with every method here, but not with a second WeightMask. Not with FSDP or DeepSpeed, which cut weights in
    pieces. LBFGS that resumes from a training without the mask may follow the old directions for one history.

    Attributes:
        mask: The :class:`~lightning_regs.pruning.Mask`, or None before it is determined.
        frozen: Whether what is pruned stays at the value that it has when training starts, instead of zero; to be set
            before, and not saved.

    Args:
        mask: Parameter name -> which weights are kept, a :class:`~lightning_regs.pruning.Mask` or what makes one.
        density: Share of weights to keep, in (0, 1]: those of the greatest magnitude when training starts, to within
            the rounding of :func:`~lightning_regs.pruning.prune`, among those that an optimizer trains: a teacher or an
            average stays as it is, and a warning says so. Default: neither this nor a mask, where what is
            exactly zero among the prunable weights when training starts is what stays so.
        scope: Whether magnitudes are compared over all weights, ``"global"``, or within each ``"layer"``.
        layers: What can be pruned, see :func:`~lightning_regs.pruning.prunable`. Default: all weights of linear and
            convolutional layers. Of no meaning for a mask that is given.

    Raises:
        TypeError: At construction, if an argument is of another type.
        ValueError: At construction, if a mask has other values than 0 and 1, ``density`` is outside (0, 1], a mask
            comes with ``density`` or ``layers``, or ``scope`` is unknown.
        MisconfigurationException: When training starts, if the module lacks a parameter of the mask or has it in
            another shape, there is nothing to prune, ``density`` would leave nothing of a layer (``"global"``: of all
            weights), or the checkpoint's mask is of another ``density``.
    """

    sees_initial_weights = "has set pruned ones to zero"
    twice = "Lightning saves one of a kind; use one WeightMask with both masks in it"

    @checked
    def __init__(
        self,
        mask: Mask | Mapping[str, Tensor] | None = None,
        density: Annotated[float, Range(above=0, high=1)] | None = None,
        scope: Scope = "global",
        layers: Globs | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"density": density, "layers": layers}.items():
            if mask is not None and value is not None:
                raise ValueError(f"{name}={value!r} says what to prune, and so does the mask; give one of the two.")
        self._held: dict[nn.Parameter, tuple[Tensor, Tensor | float]] = {}  # their masks, and what they are held at
        self._handles: list[RemovableHandle] = []
        self._accumulating = False
        self.mask = mask
        self.frozen = False
        self.density = density
        self.scope = scope
        self.layers = layers
        self.acts_on_replicas = density is None  # as a mask does, and pruning to a density would not

    @classmethod
    def variants(cls) -> list[Regularizer]:
        """Return one that compares all weights, and one that goes layer by layer."""
        return [cls(density=0.5), cls(density=0.3, scope="layer")]

    @property
    def mask(self) -> Mask | None:
        """Which weights are kept; None before it is determined."""
        return self._mask

    @mask.setter
    def mask(self, mask: Mask | Mapping[str, Tensor] | None) -> None:
        if self._handles:
            raise MisconfigurationException("a training goes on with the mask that it started with; set it afterwards.")
        self._mask = mask if mask is None or isinstance(mask, Mask) else Mask(mask)
        self._given = mask is not None
        self._saved_density: float | None = None

    # -- when training starts and ends -------------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Determine the mask, set pruned weights and their optimizer state to zero, and see to it that they stay."""
        check_whole_weights("WeightMask", trainer)
        if None not in (self.density, self._saved_density) and self.density != self._saved_density:
            raise MisconfigurationException(
                f"the checkpoint's mask was made with density={self._saved_density:g}, and WeightMask(density="
                f"{self.density:g}) would go on with it; use the density it was made with, or start from its weights "
                "without ckpt_path."
            )
        super().on_train_start(trainer, pl_module)
        self._held = {}
        if self._mask is None:
            try:
                found = self._determine(pl_module, trainer.optimizers)
            except ValueError as error:
                raise MisconfigurationException(f"WeightMask finds no mask: {error}") from error
            # From one copy of the weights, as rounding could differ between devices.
            self._mask = Mask(trainer.strategy.broadcast(found.state_dict()))
        own = self._masked(pl_module, self._mask)
        values = [w.detach().clone() if self.frozen and not kept.all() else 0.0 for w, kept in own.items()]
        for module in (pl_module, *averaged_modules(trainer)):
            for (w, kept), value in zip(self._masked(module, self._mask).items(), values, strict=True):
                _hold(w, kept, value)
                if module is pl_module and not kept.all():
                    # Like the weight in its memory format too, or each product would reorder it.
                    mask = torch.empty_like(w, requires_grad=False).copy_(kept)
                    self._held[w] = mask, value
                    self._handles += self._hooks(w, mask)
                for optimizer in trainer.optimizers:
                    for name, moment in optimizer.state[w].items() if w in optimizer.state else ():
                        if isinstance(moment, Tensor) and moment.shape == w.shape and name != "step":
                            _hold(moment, kept)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Act after each step, and after all others that do, as they have seen to it when training started."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if self._held:
            self.at_steps.after(self._hold_stepped)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Mask what another callback has put into the module for a validation within training."""
        if batch_idx == 0:
            self._hold_all()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mask what another callback has put into the module in the end; let go of optimizers and gradients."""
        self._hold_all()
        self.release()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mask what a later callback has put into the module when training ended; let go of its parameters."""
        self._hold_all()
        self._held = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let go of the parameters and optimizers of this training."""
        self.release()
        self._held = {}

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Have gradients masked where they accumulate, in place, which spares a copy of each."""
        self._accumulating = True

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have gradients masked wherever they are computed."""
        self._accumulating = False

    # -- what is saved -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the mask and, where it was made for one, the density."""
        return {} if self._mask is None else {"mask": self._mask.state_dict(), "density": self.density}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the mask of a checkpoint, unless one was given."""
        if "mask" in state_dict and not self._given:
            self._mask = Mask(state_dict["mask"]).to("cpu")
            self._saved_density = state_dict.get("density")

    # -- how ---------------------------------------------------------------------------------------------------------

    def _determine(self, module: nn.Module, optimizers: Sequence[Optimizer] = ()) -> Mask:
        found = prunable(module, self.layers)
        # What is zero stays so whoever trains it; what nobody trains cannot make up for what it lost.
        found = found if self.density is None else trained(found, optimizers)
        weights = {name: w.detach().cpu() for name, w in found.items()}
        if self.density is None:
            mask = Mask({name: w != 0 for name, w in weights.items()})
            if mask.kept == mask.total:
                self.warn_once("was given neither a mask nor a density, and no weight is zero: nothing is pruned.")
            return mask
        dense = Mask.dense(weights)
        if self.density == 1:
            return dense
        mask = prune({name: w.abs() for name, w in weights.items()}, dense, 1 - self.density, self.scope)
        gone = emptied(dense, mask)
        if not mask.kept or (gone and self.scope == "layer"):
            whose = repr(gone[0]) if self.scope == "layer" else f"the {mask.total} weights"
            raise MisconfigurationException(
                f"WeightMask(density={self.density:g}) would keep nothing of {whose}; use a greater density, or choose "
                "other `layers`."
            )
        warn_of_emptied(gone)
        if self.layers is None and (left := left_alone(module, mask, optimizers)):
            warn(f"WeightMask(density={self.density:g}) prunes among {left}; give a Mask to prune those too.")
        if mask.kept == mask.total:
            self.warn_once(f"has density={self.density:g} of {mask.total} weights, which is all: nothing is pruned.")
        return mask

    @staticmethod
    def _masked(module: nn.Module, mask: Mask) -> dict[nn.Parameter, Tensor]:
        """Return each parameter that has a mask -> that mask, on its device; a shared one comes once."""
        parameters = dict(module.named_parameters(remove_duplicate=False))
        actual = plain_names(parameters)
        try:
            mask.check(parameters)
        except ValueError as error:
            raise MisconfigurationException(f"{type(module).__name__} and the mask do not fit: {error}") from error
        found: dict[nn.Parameter, Tensor] = {}
        for name, kept in mask.items():
            w = parameters[actual[name]]
            kept = kept.to(w.device)
            if w in found and not torch.equal(found[w], kept):
                raise MisconfigurationException(
                    f"{name!r} shares its weights with a parameter of another mask; leave one of the two masks out."
                )
            found[w] = kept
        return found

    def _hooks(self, weight: nn.Parameter, mask: Tensor) -> list[RemovableHandle]:
        """Let every gradient of a weight be masked, by backward() and autograd.grad alike."""

        def in_place(gradient: Tensor) -> bool:
            # A gradient on its way may be that of other parameters too; once in .grad it is the weight's own.
            return self._accumulating and not torch.is_grad_enabled() and gradient.layout == torch.strided

        def on_its_way(gradient: Tensor) -> Tensor | None:
            return None if in_place(gradient) else gradient * mask

        def accumulated(weight: Tensor) -> None:
            if weight.grad is not None and in_place(weight.grad):
                weight.grad.mul_(mask)

        frozen = not weight.requires_grad
        try:
            # A weight that is frozen now may be trained later, and a hook asks for one that is trained.
            weight.requires_grad_(True)
            untyped: Any = weight
            return [untyped.register_hook(on_its_way), untyped.register_post_accumulate_grad_hook(accumulated)]
        finally:
            weight.requires_grad_(not frozen)

    def _hold_stepped(self, optimizer: Optimizer) -> None:
        weights = [w for w in parameters_of(optimizer) if w in self._held]
        if self.frozen:
            for w in weights:
                _hold(w, *self._held[w])
        elif weights:
            torch._foreach_mul_(weights, [self._held[w][0] for w in weights])

    def _hold_all(self) -> None:
        for w, held in self._held.items():
            _hold(w, *held)

    def release(self) -> None:
        """Let go of optimizers and gradients."""
        super().release()
        for handle in self._handles:
            handle.remove()
        self._handles, self._accumulating = [], False


@torch.no_grad()
def _hold(weight: Tensor, kept: Tensor, value: Tensor | float = 0.0) -> None:
    """Set a weight to a value in place, NaN too, but for what is kept by a mask of its shape, all on any device."""
    value = value.to(weight) if isinstance(value, Tensor) else value
    weight.copy_(torch.where(kept.to(weight.device) != 0, weight, value))
