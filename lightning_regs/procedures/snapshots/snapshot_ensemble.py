"""One training whose rate falls again and again, and a snapshot wherever it is at its end; on any LightningModule."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from lightning_regs.core import rng
from lightning_regs.core.batch import Keys, read
from lightning_regs.core.checks import Count, as_text, check_arguments, checked, nonempty, warn
from lightning_regs.core.files import whole
from lightning_regs.core.global_rng import isolated
from lightning_regs.core.lightning import Callback, MisconfigurationException, check_trainer, check_whole_weights, pl
from lightning_regs.data.options import accumulation
from lightning_regs.optim.cycles import CosineCyclesLR, StepCyclesLR, cycle_ends
from lightning_regs.procedures.callbacks import only_optimizer
from lightning_regs.procedures.driver import Callbacks, Driver, Logger, Options, Source
from lightning_regs.procedures.ends import Stage
from lightning_regs.procedures.level import State
from lightning_regs.procedures.objects import make
from lightning_regs.procedures.results import Level
from lightning_regs.procedures.snapshots.ensemble import NAME, PATTERN, Ensemble, columns, load_ensemble, scores
from lightning_regs.training.classifier import Classifier

__all__ = ["SnapshotEnsemble", "train_snapshots"]

# Share of the first rate at which a snapshot is not one of a cycle's end.
_HIGH = 0.05
Schedule = Literal["cyclic", "cosine", "step"]


class SnapshotEnsemble(Callback):
    r"""Snapshot ensembles (Huang et al. 2017, arXiv:1704.00109): M nets for the training of one.

    The learning rate falls from the optimizer's own to zero along half a cosine in each of M cycles, at every iteration
    as :class:`~lightning_regs.optim.cycles.CosineCyclesLR` says; momentum goes on over the restarts. At the end of each
    cycle, before the rate rises, the module's whole ``state_dict`` is kept, its batch norm statistics too. In
    ``trainer.test`` each batch goes through all snapshots, and the test reports ``error_m1``, ..., ``error_mM``, the
    error in percent of the mean softmax of the last m, ``error_snapshot1``, ... of each alone, and
    ``softmax_correlation``, the mean over pairs of snapshots of the correlation of their outputs. For prediction
    :func:`load_ensemble` gives an ``nn.Module``.

    It acts on any LightningModule with one optimizer and no schedule whose ``forward`` gives logits ``(N, K)``. It is
    one training, so what a Trainer resumes goes on with the same rates; :func:`train_snapshots` sees to the rest.

    Does not help: where early cycles are too short to get anywhere. In our rows of ``snapshot2017`` (MLP on MNIST-1D,
    5 seeds) the mean of four growing cycles, whose first net has 48.9 % error, has 33.0 %, and the last net alone
    32.6 %. The gain may be small: five cycles from a rate of 0.1 have together 32.1 %, one net of a step schedule
    32.2 %; from 0.2 it is 31.1 % and 31.5 %. Nor where the rate is one at which the net does not train. An ensemble
    costs M times as much where it is used; Lightning's ``WeightAveraging`` makes one net instead, and goes beside it:
    the snapshots are of the weights that are trained.

    Does not compose with: FSDP, DeepSpeed; a module's own schedule; ``StochasticWeightAveraging``, which has one;
    what ends a training early, after which the snapshots of later cycles are missing, as a warning says.

    Args:
        folder: Where the snapshots are kept: ``snapshot-001.pt``, ... A training from its beginning removes those of
            an earlier one.
        cycles: M. The iterations of the training are divided, not its epochs: a cycle takes :math:`\lceil T/M \rceil`
            of them, the last one what is left.
        growth: How many times as long as the one before each cycle is, as in SGDR (arXiv:1608.03983).
        schedule: ``"cyclic"``; or what it is compared with: the same snapshots of a training whose rate falls once,
            along a ``"cosine"``, or in a ``"step"`` to a tenth after a half and again after three quarters.
        restart: Returns the module's ``state_dict`` that a cycle starts with, given the module and the cycle's number
            from 2; the optimizer forgets, and the schedule is that of each cycle. Default: training goes on.
        test: Whether a test measures the ensembles; all loaders of it together.
        batch: Keys of samples and labels in a batch of the test; None: where the usual ones are.

    Attributes:
        results: What the last test measured; of replicas one each.

    Raises:
        ValueError: At construction, if an argument is outside its range; when training starts, if it is too short.
        MisconfigurationException: When training starts, if the module has a schedule of its own or several optimizers,
            optimizes manually (but for our Classifier), or has no end; or if it is resumed with another schedule.
    """

    def __init__(
        self,
        folder: Annotated[str | os.PathLike[str], as_text, nonempty],
        cycles: Count,
        growth: Count = 1,
        schedule: Schedule = "cyclic",
        restart: Callable[[pl.LightningModule, int], State] | None = None,
        test: bool = True,
        batch: Keys = None,
    ) -> None:
        given = check_arguments(SnapshotEnsemble.__init__, locals())
        self.folder, self.cycles, self.growth = Path(given["folder"]).expanduser(), given["cycles"], given["growth"]
        self.schedule, self.restart, self.test, self.batch = given["schedule"], restart, test, given["batch"]
        self.results: list[dict[str, float]] = []
        self._ends: list[int] = []
        self._planned: list[int] = []
        self._ensemble: Ensemble | None = None

    @property
    def paths(self) -> list[Path]:
        """The files, whether they are there or not."""
        return [self.folder / NAME.format(i + 1) for i in range(self.cycles)]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the optimizer its schedule, which Lightning steps and keeps in checkpoints."""
        ours, name = type(self).__name__, type(pl_module).__name__
        check_trainer(ours, trainer)
        check_whole_weights(ours, trainer)
        others: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(other, pl.callbacks.StochasticWeightAveraging) for other in others):
            raise MisconfigurationException(
                f"StochasticWeightAveraging sets the learning rate, and so does {ours}; leave one of them out, or take "
                "WeightAveraging."
            )
        if trainer.lr_scheduler_configs:
            theirs = type(trainer.lr_scheduler_configs[0].scheduler).__name__
            raise MisconfigurationException(
                f"{name} sets the learning rate by {theirs}, and so does {ours}; let configure_optimizers return the "
                "optimizer alone."
            )
        optimizer = only_optimizer(ours, trainer, pl_module)
        own = pl_module._step if isinstance(pl_module, Classifier) else None
        total = trainer.estimated_stepping_batches if own is None else own.length(trainer)["steps"] or 0
        if not 0 < total < float("inf"):
            raise MisconfigurationException(
                f"{ours} divides a training, and this one has no end that is known before; set max_epochs, or "
                "max_steps where the loader has no length, and keep batch_size one number."
            )
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._ends = []  # as Lightning's own checkpoints: a trial run keeps nothing, and removes nothing
            return
        self._ends = cycle_ends(total := int(total), self.cycles, self.growth)
        shape = StepCyclesLR if self.schedule == "step" else CosineCyclesLR
        cyclic = self.schedule == "cyclic" or self.restart is not None
        made = shape(optimizer, total, *((self.cycles, self.growth) if cyclic else ()))
        self._planned = made.ends
        last, length = total - (0, *made.ends)[-2], made.ends[0] * made.growth ** (len(made.ends) - 1)
        if (rate := made.factor(last / length)) > _HIGH:
            warn(
                f"of {total} iterations the last cycle takes {last} and not {length}, as each takes a whole number of "
                f"them, so that its snapshot is taken at {rate:.0%} of the first rate; train for {length - last} "
                "iterations more, or in fewer cycles."
            )
        trainer.strategy.lr_scheduler_configs = [pl.utilities.types.LRSchedulerConfig(made, interval="step")]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the snapshots of an earlier training; of one that goes on, see that its schedule is this one."""
        if not self._ends:
            return
        made: Any = trainer.lr_scheduler_configs[0].scheduler
        if made.ends != self._planned or made.last_epoch != trainer.global_step:
            raise MisconfigurationException(
                f"{type(self).__name__} ends cycles at iterations {', '.join(map(str, self._planned))}, and what goes "
                f"on at iteration {trainer.global_step} did not begin with that schedule; resume with the length, "
                "cycles and growth that it began with, or train anew."
            )
        if trainer.global_step == 0 and trainer.is_global_zero:
            for path in self.folder.glob(PATTERN):
                path.unlink()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn where training ended before its schedule did."""
        if self._ends and trainer.global_step < self._ends[-1]:
            missing = sum(end > trainer.global_step for end in self._ends)
            warn(
                f"training ended after {trainer.global_step} of the {self._ends[-1]} iterations that were planned, so "
                f"that {missing} of {self.cycles} snapshots are missing; SnapshotEnsemble needs a training that is not "
                "stopped early, and whose length is known when it begins."
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep a snapshot after the last iteration of a cycle, and start the next one."""
        stepped = trainer.is_last_batch or (batch_idx + 1) % accumulation(trainer) == 0
        if trainer.global_step not in self._ends or not stepped:
            return
        number = self._ends.index(trainer.global_step) + 1
        state = {name: value.detach().cpu() for name, value in pl_module.state_dict().items()}
        if trainer.is_global_zero:
            with whole(self.paths[number - 1]) as part:
                torch.save({"state_dict": state, "cycle": number, "global_step": trainer.global_step}, part)
        if self.restart is not None and number < self.cycles:
            pl_module.load_state_dict(self.restart(pl_module, number + 1))
            trainer.optimizers[0].state.clear()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the snapshots, if there are any."""
        self._ensemble = None
        there = [number for number, path in enumerate(self.paths, 1) if path.exists()]
        if self.test and there and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            # Those of a training that was stopped; one that is lost between them is missed.
            with torch.inference_mode(False):
                self._ensemble = load_ensemble(self.paths[: there[-1]], pl_module)
            self._sums, self._number = torch.zeros(()), 0

    @torch.no_grad()
    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Measure the ensembles on a batch, as the module's test has it."""
        if self._ensemble is None:
            return
        x, y = read(batch, self.batch, type(self).__name__)
        with trainer.precision_plugin.forward_context():
            probabilities = self._ensemble.each(x)
        tokens = probabilities.ndim > 3 and not getattr(pl_module, "replicas", None)
        if tokens or y.is_floating_point() or y.shape not in (probabilities.shape[1:-1], probabilities.shape[-2:-1]):
            raise MisconfigurationException(
                f"{type(self).__name__} compares with class indices (N,), and these labels are {y.dtype} of shape "
                f"{tuple(y.shape)}; give SnapshotEnsemble(test=False), and use load_ensemble(...)."
            )
        sums = scores(probabilities, y)
        self._sums, self._number = self._sums.to(sums) + sums, self._number + y.shape[-1]

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what was measured, over all processes."""
        if self._ensemble is not None:
            number: Any = torch.tensor(float(self._number), device=pl_module.device)
            sums, number = (trainer.strategy.reduce(t, reduce_op="sum") for t in (self._sums, number))
            assert isinstance(sums, Tensor)
            self.results = [columns(one, float(number)) for one in sums.cpu().reshape(-1, *sums.shape[-2:])]
            if len(self.results) == 1:
                pl_module.log_dict(self.results[0], sync_dist=True)  # of what is the same in all
            self._ensemble = None


@checked
def train_snapshots(
    module: Callable[..., pl.LightningModule],
    data: Source = None,
    *,
    folder: str | os.PathLike[str],
    trainer: Options,
    cycles: Count,
    growth: Count = 1,
    schedule: Schedule = "cyclic",
    fresh: bool = False,
    callbacks: Callbacks = None,
    logger: Logger = None,
    seed: int | None = None,
    test: bool = True,
    checkpoint_every: float = 20.0,
) -> Level:
    """Train with a :class:`SnapshotEnsemble`, in a folder: killed and called again, it goes on bit for bit on a CPU.

    It is one level, as those of :func:`~lightning_regs.find_ticket`, which documents what is not said here: what may
    change in a folder, how data are ordered, and how an interrupted training goes on.

    Args:
        module: Makes the LightningModule.
        data: A LightningDataModule, or a function that makes one or loaders.
        folder: Where the snapshots are, and ``training``, the level.
        trainer: Options of the Trainer, such as ``{"max_epochs": 60}``.
        cycles: See :class:`SnapshotEnsemble`.
        growth: See there.
        schedule: See there.
        fresh: Start each cycle from new weights of the factory: as many nets, trained one after another.
        callbacks: Makes further callbacks, given the level's name.
        logger: Makes the logger.
        seed: Of initial weights, order and draws.
        test: Whether to test afterwards, where module and data have a test.
        checkpoint_every: Seconds between the checkpoints, at epochs' ends, that an interrupted training goes on from.

    Returns:
        The level; its ``metrics`` hold what the test reports.

    Raises:
        TypeError: As :func:`~lightning_regs.find_ticket`.
        ValueError: As that, and as :class:`SnapshotEnsemble`.
        RuntimeError: If another one is at work in the folder.
    """
    own, root = rng.run_seed(seed), Path(folder).expanduser().absolute()

    def restart(_: pl.LightningModule, cycle: int) -> State:
        with isolated():
            return make(module, None, own, rng.derive_seed(own, "snapshots", cycle))[1].state_dict()

    def snapshots() -> list[Callback]:
        return [SnapshotEnsemble(root, cycles, growth, schedule, restart if fresh else None)]

    settings = {"level": 0, "kind": "snapshots", "repeat": 0, "method": schedule}
    settings |= {"cycles": cycles, "growth": growth, "fresh": fresh}
    stage = Stage("training", settings, own, own, masked=False, callbacks=snapshots)
    driver = Driver(module, data, root, trainer, callbacks, logger, own, test, checkpoint_every, name="train_snapshots")
    return driver.run([stage])[0]
