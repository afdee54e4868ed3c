"""Claims of a paper: a sentence, what it is measured by, what the number has to satisfy, and where it is from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal, get_args

from lightning_regs.core.checks import Count, Name, checked
from lightning_regs.core.metrics import Family
from lightning_regs.study.paper.conditions import Condition
from lightning_regs.study.paper.criteria import WORDS, Criterion
from lightning_regs.study.paper.estimates import Estimate, every
from lightning_regs.study.paper.measures.measure import Measure
from lightning_regs.study.paper.measures.sums import difference
from lightning_regs.study.paper.rows import Names, Rows

Verdict = Literal["reproduced", "not reproduced", "not decided", "invalid", "not at this scale", "out of reach"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
JUDGED = VERDICTS[:3]  # those that an interval leads to
# What a claim is about: what the paper found; what follows from definitions or a proof; our own check of the setting.
Kind = Literal["paper", "theory", "control"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# How a claim's number or sentence came to us.
Origin = Literal["read", "derived", "recalled"]
_ORIGINS: dict[str, str] = {"read": "", "derived": "derived from ", "recalled": "recalled, not read again: "}


@checked
@dataclass(frozen=True)
class Source:
    """Something that was read, and that a reader can find.

    Args:
        key: Short name, unique in the paper.
        title: Its title, or what it is where it has none.
        authors: Who wrote it; empty where it does not say.
        year: When; None where it does not say.
        link: Where it is: ``"arxiv.org/abs/1611.03530"``, ``"github.com/OWNER/NAME"``, a DOI; may be empty.
        note: What it is to the paper, in a sentence; may be empty.
    """

    key: str
    title: str
    authors: str = ""
    year: Count | None = None
    link: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.key.strip() or not self.title.strip():
            raise ValueError(f"a source has a key and a title, got {self.key!r} and {self.title!r}; give it both.")
        check_link(f"source {self.key!r}", self.link)

    @property
    def short(self) -> str:
        """Author and year, or the title where there is no author."""
        return f"{self.authors or self.title}{f' {self.year}' if self.year else ''}"


def check_link(owner: str, link: str) -> None:
    """Refuse a link that would be no link behind ``https://``.

    Raises:
        ValueError: In one sentence.
    """
    if "://" in link or any(map(str.isspace, link)):
        raise ValueError(f"{owner} has the link {link!r}; write it as 'arxiv.org/abs/1611.03530'.")


@checked
@dataclass(frozen=True, eq=False)
class Claim:
    """One sentence of a paper with a check.

    Args:
        id: Short name, unique in the paper.
        sentence: What the paper says, in one sentence.
        measure: One of :mod:`lightning_regs.study.paper.measures`; None only with ``out_of_reach``.
        above: The whole 95 % interval has to be above this, for the claim to count as reproduced.
        below: Or below this.
        at_least: Or at least this.
        at_most: Or at most this.
        within: Or this near to the published number.
        published: The paper's number, or words where it gives none.
        unit: Unit of the numbers: ``"%"``, ``"points"``, ``"x"``, ``"epochs"``, ``""``; None where it follows from the
            measure and its metrics: differences of percentages are points, ratios factors.
        source: Where sentence and number are from: one source, or several that agree.
        where: Where in it: ``"Table 1"``, ``"section 3"``.
        origin: ``"read"`` there; ``"derived"`` from it; ``"recalled"`` from memory and not read again.
        kind: ``"paper"`` for what the paper found; ``"theory"`` for what follows from definitions or a proof;
            ``"control"`` for a check of our own setting, which needs no source. They are counted apart.
        valid_if: What has to hold before it may be judged: conditions on runs
            (:func:`~lightning_regs.study.paper.conditions.trained`), or ids of claims that have to be reproduced at
            the same scale. Where it does not hold, the verdict is ``"invalid"``.
        settings: What the paper does not state, set otherwise: words -> the measure there. The criterion is checked in
            each whose cells the scale has, and the range of verdicts stands beside the verdict.
        on: Names of the scales that measure it; None for all.
        out_of_reach: Why it cannot be checked here at all, instead of a measure.
        exact: True for a number without spread over seeds (a count, a proof's construction, a solved system): every
            measurement has to satisfy the criterion, and equal ones count once.
        headline: Whether it is one of those that the paper is known for.
        variants: By scale, the form that the claim has there: another net, another threshold. See :func:`across`.

    Raises:
        ValueError: If the criterion is none, the origin unknown, the source missing, or there is neither a measure nor
            a reason to have none, or both.
    """

    id: str
    sentence: str
    measure: Measure | None = None
    _: KW_ONLY
    above: float | None = None
    below: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    within: float | None = None
    published: float | str | None = None
    unit: str | None = None
    source: Source | tuple[Source, ...] = ()
    where: str = ""
    origin: Origin = "read"
    kind: Kind = "paper"
    valid_if: Condition | str | tuple[Condition | str, ...] = ()
    settings: Mapping[str, Measure] = field(default_factory=dict)
    on: tuple[str, ...] | None = None
    out_of_reach: str | None = None
    exact: bool = False
    headline: bool = False
    variants: dict[str, Claim] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        name = f"claim {self.id!r}"
        if not self.id.strip() or not self.id.isprintable():
            raise ValueError(f"{name} has no id that fits into a line; give it a short name.")
        if not self.sources and self.kind != "control":
            raise ValueError(f"{name} has no source; name what was read, or say kind='control' for a check of ours.")
        if (self.measure is None) == (not self.out_of_reach):
            raise ValueError(f"{name} needs either a measure, or out_of_reach= with the reason why it has none.")
        if self.measure is not None and self.criterion is None:
            raise ValueError(f"{name} is measured by no criterion; add above=, below=, at_least=, at_most= or within=.")

    @property
    def criterion(self) -> Criterion | None:
        """What the interval has to satisfy; None where nothing is measured."""
        limits = {word: getattr(self, word) for word in WORDS}
        return Criterion.of(f"claim {self.id!r}", self.published, **limits)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources."""
        return (self.source,) if isinstance(self.source, Source) else self.source

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions on runs."""
        return tuple(part for part in self._valid_if if not isinstance(part, str))

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The ids of the claims that have to be reproduced."""
        return tuple(part for part in self._valid_if if isinstance(part, str))

    @property
    def _valid_if(self) -> tuple[Condition | str, ...]:
        return self.valid_if if isinstance(self.valid_if, tuple) else (self.valid_if,)

    @property
    def cited(self) -> tuple[tuple[str, str], ...]:
        """Where sentence and number are from, in pieces of words with the key of the source they name, if any."""
        control = self.kind == "control"
        pieces, lead = [("our control" if control else _ORIGINS[self.origin], "")], ", " if control else ""
        for source in self.sources:
            pieces += [(lead, ""), (source.short, source.key)]
            lead = " and "
        if self.where:
            pieces.append((f", {self.where}", ""))
        return tuple(piece for piece in pieces if piece[0])

    @property
    def provenance(self) -> str:
        """The same in words."""
        return "".join(words for words, _ in self.cited)

    def estimate(self, rows: Rows) -> Estimate:
        """Measure what it is about.

        Raises:
            MissingRows: If a cell or metric has no rows.
            UnfitError: If there is no number to be had of the rows.
        """
        assert self.measure is not None
        return every(self.measure.values(rows)) if self.exact else self.measure(rows)

    def in_units(self, families: Sequence[Family]) -> Claim:
        """Return it with its unit, and with those of its forms.

        Args:
            families: Those that declare the metrics.

        Raises:
            ValueError: If its unit does not follow from the metrics.
        """
        unit = self.unit
        if unit is None:
            try:
                unit = self.measure.unit(families) if self.measure else ""
            except ValueError as error:
                raise ValueError(f"claim {self.id!r}: {error}") from None
        forms = {scale: form.in_units(families) for scale, form in self.variants.items()}
        return replace(self, unit=unit, variants=forms)

    def at(self, scale: str) -> Claim | None:
        """Return the form that the claim has at a scale; None where the scale does not measure it."""
        if self.on is not None and scale not in self.on:
            return None
        return self.variants.get(scale, self)


@checked
def lower(
    id: str,
    sentence: str,
    cell: Names,
    than: Names,
    published: float | str | None = None,
    metric: Name = "test_error",
    than_metric: str = "",
    **about: Any,
) -> Claim:
    """Claim that a metric is lower in one cell than in another, which is most of what papers on methods say.

    Claims of one table have one source, which :func:`functools.partial` says once; then each is a row::

        table_2 = partial(lower, source=SOURCE, where="Table 2")
        table_2("4", "Mixup has a lower test error than dropout.", "mlp/mixup", "mlp/dropout", 2.8, headline=True)

    Args:
        id: Short name, unique in the paper.
        sentence: What the paper says, in one sentence.
        cell: The cell, or cells whose mean is taken.
        than: What it is lower than.
        published: By how much in the paper, or words where it gives no number.
        metric: What is compared.
        than_metric: The metric of ``than``, where that is another.
        **about: What else :class:`Claim` takes. The criterion is that the whole interval is above 0.
    """
    measure = difference(than, cell, than_metric or metric, metric)
    return Claim(id, sentence, measure, published=published, **{"above": 0} | about)


@checked
def across(**by_scale: Iterable[Claim]) -> tuple[Claim, ...]:
    """Make one claim of those that say the same at several scales, each with the scale's own net or threshold.

    Args:
        **by_scale: Scale -> its claims; equal ids are one claim.

    Returns:
        The claims in the order in which their ids first come, ``on`` the scales that have them.

    Raises:
        ValueError: If a scale has two claims of one id.
    """
    forms: dict[str, dict[str, Claim]] = {}
    for scale, claims in by_scale.items():
        for claim in claims:
            if scale in forms.get(claim.id, {}):
                raise ValueError(f"scale {scale!r} has more than one claim {claim.id!r}; give one of them another id.")
            forms.setdefault(claim.id, {})[scale] = claim
    return tuple(
        replace(next(iter(found.values())), on=tuple(found), variants=found if len(found) > 1 else {})
        for found in forms.values()
    )
