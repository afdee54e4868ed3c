"""What is told of claims, in words and signs that page, card, terminal and Weights & Biases share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from lightning_regs.study.paper.cells import EDGE
from lightning_regs.study.paper.claims import JUDGED, KINDS, VERDICTS, Claim, Kind, Verdict
from lightning_regs.study.paper.estimates import CONFIDENCE
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.paper.tasks import AGREEMENT
from lightning_regs.study.paper.verdicts import ClaimResult
from lightning_regs.study.report import tables

MEASURED, BEYOND = VERDICTS[:4], VERDICTS[4:]
SYMBOLS: dict[Verdict, str] = dict(zip(VERDICTS, ("\u2713", "\u2717", "?", "!", "\u00b7", tables.DASH), strict=True))
DAGGER = "\u2020"
EXPLORATORY = "exploratory: the claim, or its number of seeds, was changed after a look at rows"
UNSURE = "\u2021"
CHANCE = "q above 0.05: among so many claims, a verdict like this may be chance"
# What stands behind a verdict -> what it means, in a word or two and in a clause.
MARKS = {DAGGER: ("exploratory", EXPLORATORY), UNSURE: ("q > 0.05", CHANCE)}
TITLES: dict[Kind, str] = {"paper": "Claims of the paper", "theory": "Theory", "control": "Our controls"}
_NOUNS: dict[Kind, str] = {
    "paper": "claim{} of the paper",
    "theory": "claim{} of theory",
    "control": "control{} of ours",
}
_SAYS: dict[Verdict, str] = dict(
    zip(MEASURED, ("{} held", "{} did not hold", "{} {} undecided", "{} {} invalid"), strict=True)
)
MEANINGS: dict[Verdict, str] = {
    "reproduced": "the whole interval lies where the claim holds",
    "not reproduced": "the whole interval lies outside",
    "not decided": "the interval crosses an edge, or there are too few seeds",
    "invalid": "what has to hold before the number says anything does not hold",
    "not at this scale": "asked at another scale of the same paper, whether that was run or not",
    "out of reach": "cannot be checked here at all, for the reason given",
}


@dataclass(frozen=True)
class ClaimEntry:
    """A claim with what was found for it at a scale, in words.

    Attributes:
        id: Its name; ``sentence``, ``kind``, ``headline``, ``provenance``, ``recalled``, ``unit``, ``n``, ``verdict``,
            ``exploratory``, ``frozen`` and ``conditions`` too are those of the
            :class:`~lightning_regs.study.paper.verdicts.ClaimResult`.
        criterion: Where the interval must lie for it to count as reproduced, empty where nothing is measured.
        scale: The scale.
        paper: The paper's figure, in words or with its unit; a dash where it gives none.
        cited: Where that figure was seen, in pieces, each with the key of the source that it names, if any.
        ours: Our number with its unit; a dash where there is none.
        interval: Our interval, empty where there is none; with its confidence where that is not 95 %, or what it is.
        reason: Why it was not decided, is invalid or is out of reach, and what so many seeds could have seen.
        marks: Signs behind the verdict; see :data:`MARKS`.
        facts: What else there is to the number: settings chosen, adjusted p-value, share of pairs won, verdicts in
            other settings.
        numbers: ``ours``, ``low``, ``high``, ``holds_low``, ``holds_high`` and ``paper``; None where there is no
            number, or no limit.
        cells: The cells that it looks at, as far as its measure names them.
        figures: Ids of the figures that show some of them.
        elsewhere: Of a headline, the other scales that measured it, with their verdicts.
    """

    id: str
    scale: str
    sentence: str
    kind: Kind
    headline: bool
    paper: str
    provenance: str
    cited: tuple[tuple[str, str], ...]
    recalled: bool
    ours: str
    interval: str
    criterion: str
    conditions: tuple[str, ...]
    unit: str
    n: int
    verdict: Verdict
    reason: str
    exploratory: str
    frozen: str
    marks: tuple[str, ...]
    facts: tuple[str, ...]
    numbers: dict[str, float | None]
    cells: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    elsewhere: tuple[tuple[str, Verdict], ...] = ()

    @property
    def signed(self) -> str:
        """The verdict behind its symbol, with its marks."""
        return " ".join((SYMBOLS[self.verdict], self.verdict, *self.marks))

    @property
    def rule(self) -> tuple[str, str, str]:
        """Its id, what had to hold for it to be judged, and when it was frozen."""
        return self.id, "; ".join(self.conditions), f"frozen {self.frozen}" if self.frozen else "not frozen"

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything that a table says beside the numbers, a clause each."""
        look = f"{DAGGER} {self.exploratory}" if self.exploratory else ""
        return tuple(filter(None, (self.reason, look, *self.facts)))


_SHARED = {field.name for field in fields(ClaimEntry)} & {field.name for field in fields(ClaimResult)}


def tell(claim: ClaimResult, scale: str, form: Claim | None = None, never: str = "") -> ClaimEntry:
    """Put what was found at a scale into words.

    Args:
        claim: What was found.
        scale: Where.
        form: The claim as it is there, for its cells, its sources one by one and its limits as numbers.
        never: What it means that a run has no number: ``"never fitted"``.
    """
    value, criterion = claim.paper_value, form.criterion if form else None
    numbers = {
        "ours": claim.ours,
        "low": claim.low,
        "high": claim.high,
        "holds_low": criterion.low if criterion and math.isfinite(criterion.low) else None,
        "holds_high": criterion.high if criterion and math.isfinite(criterion.high) else None,
        "paper": None if isinstance(value, str) else value,
    }
    same = {name: getattr(claim, name) for name in _SHARED}
    chance = claim.q is not None and claim.q > 1 - CONFIDENCE and claim.verdict in JUDGED[:2]
    return ClaimEntry(
        **same
        | {
            "scale": scale,
            "paper": value if isinstance(value, str) else tables.number(value, claim.unit),
            "cited": form.cited if form else (),
            "ours": tables.our_value(claim),
            "interval": _interval(claim),
            "reason": re.sub(r"values are not finite$", f"runs {never or 'have no number'}", why(claim)),
            "marks": (DAGGER,) * (claim.verdict in MEASURED and bool(claim.exploratory)) + (UNSURE,) * chance,
            "facts": tuple(_facts(claim)),
            "numbers": {name: None if n is None or math.isnan(n) else float(n) for name, n in numbers.items()},
            "cells": form.measure.cells if form and form.measure else (),
        }
    )


def in_common(claims: Sequence[ClaimResult], forms: Mapping[str, Claim], rows: Rows) -> str:
    """Say in a sentence what the paper's invalid claims at a scale have in common: the conditions that failed.

    It takes all claims of the scale, by id as they are there, and the rows that they were judged on.
    """
    verdicts = {claim.id: claim.verdict for claim in claims}
    invalid = [claim for claim in claims if claim.verdict == "invalid" and claim.kind == "paper"]
    cells, metrics, rests = Counter[str](), Counter[str](), Counter[str]()
    untrained = edges = 0
    for claim in invalid:
        form, broken = forms[claim.id], dict[str, str]()
        for condition in form.conditions:
            try:
                broken |= dict.fromkeys(condition.broken(rows), tables.heading(condition.metric).lower())
            except MissingRows:
                continue
        cells.update([*broken])
        metrics.update(set(broken.values()))
        untrained += bool(broken)
        edge = not broken and EDGE in claim.reason
        edges += edge
        if not (broken or edge):
            rests.update([f"{id}, which is {verdicts[id]}" for id in form.rests_on if verdicts[id] != "reproduced"][:1])
    said = []
    if untrained:
        most = [f"{cell} ({count} claim{'s' * (count > 1)})" for cell, count in cells.most_common(3)]
        most += [f"{len(cells) - 3} more"] if len(cells) > 3 else []
        asked = f"the {' or '.join(sorted(metrics))} asked for, in {', '.join(most)}"
        said.append(f"{untrained} look{'s' * (untrained == 1)} at runs that did not reach {asked}")
    said += [f"{count} rest{'s' * (count == 1)} on claim {other}" for other, count in rests.items()]
    said += [f"{edges} {'has' if edges == 1 else 'have'} a best setting at an {EDGE}"] if edges else []
    if (left := len(invalid) - untrained - rests.total() - edges) > 0:
        said.append(f"{left} divide{'s' * (left == 1)} by a difference that may be 0")
    many = f"All {len(invalid)} invalid claims" if len(invalid) > 1 else "The invalid claim"
    if len(said) == 1:
        return f"{many}{said[0].removeprefix(str(len(invalid)))}."
    return f"Of the {len(invalid)} invalid claims {'; '.join(said)}." if said else ""


def why(claim: ClaimResult) -> str:
    """Say why a claim has its verdict, and what effect so many seeds would have seen."""
    if claim.smallest is None or claim.verdict != "not decided":
        return claim.reason
    reason = re.sub(r" of '[^']*'", "", claim.reason)  # the edge stands beside it, as the criterion
    sample = f" and {claim.test_items:,} test samples" if claim.test_items else ""
    least = tables.number(claim.smallest, "points" if claim.unit == "%" else claim.unit)
    return f"{reason}; {claim.n} seeds{sample} see what lies {least} beyond the edge 4 times in 5".lstrip("; ")


def _interval(claim: ClaimResult) -> str:
    text = tables.claim_interval(claim)
    if not text or claim.low == claim.high:
        return text
    if claim.exact:
        return f"{text} (lowest to highest of {claim.n} problems)"
    return f"{text} (at {100 * claim.confidence:.4g} % confidence)" if claim.confidence != CONFIDENCE else text


def intervals(items: int, rows: Rows) -> str:
    """Say what the intervals of a scale are, and whether the error of so many test samples is part of them."""
    said = "Intervals are of 95 % where no other level is given"
    if not items:
        return f"{said}."
    worst = "as it was not measured here how far nets are right on the same samples, the worst case is assumed; "
    return (
        f"{said}; those of accuracies and errors on the test set include the sampling error of a test set of {items:,} "
        f"({'' if AGREEMENT in rows.cells() else worst}see docs/verdicts.md)."
    )


def _facts(claim: ClaimResult) -> Iterable[str]:
    yield from claim.tuned
    if claim.q is not None:
        yield f"q = {claim.q:.2g}"
    if claim.won is not None:
        yield f"ahead in {100 * claim.won:.0f} % of the pairs of seeds"
    if measured := [setting for setting in claim.settings if setting.n]:
        held = [setting.name for setting in measured if setting.verdict == "reproduced"]
        others = [f"{'one seed, no interval,' if (each.n, each.verdict) == (1, 'not decided') else each.verdict} with "
                  f"{each.name} ({tables.number(each.ours, claim.unit)})"
                  for each in measured if each.verdict != "reproduced"]  # fmt: skip
        said = f"holds in {len(held)} of {len(measured)} other settings"
        yield "; ".join([": ".join(filter(None, (said, ", ".join(held)))), *others])


@dataclass(frozen=True)
class Tally:
    """The claims of one kind at one scale, counted by verdict; of the undecided, so many wait for a measurement."""

    kind: Kind
    counts: dict[Verdict, int]
    exploratory: dict[Verdict, int]
    waiting: int

    @property
    def measured(self) -> int:
        """How many have a number."""
        return sum(self.found[verdict] for verdict in MEASURED)

    @property
    def found(self) -> dict[Verdict, int]:
        """The counts without those that wait for a measurement."""
        return self.counts | {"not decided": self.counts["not decided"] - self.waiting}

    @property
    def sentence(self) -> str:
        """The counts as a plain sentence."""
        says = f"No {_NOUNS[self.kind].format('')} is measured here."
        if self.measured:
            parts = [_SAYS[verdict].format(number, "is" if number == 1 else "are")
                     for verdict in MEASURED if (number := self.found[verdict])]  # fmt: skip
            told = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
            says = f"Of {self.measured} {_NOUNS[self.kind].format('s' * (self.measured != 1))} measured here {told}"
            if look := sum(self.exploratory.values()):
                says += f"; {look} of these verdicts {'is' if look == 1 else 'are'} exploratory"
            says += "."
        rest = [f"{self.waiting} more wait{'s' if self.waiting == 1 else ''} for runs"] if self.waiting else []
        rest += [f"{self.counts[verdict]} {'is' if self.counts[verdict] == 1 else 'are'} {verdict}"
                 for verdict in BEYOND if self.counts[verdict]]  # fmt: skip
        return f"{says} {'; '.join(rest)}." if rest else says

    @property
    def brief(self) -> str:
        """The same for a narrow place: ``"3 of 4 held, 1 undecided"``."""
        held, missed, *others = (self.found[verdict] for verdict in MEASURED)
        said = [f"{held} of {self.measured} held"] if held or missed else []
        said += [f"{number} {word}" for number, word in zip(others, ("undecided", "invalid"), strict=True) if number]
        return ", ".join(said) or "not measured"


def tallies(claims: Iterable[ClaimResult | ClaimEntry]) -> tuple[Tally, ...]:
    """Count claims, each kind apart; a kind without claims is left out, but for the paper's own."""
    given = list(claims)
    counted = []
    for kind in KINDS:
        own = [claim for claim in given if claim.kind == kind]
        marked = [claim for claim in own if claim.exploratory and claim.verdict in MEASURED]
        waiting = sum(claim.verdict == "not decided" and claim.n == 0 for claim in own)
        if own or kind == "paper":
            counts, exploratory = (
                {verdict: sum(claim.verdict == verdict for claim in those) for verdict in VERDICTS}
                for those in (own, marked)
            )
            counted.append(Tally(kind, counts, exploratory, waiting))
    return tuple(counted)


def signs(claims: Iterable[ClaimResult | ClaimEntry], known_for: Container[str]) -> str:
    """Write the verdicts of those with the given ids as symbols, those of theory in brackets."""
    return "\u00a0".join(
        f"({sign})" if claim.kind == "theory" else sign
        for claim in claims if claim.id in known_for
        for sign in [SYMBOLS[claim.verdict] + DAGGER * (claim.verdict in MEASURED and bool(claim.exploratory))]
    )  # fmt: skip


def say(counted: Sequence[Tally]) -> str:
    """Say counts in plain sentences: those of the paper's claims, and of other kinds where any is measured."""
    return " ".join(tally.sentence for tally in counted if tally.kind == "paper" or tally.measured)


def legend(claims: Iterable[ClaimEntry]) -> dict[str, str]:
    """Return what the marks mean that stand behind some verdicts."""
    used = {mark for claim in claims for mark in claim.marks}
    return {mark: meaning for mark, (_, meaning) in MARKS.items() if mark in used}
