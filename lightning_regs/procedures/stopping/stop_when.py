"""Stop a training when a criterion holds, and leave the best weights: a callback for any LightningModule."""

from __future__ import annotations

import math
import weakref
from typing import Any, Literal

from torch import Tensor

from lightning_regs.core.checks import Count, Name, check_arguments, warn
from lightning_regs.core.lightning import (
    MisconfigurationException,
    averaged_modules,
    check_trainer,
    check_whole_weights,
    pl,
)
from lightning_regs.core.names import unknown_name
from lightning_regs.procedures.stopping.criteria import criterion_of, errors_of, reads_training, stops

_NOTHING: dict[str, Any] = {"validation": (), "train_errors": (), "steps": (), "weights": {}}


# Lightning calls those of this class after the module has logged an epoch, and before checkpoints are saved.
class StopWhen(pl.callbacks.EarlyStopping):
    r"""Early stopping by the criteria of Prechelt (1998, "Early stopping -- but when?"), which leaves the best weights.

    After each validation the criterion is asked about the whole curve of the monitored metric, as
    :func:`~lightning_regs.procedures.stopping.criteria.stops` asks it. With E(t) the validation error and
    :math:`E_{opt}(t)` the least so far: ``"GL5"`` stops when :math:`100 (E / E_{opt} - 1)` is above 5 percent;
    ``"PQ1"`` at the end of a strip of 5 measurements when that, over the progress of the training error in the strip in
    thousandths, is above 1; ``"UP3"`` when E has risen from the end of one strip to that of the next 3 times running;
    ``"patience10"`` after 10 without a new least.

    The curve travels in checkpoints, and what is decided is a function of it alone: a training that is killed and
    resumed stops where it would have, with the same weights. All processes share one curve, the mean over them.

    A metric that is NaN or infinite stops the training under every criterion, with a warning.

    Does not help: as a replacement of an end. No criterion has to come true, so give the Trainer ``max_epochs`` too.
    Nor where test data are monitored, which is refused. Stacked replicas have one curve, their mean.

    Does not compose with: FSDP, DeepSpeed, and callbacks that average weights, where the best are to be restored.

    Example:
        ``Trainer(callbacks=[StopWhen("GL5", "val/loss")])``, or ``StopWhen("PQ1", "val/loss", training="train/loss")``.

    Args:
        criterion: ``"GL"``, ``"PQ"``, ``"UP"`` or ``"patience"`` with the threshold behind it.
        monitor: The logged metric of the validation.
        mode: ``"min"`` where lower is better, ``"max"`` where higher is.
        training: The logged metric that is the training error, without penalties, for PQ: it is read at the end of each
            epoch that has a validation. The Classifier's ``"train/loss"`` has none, but is that under dropout and of
            mixed batches.
        smoothing: Over how many measurements, the last ones, the metric is averaged before it is judged.
        restore: Whether the weights of the least (smoothed) error are those after the training, not the last ones. Of
            several that restore, those of the one whose criterion held are, or else of the first.

    Attributes:
        validation: The metric at each validation so far.
        steps: Optimizer steps before each.
        stopped: Index of the measurement after which the criterion held; None while it has not.

    Raises:
        ValueError: At construction, if the criterion is none, or PQ has no ``training``, or another has one.
        MisconfigurationException: When training starts, if there is no validation, or the test set is it; at a
            validation that does not log the metric.
    """

    def __init__(
        self,
        criterion: Name,
        monitor: Name,
        mode: Literal["min", "max"] = "min",
        training: Name | None = None,
        smoothing: Count = 1,
        restore: bool = True,
    ) -> None:
        given = check_arguments(StopWhen.__init__, locals())
        super().__init__(monitor, mode=mode)
        criterion_of(criterion)
        self.criterion, self.training = criterion, training
        self.smoothing, self.restore = int(given["smoothing"]), restore
        if reads_training(criterion) and training is None:
            raise ValueError(
                f"{criterion} reads the progress of the training error, and training=None names none; say which "
                "logged metric is the unregularised one, such as training='train/loss'."
            )
        if training is not None and not reads_training(criterion):
            raise ValueError(f"{criterion} reads no training error; leave training={training!r} out, or use PQ.")
        self._validated: dict[str, Tensor] = {}
        self._earlier: Tensor | None = None
        self._of: weakref.ref[Any] | None = None  # the module that the curve is of, which one Trainer may have two of
        self.load_state_dict(_NOTHING)

    @property
    def state_key(self) -> str:
        """What a checkpoint calls it; several criteria may stop one training."""
        names = ("monitor", "mode", "criterion", "smoothing")
        return self._generate_state_key(**{name: getattr(self, name) for name in names})

    @property
    def best(self) -> int:
        """The index of the least (smoothed) error so far; a ``ValueError`` before the first."""
        if not self.validation:
            raise ValueError(f"nothing is the best of {self.monitor!r}, as no validation has come; train for longer.")
        return int(errors_of(self._errors, self.smoothing).argmin())

    @property
    def stopped(self) -> int | None:
        """The index of the measurement after which the criterion held; None where it has not."""
        whole = self._errors if self.training is None else self._errors[: len(self.train_errors)]
        return stops(self.criterion, whole, self.train_errors, self.smoothing)

    @property
    def _errors(self) -> list[float]:
        return self.validation if self.mode == "min" else [-value for value in self.validation]

    def __getstate__(self) -> dict[str, Any]:
        """A copy is of no module yet."""
        return {**vars(self), "_of": None}

    def state_dict(self) -> dict[str, Any]:
        """Return the curve and the best weights."""
        curve = {"validation": [*self.validation], "train_errors": [*self.train_errors], "steps": [*self.steps]}
        return curve | {"weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them."""
        self.validation: list[float] = [*state_dict["validation"]]
        self.train_errors: list[float] = [*state_dict["train_errors"]]
        self.steps: list[int] = [*state_dict["steps"]]
        self._weights: dict[str, Tensor] = state_dict["weights"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin anew, where no checkpoint follows; refuse Trainers in which the best weights could not be restored."""
        check_trainer(type(self).__name__, trainer)
        if stage == "fit":
            if not trainer.global_step or (self._of is not None and self._of() is not pl_module):
                self.load_state_dict(_NOTHING)
            self._of = weakref.ref(pl_module)
        if stage == "fit" and self.restore:
            check_whole_weights(type(self).__name__, trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a training without validation, and end one that had been stopped before it was resumed."""
        known = trainer.val_dataloaders is not None
        if not trainer.enable_validation or (known and not sum(map(float, trainer.num_val_batches))):
            raise MisconfigurationException(
                f"StopWhen monitors {self.monitor!r} at each validation, and there is none; give validation data, such "
                "as ImageDataModule(val_split=0.1), and a validation_step."
            )
        if getattr(getattr(trainer, "datamodule", None), "monitor_test", False):
            raise MisconfigurationException(
                "monitor_test=True serves the test set as validation set, and StopWhen would choose by it; hold out "
                "training data instead, with val_split."
            )
        if self.restore and averaged_modules(trainer):
            raise MisconfigurationException(
                "StopWhen leaves the best weights, and another callback their average; use restore=False, or leave the "
                "other out."
            )
        trainer.should_stop = trainer.should_stop or self.stopped is not None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what an earlier validation, or the training, has logged, which Lightning keeps."""
        self._earlier = trainer.callback_metrics.get(self.monitor)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what is validated: the averages of an optimizer, where it has some."""
        if self.restore and self._measures(trainer):
            self._validated = {name: t.detach().to("cpu", copy=True) for name, t in pl_module.state_dict().items()}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take in the validation."""
        if not self._measures(trainer):
            return
        if self.training is not None and len(self.train_errors) < len(self.validation):
            raise MisconfigurationException(
                f"{self.criterion} reads the training error at the end of an epoch, and this one has several "
                "validations; validate once an epoch, or stop by GL, UP or patience."
            )
        if self._earlier is not None and trainer.callback_metrics[self.monitor] is self._earlier:
            raise MisconfigurationException(
                f"StopWhen monitors {self.monitor!r}, which this validation has not logged; log it in the validation "
                "step of each, and let them be fewer by check_val_every_n_epoch where it is costly."
            )
        self.validation.append(self._logged(trainer, self.monitor))
        self.steps.append(trainer.global_step)
        if self.best == len(self.validation) - 1:
            self._weights = self._validated
        self._validated = {}
        if not math.isfinite(self.validation[-1]):
            warn(
                f"{self.monitor!r} is {self.validation[-1]} after {trainer.global_step} steps, and {self.criterion} "
                "stops there; train with a smaller learning rate or clipped gradients."
            )
        if self.training is None:
            trainer.should_stop = trainer.should_stop or self.stopped is not None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take in the training error, where the epoch had a validation."""
        if self.training is not None and len(self.train_errors) < len(self.validation):
            if trainer.ckpt_path and self.training not in trainer.callback_metrics:
                raise MisconfigurationException(
                    f"{self.criterion} reads {self.training!r} at the end of an epoch, and {trainer.ckpt_path} was "
                    "saved before, by its validation; resume from one of an epoch's end, as those of "
                    "ModelCheckpoint(save_on_train_epoch_end=True)."
                )
            self.train_errors.append(self._logged(trainer, self.training))
            trainer.should_stop = trainer.should_stop or self.stopped is not None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the best weights in."""
        # Not on_train_end, where others still save checkpoints, and which a resumed last epoch does not have.
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        restoring = [one for one in callbacks if isinstance(one, StopWhen) and one._weights]
        if restoring and self is min(restoring, key=lambda one: one.stopped is None):
            pl_module.load_state_dict(self._weights, strict=pl_module.strict_loading)
        if not self.validation and self._measures(trainer):
            warn(
                f"StopWhen has judged nothing, as no validation came in {trainer.global_step} steps; train for longer, "
                "or validate more often by check_val_every_n_epoch or val_check_interval."
            )

    def _measures(self, trainer: pl.Trainer) -> bool:
        return trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.fast_dev_run  # type: ignore[attr-defined]

    def _logged(self, trainer: pl.Trainer, name: str) -> float:
        """Return the mean of a metric over the processes, the same in all of them."""
        logged = trainer.callback_metrics
        if name not in logged:
            raise MisconfigurationException(str(unknown_name("logged metric", name, logged)))
        value = logged[name].detach().float().to(trainer.strategy.root_device)
        return float(trainer.strategy.reduce(value.clone(), reduce_op="mean"))
