"""The task of a trial: train by a configuration, without a look at test data, and stop early what is behind."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_regs.core.lightning import Callback, pl
from lightning_regs.core.metrics import ACCURACY, ERROR
from lightning_regs.core.runs import RunContext
from lightning_regs.training.fit import fit_stack, shared, stackable

# Complete trials that there are before others are compared with them, and the share of a training that is left alone.
LEAST, WARM_UP = 5, 0.25


@stackable
def trial(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train as :func:`~lightning_regs.training.fit.train` does, and measure training and held-out data alone.

    Args:
        configs: Of each run that of :func:`~lightning_regs.training.fit.fit`, and where trainings may be stopped
            ``"stop"`` with the arguments of :class:`MedianStop`.
        runs: The engine's.

    Returns:
        The metrics without those of test data; with ``"stop"`` also ``stopped``, 1 where a training was behind, else 0.
    """
    stop = configs[0].get("stop")
    callback = MedianStop(**stop) if stop else None
    trained = fit_stack(shared(configs, "stop"), runs, [callback] if callback else [], test=False)
    return [net.metrics | ({"stopped": float(callback.stopped)} if callback else {}) for net in trained]


class MedianStop(Callback):
    """Stops a training whose best number so far is worse than the median of other trainings at the same validation.

    The rule of Golovin et al. (2017), "Google Vizier". What it compares with is given, and not looked up while other
    trainings go on: the same training is stopped at the same epoch whatever runs beside it.

    Args:
        metric: A metric of held-out data, such as ``"val_error"`` in percent or ``"val_loss"``.
        medians: The median of the others after each validation; beyond its end nothing is stopped.
        largest: Whether a larger number is a better one.
    """

    def __init__(self, metric: str, medians: Sequence[float], largest: bool = False) -> None:
        self.metric, self.medians, self.largest = metric, list(medians), largest
        self.values: list[float] = []
        self.stopped = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the validation with those of others."""
        if trainer.sanity_checking:
            return
        logged = {name.replace("/", "_"): float(number) for name, number in trainer.callback_metrics.items()}
        self.values.append(held_out(logged, self.metric))
        done = len(self.values)
        if done > len(self.medians) or done <= WARM_UP * len(self.medians):
            return
        best, median = _best(self.values, self.largest), self.medians[done - 1]
        self.stopped = best < median if self.largest else best > median
        trainer.should_stop = trainer.should_stop or self.stopped

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers so far."""
        return {"values": self.values, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take those from before the restart."""
        self.values, self.stopped = list(state_dict["values"]), state_dict["stopped"]


def held_out(row: Mapping[str, float], metric: str) -> float:
    """Return a metric of a row, NaN where it is not there; an error is 100 minus the accuracy."""
    if metric not in row and metric.endswith(ERROR):
        return 100 - row.get(metric.removesuffix(ERROR) + ACCURACY, math.nan)
    return row.get(metric, math.nan)


def medians(curves: Sequence[Sequence[float]], largest: bool) -> list[float]:
    """Return the median over trainings of a number after each validation that all have had; none of fewer than 5."""
    columns = zip(*curves, strict=False) if len(curves) >= LEAST else ()
    return [statistics.median(_best([number], largest) for number in column) for column in columns]


def _best(numbers: Sequence[float], largest: bool) -> float:
    """Return the best number; what is none is the worst that there is."""
    worst = -math.inf if largest else math.inf
    return (max if largest else min)(worst if math.isnan(number) else number for number in numbers)
