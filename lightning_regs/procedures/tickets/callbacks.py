"""What a level does to its training: where it starts, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.lightning import Callback, Checkpoint, MisconfigurationException, pl
from lightning_regs.core.names import unknown_name
from lightning_regs.core.rng import derive_seed
from lightning_regs.procedures.tickets.folders import CURVE, FINAL, INITIAL, MASK, OPTIMIZER, LevelFolder
from lightning_regs.procedures.tickets.plain import digest
from lightning_regs.procedures.tickets.randomness import seed_all
from lightning_regs.pruning import Mask
from lightning_regs.pruning.masks import plain_names
from lightning_regs.regularizers.weight_mask import WeightMask

Start = Mapping[str, Tensor]


class Ends(Callback):
    """Puts the module where the level starts, and writes down what it starts and ends with.

    Args:
        folder: Of the level.
        resumed: Whether training goes on from the level's own checkpoint, so that nothing is to be set.
        seed: Of weights that are drawn when the Trainer starts.
        mask: What the level trains; None for the dense net.
        dense_mask: Makes the mask to write down; None where it is there.
        keep_initial: Write down the module's own weights.
        start: Makes the weights to start from out of the module's own; None to leave them.
        optimizers: States of optimizers to carry over.
        constant_lr: Learning rate of each group of each optimizer, to stay so; None for the module's schedule.
        keep_optimizer: Write down the state of the optimizers at the end.
    """

    def __init__(
        self,
        folder: LevelFolder,
        resumed: bool,
        seed: int,
        mask: WeightMask | None = None,
        dense_mask: Callable[[pl.LightningModule], Mask] | None = None,
        keep_initial: bool = False,
        start: Callable[[dict[str, Tensor]], Start] | None = None,
        optimizers: list[dict[str, Any]] | None = None,
        constant_lr: list[list[float]] | None = None,
        keep_optimizer: bool = False,
    ) -> None:
        self.folder = folder
        self.resumed = resumed
        self.seed = seed
        self.mask = mask
        self.dense_mask = dense_mask
        self.keep_initial = keep_initial
        self.start = start
        self.optimizers = optimizers
        self.constant_lr = constant_lr
        self.keep_optimizer = keep_optimizer
        self.lr: list[list[Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the last learning rates."""
        return {"lr": [[float(lr) for lr in lrs] for lrs in self.lr]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the last learning rates."""
        self.lr = state_dict["lr"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse other masks; seed what the module draws in ``configure_model``, apart from what its data drew."""
        if stage == "fit":
            methods: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
            if any(isinstance(method, WeightMask) and method is not self.mask for method in methods):
                raise MisconfigurationException(
                    "find_ticket gives each level its own WeightMask, and there is another among the callbacks or in "
                    "the module; leave that one out, and say with pruning=Pruning(...) what is pruned."
                )
            seed_all(derive_seed(self.seed, "ticket weights"))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the weights to start from."""
        if self.resumed:
            return
        weights = weights_of(pl_module)
        start = None if self.start is None else self.start(weights)
        dense = None if self.dense_mask is None else self.dense_mask(pl_module)
        if trainer.is_global_zero:
            if dense is not None:
                self.folder.save(MASK, dense.to("cpu").state_dict())
            if self.keep_initial:
                self.folder.save(INITIAL, weights)
        if start is not None:
            pl_module.load_state_dict(start)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Carry over the state of the optimizers, or the last learning rates."""
        if self.constant_lr is not None:
            trainer.strategy.lr_scheduler_configs = []
        if self.resumed or self.optimizers is None:
            return
        for number, (optimizer, theirs) in enumerate(zip(trainer.optimizers, self.optimizers, strict=True)):
            state = optimizer.state_dict() | {"state": theirs["state"]}
            if self.constant_lr is not None:
                groups = zip(theirs["param_groups"], self.constant_lr[number], strict=True)
                state["param_groups"] = [group | {"lr": lr} for group, lr in groups]
            optimizer.load_state_dict(state)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Remember the learning rates of the last step; a schedule may have moved on at the end of training."""
        if self.keep_optimizer:
            rates = ([group["lr"] for group in o.param_groups] for o in trainer.optimizers)
            self.lr = [[lr.clone() if isinstance(lr, Tensor) else lr for lr in lrs] for lrs in rates]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write down what the level ends with."""
        # Not on_train_end: it is not called where a level goes on from the checkpoint of its last epoch, and callbacks
        # that average weights put the average into the module there.
        self._zero_pruned(pl_module)
        if trainer.is_global_zero:
            if self.keep_optimizer:
                state = {"optimizers": [o.state_dict() for o in trainer.optimizers], **self.state_dict()}
                self.folder.save(OPTIMIZER, state)
            self.folder.save(FINAL, weights_of(pl_module))

    @torch.no_grad()
    def _zero_pruned(self, module: pl.LightningModule) -> None:
        if self.mask is None or self.mask.mask is None:
            return
        weights = dict(module.named_parameters(remove_duplicate=False))
        actual = plain_names(weights)
        for name, kept in self.mask.mask.items():
            weight = weights[actual[name]]
            weight.masked_fill_(~kept.to(weight.device), 0)


class Recorder(Checkpoint):
    """Writes down the metrics of each validation, and the last of all metrics.

    Args:
        folder: Of the level.
        resumed: Whether training goes on from the level's own checkpoint; else what it holds is another level's.
        monitor: Name of the metric that validations are to log; None where none has to.
    """

    def __init__(self, folder: LevelFolder, resumed: bool, monitor: str | None = None) -> None:
        self.folder = folder
        self.monitor = monitor
        self.resumed = resumed
        self.rows: list[dict[str, float]] = []
        self.last: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": self.rows, "last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows from before the interruption."""
        if self.resumed:
            self.rows, self.last = list(state_dict["rows"]), dict(state_dict["last"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to monitor what no validation will log."""
        if self.monitor is not None and not trainer.enable_validation:
            raise MisconfigurationException(
                f"monitor={self.monitor!r} is a metric of the validation, and there is none; give validation data and "
                "a validation_step, or no monitor."
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a row."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self.rows.append({"step": trainer.global_step, "epoch": trainer.current_epoch, **_metrics(trainer)})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the metrics of the epoch."""
        # What an epoch does not log stands from before, as in the Trainer's metrics of an uninterrupted training.
        self.last = {**self.last, **_metrics(trainer), "iterations": trainer.global_step}
        # Not after the validation: what the training epoch logs comes after it.
        if self.monitor is not None and self.rows and not any(self.monitor in row for row in [*self.rows, self.last]):
            logged = {name for row in [*self.rows, self.last] for name in row} - {"step", "epoch", "iterations"}
            raise unknown_name("logged metric", self.monitor, logged)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write it to the level's folder."""
        if trainer.is_global_zero:
            self.folder.save_json(CURVE, {"rows": self.rows, "last": self.last})


def given(state: Start, own: dict[str, Tensor]) -> Start:
    """Start from these weights, whatever the module's own are."""
    return state


def drawn_anew(mask: Mask, initial: str, own: dict[str, Tensor]) -> Start:
    """Start from the module's own weights, pruned.

    Args:
        mask: What is kept of them.
        initial: Digest of the first level's initial weights.
        own: The module's own.

    Raises:
        MisconfigurationException: If they are those of the first level.
    """
    check_drawn_anew(own, initial)
    return mask.apply(own)


def check_drawn_anew(own: Start, initial: str) -> None:
    """Refuse weights of a reinitialisation that are those of the first level; arguments of :func:`drawn_anew`."""
    if digest(own) == initial:
        raise MisconfigurationException(
            "the module's factory made the same weights again with another seed, so this would be the ticket and no "
            "reinitialisation; let it have a parameter `seed` and draw the weights from that."
        )


def weights_of(module: pl.LightningModule) -> dict[str, Tensor]:
    """Return copies of parameters and buffers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _metrics(trainer: pl.Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}
