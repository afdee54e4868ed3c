"""L0: gates on the inputs of layers learn to close, so that whole units go."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
from torch import nn

from lightning_regs.core.checks import NotNegative, Range, Seed
from lightning_regs.core.lightning import (
    MisconfigurationException,
    averaged_modules,
    check_whole_weights,
    log_epoch,
    pl,
)
from lightning_regs.core.names import uncompiled
from lightning_regs.pruning.gates import HardConcrete, add_gates, gates_of, has_gates, remove_gates
from lightning_regs.pruning.layers import Globs
from lightning_regs.regularizers.base import Acts, Regularizer, example, regularizers_of
from lightning_regs.regularizers.parts.scaling import scale_left
from lightning_regs.regularizers.parts.stepping import parameters_of
from lightning_regs.regularizers.weight_mask import WeightMask


class L0(Regularizer, acts=Acts.GRADIENTS):
    r"""L0 regularization by hard-concrete gates (Louizos, Welling, Kingma 2018, arXiv:1712.01312).

    Each input of a linear layer, and each channel that enters a convolution, is multiplied by a gate z in [0, 1], see
    :func:`~lightning_regs.functional.hard_concrete`, which is drawn for each batch, the same for its samples, and
    learned: the loss gains :math:`c \sum_g n_g P(z_g \ne 0)`, c times the expected number of weights that are not
    zero, :math:`n_g` of them behind gate g. As with :class:`~lightning_regs.NormPenalty` its gradient, in closed form,
    is added to the accumulated, unscaled and all-reduced one before it is clipped, once an optimizer step, and the
    logged loss does not contain it. Validation, test and prediction have the deterministic gates of the paper.
    :func:`~lightning_regs.pruning.compact` returns the trained net without what is pruned::

        Trainer(callbacks=[L0(0.1 / 60_000)]).fit(module, data)
        small = compact(module.network)

    When a Trainer starts the module's layers get their gates, ``l0_gate.log_alpha``, before optimizers are made, by
    ``configure_model`` where layers are made there. They belong to the module, to its ``parameters()`` and
    ``state_dict``; put them into another one that is to load it by :func:`~lightning_regs.pruning.add_gates`. Weights
    that are frozen or that no optimizer trains, a teacher's or an average's, have none in the end. Logged once an
    epoch: ``train/expected_l0``.

    Does not help: a net that is too small already; what is pruned early hardly comes back, so a large coefficient or
    learning rate may close all of a layer. The ``weight_decay`` of an optimizer acts on ``log_alpha`` too.

    Composes with every method here but ``WeightMask``: a mask and gates would both decide which weights are there. With
    replicas each net has its own gates. Not with parametrized weights (weight norm), FSDP, DeepSpeed, or
    ``ddp_spawn``; and a callback that averages weights has to stand after it.

    Args:
        coefficient: c, at least 0; the paper's is 0.1 / number of training samples.
        initial_dropout: p in (0, 1), about the probability that a gate is closed at first; the paper has 0.2 for the
            net's inputs and 0.5 elsewhere, which two L0 with other ``layers`` are.
        layers: Glob or list of globs of parameter or module names; default: all linear and convolutional layers.
        seed: Seed of the noise; default: what ``seed_everything`` was given, else 0.

    Raises:
        TypeError: At construction, if an argument is of another type.
        ValueError: At construction, if a number is outside its range.
        MisconfigurationException: When the Trainer starts, if there is nothing to gate, another L0 has gated it, an
            optimizer trains a weight and not the gates before it or is LBFGS, or the strategy cuts weights.
    """

    coefficient: NotNegative = example(1e-2, default=2e-6)
    initial_dropout: Annotated[float, Range(above=0, below=1)] = 0.5
    layers: Globs | None = None
    seed: Seed | None = None
    acts_on_replicas = True  # as each gate does

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        self._gates: dict[str, HardConcrete] = {}
        self._hook: Any = None

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Refuse a mask beside gates."""
        if isinstance(other, WeightMask):
            return "a mask and gates both decide which weights are there; leave one of the two out"
        if isinstance(other, L0) and (self.layers == other.layers or None in (self.layers, other.layers)):
            return "both would gate the same layers; use one, or let their `layers` not overlap"
        return None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the module its gates, before optimizers are made and a checkpoint is restored."""
        super().setup(trainer, pl_module, stage)
        module: Any = pl_module
        self._hook = module.register_load_state_dict_pre_hook(self._before_loading)
        if stage != "fit":
            return
        check_whole_weights("L0", trainer)
        pl_module.configure_model()  # by Lightning's rule a second call changes nothing
        others = [other for other in regularizers_of(trainer) if isinstance(other, L0) and other is not self]
        self.extend(pl_module)
        for name in (name for other in others for name in self._gates if name in other._gates):
            raise MisconfigurationException(f"two L0 act on {name!r}; let their `layers` not overlap.")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the module's loading as it was."""
        self.release()

    def _before_loading(self, module: nn.Module, state: Mapping[str, Any], *_: Any) -> None:
        """Give a module the gates of its checkpoint."""
        if has_gates(state):
            self.extend(module, state)

    def extend(self, module: nn.Module, state: Mapping[str, Any] | None = None) -> None:
        """Give a module's layers their gates; of those for a state the ones that are in it."""
        try:
            self._gates = add_gates(module, self.layers, self.initial_dropout)
        except ValueError as error:
            raise MisconfigurationException(f"L0 finds nothing to gate: {error}") from error
        if state is not None:
            saved = set(map(uncompiled, state))
            # What no optimizer trained, or was frozen then, has none there.
            self._leave(module, [name for name in self._gates if f"{name}.l0_gate.log_alpha" in saved])

    def _leave(self, module: nn.Module, names: Collection[str]) -> None:
        """Take the gates off all layers but these."""
        layers = {uncompiled(name): part for name, part in module.named_modules()}
        for name in self._gates.keys() - names:
            remove_gates(layers[name])
            del self._gates[name]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See to it that what is trained is gated, and nothing else."""
        super().on_train_start(trainer, pl_module)
        if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in trainer.optimizers):
            raise MisconfigurationException(
                "L0 adds to gradients once a step, and LBFGS takes many with a loss that would lack the penalty; use a "
                "first-order optimizer, such as SGD or Adam."
            )
        held = {id(w) for optimizer in trainer.optimizers for w in parameters_of(optimizer)}
        layers = {uncompiled(name): part for name, part in pl_module.named_modules()}
        if held:
            self._leave(pl_module, [name for name in self._gates if id(layers[name].weight) in held])
        for name, gate in self._gates.items():
            if held and id(gate.log_alpha) not in held:
                raise MisconfigurationException(
                    f"no optimizer trains the gates of {name!r}, though one trains its weight; let "
                    "configure_optimizers take the parameters() of the module or layer, or leave it out with `layers`."
                )
        if any(gates_of(average).keys() != gates_of(pl_module).keys() for average in averaged_modules(trainer)):
            raise MisconfigurationException(
                "a callback averages weights and has copied the module before it had gates; give the Trainer both, L0 "
                "before it."
            )
        learned = {gate.log_alpha for gate in self._gates.values()}
        self.check_found(trainer, learned, f"layer to gate in {type(pl_module).__name__}")
        self.at_steps.change_gradients(lambda optimizer: self._add(trainer, optimizer))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw the gates of this batch, the same in all processes, as Lightning copies the first one's buffers."""
        at = replace(self.moment(trainer, pl_module, batch_idx), rank=0)
        for name, gate in self._gates.items():
            drawn = torch.rand(gate.uniform.shape, generator=at.stream(name))
            gate.uniform.copy_(drawn.clamp_(1e-6, 1 - 1e-6))

    @torch.no_grad()
    def _add(self, trainer: pl.Trainer, optimizer: torch.optim.Optimizer) -> bool:
        """Add the penalty's gradient to those of an optimizer's gates."""
        held, acted = {id(w) for w in parameters_of(optimizer)}, False
        for name, gate in self._gates.items():
            if id(gate.log_alpha) not in held:
                continue
            if gate.log_alpha.grad is None:
                self.warn_once(
                    f"found no gradient of the gates of {name!r}: its weight is used without a call of the layer, or "
                    "not at all; leave it out with `layers`."
                )
                continue
            added = self.coefficient * gate.slope()
            if (scale := scale_left(trainer, optimizer, added.device)) is not None:
                added = added * scale
            gate.log_alpha.grad.add_(added)
            acted = True
        return acted

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the expected number of weights that are not zero; of replicas their mean."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._gates:
            expected = torch.stack([gate.expected().detach().float().mean() for gate in self._gates.values()]).sum()
            log_epoch(pl_module, {"train/expected_l0": expected})

    def release(self) -> None:
        """Leave the gates of training mode at their medians, and the module's loading as it was."""
        super().release()
        if self._hook is not None:
            self._hook.remove()
        for gate in self._gates.values():
            gate.uniform.fill_(0.5)
