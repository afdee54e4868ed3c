"""Lightning's commands fit, validate, test and predict with our Classifier and ImageDataModule."""

from __future__ import annotations

import argparse
import contextlib
import csv
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.cli.common import columns, short
from lightning_regs.cli.mistakes import sentence
from lightning_regs.core.files import DamagedFileError, check_saved, whole
from lightning_regs.core.lightning import NAMESPACE, lightning_cli, pl
from lightning_regs.study.paper.config import find_config, read_yaml

_Base: Any = lightning_cli()
_Save: Any = sys.modules[_Base.__module__].SaveConfigCallback
# Options of a Trainer that say how it computes, not for how long or where to.
_HOW = ("accelerator", "precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm",
        "deterministic", "plugins")  # fmt: skip


def run(arguments: Sequence[str]) -> int:
    """Run one of Lightning's commands, with its options.

    A configuration that is no file here is one of those that came with the package. Classes that it names are also
    looked for beside it and in the working directory.
    """
    logging.getLogger(NAMESPACE).setLevel(logging.INFO)
    logging.getLogger(f"{NAMESPACE}.utilities.rank_zero").addFilter(lambda record: " Tip: " not in record.getMessage())
    for advice in (".*does not have many workers.*", ".*`tensorboardX` has been removed.*", ".*treespec, LeafSpec.*"):
        warnings.filterwarnings("ignore", advice)
    if list(arguments) == ["fit"]:
        raise ValueError("fit needs to know what to train; give it --config FILE, or options (see --help).")
    own = list(arguments) == sys.argv[1:]
    given = _with_configs(arguments)
    if own:
        sys.argv[1:] = given  # what Lightning gives to further processes; it warns of arguments beside these
    command = arguments[0]

    class Chosen(CommandLine):
        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            """Return the one that is asked for: making the options of each takes a third of a second."""
            return {command: _Base.subcommands()[command]}

    try:
        Chosen(
            Classifier,
            ImageDataModule,
            trainer_class=Trainer,
            args=None if own else given,
            seed_everything_default=0,
            save_config_callback=_SavedConfig,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={command: {"exit_on_error": False}, "exit_on_error": False},
        )
    except ValueError as error:
        if "Does not validate against" not in str(error):
            raise
        raise ValueError(sentence(str(error), ())) from error
    return 0


def load(config: Path) -> tuple[pl.LightningModule, pl.LightningDataModule | None, dict[str, Any]]:
    """Make the module and the data of a configuration, and return with them what its Trainer trains on and how.

    A section that names a class by ``class_path`` is of any LightningModule or LightningDataModule.
    """
    given = _with_configs(["--config", str(config)])
    sections = yaml.safe_load(Path(given[1]).read_text(encoding="utf-8"))
    foreign = {name for name in ("model", "data") if "class_path" in (sections.get(name) or {})}
    own = foreign and "data" not in sections  # its loader is the module's
    logging.disable(logging.INFO)  # of devices, which are not used yet
    with warnings.catch_warnings(), contextlib.ExitStack() as after:
        after.callback(logging.disable, logging.NOTSET)
        for advice in (".*args parameter is intended.*", ".*`tensorboardX` has been removed.*"):
            warnings.filterwarnings("ignore", advice)
        made = CommandLine(
            None if "model" in foreign else Classifier,
            None if "data" in foreign or own else ImageDataModule,
            run=False,
            args=given,
            seed_everything_default=0,
            save_config_callback=None,
            parser_kwargs={"exit_on_error": False},
        )
    trainer = made.config_init["trainer"]
    return made.model, made.datamodule, {name: trainer[name] for name in _HOW if trainer[name] is not None}


def _config(trainer: Any) -> Path:
    """Return where a training saves its configuration: in its log, else beside its checkpoints."""
    folder = Path(trainer.log_dir or ".")
    return folder / "config.yaml" if trainer.logger else folder / "checkpoints" / "config.yaml"


class _SavedConfig(_Save):  # type: ignore[misc]
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if trainer.logger is None:
            if stage != "fit" or trainer.checkpoint_callback is None:
                return
            _config(trainer).parent.mkdir(parents=True, exist_ok=True)
            self.config_filename = "checkpoints/config.yaml"
        super().setup(trainer, pl_module, stage)


def _with_configs(arguments: Sequence[str]) -> list[str]:
    """Name the files of configurations, and make what lies beside them importable, after everything else."""
    given = list(arguments)
    for at, word in enumerate(given):
        name, is_one, value = word.partition("=")
        if name not in ("--config", "-c") or (not is_one and at + 1 == len(given)):
            continue
        path = Path(value if is_one else given[at + 1])
        file = path if path.is_file() else find_config(path)
        given[at if is_one else at + 1] = f"{name}={file}" if is_one else str(file)
        if not isinstance(read_yaml(file, f"config {file}"), dict):
            raise ValueError(f"config {file} holds no sections; write model:, data: and trainer: with what they set.")
        _add_to_path(file.absolute().parent)
    _add_to_path(Path.cwd())
    return given


def _add_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


class Trainer(pl.Trainer):
    """Lightning's Trainer, whose predictions are written to a file."""

    def predict(self, *args: Any, output: str = "predictions.csv", **kwargs: Any) -> Any:
        """Predict each sample's class, and write a file.

        Args:
            *args: As Lightning's.
            output: The file: index, predicted class and probabilities, as ``.csv`` or as arrays in ``.npz``.
            **kwargs: As Lightning's.
        """
        file = Path(output).expanduser()
        if file.suffix not in (".csv", ".npz"):
            raise ValueError(f"--output {output} is neither .csv nor .npz; give it one of these endings.")
        if self.world_size > 1:
            raise ValueError(f"predictions are written by one process, not {self.world_size}; add --trainer.devices 1.")
        if not kwargs.get("ckpt_path"):
            raise ValueError("without --ckpt_path FILE the weights are untrained; give the checkpoint that fit wrote.")
        found: Any = super().predict(*args, **kwargs)
        logits = torch.cat(found) if found else torch.empty(0, 0)
        if logits.ndim != 2:
            raise ValueError(f"the predictions are of the shape {tuple(logits.shape)}, not (N, K); leave replicas out.")
        data: Any = kwargs.get("datamodule")
        write_predictions(file, logits, data.classes if isinstance(data, ImageDataModule) else None)
        print(f"Predictions of {len(logits)} samples: {short(file)}")
        return found


def write_predictions(file: Path, logits: Tensor, classes: Sequence[str] | None = None) -> None:
    """Write a table of index, predicted class and probabilities, given logits ``(N, K)``.

    An ``.npz`` file has the arrays ``index``, ``predicted`` and ``probabilities``, another is a CSV with the headings
    ``p(NAME)``, of the classes or their numbers.
    """
    import numpy as np

    probabilities = logits.detach().float().cpu().softmax(-1).numpy()
    predicted = probabilities.argmax(-1)
    with whole(file) as part:
        if file.suffix == ".npz":
            with part.open("wb") as out:
                index = np.arange(len(predicted))
                np.savez(out, index=index, predicted=predicted, probabilities=probabilities)
            return
        names = [str(name) for name in classes or range(logits.shape[-1])]
        with part.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(["index", "predicted", *(f"p({name})" for name in names)])
            for at, (label, row) in enumerate(zip(predicted.tolist(), probabilities.tolist(), strict=True)):
                writer.writerow([at, label, *(f"{value:.6g}" for value in row)])


class CommandLine(_Base):  # type: ignore[misc]
    """Lightning's command line, with mistakes in a sentence and the metrics as a table at the end."""

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse as Lightning does."""
        try:
            super().parse_arguments(parser, args)
        except argparse.ArgumentError as error:
            parsers = getattr(self, "_subcommand_parsers", {"": parser})
            known = {action.dest for each in parsers.values() for action in each._actions}
            raise ValueError(sentence(str(error), sorted(known))) from error
        path = self.config[self.config.subcommand].get("ckpt_path") if "subcommand" in self.config else None
        try:
            if path and Path(path).is_file():
                check_saved(Path(path))
        except DamagedFileError as error:
            raise ValueError(f"--ckpt_path {error}; give a checkpoint that fit wrote, as a whole.") from error

    def after_fit(self) -> None:
        """Print the metrics of the last epoch, where the checkpoint is and what tests it."""
        if not self.trainer.is_global_zero:
            return
        found: dict[str, dict[str, float]] = {}
        for name, value in self.trainer.callback_metrics.items():
            part, _, metric = name.partition("/")
            if metric and "/" not in metric:
                found.setdefault(part, {})[metric] = float(value)
        if found:
            names = sorted(
                {name for values in found.values() for name in values}, key=lambda name: (name != "loss", name)
            )
            lines = [["", *names]]
            for part, values in found.items():
                lines.append([part, *(f"{values[name]:.4g}" if name in values else "" for name in names)])
            print(f"\nAfter {self.trainer.current_epoch} epochs (accuracies in %):\n{columns(lines)}")
        saved = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if saved:
            print(f"Checkpoint: {short(Path(saved))}")
            config = _config(self.trainer)
            if config.is_file():
                print(f"Test it: lightning-regs test --config {short(config)} --ckpt_path '{short(Path(saved))}'")
