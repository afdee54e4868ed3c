"""The task that trains one Classifier: a cell's configuration in, its metrics out."""

from __future__ import annotations

import importlib
import inspect
import logging
import math
import pickle
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_regs.core.lightning import NAMESPACE, Checkpoint, pl
from lightning_regs.core.runs import RunContext
from lightning_regs.data import ImageDataModule
from lightning_regs.regularizers import Regularizer
from lightning_regs.training.classifier import Classifier

# The share of the training set that counts as fitted, in percent (Zhang et al. call it zero training error).
FITTED = 99.9

# Advice that does not fit a run whose data live in one tensor and whose results are rows, not log lines.
_NOISE = (
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*`isinstance.treespec, LeafSpec.` is deprecated.*",
)


class EpochRecorder(Checkpoint):
    """Writes one row of metrics an epoch, remembers when the training set was fitted, and reports progress.

    The rows travel in the checkpoint, so a resumed run has those of the epochs before it. It is a ``Checkpoint``
    because Lightning calls those after the module has logged the epoch, and other callbacks before.

    Args:
        run: Where rows and progress go.
        fitted: Training accuracy in percent from which on the training set counts as fitted.
        replica: Which of the Classifier's replicas the run is; None where it has none.
    """

    def __init__(self, run: RunContext, fitted: float = FITTED, replica: int | None = None) -> None:
        self.run = run
        self.replica = replica
        self.fitted = fitted
        self.rows: list[dict[str, float]] = []

    @property
    def state_key(self) -> str:
        """Name the recorder among those of other replicas."""
        return super().state_key if self.replica is None else f"{super().state_key}{self.replica}"

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows of the epochs before the restart, and write them anew."""
        self.rows = list(state_dict["rows"])
        self.run.restore_curves(self.rows)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch."""
        # Whatever stands in for a validation set, a curve of this project is of test data only when it is test data.
        held_out = "test" if getattr(getattr(trainer, "datamodule", None), "monitor_test", False) else "val"
        row: dict[str, float] = {"step": trainer.global_step, "epoch": trainer.current_epoch + 1}
        for name, value in self._logged(trainer, pl_module).items():
            stage, _, metric = name.partition("/")
            row[f"{held_out if stage == 'val' else stage}_{metric}"] = value
        self.rows.append(row)
        self.run.log_curve(row)
        accuracy = row.get("train_acc", row.get("train_acc_heavier", math.nan))
        text = f"train {accuracy:.1f} %, loss {row.get('train_loss', math.nan):.3g}"
        self.run.progress(trainer.current_epoch + 1, trainer.max_epochs or 1, text)

    def _logged(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        if self.replica is None:
            return {name: float(value) for name, value in trainer.callback_metrics.items()}
        assert isinstance(pl_module, Classifier)
        each = {stage: values[self.replica] for stage, values in pl_module.replica_results.items()}
        return {f"{stage}/{name}": value for stage, values in each.items() for name, value in values.items()}

    def fit_epoch(self) -> float:
        """Return the first epoch, counted from 1, whose running training accuracy was fitted; NaN if none was."""
        return next((row["epoch"] for row in self.rows if row.get("train_acc", 0.0) >= self.fitted), math.nan)

    def best_test(self) -> dict[str, float]:
        """Return ``best_test_acc`` over the epochs, where test data were monitored: what early stopping could gain."""
        values = [row["test_acc"] for row in self.rows if "test_acc" in row]
        return {"best_test_acc": max(values)} if values else {}


class EpochCheckpoint(Checkpoint):
    """Saves one checkpoint, at an epoch's end, not more often than every so many seconds.

    Args:
        path: The file; replaced as a whole by each save.
        every: Seconds between saves. A run shorter than this writes none: it is cheaper to repeat.
    """

    def __init__(self, path: Path, every: float = 20.0) -> None:
        self.path = path
        self.every = every
        self.saved = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save when the last save is long enough ago."""
        if time.monotonic() - self.saved >= self.every:
            # Lightning writes elsewhere and moves, which is a copy where that is another disk; only a rename is whole.
            part = self.path.with_suffix(".part")
            trainer.save_checkpoint(part)
            part.replace(self.path)
            self.saved = time.monotonic()


def resumable(path: Path) -> Path | None:
    """Return the checkpoint if it is there and whole; remove a damaged one with a warning."""
    if not path.exists():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as error:
        warnings.warn(f"{path} is damaged ({error}); it was removed and the run starts over.", stacklevel=2)
        path.unlink()
        return None
    return path


def train(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Train a Classifier and measure it on the whole training set and on the test set, after the last epoch.

    Args:
        config: ``{"model": Classifier's arguments, "data": ImageDataModule's, "trainer": Trainer's}``; the seed comes
            from ``run``. ``config["fitted"]`` overrides the share of the training set that counts as fitted.
        run: Seed, folder, and where curves and progress go. An interrupted run goes on from its last saved epoch.

    Returns:
        ``train_acc``, ``test_acc``, ``train_loss``, ``test_loss`` (evaluation mode, no augmentation, labels as
        trained), ``fit_epoch`` (NaN if never), ``train_acc_clean`` and ``train_acc_corrupted`` where labels were
        corrupted, ``best_test_acc`` where the test set was monitored (never used for a choice). Accuracies in percent.
    """
    return _train(config, [run], None)[0]


def train_stack(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train runs that differ in their seeds only as replicas of one Classifier; see :func:`train`.

    Args:
        configs: The runs' configurations, all equal.
        runs: The runs.

    Returns:
        The metrics of each.

    Raises:
        ValueError: If the configurations differ.
    """
    if any(config != configs[0] for config in configs):
        raise ValueError("runs that are trained together must have equal configurations; give the others another stack")
    return _train(configs[0], runs, [run.seed for run in runs])


train.stacked = train_stack  # type: ignore[attr-defined]


def _train(config: dict[str, Any], runs: Sequence[RunContext], replicas: list[int] | None) -> list[dict[str, float]]:
    logging.getLogger(NAMESPACE).setLevel(logging.WARNING)
    options_of_model = dict(config["model"])
    seed = runs[0].seed
    methods = make_regularizers(options_of_model.pop("regularizers", None) or [], seed)
    model = Classifier(**options_of_model, regularizers=methods, seed=seed, replicas=replicas)
    data = ImageDataModule(**config["data"], seed=seed, replicas=replicas)
    numbers = [None] if replicas is None else list(range(len(runs)))
    fitted = config.get("fitted", FITTED)
    recorders = [EpochRecorder(run, fitted, number) for run, number in zip(runs, numbers, strict=True)]
    # Other runs, other checkpoint: a stack that is cut short is put together anew, perhaps of fewer.
    names = "" if replicas is None else "-" + "-".join(map(str, replicas))
    last = runs[0].folder / f"last{names}.ckpt"
    # One device a run: several runs go at once with --jobs, and Lightning's DDP launcher cannot relaunch a worker.
    # A cell that needs more names devices and a spawning strategy itself.
    options: dict[str, Any] = {
        "devices": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
    }
    options |= config["trainer"]
    with warnings.catch_warnings():
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        trainer = pl.Trainer(
            **options,
            default_root_dir=runs[0].folder,
            callbacks=[*recorders, EpochCheckpoint(last)],
            use_distributed_sampler=False,
        )
        trainer.fit(model, datamodule=data, ckpt_path=resumable(last))
        with data.evaluating("train"):
            trainer.test(model, datamodule=data, verbose=False)
        on_train = _results(model)
        trainer.test(model, datamodule=data, verbose=False)
    metrics = []
    for run, recorder, train_values, test_values in zip(runs, recorders, on_train, _results(model), strict=True):
        run.device = device_name(trainer)
        run.precision = str(trainer.precision)
        run.epochs = trainer.current_epoch
        values = {f"train_{name}": value for name, value in train_values.items()}
        values |= {f"test_{name}": value for name, value in test_values.items()}
        metrics.append(values | {"fit_epoch": recorder.fit_epoch()} | recorder.best_test())
    return metrics


def _results(model: Classifier) -> list[dict[str, float]]:
    return [model.results["test"]] if model.replicas is None else model.replica_results["test"]


def make_regularizers(configs: Sequence[Mapping[str, Any]], seed: int) -> list[Regularizer]:
    """Build the methods of a configuration, which has them as LightningCLI does.

    Args:
        configs: ``{"class_path": "lightning_regs.Mixup", "init_args": {"alpha": 1.0}}`` each; without ``init_args`` the
            defaults hold.
        seed: Seed of those whose ``init_args`` have none.

    Raises:
        ValueError: If a class path names no regularizer, or its arguments are not the class's.
    """
    return [_make_regularizer(dict(config), seed) for config in configs]


def _make_regularizer(config: dict[str, Any], seed: int) -> Regularizer:
    path, options = config.get("class_path"), dict(config.get("init_args") or {})
    if not isinstance(path, str) or set(config) - {"class_path", "init_args"}:
        raise ValueError(f"a regularizer is written as class_path: lightning_regs.Mixup and init_args, got {config!r}.")
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no regularizer {path!r}: {error}; write it like lightning_regs.Mixup.") from error
    if not (isinstance(cls, type) and issubclass(cls, Regularizer)):
        raise ValueError(f"{path!r} is no regularizer; write for example lightning_regs.Mixup.")
    if "seed" in inspect.signature(cls).parameters:
        options.setdefault("seed", seed)
    try:
        return cls(**options)
    except TypeError as error:
        raise ValueError(f"{path} does not take {options!r}: {error}.") from error


def device_name(trainer: pl.Trainer) -> str:
    """Name what the Trainer trained on: the accelerators and their number, or the CPU threads."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return f"{trainer.num_devices} x {torch.cuda.get_device_name(device)}"
    return f"{device.type} ({torch.get_num_threads()} threads)"
