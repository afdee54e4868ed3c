"""What a procedure found: its levels, each with its mask, weights, curve and metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

from torch import Tensor

from lightning_regs.core.names import unknown_name
from lightning_regs.core.runs import Run
from lightning_regs.procedures.level import LevelFolder, LevelState
from lightning_regs.pruning import Mask

Which = Literal["initial", "rewind", "final"]
_WHICH = ("initial", "rewind", "final")


@dataclass(frozen=True)
class Level:
    """One training: the dense net, a ticket or a control.

    Attributes:
        level: Rounds of pruning before it; 0 for the dense net.
        kind: ``"dense"``, ``"ticket"``, ``"reinitialise"`` or another control; in ``retrain`` its name.
        repeat: Which draw of a control, from 1; 0 for others.
        method: How it was trained: ``"weight_rewinding"``, ``"lr_rewinding"`` or ``"fine_tuning"``.
        density: Share of the prunable weights that is kept; times 100 it is P_m.
        metrics: What the training logged last, ``iterations``, what the test gave, and ``early_stopping_iteration``
            with the metrics of that validation, as ``early_stopping/NAME``, where a validation loss is logged.
        path: The level's folder.
    """

    level: int
    kind: str
    repeat: int
    method: str
    density: float
    metrics: dict[str, float] = field(repr=False)
    path: Path = field(repr=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @cached_property
    def mask(self) -> Mask:
        """Which weights were trained; all of the prunable ones for the dense net."""
        return LevelState.load(self.path).mask

    @cached_property
    def curve(self) -> list[dict[str, float]]:
        """The metrics of each validation, with ``step`` and ``epoch``."""
        return Run(self.path).curves()

    def weights(self, which: Which = "final") -> dict[str, Tensor]:
        """Return the module's ``state_dict``, buffers included, on the CPU.

        Args:
            which: ``"final"``: after training. ``"rewind"``: those that this training started from, pruned; of the
                dense net those at the point that the levels rewind to. ``"initial"``: those at iteration 0 that they
                go back to, not pruned.

        Raises:
            ValueError: If it is none of these.
        """
        if which not in _WHICH:
            raise unknown_name("state", which, _WHICH)
        state = LevelState.load(self.path)
        if which == "final":
            return state.final
        if which == "rewind":
            return state.start if state.facts["frozen"] else state.mask.apply(state.start)
        return state.initial or LevelState.load(self.path.parent / "level_00").initial


@dataclass(frozen=True)
class Tickets(Sequence[Level]):
    """The levels of a search in a folder, in the order in which they were trained."""

    levels: tuple[Level, ...]
    folder: Path

    @overload
    def __getitem__(self, index: int) -> Level: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Level, ...]: ...

    def __getitem__(self, index: int | slice) -> Level | tuple[Level, ...]:
        return self.levels[index]

    def __len__(self) -> int:
        return len(self.levels)

    def level(self, level: int, kind: str | None = None, repeat: int | None = None) -> Level:
        """Return the training after so many rounds of pruning: by default the ticket, or the dense net at level 0.

        Of a control it is the first draw unless ``repeat`` says which.

        Raises:
            ValueError: If there is none.
        """
        kind = kind or ("ticket" if level else "dense")
        for one in self:
            if one.level == level and one.kind == kind and (not one.repeat or one.repeat == (repeat or 1)):
                return one
        raise ValueError(f"there is no {kind} of level {level}; there are {', '.join(one.name for one in self)}.")

    def of_kind(self, *kinds: str) -> list[Level]:
        """Return the trainings of these kinds, for example ``tickets.of_kind("dense", "ticket")``."""
        return [one for one in self if one.kind in kinds]

    def weights(self, level: int, which: Which = "final") -> dict[str, Tensor]:
        """Return the ``state_dict`` of a ticket: see :meth:`level` and :meth:`Level.weights`."""
        return self.level(level).weights(which)

    def table(self, metrics: Sequence[str] | None = None) -> str:
        """Return a text with one line a training: name, percent of the weights, metrics.

        Args:
            metrics: Names; default: all but those at early stopping, at most six.
        """
        if metrics is None:
            names = dict.fromkeys(name for one in self for name in one.metrics)
            metrics = [name for name in names if not name.startswith("early_stopping/")][:6]
        rows = [[one.name, f"{100 * one.density:.1f}", *(_number(one.metrics.get(n)) for n in metrics)] for one in self]
        rows.insert(0, ["level", "weights %", *metrics])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
        )


def read_level(folder: LevelFolder, state: LevelState, monitor: str | None) -> Level:
    """Return a complete level out of its folder, or a ``ValueError`` where no validation logged ``monitor``."""
    settings = folder.made_from()["settings"]
    metrics = state.facts["last"] | _at_least_loss(Run(folder.path).curves(), monitor) | state.facts["tested"]
    named = {name: settings[name] for name in ("level", "kind", "repeat", "method")}
    return Level(**named, density=state.mask.density, metrics=metrics, path=folder.path)


def _at_least_loss(rows: Sequence[dict[str, float]], monitor: str | None) -> dict[str, Any]:
    if rows:
        check_logged(monitor, rows)
    names = ["val_loss", "val/loss"] if monitor is None else [monitor]
    name = next((name for name in names if any(name in row for row in rows)), names[0])
    known = [row for row in rows if not math.isnan(row.get(name, math.nan))]
    if not known:
        return {}
    best = min(known, key=lambda row: row[name])
    metrics = {f"early_stopping/{n}": value for n, value in best.items() if n not in ("step", "epoch")}
    return {"early_stopping_iteration": best["step"]} | metrics


def check_logged(monitor: str | None, rows: Sequence[dict[str, float]]) -> None:
    """Refuse a metric that none of the rows has."""
    if monitor is not None and not any(monitor in row for row in rows):
        logged = {name for row in rows for name in row} - {"step", "epoch", "iterations"}
        raise unknown_name("logged metric", monitor, logged)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"
