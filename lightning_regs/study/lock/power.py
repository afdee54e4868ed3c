"""What the planned seeds of a claim can see, in words; and how many would decide one that is open."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lightning_regs.study.lock.fingerprint import plans
from lightning_regs.study.paper.claims import Claim
from lightning_regs.study.paper.estimates import quantile
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.paper.power import seeds_needed, smallest_beyond, smallest_effect
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.paper.verdicts import ClaimResult, Frozen

BUDGET = 30 * 60.0  # seconds of one core, for all claims of a paper at a scale


def sees(form: Claim, seeds: tuple[int, ...], rows: Rows | None = None) -> str:
    """Say which effect the planned seeds of a claim see, for each look; in its unit where rows tell the spread."""
    if form.exact:
        return ""
    if seeds[-1] < 2:
        return "one seed sees nothing"
    confidence = Frozen(seeds).confidence
    effect, unit = None, form.unit or ""
    with contextlib.suppress(Exception, SystemExit):  # a measure that fails says so when it is judged
        if rows is not None and form.criterion:
            effect = smallest_beyond(form.estimate(rows), form.criterion, confidence, seeds[-1])
    if not effect:
        effect, unit = smallest_effect(seeds[-1], confidence), "standard deviations over seeds"
    return f"{seeds[-1]} seeds see {effect:.2g} {unit}".rstrip()


@dataclass(frozen=True)
class Need:
    """What it takes, with one more look, to decide an open claim 4 times in 5, if it stays as it was measured."""

    claim: ClaimResult  # what was found
    distance: float  # how far our number is from the nearest edge of the criterion
    error: float  # half of the interval that the sample of test items alone gives; 0 where it has no part
    alone: int | None  # seeds that decide by themselves, were there no such error; None where 10,000 do not
    seeds: int | None  # those that decide with it; None where 10,000 do not
    seconds: float  # what the seeds of `alone` beyond those that were run take, as the rows took


def needs(paper: Paper, scale: Scale, measured: Rows, claims: Iterable[ClaimResult]) -> Iterator[Need]:
    """Yield what each claim of a scale takes that is open though it has an interval over seeds, by the scale's rows."""
    planned, forms = plans(paper, scale), {claim.id: claim.at(scale.name) for claim in paper.claims}
    for claim in claims:
        form = forms[claim.id]
        if claim.verdict != "not decided" or claim.low is None or form is None or form.criterion is None:
            continue
        both = form.estimate(measured)
        alone = both.alone or both
        if both.half is None or alone.half is None:
            continue
        confidence = 1 - 1 / (1 / (1 - claim.confidence) + 1 / (1 - Frozen().confidence))
        half = alone.half(confidence)
        spread = half / quantile(claim.n, confidence) * math.sqrt(claim.n)
        error = math.sqrt(max(both.half(confidence) ** 2 - half**2, 0.0))
        to, edges = both.scale[0], (form.criterion.low, form.criterion.high)
        edge = min((edge for edge in edges if math.isfinite(edge)), key=lambda each: abs(each - both.ours))
        distance = abs(to(both.ours) - to(edge))
        number = seeds_needed(distance, spread, confidence)
        whole = seeds_needed(distance, spread, confidence, error / quantile(10**9, confidence)) if error else number
        took = _seconds(scale, measured, planned[claim.id].cells, number or 0)
        yield Need(claim, abs(both.ours - edge), error, number, whole, took)


def _seconds(scale: Scale, measured: Rows, names: frozenset[str], seeds: int) -> float:
    """Return what more seeds of some cells take, with the runs that they start from: the store may not have those."""
    fewest, found = min(_runs(measured, name) for name in names), 0.0
    own = [cell for cell in scale.cells if cell.name in names]
    for cell in {each.name: each for one in own for each in scale.with_needs(one)}.values():
        more = max(seeds - (_runs(measured, cell.name) if cell.name in names else fewest), 0)
        with contextlib.suppress(MissingRows):
            times = measured.metric(cell.name, "wall_s").values()
            found += more * sum(times) / len(times)
    return found


def _runs(measured: Rows, cell: str) -> int:
    with contextlib.suppress(MissingRows):
        return len(measured.metric(cell, "wall_s"))
    return 0
