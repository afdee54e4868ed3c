"""Points and lengths of a training, in optimizer steps or in epochs, as they are written: ``"500it"``, ``"2ep"``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from lightning_regs.core.checks import Whole, checked, warn

# What a schedule has its times in.
TIMES = ("T_0", "T_max", "milestones", "step_size", "step_size_down", "step_size_up", "total_iters", "total_steps")
_WRITTEN = re.compile(r"(\d+)(it|ep)")


@checked
@dataclass(frozen=True)
class Time:
    """A point of a training, or a length: so many iterations, or so many epochs.

    An iteration is an optimizer step, as in ``Trainer(max_steps=...)``: with ``accumulate_grad_batches=4`` it takes
    four batches.

    Raises:
        TypeError: If ``value`` is no whole number.
        ValueError: If it is negative, or the unit neither ``"it"`` nor ``"ep"``.
    """

    value: Whole
    unit: Literal["it", "ep"] = "it"

    @classmethod
    @checked
    def parse(cls, text: WrittenTime) -> Time:
        """Read ``"0it"``, ``"500it"`` or ``"2ep"``.

        Raises:
            TypeError: If it is neither a text nor a Time.
            ValueError: If it is written otherwise.
        """
        if isinstance(text, Time):
            return text
        found = _WRITTEN.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"a time is a whole number and its unit, like '500it' or '2ep', got {text!r}.")
        return cls(int(found[1]), "it" if found[2] == "it" else "ep")

    def __str__(self) -> str:
        return f"{self.value}{self.unit}"

    def iterations(self, per_epoch: float) -> float:
        """Return this time in iterations, of which an epoch has so many."""
        return self.value if self.unit == "it" else self.value * per_epoch


WrittenTime = Annotated[str | Time, "a time written like '500it' or '2ep'"]


@dataclass(frozen=True)
class Length:
    """The length of a training or of a part of one; None where that is not known."""

    epochs: int | None
    steps: int | None  # of the optimizer
    per_epoch: int | None
    whose: str = "the training"  # for messages; empty where it only serves to find mistakes

    def of(self, interval: str) -> int | None:
        """Return it in such intervals."""
        return self.epochs if interval == "epoch" else self.steps

    def part(self, number: int | None, interval: str) -> Length:
        """Return a part of it, of so many intervals; what goes by the epoch has no use for its steps."""
        whose, a = self.whose and "its part of the training", self.per_epoch
        if interval == "epoch":
            return Length(number, None, a, whose)
        return Length(None if number is None or a is None else math.ceil(number / a), number, a, whose)

    def count(self, name: str, time: Time, interval: str) -> int:
        """Return a time in intervals, or raise a ``ValueError`` where it counts what has no number of these."""
        if interval == "epoch" and time.unit == "it":
            raise ValueError(
                f"{name}='{time}' counts optimizer steps, and the schedule goes by the epoch; add interval: step, or "
                "write it in epochs, such as '2ep'."
            )
        if interval == "epoch" or time.unit == "it":
            return time.value
        if self.per_epoch is None:
            raise ValueError(
                f"{name}='{time}' counts epochs, and how many optimizer steps one of this training takes is not known "
                "before it ends; write it in steps, such as '500it'."
            )
        return time.value * self.per_epoch

    def compare(self, what: str, number: int, interval: str, whole: bool = False) -> None:
        """Warn of what takes longer, so many intervals; and, where it should be the ``whole`` length, of less."""
        ours = self.of(interval)
        if not self.whose or not ours or number == ours or (number < ours and not whole):
            return
        how = "longer than" if number > ours else "over before"
        end = "it is cut short" if number > ours else "what comes after it is not planned"
        warn(f"{what} takes {number} {interval}s, {how} {self.whose}, of {ours}: {end}; change one of the two.")


def times_of(schedule: Any) -> dict[str, Any]:
    """Return the times of a schedule; those of a sequence are where its parts begin."""
    return {name: getattr(schedule, name) for name in (*TIMES, "starts") if hasattr(schedule, name)}


def warn_of_other_times(schedules: Sequence[Any], planned: Sequence[dict[str, Any]]) -> None:
    """Warn where schedules have other times than were planned, as a checkpoint brings those of its training."""
    for schedule, plan in zip(schedules, planned, strict=False):
        for name, ours in plan.items():
            if (theirs := getattr(schedule, name, ours)) != ours:
                warn(
                    f"the checkpoint's {type(schedule).__name__} goes on with {name}={theirs!r}, and this training has "
                    f"{ours!r}: its rates are those of the training that was saved; go on with that one's length and "
                    "schedule, or begin anew from its weights."
                )
