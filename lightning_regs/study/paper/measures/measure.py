"""Measures: what a claim looks at, from rows to a number with its interval."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from lightning_regs.core.checks import Name, checked
from lightning_regs.core.metrics import Family, unit_of
from lightning_regs.study.paper.cells import Tuned
from lightning_regs.study.paper.estimates import Estimate, mean
from lightning_regs.study.paper.measures.samples import Part, Sample
from lightning_regs.study.paper.rows import Rows


def unitless(unit: str) -> str:
    """Return no unit, whatever the metric's is."""
    return ""


def factor(unit: str) -> str:
    """Return the unit of a quotient, whatever that of its parts is."""
    return "x"


def apart(unit: str) -> str:
    """Return the unit of a difference: percentages are points apart."""
    return "points" if unit == "%" else unit


@checked
@dataclass(frozen=True)
class Measure:
    """What a claim looks at.

    Args:
        name: What kind of measure it is: the name of the function that made it.
        parts: Cell (or cells, whose mean is taken, or a tuned method) and metric of each number that it is made of.
        each: Makes the number of one seed from the parts' numbers there; None where it takes all seeds.
        estimate: Makes the estimate from the parts' numbers at all seeds; None for the mean of one number a seed.
        until: The column that says for how long a run went on, where the parts are times; see
            :class:`~lightning_regs.study.paper.measures.samples.Sample`.
        in_unit: From the unit of the metric to that of the number, where it follows: of a claim that names none.
    """

    name: Name
    parts: tuple[Part, ...]
    each: Callable[..., float] | None
    estimate: Callable[[Sample], Estimate] | None = None
    until: str = ""
    in_unit: Callable[[str], str] = unitless

    def __post_init__(self) -> None:
        if self.until and not all(isinstance(cells, str) for cells, _ in self.parts):
            raise ValueError(f"times until {self.until!r} have no mean over cells; name the cells one by one.")
        if len({len(tuned) for tuned in self._tuned}) > 1:
            sizes = ", ".join(f"{len(tuned)} of {tuned.name}" for tuned in self._tuned)
            raise ValueError(f"tuned methods have equal numbers of trials, got {sizes}; give them grids of one size.")

    def __call__(self, rows: Rows) -> Estimate:
        """Measure.

        Raises:
            MissingRows: If a cell or metric has no rows, or the parts have no seed in common.
            UnfitError: If there is no number to be had of the rows.
        """
        if self.estimate is None:
            found = mean(self.values(rows))
        else:
            found = self.estimate(Sample(rows, self.parts, self.until))
        if not self._tuned:
            return found
        chosen = {tuned: rows.chosen(tuned) for tuned in self._tuned}
        invalid = filter(None, [found.invalid, *(tuned.edges(setting) for tuned, setting in chosen.items())])
        told = tuple(tuned.told(setting) for tuned, setting in chosen.items())
        return replace(found, invalid="; ".join(invalid), tuned=told)

    @property
    def _tuned(self) -> tuple[Tuned, ...]:
        return tuple(dict.fromkeys(cells for cells, _ in self.parts if isinstance(cells, Tuned)))

    def values(self, rows: Rows) -> list[float]:
        """Return one number a seed, NaN where there is none.

        Raises:
            MissingRows: As the measure itself.
        """
        if self.each is None:
            return list(self(rows).values)
        return [self.each(*numbers) for numbers in rows.paired(*self.parts)]

    @property
    def cells(self) -> tuple[str, ...]:
        """The names of the cells, each once."""
        names = [name for cells, _ in self.parts for name in ([cells] if isinstance(cells, str) else cells)]
        return tuple(dict.fromkeys(names))

    def lacks(self, cells: Collection[str]) -> str | None:
        """Return the first cell that is not among these; None where all are."""
        return next((name for name in self.cells if name not in cells), None)

    def unit(self, families: Iterable[Family]) -> str:
        """Return the unit of its number, which follows from those of its metrics.

        Args:
            families: Those that declare the metrics.

        Raises:
            ValueError: If it follows otherwise from one metric than from another.
        """
        found = {metric: self.in_unit(unit_of(metric, families)) for _, metric in self.parts}
        if len(units := sorted(set(found.values()))) > 1:
            raise ValueError(f"{self.name} is made of {sorted(found)}, in units {units}; say unit=.")
        return units[0]

    @property
    def single(self) -> tuple[str, str] | None:
        """Cell and metric of a :func:`value`, where a published value can be drawn; else None."""
        if len(self.parts) == 1 and self.each is same and isinstance(self.parts[0][0], str):
            return self.parts[0][0], self.parts[0][1]
        return None


def same(number: float) -> float:
    """Return the number itself."""
    return number


@checked
def per_seed(function: Callable[..., float], *parts: Part) -> Measure:
    """A function of several (cell, metric) pairs, applied seed by seed to the seeds that all of them have.

    The interval of its mean knows of no bounds that the function may have, nor what a sample of test items does to it.
    For sums and quotients there are measures that know.
    """
    return Measure(per_seed.__name__, parts, function)
