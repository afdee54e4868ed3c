"""A learning rate that rises from step to step, on a copy of a module and from several seeds: which one to train at."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lightning_regs.core import rng
from lightning_regs.core.checks import Count, NotNegative, Positive, Range, Seed, checked, warn
from lightning_regs.core.lightning import Callback, MisconfigurationException, pl
from lightning_regs.procedures.callbacks import only_optimizer
from lightning_regs.procedures.copies import copies
from lightning_regs.procedures.driver import Options, Source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the moving average, as in fastai.
_SMOOTHING = 0.98
# Times the loss of the first steps at which a curve has diverged.
_DIVERGED = 4


@dataclass(frozen=True, eq=False)
class RangeTest:
    """What a range test found.

    Attributes:
        rates: The learning rate of each step ``(T,)``.
        losses: The training loss of each seed at each step, before the step is taken, ``(S, T)``; NaN from where a
            curve has ended, as it had diverged.
        smoothed: The same as exponential moving averages over steps, of weight 0.98 and corrected for their start.
        suggestions: The suggestion of each seed; NaN where its loss never falls.
        schedule: How the rate rose.
    """

    rates: Tensor = field(repr=False)
    losses: Tensor = field(repr=False)
    smoothed: Tensor = field(repr=False)
    suggestions: tuple[float, ...]
    schedule: str

    @property
    def suggestion(self) -> float:
        """The median of the seeds' suggestions; NaN if no loss fell."""
        return statistics.median(self._found())

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest of the seeds' suggestions."""
        return min(self._found()), max(self._found())

    def _found(self) -> list[float]:
        return [rate for rate in self.suggestions if not math.isnan(rate)] or [math.nan]

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw each seed's losses, faint, and smoothed, with the suggestion and its spread.

        Args:
            axes: Where to draw; default: a figure of its own, ``test.plot().figure.savefig("range.png")``.
        """
        if axes is None:
            from matplotlib.figure import Figure

            axes = Figure(layout="constrained").add_subplot()
        for number, (raw, smooth) in enumerate(zip(self.losses, self.smoothed, strict=True)):
            axes.plot(self.rates, raw, color=f"C{number % 10}", alpha=0.25, linewidth=0.8)
            axes.plot(self.rates, smooth, color=f"C{number % 10}")
        low, high = self.spread
        if not math.isnan(low):
            ink = axes.xaxis.label.get_color()
            axes.axvspan(low, high, color=ink, alpha=0.1, linewidth=0)
            label = f"suggestion {self.suggestion:.2g} ({low:.2g} to {high:.2g})"
            axes.axvline(self.suggestion, color=ink, linestyle="--", label=label)
            axes.legend()
        # A curve that diverges would hide the others.
        bottom, start = float(self.losses.nan_to_num(math.inf).min()), float(self.smoothed[:, 0].nanmean())
        room = (start - bottom) or 1.0
        axes.set(xlabel="learning rate", ylabel="training loss", ylim=(bottom - room / 20, start + room / 2),
                 xscale="log" if self.schedule == "exponential" else "linear")  # fmt: skip
        return axes


@checked
def range_test(
    module: pl.LightningModule,
    data: Source = None,
    *,
    low: NotNegative = 1e-6,
    high: Positive = 10.0,
    steps: Annotated[int, Range(20)] = 100,
    schedule: Literal["exponential", "linear"] = "exponential",
    seeds: Count = 3,
    trainer: Options | None = None,
    seed: Seed | None = None,
) -> RangeTest:
    r"""Train copies of a module at a rate that rises from step to step, and suggest the rate to train at.

    Smith, "Cyclical Learning Rates for Training Neural Networks" (1506.01186), Section 3.3: while the rate rises the
    loss first falls, and rises where the rate is too large. The suggestion is a tenth of the rate at which the smoothed
    loss is least, for each seed by itself: it hangs on chance and on the range, and its spread says how much. Smith's
    own use for cycles is to read the rates where the loss begins to fall and where it gets worse: see the plot.

    The module, its optimizer, the data and their order, and the global random streams stay as they are, bit for bit:
    each seed has a deep copy of the module, with its weights and statistics of batch norm as they are now, an optimizer
    of its own from ``configure_optimizers``, and a copy of the loaders, whose data sets share their tensors. Seeds
    differ in the order of the data and in what is drawn on the way, such as dropout. A schedule of the module is left
    out; where groups of parameters have different rates they keep their proportions, and the largest is the one tested.
    A curve ends where its smoothed loss is 4 times that of the first tenth of the steps, or no number.

    Does not help: to choose between rates of one order of magnitude, which needs trainings; nor for the rate late in a
    training, of which the first steps know nothing.

    Does not compose with: manual optimization, several optimizers.

    Args:
        module: Any LightningModule with automatic optimization and one optimizer, or our Classifier.
        data: A LightningDataModule, a training loader, or a function that makes one; None if the module has a loader.
        low: The first rate, below ``high``; 0 is for the linear schedule alone.
        high: The last rate.
        steps: Optimizer steps, at least 20; epochs repeat where they are shorter.
        schedule: ``"exponential"``: the rate is multiplied by the same number at each step. ``"linear"``: it grows by
            the same amount, as in Smith's paper.
        seeds: Number of seeds.
        trainer: Further options of the Trainer, such as ``{"accelerator": "gpu", "accumulate_grad_batches": 4}``, and
            ``callbacks`` of the training, which are copied as well.
        seed: What the seeds derive from; default: what ``seed_everything`` was given, else 0.

    Returns:
        Rates, losses and the suggestion, :class:`~lightning_regs.procedures.range_test.range_test.RangeTest`.

    Raises:
        TypeError: If an argument is of another type, or cannot be copied.
        ValueError: If one is outside its range, or no loss is a number.
        MisconfigurationException: If the module optimizes manually, has no optimizer or several, or sets its rate by
            itself.

    Warns:
        UserWarning: If the loss never falls, is least at the last rate, or all seeds have the same losses.
    """
    if not low < high:
        raise ValueError(f"low={low:g} must be below high={high:g}: the rate rises from the one to the other.")
    if low == 0 and schedule == "exponential":
        raise ValueError("low=0 cannot be multiplied; begin above 0, or take schedule='linear'.")
    share = torch.linspace(0, 1, steps, dtype=torch.float64)
    rates = low + (high - low) * share if schedule == "linear" else low * (high / low) ** share
    own, name = rng.run_seed(seed), type(module).__name__
    sweeps = [_Sweep(rates.tolist()) for _ in range(seeds)]
    with copies("range_test", module, data, trainer) as made:
        for number, sweep in enumerate(sweeps):
            made.fit(sweep, rng.derive_seed(own, "range test", number), max_steps=steps, max_epochs=-1)
    found = [sweep.losses for sweep in sweeps]
    if not any(found):
        raise ValueError("the data of range_test gave no batch; give a loader that is not empty.")
    if not any(math.isfinite(loss) for curve in found for loss in curve):
        raise ValueError(
            f"the loss of {name} is no number from the first step on, at a rate of {low:g}, in all {seeds} seeds; look "
            "for what is not finite in its weights, its data or its loss."
        )
    losses = torch.tensor([curve + [math.nan] * (steps - len(curve)) for curve in found], dtype=torch.float64)
    smoothed = torch.tensor([[*_smooth(curve)] for curve in losses.tolist()], dtype=torch.float64)
    early, least = losses[:, : steps // 10], smoothed[:, steps // 10 :].nan_to_num(math.inf).min(1)
    at = least.indices + steps // 10
    fell = least.values < early.mean(1) - early.std(1) / 2  # else it is not clearly below the losses of the first steps
    suggestions = torch.where(fell, rates[at] / 10, math.nan).tolist()
    if not fell.any():
        warn(f"the loss of {name} never falls between the rates {low:g} and {high:g}, so that none is suggested; look "
             f"at the curve, and raise steps={steps} or change the range.")  # fmt: skip
    elif steps - 1 in at[fell]:
        warn(f"the loss of {name} is least at the last rate, and the suggestion hangs on high={high:g}; raise it.")
    if seeds > 1 and torch.equal(losses.nan_to_num(), losses[:1].expand_as(losses).nan_to_num()):
        warn(f"all {seeds} seeds have the same losses, and their spread says nothing: the data come in an order that "
             "does not follow the global random streams; shuffle them, or give seeds=1.")  # fmt: skip
    return RangeTest(rates, losses, smoothed, tuple(suggestions), schedule)


class _Sweep(Callback):
    """Drives the rate of the optimizer, one number a step, and keeps the losses."""

    def __init__(self, rates: list[float]) -> None:
        self.rates = rates
        self.losses: list[float] = []
        self._batches: list[float] = []
        self._seen: tuple[int, int] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the schedule in the place of the module's."""
        optimizer = only_optimizer("range_test", trainer, pl_module)
        first = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, first, strict=True):
            group["initial_lr"] = group["lr"] = rate / max(first) if max(first) else 1.0
        made = LambdaLR(optimizer, lambda step: self.rates[min(step, len(self.rates) - 1)])
        trainer.strategy.lr_scheduler_configs = [pl.utilities.types.LRSchedulerConfig(made, interval="step")]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse data that have come to their end, of which epochs would go on for ever."""
        seen = len(self.losses), len(self._batches)
        if seen == self._seen:
            raise MisconfigurationException(
                f"the data gave no batch in an epoch, after {seen[0]} of {len(self.rates)} steps; give a loader that "
                "is not empty and can be read again."
            )
        self._seen = seen

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """See that the rate is the one that is tested."""
        actual, wanted = max(float(group["lr"]) for group in optimizer.param_groups), self.rates[len(self.losses)]
        if not math.isclose(actual, wanted, rel_tol=1e-4, abs_tol=1e-30):
            raise MisconfigurationException(
                f"{type(pl_module).__name__} or a callback sets the learning rate to {actual:g} where range_test set "
                f"it to {wanted:g}; leave that out for the test."
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the mean loss of the batches of a step; stop where the curve has diverged."""
        loss = outputs.get("loss", math.nan) if isinstance(outputs, Mapping) else outputs
        # Lightning has divided it, to accumulate gradients.
        self._batches.append(math.nan if loss is None else float(loss) * trainer.accumulate_grad_batches)
        if trainer.global_step > len(self.losses):
            self.losses.append(statistics.fmean(self._batches))
            self._batches = []
            early = self.losses[: len(self.rates) // 10]
            *_, now = _smooth(self.losses)
            start = statistics.fmean(early)
            risen = len(self.losses) > len(early) and now > start + (_DIVERGED - 1) * abs(start)
            trainer.should_stop = trainer.should_stop or risen or not math.isfinite(now)


def _smooth(losses: list[float]) -> Iterator[float]:
    """Yield exponential moving averages, each over the sum of its weights."""
    mean = 0.0
    for number, loss in enumerate(losses, 1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        yield mean / (1 - _SMOOTHING**number)
