"""Figures of a paper, as plain data: what draws them, and what they are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, get_args

from lightning_regs.core.names import unknown_name
from lightning_regs.study.paper.tasks import import_task

if TYPE_CHECKING:
    from lightning_regs.study.paper.claims import Rows
    from lightning_regs.study.store.curves import Curves

PanelKind = Literal["curve", "bar"]


@dataclass(frozen=True)
class Panel:
    """What a figure is about, for services that draw logged runs themselves.

    Args:
        kind: ``"curve"`` for columns of the runs' curves, ``"bar"`` for metrics of their rows.
        metrics: Names of these columns or metrics.
        cells: Names or globs of the cells that are compared. Patterns without a match at a scale are passed over.
        x: The horizontal axis of curves, under the name that it is logged with.

    Raises:
        ValueError: If the kind is unknown, or there is no metric or no cell.
        TypeError: If metrics or cells are a string.
    """

    kind: PanelKind
    metrics: tuple[str, ...]
    cells: tuple[str, ...] = ("*",)
    x: str = "trainer/global_step"

    def __post_init__(self) -> None:
        if self.kind not in get_args(PanelKind):
            raise unknown_name("kind of panel", self.kind, get_args(PanelKind))
        for name in ("metrics", "cells"):
            given: object = getattr(self, name)
            if isinstance(given, str):
                raise TypeError(f"a panel has {name}={given!r}; write names in a tuple: ({given!r},).")
            if not given:
                raise ValueError(f"a {self.kind} panel has {name}={given!r}; name at least one.")

    def select(self, cells: Iterable[str]) -> tuple[str, ...]:
        """Return those of the cells that it shows, in the order given."""
        return tuple(name for name in cells if any(name == p or fnmatchcase(name, p) for p in self.cells))


@dataclass(frozen=True)
class Figure:
    """A figure that is drawn from the results.

    Args:
        id: Short name, unique in the paper.
        title: Heading.
        caption: What is shown, and what the paper's figure shows.
        draw: ``draw(rows, curves)`` gives a matplotlib figure; or its import path, so that drawing is imported late.
        panels: What it shows, for services that draw logged runs themselves; cells that were not measured are left out.
    """

    id: str
    title: str
    caption: str
    draw: str | Callable[[Rows, Curves], Any]
    panels: tuple[Panel, ...] = ()

    def render(self, rows: Rows, curves: Curves) -> Any:
        """Draw it.

        Raises:
            MissingRows: If what it shows has not been measured.
        """
        draw = import_task(self.draw) if isinstance(self.draw, str) else self.draw
        return draw(rows, curves)
