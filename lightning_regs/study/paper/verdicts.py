"""How a verdict is reached: from a claim and the rows to an interval, and from that to a word.

Everything that decides is in :func:`judge`; what is shown around it is not.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from lightning_regs.study.paper.claims import Claim, ClaimResult, Verdict
from lightning_regs.study.paper.criteria import Criterion
from lightning_regs.study.paper.measures import Estimate, Measure
from lightning_regs.study.paper.rows import MissingRows, Rows

CONFIDENCE = 0.95


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Compute the two-sided Student t-interval for the mean.

    Args:
        values: One number per seed, at least two.
        confidence: Between 0 and 1.

    Returns:
        Lower and upper end; both the same when all values are equal.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs at least 2 values, got {n}; run more seeds.")
    if max(values) == min(values):
        return float(values[0]), float(values[0])
    from scipy.special import stdtrit

    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * error
    return mean - half, mean + half


def judge(criterion: Criterion, low: float, high: float) -> Verdict:
    """Compare an interval with what a claim asks for.

    Args:
        criterion: What is asked for.
        low: Lower end of the interval.
        high: Upper end, at least ``low``.

    Returns:
        ``"reproduced"`` when the whole interval satisfies it, ``"not reproduced"`` when no part does, else
        ``"not decided"``.
    """
    if criterion.contains(low, high):
        return "reproduced"
    return "not reproduced" if criterion.excludes(low, high) else "not decided"


def evaluate(
    claims: Iterable[Claim], rows: Rows, scale: str, cells: Collection[str] | None = None
) -> list[ClaimResult]:
    """Check every claim against the measured rows.

    Args:
        claims: The paper's claims.
        rows: What has been measured so far.
        scale: Name of the scale that the rows belong to.
        cells: Names of all cells of the scale: a claim about another cell is not at this scale, one about a cell that
            only has no rows yet is not decided.

    Returns:
        One result a claim, in the same order. A claim that cannot be measured says why in ``reason``.
    """
    results = []
    for claim in claims:
        form = claim.at(scale)
        if form is None:
            where = " and ".join(claim.on or ())
            results.append(_result(claim, "not at this scale", f"measured at scale {where} only"))
        else:
            results.append(_evaluate(form, rows, scale, cells))
    return results


def _result(
    claim: Claim,
    verdict: Verdict,
    reason: str = "",
    n: int = 0,
    ours: float | None = None,
    low: float | None = None,
    high: float | None = None,
) -> ClaimResult:
    return ClaimResult(
        id=claim.id,
        sentence=claim.sentence,
        paper_value=claim.published,
        provenance=claim.provenance,
        ours=ours,
        low=low,
        high=high,
        n=n,
        verdict=verdict,
        unit=claim.unit,
        reason=reason,
        criterion=claim.criterion.text(claim.unit) if claim.criterion else "",
        recalled=claim.origin == "recalled",
        headline=claim.headline,
    )


def _evaluate(claim: Claim, rows: Rows, scale: str, cells: Collection[str] | None) -> ClaimResult:
    if claim.measure is None:
        return _result(claim, "out of reach", claim.out_of_reach or "")
    assert claim.criterion is not None
    if isinstance(claim.measure, Measure) and cells is not None and (name := claim.measure.lacks(cells)) is not None:
        return _result(claim, "not at this scale", f"scale {scale} has no cell {name!r}")
    try:
        measured = claim.measure(rows)
        if isinstance(measured, Mapping):  # of seeds, as Rows.metric gives it
            measured = list(measured.values())
        values = [float(v) for v in (measured.values if isinstance(measured, Estimate) else measured)]
    except MissingRows as missing:
        if cells is not None and missing.cell is not None and missing.cell not in cells:
            return _result(claim, "not at this scale", f"scale {scale} has no cell {missing.cell!r}")
        return _result(claim, "not decided", str(missing))
    except Exception as error:  # a faulty measure must not cost the results of finished runs
        return _result(claim, "not decided", f"its measure failed: {type(error).__name__}: {error}")
    n = len(values)
    if not values:
        return _result(claim, "not decided", "its measure gave no value")
    if not all(map(math.isfinite, values)):
        broken = sum(not math.isfinite(v) for v in values)
        return _result(claim, "not decided", f"{broken} of {n} values are not finite", n)
    try:
        ours = math.fsum(values) / n
        low, high = interval(values) if n > 1 else (ours, ours)
        ours = min(max(ours, low), high)
    except OverflowError:
        return _result(claim, "not decided", "its values are too large for an interval", n)
    if isinstance(measured, Estimate):
        ours, low, high = measured.ours, measured.low, measured.high
    elif n == 1 and not claim.exact:
        return _result(claim, "not decided", "one seed gives no interval; run it with at least 2 seeds", n, ours)
    verdict = judge(claim.criterion, low, high)
    reason = f"the interval crosses an edge of '{claim.criterion.text()}'" if verdict == "not decided" else ""
    return _result(claim, verdict, reason, n, ours, low, high)
