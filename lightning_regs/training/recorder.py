"""What a training writes on its way: rows of metrics for the curves of its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_regs.core.lightning import Checkpoint, pl
from lightning_regs.core.runs import RunContext

# The share of the training set that counts as fitted, in percent (Zhang et al. call it zero training error).
FITTED = 99.9


def how_far(trainer: pl.Trainer) -> tuple[int, int]:
    """Return how many epochs are done of how many, at the end of one; of 0, where the end is not known.

    Of a training that ends by steps, these are the epochs that its steps take if each has as many as those so far.
    """
    done, epochs = trainer.current_epoch + 1, max(trainer.max_epochs or 0, 0)
    if trainer.max_steps > 0 and trainer.global_step:
        by_steps = -(-done * trainer.max_steps // trainer.global_step)
        epochs = min(epochs or by_steps, by_steps)
    return done, epochs


class Recorder(Checkpoint):
    """Writes rows of metrics to the curves of runs, one run a net; subclasses say when, and what is in a row.

    The rows travel in the checkpoint, so a resumed run has those from before the restart. It is a ``Checkpoint``
    because Lightning calls those after the module has logged the epoch, and other callbacks before. ``rows`` are those
    so far, of each run.
    """

    def __init__(self, runs: Sequence[RunContext]) -> None:
        self.runs = list(runs)
        self.rows: list[list[dict[str, float]]] = [[] for _ in runs]
        self._writes = True

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the files to the first process."""
        self._writes = trainer.is_global_zero

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows from before the restart, and write them anew."""
        self.rows = [list(rows) for rows in state_dict["rows"]]
        for run, rows in zip(self.runs, self.rows, strict=True):
            if self._writes:
                run.restore_curves(rows)

    def record(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Add one row to each run's."""
        for run, own, row in zip(self.runs, self.rows, rows, strict=True):
            own.append(dict(row))
            if self._writes:
                run.log_curve(row)


class EpochRecorder(Recorder):
    """Writes what an epoch has logged, remembers when the training set was fitted, and reports progress.

    It counts as fitted from a training accuracy of ``fitted`` percent on.
    """

    def __init__(self, runs: Sequence[RunContext], fitted: float = FITTED) -> None:
        super().__init__(runs)
        self.fitted = fitted

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch."""
        # Whatever stands in for a validation set, a curve of this project is of test data only when it is test data.
        held_out = "test" if getattr(getattr(trainer, "datamodule", None), "monitor_test", False) else "val"
        rows = []
        for logged in self._logged(trainer, pl_module):
            row: dict[str, float] = {"step": trainer.global_step, "epoch": trainer.current_epoch + 1}
            for name, value in logged.items():
                stage, _, metric = name.partition("/")
                row[f"{held_out if stage == 'val' else stage}_{metric}"] = value
            rows.append(row)
        self.record(rows)
        for run, row in zip(self.runs, rows, strict=True):
            accuracy = row.get("train_acc", row.get("train_acc_heavier", math.nan))
            text = f"train {accuracy:.1f} %, loss {row.get('train_loss', math.nan):.3g}"
            run.progress(*how_far(trainer), text)

    def _logged(self, trainer: pl.Trainer, module: pl.LightningModule) -> list[dict[str, float]]:
        each: dict[str, list[dict[str, float]]] | None = getattr(module, "replica_results", None)
        if not each:
            return [{name: float(value) for name, value in trainer.callback_metrics.items()}]
        return [
            {f"{stage}/{name}": value for stage, values in each.items() for name, value in values[i].items()}
            for i in range(len(self.runs))
        ]

    def measured(self) -> list[dict[str, float]]:
        """Return of each run ``fit_epoch``, from 1, NaN if never fitted; of monitored test data ``best_test_acc``."""
        found = []
        for rows in self.rows:
            fitted = (row["epoch"] for row in rows if row.get("train_acc", 0.0) >= self.fitted)
            values = {"fit_epoch": next(fitted, math.nan)}
            test = [row["test_acc"] for row in rows if "test_acc" in row]
            found.append(values | ({"best_test_acc": max(test)} if test else {}))
        return found
