"""Somebody's own run of a paper beside the committed one: numbers cell by cell, and the verdicts."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lightning_regs.core.metrics import Metric
from lightning_regs.study.paper.estimates import CONFIDENCE, quantile
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.verdicts import ClaimResult
from lightning_regs.study.report import tables
from lightning_regs.study.store.results import ScaleResults, default_results, load
from lightning_regs.study.store.tables import Row

Agreement = Literal["equal", "within", "beyond", "unknown"]
# What rounding on another machine may do to a number that has no spread over seeds: as a share of it, and at least
# (what is left of a sum that should be zero is nothing but rounding).
_ROUNDING, _LEAST = 1e-6, 1e-9


@dataclass(frozen=True)
class Compared:
    """One number of one cell.

    Attributes:
        agreement: ``"equal"``: each seed that both have gave the same number. ``"within"``: another number, and 0 is
            in the interval of the difference. ``"beyond"``: it is not. ``"unknown"``: nobody can tell.
    """

    cell: str
    metric: Metric
    own: tuple[float, ...]  # one number a seed, of one's own run; `committed` the same of the committed one
    committed: tuple[float, ...]
    difference: float | None  # mean of the own numbers less that of the committed; None where there is none
    half: float | None  # half of the difference's 95 % interval; None where there are too few numbers for one
    agreement: Agreement

    @property
    def texts(self) -> tuple[str, str, str]:
        """One's own number, the committed one and the difference, as a table writes them."""
        own, committed = (tables.shown(side, self.metric) for side in (self.own, self.committed))
        if self.agreement == "equal" or self.difference is None:
            return own, committed, ""
        difference = tables.plus_minus(self.difference, self.half, self.metric.unit)
        return own, committed, difference.replace("-", tables.MINUS)


@dataclass(frozen=True)
class ComparedClaim:
    """One claim, judged on one's own rows and on the committed ones."""

    own: ClaimResult
    committed: ClaimResult

    @property
    def agrees(self) -> bool:
        """Whether both have the same verdict."""
        return self.own.verdict == self.committed.verdict

    @property
    def texts(self) -> tuple[str, str]:
        """One's own number and the committed one, with their intervals."""
        own, committed = (
            f"{tables.our_value(claim)} ({tables.claim_interval(claim) or 'no interval'})" if claim.n else tables.DASH
            for claim in (self.own, self.committed)
        )
        return own, committed


@dataclass(frozen=True)
class Comparison:
    """One scale of a paper that both have rows of: the numbers of the cells and the claims that both have.

    Some claims are still ``waiting``: the committed rows measure them, and one's own do not.
    """

    scale: str
    numbers: tuple[Compared, ...]
    claims: tuple[ComparedClaim, ...]
    own_runs: int
    committed_runs: int
    waiting: int

    def count(self, agreement: Agreement) -> int:
        """Return how many numbers agree in this way."""
        return sum(number.agreement == agreement for number in self.numbers)

    @property
    def differing(self) -> int:
        """How many claims have another verdict."""
        return sum(not claim.agrees for claim in self.claims)

    @property
    def summary(self) -> str:
        """All of it in a sentence; of numbers within their interval one in twenty is beyond it by chance."""
        tested = self.count("within") + self.count("beyond")
        parts = [f"{self.count('equal')} equal", f"{self.count('within')} within the 95 % interval of the difference"]
        chance = f", where chance alone gives about {tested / 20:.0f} of {tested}" if tested else ""
        parts.append(f"{self.count('beyond')} beyond it{chance}")
        if unknown := self.count("unknown"):
            parts.append(f"{unknown} that too few runs or none have")
        more = f", {self.waiting} more claims are about runs that are not there yet" if self.waiting else ""
        verdicts = f"{self.differing} of {len(self.claims)} verdicts differ{more}"
        return f"{len(self.numbers)} numbers: {'; '.join(parts)}. {verdicts}."


def compare(paper: Paper, results: Path, scales: Iterable[str] | None = None) -> list[Comparison]:
    """Compare results of one's own with the committed ones.

    Returns:
        The scales of which both have rows, the one nearest to the paper's protocol first; none where the folder is
        that of the committed results.
    """
    if results.absolute() == default_results(paper).absolute():
        return []
    pairs = zip(load(paper, results, scales), load(paper, default_results(paper), scales), strict=True)
    return [_compared(paper, own, committed) for own, committed in pairs if own.rows and committed.rows]


def _compared(paper: Paper, own: ScaleResults, committed: ScaleResults) -> Comparison:
    theirs = {claim.id: claim for claim in committed.claims}
    claims = [ComparedClaim(claim, theirs[claim.id]) for claim in own.claims if claim.id in theirs]
    return Comparison(
        own.name,
        tuple(_numbers(paper, own.rows, committed.rows)),
        tuple(claim for claim in claims if claim.own.n),
        len(own.rows),
        len(committed.rows),
        sum(claim.committed.n > 0 and not claim.own.n for claim in claims),
    )


def _numbers(paper: Paper, own: Sequence[Row], committed: Sequence[Row]) -> Iterator[Compared]:
    both = {row.cell for row in own} & {row.cell for row in committed}
    for group in tables.groups([*own, *committed], paper.metrics):
        for name, metric in itertools.product([cell.name for cell in group.cells if cell.name in both], group.every):
            pair = [
                {row.seed: row.metrics[metric.name] for row in rows if row.cell == name and metric.name in row.metrics}
                for rows in (own, committed)
            ]
            if any(pair):
                yield compare_numbers(name, metric, *pair)


def compare_numbers(cell: str, metric: Metric, own: Mapping[int, float], committed: Mapping[int, float]) -> Compared:
    """Compare one metric of a cell, given its numbers by seed; NaN is one that never came.

    Both are taken for samples of one distribution, since the code and the configuration are the same. So the interval
    of the difference has the spread of both together, and one seed alone can be compared with several.
    """
    a, b = tuple(own.values()), tuple(committed.values())
    difference, half = None, None
    agreement: Agreement = "unknown"
    if a and b and all(map(math.isfinite, (*a, *b))):
        difference, half = statistics.fmean(a) - statistics.fmean(b), _half(a, b)
        if half is not None:
            rounding = max(_LEAST, _ROUNDING * max(map(abs, (*a, *b))))
            agreement = "within" if abs(difference) <= max(half, rounding) else "beyond"
    elif min(len(a), len(b)) > 1 and {all(map(math.isnan, side)) for side in (a, b)} == {True, False}:
        finite = a if math.isnan(b[0]) else b
        agreement = "beyond" if all(map(math.isfinite, finite)) else "unknown"
    if (shared := own.keys() & committed.keys()) and all(_same(own[seed], committed[seed]) for seed in shared):
        agreement = "equal"
    return Compared(cell, metric, a, b, difference, half, agreement)


def _half(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return half of the 95 % interval of the difference of two means, from their pooled variance."""
    if len(a) + len(b) < 3:
        return None
    squares = math.fsum((x - statistics.fmean(side)) ** 2 for side in (a, b) for x in side)
    freedom = len(a) + len(b) - 2
    return quantile(freedom + 1, CONFIDENCE) * math.sqrt(squares / freedom * (1 / len(a) + 1 / len(b)))


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
