"""Training by a configuration: a cell's plain data in; the trained net, its Trainer, data and metrics out."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from lightning_regs.core.checks import seeds_apart
from lightning_regs.core.files import DamagedFileError
from lightning_regs.core.identity import canonical, identity
from lightning_regs.core.lightning import NAMESPACE, Callback, pl, while_restoring
from lightning_regs.core.runs import RunContext
from lightning_regs.data import ImageDataModule
from lightning_regs.optim.per_replica import NUMBERS, together
from lightning_regs.training.checkpoints import EpochCheckpoint, resumable
from lightning_regs.training.classifier import Classifier
from lightning_regs.training.options import callbacks_in, check_options, regularizers_in
from lightning_regs.training.recorder import FITTED, EpochRecorder, Recorder
from lightning_regs.training.replicas import Replicated

# Advice that does not fit a run whose data live in one tensor and whose results are rows, not log lines.
_NOISE = (
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*`isinstance.treespec, LeafSpec.` is deprecated.*",
)
Stacked = Callable[[Sequence[dict[str, Any]], Sequence[RunContext]], list[dict[str, float]]]


@dataclass(frozen=True)
class Trained:
    """One trained net, alone or one of the replicas that were trained together, which share all but metrics and number.

    Attributes:
        metrics: What was measured after the last epoch, see :func:`fit`.
        checkpoint: Where an interrupted training would have gone on from; the file need not exist.
        replica: Which of the replicas it is; None where it was trained alone.
    """

    module: Classifier
    trainer: pl.Trainer
    data: ImageDataModule
    metrics: dict[str, float]
    checkpoint: Path
    replica: int | None = None

    def state(self) -> dict[str, Tensor]:
        """Return parameters and buffers by their names in the single net; copies on the CPU."""
        network = self.module.network
        assert network is not None
        state = network.state_of(self.replica or 0) if isinstance(network, Replicated) else network.state_dict()
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def network(self) -> nn.Module:
        """Return a copy of the net, for itself alone, on the CPU and in evaluation mode."""
        network = self.module.network
        assert network is not None
        own = network.network_of(self.replica or 0) if isinstance(network, Replicated) else copy.deepcopy(network)
        single: nn.Module = own.cpu().eval()
        return single


def fit(
    config: Mapping[str, Any],
    run: RunContext,
    callbacks: Sequence[Callback] = (),
    start: nn.Module | None = None,
    data: ImageDataModule | None = None,
) -> Trained:
    """Train a Classifier and measure it on the whole training set and on the test set, after the last epoch.

    Args:
        config: ``{"model": Classifier's arguments, "data": ImageDataModule's, "trainer": Trainer's}``; the seed comes
            from ``run``. ``config["model"]["regularizers"]`` and ``config["callbacks"]`` are lists as LightningCLI has
            them, see :func:`make`. ``config["fitted"]`` overrides the share of the training set that counts as fitted;
            ``config["seeds"]``, such as ``{"weights": 0}``, sets seeds apart from the run's, see
            :data:`~lightning_regs.core.checks.PURPOSES`.
        run: Seed, folder, and where curves and progress go. An interrupted run goes on from its last saved epoch.
        callbacks: Further callbacks, before those of the configuration. A :class:`Recorder` among them writes the curve
            in place of the one that records epochs.
        start: The network to train, as it starts; default: the configuration's, see :func:`initial_network`.
        data: The data; default: the configuration's.

    Returns:
        The trained net. Its metrics are ``train_acc``, ``test_acc``, ``train_loss``, ``test_loss`` (evaluation mode, no
        augmentation, labels as trained), ``val_acc`` and ``val_loss`` where a validation split is held out,
        ``fit_epoch`` (NaN if never), ``train_acc_clean`` and ``train_acc_corrupted`` where labels were corrupted,
        ``best_test_acc`` where the test set was monitored (never used for a choice). Accuracies are in percent. With a
        recorder of the task's own, what curves tell is not among them.

    Raises:
        ValueError: If a section has an option that its class does not take, a class path names no regularizer or
            callback, or its arguments are not the class's.
    """
    return fit_stack(config, [run], callbacks, None if start is None else [start], data)[0]


class Task(Protocol):
    """What a cell runs: one run when it is called, several at once by ``stacked``."""

    stacked: Stacked

    def __call__(self, config: dict[str, Any], run: RunContext) -> dict[str, float]:
        """Return the metrics of a run."""


def stackable(many: Stacked) -> Task:
    """Make a task of a function that takes the configurations of several runs and returns the metrics of each."""

    @functools.wraps(many)
    def one(config: dict[str, Any], run: RunContext) -> dict[str, float]:
        return many([config], [run])[0]

    task = cast(Task, one)
    task.stacked = many
    return task


@stackable
def train(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Return the metrics of :func:`fit`: the task of cells that measure nothing else."""
    return [trained.metrics for trained in fit_stack(shared(configs), runs)]


def shared(configs: Sequence[Mapping[str, Any]], *own: str) -> dict[str, Any]:
    """Return what the configurations of runs that are trained together share, beside the keys that are each one's own.

    Numbers of the optimizer, of Lookahead its base's, that differ become lists, of one a replica: ``lr``,
    ``weight_decay`` and ``momentum``. All else that differs is refused by name.
    """
    parts: list[Any] = [{key: value for key, value in config.items() if key not in own} for config in configs]
    if all("optimizer" in part.get("model", {}) for part in parts):
        optimizers = together([part["model"]["optimizer"] for part in parts])
        parts = [p | {"model": p["model"] | {"optimizer": made}} for p, made in zip(parts, optimizers, strict=True)]
    for part in parts:
        if other := _difference(parts[0], part):
            raise ValueError(
                f"runs that are trained together must have equal configurations but for {', '.join((*NUMBERS, *own))}, "
                f"and two differ in {other}; give one of them another stack."
            )
    found: dict[str, Any] = parts[0]
    return found


def _difference(one: Any, other: Any, path: str = "") -> str:
    """Return the dotted path of the first value in which two configurations differ; none where they are equal."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return path if one != other else ""
    below = (_difference(one.get(key, ...), other.get(key, ...), f"{path}.{key}".lstrip(".")) for key in (*one, *other))
    return next(filter(None, below), "")


def fit_stack(
    config: Mapping[str, Any],
    runs: Sequence[RunContext],
    callbacks: Sequence[Callback] = (),
    start: Sequence[nn.Module] | None = None,
    data: ImageDataModule | None = None,
    test: bool = True,
) -> list[Trained]:
    """Train runs that differ in their seeds, and in what they start from, as replicas of one Classifier; one, alone.

    See :func:`fit`; ``callbacks`` act on all of them, ``start`` has a network a run, and ``data`` a replica. Without
    ``test`` nothing is measured on test data.
    """
    replicas = None if len(runs) == 1 else [run.seed for run in runs]
    check_options(config)
    seed, options, apart = runs[0].seed, dict(config["model"]), seeds_apart(config)
    order = apart.get("order", seed)
    options["regularizers"] = regularizers_in(config, order)
    if start is not None:
        network = start[0] if replicas is None else Replicated(start)
        options |= {"architecture": network, "architecture_args": None, "layers": None}
    if data is None:
        data = ImageDataModule(**config["data"], seed=seed, replicas=replicas, seeds=apart)
    module = Classifier(**options, seed=seed, replicas=replicas, seeds=apart)
    recorder = EpochRecorder(runs, config.get("fitted", FITTED))
    own = any(isinstance(callback, Recorder) for callback in callbacks)
    # Other runs, other checkpoint: a stack that is cut short is put together anew, perhaps of fewer.
    names = " ".join(run.folder.name for run in runs)
    ending = "" if replicas is None else f"-{hashlib.sha256(names.encode()).hexdigest()[:12]}"
    last = runs[0].folder / f"last{ending}.ckpt"
    of = identity(canonical({"runs": names, "seeds": [run.seed for run in runs]}))
    # One device a run: several runs go at once. For a cell that names more, the engine starts processes.
    silent = {"devices": 1, "enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    used = [
        *callbacks,
        *callbacks_in(config, order),
        *([] if own else [recorder]),
        saver := EpochCheckpoint(last),
    ]
    saver.of = of
    going_on = _going_on(last, of, runs[0])
    with quiet():
        trainer = pl.Trainer(
            **(silent | config["trainer"]),
            default_root_dir=runs[0].folder,
            callbacks=used,
            use_distributed_sampler=False,
        )
        try:
            trainer.fit(module, datamodule=data, ckpt_path=going_on)
        except Exception as error:
            if going_on is None or not while_restoring(error):
                raise
            last.unlink(missing_ok=True)
            why = " ".join(str(error).split())[:200]
            raise DamagedFileError(f"{last} does not fit this training ({why}): it was removed") from error
    metrics: list[dict[str, float]] = [{} for _ in runs] if own else recorder.measured()
    for split in ("train", *(["val"] if data.hparams.get("val_split") else []), *(["test"] if test else [])):
        for row, values in zip(metrics, evaluate(trainer, module, data, split), strict=True):
            row |= {f"{split}_{name}": value for name, value in values.items()}
    for run in runs:
        run.device, run.precision = device_name(trainer), str(trainer.precision)
        run.epochs = trainer.current_epoch
    numbers = [None] if replicas is None else range(len(runs))
    found = [Trained(module, trainer, data, row, last, i) for row, i in zip(metrics, numbers, strict=True)]
    for run, trained in zip(runs, found, strict=True):
        run.trained = trained
    return found


def _going_on(last: Path, of: str, run: RunContext) -> Path | None:
    try:
        return resumable(last, of)
    except DamagedFileError as error:
        run.note(f"{error}, and the training starts over.")
        return None


def evaluate(trainer: pl.Trainer, module: Classifier, data: ImageDataModule, split: Any) -> list[dict[str, float]]:
    """Return ``loss``, ``acc`` and the like on the whole of ``"train"``, ``"val"`` or ``"test"``, one entry a net.

    They are measured in evaluation mode, without augmentation, with labels as trained, at the module's weights.
    """
    with quiet(), data.evaluating(split):
        trainer.test(module, datamodule=data, verbose=False)
    return [dict(module.results["test"])] if module.replicas is None else module.replica_results["test"]


def data_of(config: Mapping[str, Any], *runs: RunContext) -> ImageDataModule:
    """Return the data of a run, or of several that are trained as replicas, set up to be looked at before a training.

    Given to :func:`fit` or :func:`fit_stack`, they are not loaded twice.
    """
    seeds = [run.seed for run in runs]
    replicas = seeds if len(runs) > 1 else None
    data = ImageDataModule(**config["data"], seed=seeds[0], replicas=replicas, seeds=seeds_apart(config))
    data.prepare_data()
    data.setup()
    return data


def initial_network(model: Mapping[str, Any], data: ImageDataModule, seed: int) -> nn.Module:
    """Build the untrained network of the Classifier's arguments, with the initial weights that a run of this seed has.

    The data are set up; where weights have a seed apart, it is that one.
    """
    options = {name: model[name] for name in ("architecture", "architecture_args", "layers") if name in model}
    module = Classifier(**options, input_shape=data.input_shape, num_classes=data.num_classes, seed=seed)
    assert module.network is not None
    return module.network


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out Lightning's advice, which is for people who watch a training of their own."""
    logger = logging.getLogger(NAMESPACE)
    with warnings.catch_warnings(), contextlib.ExitStack() as after:
        after.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.WARNING)
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        yield


def device_name(trainer: pl.Trainer) -> str:
    """Name what the Trainer trained on: the accelerators and their number, or the CPU threads."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return f"{trainer.num_devices} x {torch.cuda.get_device_name(device)}"
    return f"{device.type} ({torch.get_num_threads()} threads)"
