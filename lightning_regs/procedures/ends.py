"""What a level does to its training: where it starts, what it saves on its way, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.global_rng import seed_all
from lightning_regs.core.lightning import Callback, MisconfigurationException, pl
from lightning_regs.core.rng import derive_seed
from lightning_regs.core.runs import RunContext
from lightning_regs.optim.length import Time
from lightning_regs.procedures.level import REWIND, LevelState, State, read, weights_in
from lightning_regs.procedures.results import check_logged
from lightning_regs.procedures.starts import Start
from lightning_regs.pruning import Mask
from lightning_regs.regularizers.weight_mask import WeightMask
from lightning_regs.training.recorder import Recorder

Inputs = Mapping[str, LevelState]


@dataclass(frozen=True)
class Stage:
    """One training of a procedure: what it starts from, how it goes, and what it hands on."""

    name: str  # of its folder
    settings: dict[str, Any]  # what it is, as plain data
    seed: int  # of its module, and of weights that are drawn when the Trainer starts
    order: int  # seed of the order of its data, and of what is drawn on the way
    # Makes its start out of its module, the module's own weights, and the levels that it needs, by their names.
    start: Callable[[pl.LightningModule, State, Inputs], Start] = lambda _, own, __: Start(own, Mask.dense(own))
    needs: tuple[str, ...] = ()
    rewinds: str | None = None  # the level whose saved point it goes on from; None for the beginning
    point: Time | None = None  # where its whole state is saved, for others to go on from
    carries: str | None = None  # the level whose optimizers' state it takes
    keeps: bool = False  # whether its optimizers' state is handed on
    length: Time | None = None  # how long it trains at the last rate of `carries`; None for as the Trainer says
    masked: bool = True  # whether the procedure prunes, so that nobody else may
    callbacks: Callable[[], list[Callback]] = list  # makes the procedure's own, after the user's


class Ends(Callback):
    """Puts the module where the level starts, and writes down what it starts and ends with.

    Where training goes on from the level's own checkpoint (``resumed``), nothing is to be set. When it starts, ``mask``
    has the level's mask and holds what is pruned at zero, or where it was in a level that freezes it. ``last`` is what
    else is written down at the end, and ``of`` says whose training it is.
    """

    def __init__(self, stage: Stage, folder: Path, resumed: bool, last: dict[str, float], of: str) -> None:
        self.of = of
        self.stage = stage
        self.folder = folder
        self.resumed = resumed
        self.last = last
        self.mask = WeightMask()
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
            methods: list[Any] = trainer.callbacks if self.stage.masked else []  # type: ignore[attr-defined]
            if any(isinstance(method, WeightMask) and method is not self.mask for method in methods):
                raise MisconfigurationException(
                    "find_ticket gives each level its own WeightMask, and there is another among the callbacks or in "
                    "the module; leave that one out, and say with pruning=Pruning(...) what is pruned."
                )
            seed_all(derive_seed(self.stage.seed, "ticket weights"))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the weights to start from."""
        if self.resumed:
            state = self._state(self.stage.name)
            self._hold(Start({}, state.mask, state.facts["frozen"]))
            return
        own = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        start = self.stage.start(pl_module, own, {name: self._state(name) for name in self.stage.needs})
        self._hold(start)
        weights, fresh = start.mask.tie(start.weights, pl_module.state_dict()), start.weights is own
        if trainer.is_global_zero:
            facts = {"frozen": start.frozen, "of": self.of}
            LevelState(weights if fresh else {}, weights, {}, start.mask, facts).save(self.folder / self.stage.name)
        if not fresh or start.mask.kept < start.mask.total:
            pl_module.load_state_dict(weights if start.frozen else start.mask.apply(weights))

    def _hold(self, start: Start) -> None:
        self.mask.mask, self.mask.frozen = start.mask, start.frozen

    def _state(self, name: str) -> LevelState:
        return LevelState.load(self.folder / name)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Carry over the state of the optimizers, or the last learning rates."""
        if self.stage.length is not None:
            trainer.strategy.lr_scheduler_configs = []
        if self.resumed or self.stage.carries is None:
            return
        theirs = self._state(self.stage.carries).facts
        for optimizer, state, rates in zip(trainer.optimizers, theirs["optimizers"], theirs["lr"], strict=True):
            ours = optimizer.state_dict() | {"state": state["state"]}
            if self.stage.length is not None:
                groups = zip(state["param_groups"], rates, strict=True)
                ours["param_groups"] = [group | {"lr": lr} for group, lr in groups]
            optimizer.load_state_dict(ours)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Remember the learning rates of the last step; a schedule may have moved on at the end of training."""
        self._remember(trainer)

    def _remember(self, trainer: pl.Trainer) -> None:
        if self.stage.keeps:
            rates = ([group["lr"] for group in o.param_groups] for o in trainer.optimizers)
            self.lr = [[lr.clone() if isinstance(lr, Tensor) else lr for lr in lrs] for lrs in rates]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write down what the level ends with."""
        # Not on_train_end: it is not called where a level goes on from the checkpoint of its last epoch.
        state = self._state(self.stage.name)
        self.mask.on_fit_end(trainer, pl_module)  # what averages weights has put the average into the module
        for stopping in trainer.early_stopping_callbacks:  # ours leaves the best weights
            stopping.on_fit_end(trainer, pl_module)
        if not self.lr:  # its optimizers step past Lightning
            self._remember(trainer)
        if trainer.is_global_zero:
            facts = state.facts | {"last": self.last}
            if self.stage.keeps:
                facts |= {"optimizers": [o.state_dict() for o in trainer.optimizers], **self.state_dict()}
            start = state.start
            if self.stage.point is not None and (path := self.folder / self.stage.name / REWIND).exists():
                start = weights_in(read(path))
            final = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
            replace(state, start=start, final=final, facts=facts).save(self.folder / self.stage.name)


class ValidationRecorder(Recorder):
    """Writes down the metrics of each validation, and as ``last`` the last value of each metric, and ``iterations``.

    Where training does not go on from the level's own checkpoint (``resumed``), what that holds is another level's.
    ``monitor`` is the metric that validations have to log; None where none has to.
    """

    def __init__(self, folder: Path, resumed: bool, monitor: str | None = None) -> None:
        super().__init__([RunContext(folder)])
        self.monitor = monitor
        self.resumed = resumed
        self.last: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return super().state_dict() | {"last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows from before the interruption."""
        if self.resumed:
            super().load_state_dict(state_dict)
            self.last.update(state_dict["last"])

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
            # Of the training those of the epoch before stand there, which a Trainer that resumes does not know.
            before = {name: value for name, value in self.last.items() if name != "iterations"}
            self.record([{"step": trainer.global_step, "epoch": trainer.current_epoch, **before, **_metrics(trainer)}])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the metrics of the epoch."""
        # What an epoch does not log stands from before, as in the Trainer's metrics of an uninterrupted training.
        self.last.update({**_metrics(trainer), "iterations": trainer.global_step})
        # Not after the validation: what the training epoch logs comes after it.
        (rows,) = self.rows
        if rows:
            check_logged(self.monitor, [*rows, self.last])


def _metrics(trainer: pl.Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}
