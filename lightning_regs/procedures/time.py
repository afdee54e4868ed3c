"""Points and lengths of a training, in iterations or epochs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_WRITTEN = re.compile(r"(\d+)(it|ep)")
_UNITS = {"it": "iterations", "ep": "epochs"}


@dataclass(frozen=True)
class Time:
    """A point of a training, or a length: so many iterations, or so many epochs.

    An iteration is an optimizer step, as in ``Trainer(max_steps=...)``: with ``accumulate_grad_batches=4`` it takes
    four batches.

    Args:
        value: At least 0.
        unit: ``"it"`` or ``"ep"``.

    Raises:
        TypeError: If ``value`` is no whole number.
        ValueError: If it is negative, or the unit another.
    """

    value: int
    unit: Literal["it", "ep"] = "it"

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise TypeError(f"a time has a whole number of {_UNITS.get(self.unit, 'units')}, got {self.value!r}.")
        if self.unit not in _UNITS:
            raise ValueError(f"a time is in 'it' (iterations) or 'ep' (epochs), got {self.unit!r}.")
        if self.value < 0:
            raise ValueError(f"a time is at least 0, got {self.value}{self.unit}.")

    @classmethod
    def parse(cls, text: str | Time) -> Time:
        """Read ``"0it"``, ``"500it"`` or ``"2ep"``.

        Raises:
            TypeError: If it is neither a text nor a Time.
            ValueError: If it is written otherwise.
        """
        if isinstance(text, Time):
            return text
        if not isinstance(text, str):
            raise TypeError(f"a time is written like '500it' or '2ep', got {text!r}.")
        found = _WRITTEN.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"a time is a whole number and its unit, like '500it' or '2ep', got {text!r}.")
        return cls(int(found[1]), "it" if found[2] == "it" else "ep")

    def __str__(self) -> str:
        return f"{self.value}{self.unit}"

    def iterations(self, per_epoch: float) -> float:
        """Return this time in iterations.

        Args:
            per_epoch: Iterations an epoch.
        """
        return self.value if self.unit == "it" else self.value * per_epoch
