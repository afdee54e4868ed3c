"""What the test error is on the way of one training, as a task: of epochs as of any other thing that is varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from lightning_regs.core.checks import Count, checked, nonempty
from lightning_regs.core.lightning import pl
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.splits import measure
from lightning_regs.training.classifier import Classifier
from lightning_regs.training.fit import fit_stack, shared, stackable
from lightning_regs.training.options import looks, section
from lightning_regs.training.recorder import EpochRecorder


@checked
@dataclass(frozen=True)
class _Options:
    epochs: Annotated[tuple[Count, ...], nonempty]


def _epochs(config: Mapping[str, Any]) -> tuple[int, ...]:
    epochs = section(config, "course", _Options).epochs
    if max(epochs) > (last := config["trainer"].get("max_epochs") or -1):
        raise ValueError(
            f"course measures after epoch {max(epochs)}, and trainer.max_epochs is {last}: give it at least that many."
        )
    return epochs


@looks(_epochs)
@stackable
def course(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train to the end, and measure the test set after some of the epochs; nothing is chosen by it.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`, and in ``config["course"]`` the ``epochs`` after
            which the test set is measured, such as ``[1, 2, 4, 8]``; of several, which are replicas of one net, the
            same.
        runs: The engine's. An interrupted one goes on from its last saved epoch.

    Returns:
        The metrics of :func:`~lightning_regs.training.fit.fit`, and ``test_error_8``, in percent, after epoch 8.
        Curves have ``test_acc`` at these epochs.

    Raises:
        ValueError: If the configurations differ, an option is unknown, or an epoch is beyond the last.
    """
    config = shared(configs)
    epochs = _epochs(config)
    recorder = _Course(runs, epochs)
    found = fit_stack(config, runs, [recorder])
    rows = []
    for one, fitted, curve in zip(found, recorder.measured(), recorder.rows, strict=True):
        errors = {f"test_error_{epoch}": 100 - curve[epoch - 1]["test_acc"] for epoch in epochs}
        rows.append(fitted | one.metrics | errors)
    return rows


class _Course(EpochRecorder):
    """Writes down the test set's numbers after some epochs, beside what each epoch has logged."""

    def __init__(self, runs: Sequence[RunContext], epochs: Sequence[int]) -> None:
        super().__init__(runs)
        self.epochs = frozenset(epochs)

    def _logged(self, trainer: pl.Trainer, module: pl.LightningModule) -> list[dict[str, float]]:
        rows = super()._logged(trainer, module)
        if trainer.current_epoch + 1 not in self.epochs:
            return rows
        assert isinstance(module, Classifier)
        loss, accuracy = (part.tolist() for part in measure(trainer, module, "test"))
        return [row | {"test/loss": a, "test/acc": b} for row, a, b in zip(rows, loss, accuracy, strict=True)]
