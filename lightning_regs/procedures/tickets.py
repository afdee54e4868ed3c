"""Lottery tickets: iterative magnitude pruning with rewinding, on any LightningModule."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_regs.core import rng
from lightning_regs.core.checks import Count, checked
from lightning_regs.core.lightning import pl, warn_if_other_came_later
from lightning_regs.optim.length import Time, WrittenTime
from lightning_regs.procedures.driver import Callbacks, Driver, Logger, Options, Source
from lightning_regs.procedures.plan import Control, Method, Plan, WrittenControl
from lightning_regs.procedures.results import Level, Tickets
from lightning_regs.pruning import Pruning

__all__ = ["Control", "Level", "Tickets", "Time", "find_ticket"]


@checked
def find_ticket(
    module: Callable[..., pl.LightningModule],
    data: Source = None,
    *,
    folder: str | os.PathLike[str],
    trainer: Options,
    levels: Count = 8,
    rewind_to: WrittenTime = "0it",
    method: Method = "weight_rewinding",
    pruning: Pruning | None = None,
    one_shot: bool = False,
    controls: str | Sequence[WrittenControl] = (),
    fine_tune: WrittenTime | None = None,
    callbacks: Callbacks = None,
    logger: Logger = None,
    seed: int | None = None,
    monitor: str | None = None,
    test: bool = True,
    checkpoint_every: float = 20.0,
) -> Tickets:
    r"""Find sparse subnetworks that train as well as the dense net: train, prune, rewind, repeat.

    Frankle & Carbin, "The Lottery Ticket Hypothesis" (1803.03635), with rewinding to a later point (1903.01611,
    1912.05671) and what it is compared with by Renda et al. (2003.02389). Level 0 trains the dense net to the end T.
    Level n prunes what level n - 1 ended with, by ``pruning``, and trains what is left with a
    :class:`~lightning_regs.regularizers.weight_mask.WeightMask`:

    - ``"weight_rewinding"``: from the weights, biases, buffers, optimizer state, schedule and place in the data that
      the dense net had at ``rewind_to``, to T. At ``"0it"`` that is the start.
    - ``"lr_rewinding"``: from the weights, buffers and optimizer state that level n - 1 ended with; schedule and place
      in the data as above.
    - ``"fine_tuning"``: from the same, for ``fine_tune`` more, at the last learning rate.

    Every level has its own module, data, Trainer, callbacks and logger, made by the factories. It is a folder,
    ``level_00``, ``level_01``, ..., with what it was made from, mask, weights, curve and metrics. A complete one is
    skipped, so an interrupted search goes on where it was, by repeating the call: within a level from the end of an
    epoch, with the result of an uninterrupted search, bit for bit on a CPU. The order of the data is a function of
    (seed, epoch), as are the global random streams that ``shuffle=True``, augmentations and dropout draw from.

    Does not help: large nets at large learning rates have no tickets at iteration 0; rewind to a later point (0.1 % to
    7 % of training), or warm up. The training set is seen once a level, so ``levels`` cost as many trainings.

    A folder is of one configuration: initial weights, hyper-parameters, options of the Trainer, arguments of the
    DataModule, or of loaders the tensors and some samples of the data. Where the code of the module, its layers or its
    data, of callbacks or of what the Trainer is given changes, or of what that code names, the levels are redone; those
    that were complete are kept beside them, as ``level_00.old-1``. Files that a DataModule reads are not looked into,
    nor is code that another version of Python compiled, which is said: use another folder where these change.

    Does not compose with: FSDP, DeepSpeed; callbacks that end training early shorten it before the mask is determined.
    Workers that persist over epochs draw on from one epoch to the next, and what they draw is not restored.
    A rewind point within an epoch is found again by reading past the batches before it, and metrics of the training
    epoch then are of the rest of it. A module's own ``on_train_batch_end`` comes after the point is saved.

    Args:
        module: Makes the LightningModule; called at every level. If it has a parameter ``seed`` it is given one; else
            the global streams are seeded before it is called.
        data: A LightningDataModule, or a function that makes one, or that returns a training loader or
            ``(training, validation)`` or ``(training, validation, test)`` loaders, None for one that there is not;
            None if the module has them.
        folder: Where the levels are, or will be.
        trainer: Options of the ``Trainer`` of each level, such as ``{"max_epochs": 5}``. Without more there is no
            logger, progress bar or summary.
        levels: Rounds of pruning, at least 1: ``levels + 1`` trainings.
        rewind_to: ``"0it"``, ``"500it"`` or ``"2ep"``; before the end of training. Iterations are optimizer steps.
        method: ``"weight_rewinding"``, ``"lr_rewinding"`` or ``"fine_tuning"``.
        pruning: What a round removes; default: 20 % of each layer's surviving weights, 10 % of the output layer's.
        one_shot: Train level 0 and the last level only, which is pruned at once to what ``levels`` rounds would leave.
        controls: Trainings to compare the tickets with: ``"reinitialise:3"`` (same mask, fresh weights, three draws),
            ``"random_mask"`` (as many weights in each layer at random places), another that :class:`Control` names, or
            a Control.
        fine_tune: How long each level of ``"fine_tuning"`` trains, such as ``"10ep"``.
        callbacks: Makes the callbacks of a level, given its name.
        logger: Makes the logger of a level, given its name.
        seed: Of initial weights, order and draws; default: what ``seed_everything`` was given, else 0.
        monitor: Validation loss whose least value gives the early-stopping iteration, in levels with a validation;
            default: ``val_loss`` or ``val/loss``, where logged.
        test: Run ``trainer.test`` after each training, where module and data have a test.
        checkpoint_every: Seconds between the checkpoints, at epochs' ends, that an interrupted level goes on from.

    Returns:
        The levels, :class:`~lightning_regs.procedures.results.Tickets`: ``print(tickets.table())``.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is outside its range, a round would prune nothing or all of a layer, the folder
            holds a level of another configuration, or, after the first validation, nothing logged ``monitor``.
        RuntimeError: If another search is at work in the folder.
        MisconfigurationException: When training starts, if ``rewind_to`` is not before its end, there is no validation
            to ``monitor``, a WeightMask is among the callbacks or the module's methods, or the module refuses the
            weights; before it, or with the level where weights are drawn later, if a reinitialisation gives the same
            weights again; at ``rewind_to``, if a callback's state has more than tensors and plain types.

    Warns:
        UserWarning: If a level is damaged, or what it was made from changed: it is redone.
    """
    warn_if_other_came_later()
    plan = Plan(
        levels=levels,
        rewind_to=Time.parse(rewind_to),
        method=method,
        pruning=pruning or Pruning(),
        one_shot=one_shot,
        controls=tuple(map(Control.parse, [controls] if isinstance(controls, str) else controls)),
        fine_tune=None if fine_tune is None else Time.parse(fine_tune),
        seed=rng.run_seed(seed),
    )
    root = Path(folder).expanduser().absolute()
    driver = Driver(module, data, root, trainer, callbacks, logger, plan.seed, test, checkpoint_every, monitor)
    return Tickets(tuple(driver.run(plan.stages(), plan.check)), root)
