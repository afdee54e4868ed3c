"""Claims of a paper, the rows they are measured on, and the verdict that an interval gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Verdict = Literal["reproduced", "not reproduced", "not decided", "out of reach"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Measured = Sequence[float] | Mapping[int, float]

CONFIDENCE = 0.95


class MissingRows(LookupError):
    """Raised by :class:`Rows` when what a claim or a figure needs has not been measured.

    Args:
        message: What is missing.
        cell: The cell that has no rows at all, if that is what is missing.
    """

    def __init__(self, message: str, cell: str | None = None) -> None:
        super().__init__(message)
        self.cell = cell


class Rows:
    """Measured rows, looked up by cell and paired by seed.

    Args:
        rows: One mapping a run, with at least ``cell`` and ``seed``; the other entries are metrics and provenance.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._rows: dict[str, dict[int, Mapping[str, Any]]] = {}
        for row in rows:
            self._rows.setdefault(str(row["cell"]), {})[int(row["seed"])] = row

    def __len__(self) -> int:
        return sum(len(seeds) for seeds in self._rows.values())

    def cells(self) -> list[str]:
        """Return the names of the cells that have at least one row, in the order of the rows."""
        return list(self._rows)

    def row(self, cell: str, seed: int) -> Mapping[str, Any]:
        """Return one whole row.

        Raises:
            MissingRows: If it has not been measured.
        """
        try:
            return self._rows[cell][seed]
        except KeyError:
            raise MissingRows(f"cell {cell!r} has no row for seed {seed}") from None

    def metric(self, cell: str, name: str) -> dict[int, float]:
        """Return one number per seed.

        Args:
            cell: The cell's name.
            name: A metric, or another numeric column such as ``epochs`` or ``wall_s``.

        Returns:
            Seed -> value, seeds in ascending order.

        Raises:
            MissingRows: If the cell has no rows, or none of them has the metric.
        """
        if cell not in self._rows:
            raise MissingRows(f"cell {cell!r} has no rows", cell)
        rows = self._rows[cell]
        found = {seed: float(rows[seed][name]) for seed in sorted(rows) if _is_number(rows[seed].get(name))}
        if not found:
            raise MissingRows(f"the rows of cell {cell!r} have no metric {name!r}")
        return found

    def values(self, cell: str, name: str) -> list[float]:
        """Return the numbers of :meth:`metric` alone, in the order of the seeds."""
        return list(self.metric(cell, name).values())

    def diff(self, cell_a: str, cell_b: str, name: str) -> dict[int, float]:
        """Return ``a - b`` for every seed that both cells have; the arguments are those of :meth:`metric`."""
        return self._paired(cell_a, cell_b, name, lambda a, b: a - b)

    def ratio(self, cell_a: str, cell_b: str, name: str) -> dict[int, float]:
        """Return ``a / b`` for every seed that both cells have; NaN where b is 0."""
        return self._paired(cell_a, cell_b, name, lambda a, b: a / b if b else math.nan)

    def _paired(
        self, cell_a: str, cell_b: str, name: str, combine: Callable[[float, float], float]
    ) -> dict[int, float]:
        a, b = self.metric(cell_a, name), self.metric(cell_b, name)
        paired = {seed: combine(a[seed], b[seed]) for seed in a if seed in b}
        if not paired:
            raise MissingRows(f"cells {cell_a!r} and {cell_b!r} have no seed in common")
        return paired


@dataclass(frozen=True)
class Estimate:
    """What a measure gives where the mean over seeds and its t-interval are not what is claimed.

    Args:
        ours: The number.
        low: Lower end of its own 95 % interval.
        high: Upper end.
        values: One number a seed, for their count and as a check that all are finite.
    """

    ours: float
    low: float
    high: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper with a check.

    Args:
        id: Short name, unique in the paper.
        sentence: What the paper says, in one sentence.
        paper: The paper's number, or words where it gives none.
        provenance: Where the paper's number was seen.
        unit: Unit of the measured numbers: ``"%"``, ``"points"``, ``"epochs"``, ``""``.
        measure: Gives one number per seed, or an :class:`Estimate`. None only together with ``out_of_reach``.
        holds: Lowest and highest value for which the claim holds, both included; may be infinite.
        scales: Names of the scales at which it is measured; None for all.
        out_of_reach: Why it cannot be checked: at all without a measure, else where its scales or cells are not.
        exact: True for a number without spread (a count, a proof's construction): one measurement decides.

    Raises:
        ValueError: If ``holds`` is not a range, or the claim has neither a measure nor a reason to have none.
    """

    id: str
    sentence: str
    paper: float | str | None
    provenance: str
    unit: str = ""
    measure: Callable[[Rows], Measured | Estimate] | None = None
    holds: tuple[float, float] = (-math.inf, math.inf)
    scales: tuple[str, ...] | None = None
    out_of_reach: str | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        low, high = self.holds
        if not low <= high:
            raise ValueError(f"claim {self.id!r} holds in {self.holds}, which is no range; give (lowest, highest).")
        if self.measure is None and not self.out_of_reach:
            raise ValueError(f"claim {self.id!r} needs a measure, or the reason why it is out of reach.")


@dataclass(frozen=True)
class ClaimResult:
    """What was found for one claim: the paper's figure, ours, the 95 % interval over ``n`` seeds, and the verdict."""

    id: str
    sentence: str
    paper_value: float | str | None
    provenance: str
    ours: float | None
    low: float | None
    high: float | None
    n: int
    verdict: Verdict
    unit: str
    reason: str

    @property
    def recalled(self) -> bool:
        """Whether the paper's figure comes from memory and was not read again in the paper."""
        return "recalled" in self.provenance.lower()

    def as_dict(self) -> dict[str, Any]:
        """Return the entry for ``SCALE.claims.json``."""
        return asdict(self)


def count_verdicts(claims: Iterable[ClaimResult]) -> dict[Verdict, int]:
    """Return the number of claims with each verdict, in the order of :data:`VERDICTS`."""
    given = [claim.verdict for claim in claims]
    return {verdict: given.count(verdict) for verdict in VERDICTS}


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's t-interval for the mean.

    Args:
        values: At least two finite numbers.
        confidence: Coverage, in (0, 1).

    Returns:
        Lowest and highest; both are the common value when all values are equal.

    Raises:
        ValueError: With fewer than two values.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs at least two values, got {n}; measure more seeds.")
    if min(values) == max(values):
        return float(values[0]), float(values[0])
    from scipy.special import stdtrit

    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * error
    return mean - half, mean + half


def decide(low: float, high: float, holds: tuple[float, float]) -> Verdict:
    """Compare an interval with the range in which a claim holds.

    Args:
        low: Lower end of the interval.
        high: Upper end, at least ``low``.
        holds: The range, both ends included.

    Returns:
        ``"reproduced"`` when the interval lies inside, ``"not reproduced"`` when it lies outside, else
        ``"not decided"``.
    """
    if holds[0] <= low and high <= holds[1]:
        return "reproduced"
    if high < holds[0] or low > holds[1]:
        return "not reproduced"
    return "not decided"


def evaluate(
    claims: Iterable[Claim], rows: Rows, scale: str, cells: Collection[str] | None = None
) -> list[ClaimResult]:
    """Check every claim against the measured rows.

    Args:
        claims: The paper's claims.
        rows: What has been measured so far.
        scale: Name of the scale that the rows belong to.
        cells: Names of all cells of the scale: a claim about another cell is out of reach, one about a cell that only
            has no rows yet is not decided.

    Returns:
        One result a claim, in the same order. A claim that cannot be measured says why in ``reason``.
    """
    return [_evaluate(claim, rows, scale, cells) for claim in claims]


def _evaluate(claim: Claim, rows: Rows, scale: str, cells: Collection[str] | None) -> ClaimResult:
    def result(verdict: Verdict, reason: str = "", values: Sequence[float] = (), **numbers: float) -> ClaimResult:
        return ClaimResult(
            id=claim.id,
            sentence=claim.sentence,
            paper_value=claim.paper,
            provenance=claim.provenance,
            ours=numbers.get("ours"),
            low=numbers.get("low"),
            high=numbers.get("high"),
            n=len(values),
            verdict=verdict,
            unit=claim.unit,
            reason=reason,
        )

    if claim.measure is None:
        return result("out of reach", claim.out_of_reach or "")
    if claim.scales is not None and scale not in claim.scales:
        return result("out of reach", claim.out_of_reach or f"measured at scale {' and '.join(claim.scales)} only")
    try:
        measured = claim.measure(rows)
        numbers = measured.values if isinstance(measured, Estimate) else measured
        values = [float(v) for v in (numbers.values() if isinstance(numbers, Mapping) else numbers)]
    except MissingRows as missing:
        if cells is not None and missing.cell is not None and missing.cell not in cells:
            return result("out of reach", claim.out_of_reach or f"scale {scale} has no cell {missing.cell!r}")
        return result("not decided", str(missing))
    except Exception as error:  # a faulty measure must not cost the results of finished runs
        return result("not decided", f"its measure failed: {type(error).__name__}: {error}")
    if not values:
        return result("not decided", "its measure gave no value")
    if not all(map(math.isfinite, values)):
        broken = sum(not math.isfinite(v) for v in values)
        return result("not decided", f"{broken} of {len(values)} values are not finite", values)
    ours = math.fsum(values) / len(values)
    if isinstance(measured, Estimate):
        ours, low, high = measured.ours, measured.low, measured.high
    elif len(values) >= 2:
        low, high = interval(values)
        ours = min(max(ours, low), high)
    elif claim.exact:
        low = high = ours
    else:
        return result("not decided", "one seed gives no interval; run it with at least 2 seeds", values, ours=ours)
    verdict = decide(low, high, claim.holds)
    reason = ""
    if verdict == "not decided":
        reason = f"the interval crosses an edge of {_range(claim.holds)}"
    return result(verdict, reason, values, ours=ours, low=low, high=high)


def _range(holds: tuple[float, float]) -> str:
    low, high = holds
    if math.isinf(low):
        return f"'below {round(high)}'" if is_strict(high) else f"'at most {high:g}'"
    if math.isinf(high):
        return f"'above {round(low)}'" if is_strict(low) else f"'at least {low:g}'"
    return f"'{low:g} to {high:g}'"


def is_strict(edge: float) -> bool:
    """Tell whether the edge of a range is a whole number that the range leaves out, such as 1e-9 for all above 0."""
    return 0 < abs(edge - round(edge)) < 1e-6


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
