"""What stopping criteria do to one and the same training: it is recorded once, and each is asked, as a task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from lightning_regs.core.checks import Name, checked, nonempty
from lightning_regs.core.lightning import pl
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.measured import PRECHELT
from lightning_regs.procedures.splits import measure
from lightning_regs.procedures.stopping.criteria import criterion_of, errors_of, stops
from lightning_regs.training.classifier import Classifier
from lightning_regs.training.fit import fit_stack, shared, stackable
from lightning_regs.training.options import looks, section
from lightning_regs.training.recorder import Recorder, how_far

# By how much a test loss may be above the least that a criterion reached, to be a good one.
GOOD = 1.05


@checked
@dataclass(frozen=True)
class _Options:
    criteria: Annotated[tuple[Name, ...], nonempty] = PRECHELT

    def __post_init__(self) -> None:
        for name in self.criteria:
            criterion_of(name)


@looks(lambda config: section(config, "stopping", _Options))
@stackable
def stopping(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train to the end, measure after each epoch, and ask criteria of early stopping where they would have stopped.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`, with a validation split; ``config["stopping"]`` may
            have ``criteria``, names as of :func:`~lightning_regs.procedures.stopping.criteria.criterion_of` (default
            Prechelt's fourteen). The errors that they see are the losses, training's that of the epoch's batches.
        runs: The engine's, several as replicas of one net. An interrupted one goes on from its last saved epoch.

    Returns:
        The metrics of :func:`~lightning_regs.training.fit.fit` after the last epoch; for each criterion, such as GL5,
        ``gl5_epoch``, the epoch after which it stops, the last where it does not; ``gl5_test_loss`` and
        ``gl5_test_error`` (percent) of the weights of the least validation loss until then, and ``gl5_good``: 100 where
        that test loss is at most 5 % above the least of all criteria, else 0; ``best_epoch``, that of the least
        validation loss at all; ``fired``: how many of the criteria came true, in percent. The test set is measured
        where the validation loss of a net is a new least, and nothing is chosen by it.

    Raises:
        ValueError: If the configurations differ, or an option or a criterion is unknown.
    """
    config = shared(configs)
    criteria = section(config, "stopping", _Options).criteria
    config["trainer"] = config["trainer"] | {"limit_val_batches": 0}  # validated here, without a log line a replica
    found = fit_stack(config, runs, [curves := _Curves(runs)])
    return [one.metrics | asked(rows, criteria) for one, rows in zip(found, curves.rows, strict=True)]


def asked(rows: Sequence[Mapping[str, float]], criteria: Sequence[str]) -> dict[str, float]:
    """Return what criteria make of a recorded training; see :func:`stopping`."""
    validation, training = [row["val_loss"] for row in rows], [row["train_loss"] for row in rows]
    errors, found, fired = errors_of(validation), dict[str, float](), 0
    for criterion in criteria:
        at = stops(criterion, validation, training)
        fired += at is not None
        end = len(rows) if at is None else at + 1
        best, name = rows[int(errors[:end].argmin())], criterion.lower()
        found[f"{name}_epoch"] = end
        found |= {f"{name}_test_loss": best["test_loss"], f"{name}_test_error": 100 - best["test_acc"]}
    least = min(found[f"{criterion.lower()}_test_loss"] for criterion in criteria)
    for name in map(str.lower, criteria):
        found[f"{name}_good"] = 100.0 * (found[f"{name}_test_loss"] <= GOOD * least)
    return found | {"best_epoch": int(errors.argmin()) + 1, "fired": 100 * fired / len(criteria)}


class _Curves(Recorder):
    """Writes down the losses of each epoch, and those of the test set where a net's validation loss is a new least."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        train = pl_module.replica_results["train"] if pl_module.replicas else [pl_module.results["train"]]
        val = _columns("val", measure(trainer, pl_module, "val"))
        new = [
            not rows or own["val_loss"] < min(row["val_loss"] for row in rows)
            for own, rows in zip(val, self.rows, strict=True)
        ]
        test = _columns("test", measure(trainer, pl_module, "test")) if any(new) else [{} for _ in new]
        where = {"step": trainer.global_step, "epoch": trainer.current_epoch + 1}
        self.record([
            where | {"train_loss": a["loss"]} | b | (c if is_new else {})
            for a, b, c, is_new in zip(train, val, test, new, strict=True)
        ])  # fmt: skip
        mean = math.fsum(own["val_loss"] for own in val) / len(val)
        self.runs[0].progress(*how_far(trainer), f"validation loss {mean:.3g}")


def _columns(split: str, measured: tuple[Any, Any]) -> list[dict[str, float]]:
    loss, accuracy = (part.tolist() for part in measured)
    return [{f"{split}_loss": a, f"{split}_acc": b} for a, b in zip(loss, accuracy, strict=True)]
