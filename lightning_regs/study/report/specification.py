"""The specification of a report: everything that is said about a paper's results, as plain data.

The pages and the Weights & Biases report are both made from it, and from nothing else.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lightning_regs.core.runs import Store
from lightning_regs.study.lock.lock import mismatches, withdrawn
from lightning_regs.study.measured import TRAINED
from lightning_regs.study.paper.claims import Claim, Source, Verdict
from lightning_regs.study.paper.paper import Deviation, Paper, Scale
from lightning_regs.study.report import tables
from lightning_regs.study.report.comparison import Comparison, compare
from lightning_regs.study.report.drawing import FigureEntry, draw
from lightning_regs.study.report.headline import headlines, picture
from lightning_regs.study.report.legible import legible, plain
from lightning_regs.study.report.telling import ClaimEntry, Tally, in_common, intervals, say, tallies, tell
from lightning_regs.study.store.results import ScaleResults, load, strangers

_REASON, _TRACEBACK = 500, 4000
_GENERATED = re.compile(r"<!-- begin:(\S+) -->.*?<!-- end:\1 -->", re.DOTALL)
Show = Callable[..., FigureEntry]
State = Literal["empty", "half finished", "complete"]


@dataclass(frozen=True)
class FailureEntry:
    """A run that ended in an error and has not succeeded since."""

    cell: str
    seed: int
    reason: str
    traceback: str


@dataclass(frozen=True)
class Section:
    """One scale of a paper.

    Attributes:
        mixed: How its rows differ in origin, such as ``"2 commits"``; rows of different code are not one experiment.
        origin: ``commit``, ``versions``, ``device`` and ``precision``, each with the different entries of the rows.
        withdrawn: Ids of the claims that were taken out after rows of this scale, by the reason why.
    """

    scale: str
    description: str
    state: State
    runs: int  # finished runs that belong to it, of those that are `expected` when it is complete
    expected: int
    problems: tuple[str, ...]  # one sentence for each file, or part of one, that is damaged or does not fit
    mixed: tuple[str, ...]
    tallies: tuple[Tally, ...]
    summary: tuple[str, ...]  # the counts in plain sentences, and what the invalid claims have in common
    claims: tuple[ClaimEntry, ...]
    intervals: str  # what their intervals are, in a sentence
    figures: tuple[FigureEntry, ...]  # the paper's figures; empty without rows
    groups: tuple[tables.Group, ...]
    origin: dict[str, tuple[str, ...]]
    seconds: float | None  # computing time of all runs added up; None when no row records it
    failures: tuple[FailureEntry, ...]
    downloads: tuple[str, ...]  # names of the files beside the page
    command: str  # the command that measures it; `one_cell` that of one of its cells
    one_cell: str
    withdrawn: dict[str, tuple[str, ...]]
    found: ScaleResults  # what all of it is made of; not among the data

    @property
    def blank(self) -> bool:
        """Whether there is nothing to say but the command."""
        return not (self.groups or self.claims or self.problems or self.failures)

    @property
    def rows(self) -> int:
        """How many rows its tables show."""
        return sum(len(cell.runs) for group in self.groups for cell in group.cells)

    @property
    def counts(self) -> dict[Verdict, int]:
        """Number of the paper's own claims with each verdict."""
        return self.tallies[0].counts

    @property
    def notes(self) -> tuple[str, ...]:
        """What the index says beside the counts."""
        waiting = self.tallies[0].waiting
        notes = {self.progress: self.state == "half finished", "damaged": self.problems}
        notes |= {f"{len(self.failures)} failed": self.failures, f"{waiting} waiting for runs": waiting}
        return (*(note for note, is_so in notes.items() if is_so), *self.mixed)

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        return f"{self.runs} of {self.expected} runs"


@dataclass(frozen=True)
class Specification:
    """Everything that a report says about a paper.

    Attributes:
        paper: The paper's id; ``title``, ``authors``, ``year``, ``arxiv``, ``summary``, ``link`` and ``deviations`` too
            are its own, and ``sources`` what its claims name.
        version: Version of lightning-regs that made the specification.
        sections: The scales, in the order to be shown.
        problems: One sentence for files in the results folder that belong to no scale.
        headlines: What the paper is known for, each claim at the scale that says most about it; empty without rows.
        picture: The same as a figure; None without rows.
        comparisons: One's own rows beside the committed ones, a scale each that both have.
        prose: What the card says in words of its own, in Markdown, by heading: the protocol, what was hard.
    """

    paper: str
    title: str
    authors: str
    year: int
    arxiv: str
    version: str
    sections: tuple[Section, ...]
    problems: tuple[str, ...] = ()
    summary: str = ""
    link: str = ""
    sources: tuple[Source, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    headlines: tuple[ClaimEntry, ...] = ()
    picture: FigureEntry | None = None
    comparisons: tuple[Comparison, ...] = ()
    prose: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as data for ``json.dumps(..., allow_nan=False)``, without the drawings themselves.

        What is not a number is None, and an infinite number is the text ``"inf"`` or ``"-inf"``.
        """
        data: dict[str, Any] = plain(self)
        return data


_SHARED = ("title", "authors", "year", "arxiv", "summary", "link", "sources", "deviations")  # with the paper


def specify(
    paper: Paper,
    results_dir: str | Path,
    store: Store | None = None,
    scales: Iterable[str] | None = None,
    show: Show = draw,
) -> Specification:
    """Gather what a report says about a paper, from its results as they are: whole, half finished, empty or damaged.

    Args:
        paper: The paper.
        results_dir: Its results: ``SCALE.csv`` and ``SCALE.curves.csv``. What is missing, cut short or damaged is among
            the section's problems.
        store: The run folders, to name runs that failed; what it has of one's own rows is compared with the committed
            ones, else the results are.
        scales: Names of the scales, in that order. Default: all, complete ones first, of these the one at which most
            headline claims stand, of equal ones that nearest to the paper's protocol.
        show: Draws a figure; with :func:`~lightning_regs.study.report.drawing.name_figure` their entries have neither
            drawing, notes nor description.
    """
    from lightning_regs import __version__

    folder = Path(results_dir)
    scales = None if scales is None else [*scales]
    results = load(paper, folder, scales)
    known_for = headlines(paper, results)
    own = store.results(paper.id) if store else folder
    if scales is None:
        stand = [entry.scale for entry in known_for]
        results.sort(key=lambda found: (found.finished < found.expected, -stand.count(found.name)))
    name = "-".join([slug(paper.id), *(scales or ()), "headline"])
    made: Specification = legible(
        Specification(
            paper=paper.id,
            version=__version__,
            **{name: getattr(paper, name) for name in _SHARED},
            sections=tuple(_section(paper, found, store, show) for found in results),
            problems=tuple(filter(None, [*strangers(paper, folder), mismatches(paper)])),
            headlines=known_for,
            picture=show(picture(known_for), results[0], name, {}) if known_for else None,
            comparisons=tuple(compare(paper, own, scales)) if any(own.glob("*.csv")) else (),
            prose=_prose(paper),
        )
    )
    return made


def _told(paper: Paper, found: ScaleResults) -> tuple[ClaimEntry, ...]:
    """Tell the claims of a scale, with the cells that they look at there and the figures of these."""
    families = (*paper.metrics, TRAINED)
    never = {m.name: m.never for family in families for m in family.metrics if m.never.startswith("never")}
    forms, measured = _forms(paper, found.name), {row.cell for row in found.rows}
    figures_at = paper.figures_at(found.name)
    drawn = {figure.id: {cell for panel in figure.panels for cell in panel.cells} for figure in figures_at}
    told = []
    for result in found.claims:
        form = forms.get(result.id)
        metrics = [metric for _, metric in form.measure.parts] if form and form.measure else []
        entry = tell(result, found.name, form, next((never[name] for name in metrics if name in never), ""))
        cells = tuple(cell for cell in entry.cells if cell in measured)
        figures = tuple(id for id, shown in drawn.items() if not shown.isdisjoint(cells))
        told.append(replace(entry, cells=cells, figures=figures))
    return tuple(told)


def _forms(paper: Paper, scale: str) -> dict[str, Claim]:
    return {claim.id: claim.at(scale) or claim for claim in paper.claims}


def _prose(paper: Paper) -> dict[str, str]:
    """Return what the paper's card says beside its generated parts, by heading."""
    try:
        card = (paper.folder / "README.md").read_text(encoding="utf-8") if paper.folder else ""
    except (OSError, UnicodeDecodeError):
        return {}
    parts = (part.partition("\n") for part in re.split(r"^## ", _GENERATED.sub("", card), flags=re.MULTILINE)[1:])
    return {heading.strip(): text.strip() for heading, _, text in parts if text.strip()}


def command(paper: Paper, scale: str, cell: str | None = None) -> str:
    """Return the command that measures a scale, or one of its cells."""
    if paper.command:
        return paper.command
    words = ["lightning-regs", "reproduce", paper.id, "--scale", scale]
    return shlex.join([*words, "--cells", cell] if cell is not None else words)


def slug(text: str) -> str:
    """Make a text usable as a file name and as an anchor."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.") or "x"


def download(paper: str, file: str) -> str:
    """Return the name that a results file has beside the page."""
    return f"{slug(paper)}-{slug(file)}"


def _section(paper: Paper, found: ScaleResults, store: Store | None, show: Show) -> Section:
    scale = paper.scale(found.name)
    name = slug(f"{paper.id}-{found.name}")
    figures = paper.figures_at(found.name) if found.rows else []
    groups = tables.groups(found.rows, paper.metrics)
    cells = [[replace(cell, command=command(paper, found.name, cell.name)) for cell in each.cells] for each in groups]
    published, counted = paper.published(found.name), tallies(found.claims)
    return Section(
        scale=found.name,
        description=scale.description,
        state="empty" if not found.rows else "half finished" if found.finished < found.expected else "complete",
        runs=found.finished,
        expected=found.expected,
        problems=tuple(found.problems),
        mixed=tuple(_mixed(found)),
        tallies=counted,
        summary=tuple(filter(None, (say(counted), in_common(found.claims, _forms(paper, found.name), found.lookup())))),
        claims=_told(paper, found),
        intervals=intervals(scale.test_samples, found.lookup()),
        figures=tuple(show(figure, found, f"{name}-{figure.id}", published) for figure in figures),
        groups=tuple(replace(group, cells=own) for group, own in zip(groups, cells, strict=True)),
        origin={column: tuple(tables.distinct(found.rows, column)) for column in tables.ORIGIN},
        seconds=tables.total_seconds(found.rows),
        failures=tuple(_failures(scale, store)),
        downloads=tuple(download(paper.id, name) for name in found.downloads),
        command=command(paper, found.name),
        one_cell=command(paper, found.name, scale.cells[0].name) if scale.cells and not paper.command else "",
        withdrawn=withdrawn(paper, found.name),
        found=found,
    )


def _mixed(found: ScaleResults) -> list[str]:
    words = {"commit": "commits", "versions": "sets of package versions"}
    counts = {column: len(tables.distinct(found.rows, column)) for column in words}
    mixed = [f"{count} {words[column]}" for column, count in counts.items() if count > 1]
    if old := sum(not row.current for row in found.rows):
        mixed.append(f"other configurations than the scale has now, for {old} of {len(found.rows)} runs")
    return mixed


def _failures(scale: Scale, store: Store | None) -> list[FailureEntry]:
    if store is None:
        return []
    failures, failed = [], store.failed()
    for cell in scale.cells:
        for seed in sorted({*range(cell.seeds or scale.seeds), *failed}):
            run = store.run(cell.hash(seed))
            if (text := run.error()) is not None and run.row() is None:
                text = text.replace("\r\n", "\n").strip()
                lines = text.split("\n") if text else ["no message"]
                failures.append(FailureEntry(cell.name, seed, lines[-1][:_REASON], text[-_TRACEBACK:]))
    return failures
