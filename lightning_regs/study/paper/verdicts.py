"""How a verdict is reached: from a claim and the rows to an interval, and from that to a word.

Everything that decides is in :func:`judge`; what is shown around it is not.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lightning_regs.study.paper.claims import JUDGED, Claim, Kind, Verdict
from lightning_regs.study.paper.criteria import Criterion, short
from lightning_regs.study.paper.estimates import ANYTHING, CONFIDENCE, Estimate, UnfitError, adjusted, p_value
from lightning_regs.study.paper.measures.measure import Measure
from lightning_regs.study.paper.power import smallest_beyond
from lightning_regs.study.paper.rows import MissingRows, Rows


@dataclass(frozen=True)
class Frozen:
    """What was fixed about a claim at a scale before its rows, and what was not.

    Attributes:
        seeds: Planned seeds a cell, one number for each look at the rows.
        date: When its rule was fixed, as ``YYYY-MM-DD``, in ``commit``.
        exploratory: Why the verdict is one after a look, in a clause; empty where it is not.
    """

    seeds: tuple[int, ...] = ()
    date: str = ""
    commit: str = ""
    exploratory: str = ""

    @property
    def confidence(self) -> float:
        """Of the intervals: looks at growing data share the error of 5 % equally (Bonferroni)."""
        return 1 - (1 - CONFIDENCE) / max(len(self.seeds), 1)


@dataclass(frozen=True)
class Setting:
    """What was found where something that the paper does not state is set otherwise."""

    name: str
    ours: float | None
    low: float | None
    high: float | None
    n: int
    verdict: Verdict


@dataclass(frozen=True)
class ClaimResult:
    """What was found for one claim.

    Attributes:
        id: Its short name; ``sentence``, ``provenance``, ``unit``, ``kind``, ``headline`` and ``criterion`` too.
        paper_value: The paper's figure; ``recalled`` where it was not read again.
        ours: Our figure; ``low`` and ``high`` are the ends of its interval over ``n`` seeds, at ``confidence``.
        verdict: One of :data:`VERDICTS`, with a ``reason`` where it needs one.
        conditions: What had to hold, in words.
        p: The smallest error rate at which the interval decides; ``q`` is adjusted for the number of claims.
        smallest: The distance from the criterion's edge that so many seeds see 4 times in 5; where nothing is decided.
        won: Share of pairs of seeds in which the difference of two compared cells has the sign that the criterion asks
            for; None where it asks for none.
        bound: ``"above"`` where the number is only known to be above ``ours`` (something never came), or ``"below"``.
        exploratory: Why the verdict is one after a look; empty where it is not.
        frozen: When the claim was frozen and on top of which commit, in words; empty where it never was.
        exact: Whether its numbers have no spread over seeds, so that the ends are the lowest and the highest of them.
        test_items: Number of test samples whose sampling error is part of the interval.
        settings: What was found in other settings.
        tuned: Of each tuned method that it compares, which setting was chosen, in words.
    """

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
    criterion: str = ""
    recalled: bool = False
    headline: bool = False
    kind: Kind = "paper"
    conditions: tuple[str, ...] = ()
    confidence: float = CONFIDENCE
    p: float | None = None
    q: float | None = None
    smallest: float | None = None
    won: float | None = None
    bound: str = ""
    exploratory: str = ""
    frozen: str = ""
    exact: bool = False
    test_items: int = 0
    settings: tuple[Setting, ...] = ()
    tuned: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the entry for ``SCALE.claims.json``, where an open end is none: JSON has no infinity."""
        entry: dict[str, Any] = json.loads(json.dumps(asdict(self)), parse_constant=lambda number: None)
        return entry


_SHARED = ("id", "sentence", "provenance", "headline", "kind", "exact")  # with the claim


def judge(criterion: Criterion, low: float, high: float) -> Verdict:
    """Compare an interval with what a claim asks for.

    It is ``"reproduced"`` when the whole interval satisfies it, ``"not reproduced"`` when no part does, else ``"not
    decided"``.
    """
    if criterion.contains(low, high):
        return "reproduced"
    return "not reproduced" if criterion.excludes(low, high) else "not decided"


def evaluate(
    claims: Iterable[Claim],
    rows: Rows,
    scale: str,
    cells: Collection[str] | None = None,
    frozen: Mapping[str, Frozen] | None = None,
) -> list[ClaimResult]:
    """Check every claim against the rows of a scale; return a result each, which says why it cannot be measured.

    With the names of all ``cells`` of the scale, a claim about another cell is not at this scale, and one about a cell
    that only has no rows yet is not decided. ``frozen`` has by id what was fixed about the claims before their rows.
    """
    found = {}
    forms = {claim.id: claim.at(scale) for claim in claims}
    for claim in claims:
        form = forms[claim.id]
        if form is None:
            where = " and ".join(claim.on or ())
            found[claim.id] = _result(claim, "not at this scale", f"asked at scale {where} only")
        else:
            found[claim.id] = _evaluate(form, rows, scale, cells, (frozen or {}).get(claim.id, Frozen()))
    for id, form in forms.items():
        if form is not None and found[id].verdict in JUDGED:
            found[id] = _resting(found[id], [found[other] for other in form.rests_on])
    tested = [result for result in found.values() if result.kind == "paper" and result.p is not None]
    rates = adjusted([result.p for result in tested if result.p is not None])
    found |= {result.id: replace(result, q=rate) for result, rate in zip(tested, rates, strict=True)}
    return list(found.values())


def _resting(result: ClaimResult, others: Sequence[ClaimResult]) -> ClaimResult:
    """Make a result invalid where a claim that it rests on is not reproduced; open where that was not tested yet."""
    failed = [other for other in others if other.verdict != "reproduced"]
    if not failed or result.low is None:
        return result
    reason = "; ".join(f"claim {other.id}, on which it rests, is {other.verdict}" for other in failed)
    if any(other.p is not None or other.verdict != "not decided" for other in failed):
        return replace(result, verdict="invalid", reason=reason, p=None)
    return replace(result, verdict="not decided", reason=result.reason or reason, p=None)


def _result(
    claim: Claim, verdict: Verdict, reason: str = "", n: int = 0, frozen: Frozen | None = None, **found: Any
) -> ClaimResult:
    fixed = frozen or Frozen()
    return ClaimResult(
        **{name: getattr(claim, name) for name in _SHARED},
        unit=claim.unit or "",
        paper_value=claim.published,
        n=n,
        verdict=verdict,
        reason=reason,
        criterion=claim.criterion.text(claim.unit or "") if claim.criterion else "",
        recalled=claim.origin == "recalled",
        conditions=(
            *(condition.text() for condition in claim.conditions),
            *(f"claim {id} is reproduced" for id in claim.rests_on),
        ),
        confidence=fixed.confidence,
        exploratory=fixed.exploratory,
        frozen=", on top of ".join(filter(None, (fixed.date, fixed.commit))),
        **{"ours": None, "low": None, "high": None} | found,
    )


def _evaluate(claim: Claim, rows: Rows, scale: str, cells: Collection[str] | None, frozen: Frozen) -> ClaimResult:
    if claim.measure is None:
        return _result(claim, "out of reach", claim.out_of_reach or "")
    assert claim.criterion is not None
    if cells is not None and (name := claim.measure.lacks(cells)) is not None:
        return _result(claim, "not at this scale", f"scale {scale} has no cell {name!r}")
    try:
        estimate = claim.estimate(rows)
        low, high = estimate.ends(frozen.confidence)
        broken = [failing for condition in claim.conditions if (failing := condition.failing(rows, cells))]
    except MissingRows as missing:
        return _result(claim, "not decided", str(missing), frozen=frozen)
    except UnfitError as unfit:
        return _result(claim, "not decided", str(unfit), unfit.n, frozen)
    except OverflowError:
        return _result(claim, "not decided", "its values are too large for an interval", frozen=frozen)
    except (Exception, SystemExit) as error:  # a faulty measure must not cost the results of finished runs
        return _result(claim, "not decided", f"its measure failed: {type(error).__name__}: {error}", frozen=frozen)
    n = len(estimate.values)
    if n == 1 and not claim.exact:
        reason = "one seed gives no interval; run it with at least 2 seeds"
        return _result(claim, "not decided", reason, n, frozen, ours=estimate.ours)
    found: dict[str, Any] = {name: getattr(estimate, name) for name in ("ours", "bound", "tuned")}
    found["won"] = claim.criterion.share(estimate.won)
    found |= {"low": low, "high": high, "test_items": rows.test_items if estimate.alone else 0}
    if broken := [*broken, *filter(None, [estimate.invalid])]:
        return _result(claim, "invalid", "; ".join(broken), n, frozen, **found)
    planned = frozen.seeds[-1] if frozen.seeds and not claim.exact else 0
    if n < planned:  # a verdict before the plan is carried out would be one more look
        return _result(claim, "not decided", f"{n} of {planned} planned seeds so far", n, frozen, **found)
    verdict = judge(claim.criterion, low, high)
    reason = ""
    if verdict == "not decided":
        reason = _open(claim.criterion, estimate, frozen.confidence, claim.unit or "")
        found["smallest"] = smallest_beyond(estimate, claim.criterion, frozen.confidence)
    if low < high and not claim.exact:  # else nothing was tested: the measurements are all that there is
        found["p"] = p_value(estimate, claim.criterion)
    result = _result(claim, verdict, reason, n, frozen, **found)
    here = {name: measure for name, measure in claim.settings.items() if cells is None or not measure.lacks(cells)}
    settings = [_setting(claim, name, measure, rows, frozen) for name, measure in here.items()]
    return replace(result, settings=tuple(settings))


def _open(criterion: Criterion, estimate: Estimate, confidence: float, unit: str) -> str:
    """Say why a claim is not decided."""
    if estimate.ends(confidence) == ANYTHING:
        return f"at {100 * confidence:.3g} % its interval is everything"
    crosses = f"the interval crosses an edge of '{criterion.text()}'"
    ends = estimate.alone.ends(confidence) if estimate.alone else ANYTHING
    if (alone := judge(criterion, *ends)) == "not decided":
        return crosses
    low, high = (short(end, 4) for end in ends)
    return f"{crosses}; by the seeds alone ({low} to {high}{f' {unit}'.rstrip()}) it would be {alone}"


def _setting(claim: Claim, name: str, measure: Measure, rows: Rows, frozen: Frozen) -> Setting:
    unplanned = replace(frozen, seeds=(1,) * len(frozen.seeds))  # its cells may have fewer seeds than the claim's
    result = _evaluate(replace(claim, measure=measure, settings={}), rows, "", None, unplanned)
    return Setting(name, result.ours, result.low, result.high, result.n, result.verdict)
