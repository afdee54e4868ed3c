"""The learning curves that figures are drawn from: one small committed table instead of many run folders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lightning_regs.core.runs import csv_text
from lightning_regs.study.store.tables import Tell, lines

# Where a point of a curve is, over time or in a line, a plane or a graph; a table has these columns first.
PLACES = ("step", "epoch", "position", "position_2", "activation")
_WHOLE = ("step", "epoch", "activation")
_PLANE = "position_2"
MAX_BYTES = 500_000
_POINTS = (400, 250, 160, 120, 90, 70, 50, 40, 30, 20, 12, 6, 3)


@dataclass(frozen=True)
class Band:
    """One quantity over ``n`` seeds at increasing steps: mean, lowest and highest at each."""

    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    n: int


@dataclass(frozen=True)
class Curves:
    """Learning curves by cell and seed.

    Attributes:
        data: ``data[cell][seed]`` is a list of points in training order; a point maps column names to finite numbers
            and leaves out what was not recorded.
    """

    data: Mapping[str, Mapping[int, Sequence[Mapping[str, float]]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.data)

    def band(self, cell: str, column: str, x: str = "step") -> Band | None:
        """Return mean, smallest and largest seed of a column over steps or epochs; None when no seed recorded it.

        Seeds recorded at different positions are interpolated linearly, over the range that all of them cover.
        """
        found = (
            sorted((point[x], point[column]) for point in points if x in point and column in point)
            for points in self.data.get(cell, {}).values()
        )
        series = [points for points in found if points]
        first = max((points[0][0] for points in series), default=math.inf)
        last = min((points[-1][0] for points in series), default=-math.inf)
        import numpy

        grid = sorted({at for points in series for at, _ in points if first <= at <= last})
        if not grid:
            return None
        lines = [numpy.interp(grid, *numpy.array(points).T) for points in series]
        mean, low, high = (of(lines, axis=0).tolist() for of in (numpy.mean, numpy.min, numpy.max))
        return Band(grid, mean, low, high, len(series))

    def to_csv(self, max_bytes: int = MAX_BYTES) -> str:
        """Write a table of ``cell, seed``, those of :data:`PLACES` that occur and the others, thinned until it fits.

        Each curve keeps its first and last point, and more of the early ones, where curves bend. Of planes, which have
        a second position, the first seed's stays whole, and the others go. Equal data give equal text.
        """
        small = Curves(
            {
                cell: {
                    seed: [p for p in points if seed == min(runs) or _PLANE not in p] for seed, points in runs.items()
                }
                for cell, runs in self.data.items()
            }
        )
        for limit in (None, *_POINTS[:-1]):
            if small._least(limit) < max_bytes and len(made := small._table(limit)) < max_bytes:
                return made
        return small._table(_POINTS[-1])

    def _least(self, limit: int | None) -> int:
        """Return how long a table is at least, without writing it: names, seeds and the ends of lines."""
        return sum(
            len(points[:limit]) * len(f"{cell},{seed},\n")
            for cell, runs in self.data.items()
            for seed, points in runs.items()
        )

    def _table(self, limit: int | None) -> str:
        found = {name for runs in self.data.values() for points in runs.values() for point in points for name in point}
        columns = [*(name for name in PLACES if name in found), *sorted(found.difference(PLACES))]
        lines = (
            {"cell": cell, "seed": seed}
            | {name: format(value, ".0f" if name in _WHOLE else ".4g") for name, value in point.items()}
            for cell, runs in sorted(self.data.items())
            for seed, points in sorted(runs.items())
            for point in thin(points, limit)
        )
        return csv_text(("cell", "seed", *columns), lines)


def thin(points: Sequence[Mapping[str, float]], limit: int | None) -> list[Mapping[str, float]]:
    """Keep at most ``limit`` points of a curve, the first, the last, and denser ones early on; and those of a plane."""
    curve = [point for point in points if _PLANE not in point]
    if limit is None or len(curve) <= limit:
        return list(points)
    last = len(curve) - 1
    keep = sorted({round(last * (i / (limit - 1)) ** 1.5) for i in range(limit)})
    return [curve[index] for index in keep] + [point for point in points if _PLANE in point]


def parse_curves(text: str, tell: Tell = lambda what: None) -> Curves:
    """Read what is whole of the table of :meth:`Curves.to_csv`, and tell what is damaged.

    Numbers that are not finite leave gaps.
    """
    data: dict[str, dict[int, list[Mapping[str, float]]]] = {}
    for line, numbers in lines(text, tell):
        data.setdefault(line["cell"], {}).setdefault(int(line["seed"]), []).append(finite(numbers))
    return Curves(data)


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return the point of a curve that these values make: what of them is finite."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
