"""What a reproduction is made of: a paper, the scales at which it is measured, its claims, figures and deviations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path
from typing import Annotated

from lightning_regs.core.checks import Count, Name, Whole, checked
from lightning_regs.core.metrics import Family
from lightning_regs.core.names import unknown_name
from lightning_regs.study.measured import DECLARED
from lightning_regs.study.paper.cells import Cell, Cells, Overrides, check_unique
from lightning_regs.study.paper.claims import Claim, Source, check_link
from lightning_regs.study.paper.figure import Figure
from lightning_regs.study.paper.tasks import AGREEMENT

HEADLINES = 5  # claims that a paper may be known for, at most
# How many test samples a data set has; here, as a report loads no data.
TEST_SAMPLES = {"digits": 597, "mnist1d": 1000, "mnist": 10_000, "fashion_mnist": 10_000, "cifar10": 10_000,
                "cifar100": 10_000}  # fmt: skip


@checked
@dataclass(frozen=True, eq=False)
class Scale:
    """One size at which the paper is measured.

    Args:
        name: ``"quick"``, ``"standard"``, ``"paper"``, or another where the paper needs one.
        description: What is cut, and what it may take, fixed before it is run: ``"3 minutes on two cores"``.
        cells: The configurations.
        overrides: What the scale changes in the cells that train, by dotted path: ``{"data.source": "digits"}``.
        seeds: Seeds per cell; they are 0, 1, ...
        jobs: How many cells at once; None for one per core.
        replicas: How many runs of a stack are trained together, at most.
        test_items: Number of test samples where the data stand in for the paper's: they are a sample too, whose error
            is part of the intervals, as far as the cell ``"study/agreement"`` finds nets right on the same of them.
            None for those of that cell's data set, and none where there is no such cell. 0 for the paper's own test
            set, which its figures are about.

    Raises:
        ValueError: If two cells have the same name, a number is below 1, a cell needs one that is not there, cells
            need each other in a circle, or there are test items and no cell that measures agreement on them.
    """

    name: str
    description: str
    cells: tuple[Cell, ...]
    overrides: Overrides = field(default_factory=dict, repr=False, kw_only=True)
    seeds: Count = 3
    jobs: Count | None = None
    replicas: Count = 1
    test_items: Whole | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable():
            raise ValueError(f"scale {self.name!r} has no name that fits into a line; give it one, such as 'quick'.")
        check_unique(f"scale {self.name!r}", "cell", names := [cell.name for cell in self.cells])
        if self.overrides:
            self._override()
        if self.test_samples and AGREEMENT not in names:
            raise ValueError(
                f"scale {self.name!r} has test_items={self.test_items} and no cell {AGREEMENT!r}, which measures how "
                f"far nets are right on the same; add grid({AGREEMENT!r}, CONFIG, {{'other': ...}})."
            )
        self._check_needs()

    @property
    def test_samples(self) -> int:
        """Number of test samples whose error is part of the intervals; 0 where they are what is asked about."""
        measured = next((cell for cell in self.cells if cell.name == AGREEMENT), None)
        if self.test_items is not None or measured is None:
            return self.test_items or 0
        source = measured.config.get("data", {}).get("source")
        if source not in TEST_SAMPLES:
            raise ValueError(
                f"scale {self.name!r} measures agreement on {source!r}, of which nobody knows how many test samples it "
                "has; say test_items=, or 0 for the paper's own test set."
            )
        return TEST_SAMPLES[source]

    def _override(self) -> None:
        made, known = Cells(self.cells).at(self.overrides), dict[str, tuple[Cell, Cell]]()
        for before, now in zip(self.cells, made, strict=True):
            other, alone = known.setdefault(now.hash(0), (now, before))
            if before.hash(0) != alone.hash(0):
                names = f"{other.name!r} and {now.name!r}"
                raise ValueError(
                    f"the overrides of scale {self.name!r} make {names} one configuration: they change what these "
                    "cells differ in; leave that out, or one of the cells."
                )
        object.__setattr__(self, "cells", made)

    def _check_needs(self) -> None:
        needs = {cell.name: cell.needs for cell in self.cells}
        seeds = {cell.name: cell.seeds for cell in self.cells}
        for cell in self.cells:
            for name in cell.needs:
                if name not in needs:
                    raise unknown_name(f"cell that {cell.name!r} needs:", name, needs)
                least = seeds[name] or math.inf
                if (cell.seeds or self.seeds) > least:
                    raise ValueError(
                        f"cell {cell.name!r} has {cell.seeds or self.seeds} seeds, and {name!r}, which it needs, has "
                        f"{least}; give it no more."
                    )
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as error:
            raise ValueError(
                f"scale {self.name!r} has cells that need each other: {' <- '.join(error.args[1])}."
            ) from None

    def with_needs(self, cell: Cell) -> tuple[Cell, ...]:
        """Return the cells that a cell needs, those that they need among them, and the cell itself at the end."""
        by_name = {other.name: other for other in self.cells} if cell.needs else {}
        found: dict[str, Cell] = {}
        for name in cell.needs:
            found |= {other.name: other for other in self.with_needs(by_name[name]) if other.name not in found}
        return (*found.values(), cell)

    def form(self, claim: Claim) -> Claim | None:
        """Return the form in which a claim is measured here; None where it is not."""
        form, cells = claim.at(self.name), [cell.name for cell in self.cells]
        return form if form and form.measure and form.measure.lacks(cells) is None else None

    def select(self, patterns: str | Sequence[str] | None) -> Cells:
        """Return the cells that match names or globs, in the order of the scale; None for all.

        Raises:
            ValueError: If a pattern matches nothing; the message suggests the nearest name.
        """
        if patterns is None:
            return Cells(self.cells)
        return Cells(self.cells).only(*([patterns] if isinstance(patterns, str) else patterns))


@checked
@dataclass(frozen=True)
class Deviation:
    """Something that is done otherwise than in the paper.

    Args:
        scale: The scale that it is about; empty for all.
        theirs: What the paper does; ``"not stated"`` where it does not say.
        ours: What is done instead, with the reason.
        effect: What this may do to the numbers; empty where nothing is known.

    Raises:
        ValueError: If it does not say both.
    """

    scale: str
    theirs: str
    ours: str
    effect: str = ""

    def __post_init__(self) -> None:
        if not self.theirs.strip() or not self.ours.strip():
            raise ValueError(f"a deviation says theirs and ours, got {self.theirs!r} and {self.ours!r}; give it both.")


@checked
@dataclass(frozen=True)
class Paper:
    """A paper with everything needed to reproduce it.

    Args:
        id: Name of its folder under ``reproductions/``.
        title: The paper's title.
        authors: Its authors, as one text.
        year: Year of publication.
        arxiv: arXiv number, ``""`` where there is none.
        scales: The sizes at which it is measured.
        claims: What it says, with checks.
        figures: What is drawn.
        summary: What the paper says, in a sentence or two, for a reader who does not know it.
        link: Where it can be read, where that is not arXiv.
        metrics: What its tasks measure that no part of the package declares, as families of metrics.
        deviations: What is done otherwise than in the paper.
        command: What measures it, where that is not ``lightning-regs reproduce``.
        folder: Where it was loaded from; set by :func:`~lightning_regs.study.paper.loading.load_paper`.

    Raises:
        ValueError: If two scales, claims, figures or sources share a name, or a claim or deviation names a scale that
            is not there, or a figure does, or a claim is about a cell that none of its scales has.
        TypeError: If what it measures is not in families.
    """

    id: Name
    title: str
    authors: str
    year: Count
    arxiv: str
    scales: tuple[Scale, ...]
    claims: tuple[Claim, ...] = ()
    figures: tuple[Figure, ...] = ()
    summary: str = ""
    link: str = ""
    metrics: Annotated[tuple[Family, ...], "families: (Family(title, (Metric(name, heading),)),)"] = ()
    deviations: tuple[Deviation, ...] = ()
    command: str = ""
    folder: Path | None = None

    def __post_init__(self) -> None:
        owner = f"paper {self.id!r}"
        check_unique(owner, "scale", [scale.name for scale in self.scales])
        check_unique(owner, "claim", [claim.id for claim in self.claims])
        check_unique(owner, "figure", [figure.id for figure in self.figures])
        check_unique(owner, "source", [source.key for source in self.sources])
        check_link(owner, self.link)
        scales = [part.on or () for part in self.claims] + [part.on or () for part in self.figures]
        for name in (*chain(*scales), *(deviation.scale for deviation in self.deviations if deviation.scale)):
            self.scale(name)
        for claim in self.claims:
            self._check_claim(claim)
        families = (*self.metrics, *DECLARED)
        object.__setattr__(self, "claims", tuple(claim.in_units(families) for claim in self.claims))
        if len(self.headlines) > HEADLINES:
            marked = sum(claim.headline for claim in self.claims)
            raise ValueError(
                f"{owner} has {len(self.claims)} claims, of which {marked or 'none'} are headlines; mark one to "
                f"{HEADLINES} with headline=True, those that the paper is known for."
            )

    @property
    def headlines(self) -> tuple[Claim, ...]:
        """The claims that the paper is known for, which are the marked ones, or all where there are few."""
        marked = tuple(claim for claim in self.claims if claim.headline)
        return marked or self.claims

    def _check_claim(self, claim: Claim) -> None:
        """Refuse a claim about a cell that none of its scales has, or whose conditions cannot be measured with it."""
        claims = {other.id: other for other in self.claims}
        known: dict[str, None] = {}
        lacking: dict[str, list[str | None]] = {}
        for scale in self.scales:
            form, cells = claim.at(scale.name), dict.fromkeys(cell.name for cell in scale.cells)
            if form is None or form.measure is None:
                continue
            known |= cells
            settings = {f"setting {name!r} of ": measure for name, measure in form.settings.items()}
            for what, measure in {"": form.measure, **settings}.items():
                lacking.setdefault(what, []).append(measure.lacks(cells))
            if scale.form(claim) is None:
                continue
            for condition in form.conditions:
                if (missing := condition.lacks(cells)) is not None:
                    raise unknown_name(f"cell of a condition of claim {claim.id!r}", missing, cells)
            for other in form.rests_on:
                if other not in claims:
                    raise unknown_name(f"claim that claim {claim.id!r} rests on:", other, claims)
                theirs = scale.form(claims[other])
                if theirs is None or theirs.rests_on:
                    why = "rests on others itself; name those" if theirs else "is not measured there"
                    raise ValueError(
                        f"claim {claim.id!r} rests on claim {other!r} at scale {scale.name!r}, which {why}."
                    )
        for what, names in lacking.items():
            if known and None not in names:
                raise unknown_name(f"cell of {what}claim {claim.id!r}", names[0], known)

    @property
    def sources(self) -> tuple[Source, ...]:
        """What its claims name as sources, each once."""
        forms = [form for claim in self.claims for form in (claim, *claim.variants.values())]
        return tuple(dict.fromkeys(source for form in forms for source in form.sources))

    def scale(self, name: str) -> Scale:
        """Return one scale.

        Raises:
            ValueError: If there is none of that name; the message suggests the nearest.
        """
        for scale in self.scales:
            if scale.name == name:
                return scale
        raise unknown_name("scale", name, [scale.name for scale in self.scales])

    def figures_at(self, scale: str) -> list[Figure]:
        """Return the figures that a scale draws."""
        return [figure for figure in self.figures if figure.on is None or scale in figure.on]

    def published(self, scale: str) -> dict[tuple[str, str], float]:
        """Return the published numbers that figures of a scale can draw: (cell, metric) -> number.

        They are those of the claims that the scale measures, and those of cells that it does not have: a number is
        never drawn at a cell of other data than its own.
        """
        cells = {cell.name for cell in self.scale(scale).cells}
        forms = [form for claim in self.claims for form in (claim, *claim.variants.values())]
        here = [form for claim in self.claims if (form := claim.at(scale)) is not None]
        return {
            single: float(form.published)
            for form in forms
            if isinstance(form.published, (int, float))
            and form.measure is not None
            and (single := form.measure.single) is not None
            and (form in here or single[0] not in cells)
        }
