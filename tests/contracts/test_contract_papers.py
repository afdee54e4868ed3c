"""What every paper keeps, found by reflection: a folder with a ``paper.py`` is enrolled by existing.

A contract gives one sentence for each thing that is wrong with a paper. Rows and curves are made up from the cells of a
scale: every run has a number for whatever metric it is asked for.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lightning_regs.study import Figure, Measure, MissingRows, Paper, Rows, Scale, find_papers, load_paper
from lightning_regs.study.lock.lock import FILE, freeze, mismatches
from lightning_regs.study.paper.figure import Kind
from lightning_regs.study.paper.tasks import AGREEMENT, OWN, import_task
from lightning_regs.study.paper.verdicts import evaluate
from lightning_regs.study.report import plots
from lightning_regs.study.report.card import update
from lightning_regs.study.report.specification import slug
from lightning_regs.study.run.preflight import check_cell
from lightning_regs.study.store.curves import Curves
from lightning_regs.study.store.results import default_results

ROOT = Path(__file__).parents[2]
SEEDS = 3


class Run(dict[str, Any]):
    """A row that has every metric; with holes, some runs have NaN for some."""

    def __init__(self, cell: str, seed: int, holes: bool = False) -> None:
        super().__init__(cell=cell, seed=seed)
        self._holes = holes

    def __missing__(self, name: str) -> float:
        # A generator of Python's for each number would take as long as drawing the figures.
        made, missing = (zlib.crc32(f"{self['cell']} {name} {self['seed']} {draw}".encode()) / 2**32 for draw in "ab")
        self[name] = float("nan") if self._holes and missing < 0.3 else 1 + 98 * made
        return self[name]

    def get(self, name: str, default: object = None) -> Any:
        return self[name]


def rows(scale: Scale, holes: bool = False) -> Rows:
    return Rows(Run(cell.name, seed, holes) for cell in scale.cells for seed in range(SEEDS))


def curves(paper: Paper, scale: Scale) -> Curves:
    panels = [panel for figure in paper.figures for panel in figure.panels if panel.kind == "curve"]
    # Those that draw themselves have planes and graphs.
    names = {"surface_loss", "activation", *(name for panel in panels for name in panel.metrics)}

    def points(cell: str, seed: int) -> list[Mapping[str, float]]:
        run = Run(cell, seed)
        over = ({"step": 100.0 * at, "epoch": at, "position": at, "position_2": at} for at in (1, 2, 3))
        return [{name: run[f"{name} {at['epoch']}"] for name in names} | at for at in over]

    return Curves({cell.name: {seed: points(cell.name, seed) for seed in range(SEEDS)} for cell in scale.cells})


def committed(paper: Paper, scale: Scale) -> list[dict[str, str]]:
    path = default_results(paper) / f"{scale.name}.csv"
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))) if path.exists() else []


def measured(paper: Paper, scale: Scale) -> Rows:
    def number(text: str) -> Any:
        try:
            return float(text)
        except ValueError:
            return text

    return Rows({name: number(entry) for name, entry in row.items()} for row in committed(paper, scale))


def tasks_are_there(paper: Paper) -> Iterator[str]:
    """Every task can be imported and called, and one whose runs are stacked can be called with several."""
    for cell in {cell.task: cell for scale in paper.scales for cell in scale.cells}.values():
        try:
            task = import_task(cell.task)
        except (ImportError, ValueError) as error:
            yield f"cell {cell.name!r} has the task {cell.task!r}: {error}"
        else:
            if cell.stack is not None and not callable(getattr(task, "stacked", None)):
                yield f"cell {cell.name!r} is stacked, but its task {cell.task!r} has no .stacked(configs, runs)"


def configurations_are_taken(paper: Paper) -> Iterator[str]:
    """No training or study of ours is refused, at any scale; of those that differ in numbers alone one is looked at."""
    found = {
        f"{cell.task} {_without_numbers(cell.config)}": (scale.name, cell)
        for scale in paper.scales
        for cell in scale.cells
        if cell.task in OWN
    }
    for scale, cell in found.values():
        try:
            check_cell(cell.task, cell.config)
        except (TypeError, ValueError) as error:
            yield f"cell {cell.name!r} cannot be measured at {scale}: {error}"


def _without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_numbers(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return sorted({str(_without_numbers(entry)) for entry in value})
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else value


def claims_are_about_cells_that_are_there(paper: Paper) -> Iterator[str]:
    """A claim is measured at every scale that it names; a cell that no scale has is refused by the paper itself."""
    names = {scale.name: {cell.name for cell in scale.cells} for scale in paper.scales}
    for claim in paper.claims:
        lacking = {
            scale: form.measure.lacks(cells) if isinstance(form.measure, Measure) else None
            for scale, cells in names.items()
            if (form := claim.at(scale)) is not None and form.measure is not None
        }
        for scale, cell in lacking.items():
            if cell is not None and claim.on is not None:
                yield f"claim {claim.id!r} is measured at {scale}, which has no cell {cell!r}"


def claims_can_be_judged(paper: Paper) -> Iterator[str]:
    """No measure fails, and no committed row lacks the metric that a claim is about."""
    for scale in paper.scales:
        cells = {cell.name for cell in scale.cells}
        for found in (rows(scale), rows(scale, holes=True), measured(paper, scale)):
            for result in evaluate(paper.claims, found, scale.name, cells):
                if "measure failed" in result.reason or "no metric" in result.reason:
                    yield f"claim {result.id!r} cannot be judged at {scale.name}: {result.reason}"


def claims_are_frozen(paper: Paper) -> Iterator[str]:
    """What is claimed is what the committed lock says, and a paper with rows has one."""
    assert paper.folder is not None
    if not (paper.folder / FILE).exists() and any(committed(paper, scale) for scale in paper.scales):
        yield f"there are rows and no {FILE}; run `lightning-regs freeze {paper.id}`"
    if told := mismatches(paper):
        yield told


def claims_name_their_sources(paper: Paper) -> Iterator[str]:
    """Every claim leads to a source of its own anchor, or is a control."""
    for claim in paper.claims:
        for form in (claim, *claim.variants.values()):
            if not form.sources and form.kind != "control":
                yield f"claim {claim.id!r} names no source"
            if form.headline != claim.headline:
                yield f"claim {claim.id!r} is a headline at some of its scales only"
    anchors = [slug(source.key) for source in paper.sources]
    yield from (f"two sources have the anchor {anchor!r}" for anchor in set(anchors) if anchors.count(anchor) > 1)


def is_gap(figure: Figure, cell: str, cells: Collection[str]) -> bool:
    """Whether a cell that is not there is a gap in a sweep: others of its line are, and others at its position."""
    if not isinstance(figure, Kind) or figure.draw != "draw_sweep":
        return False
    lines = [line for sweeps in figure.plots.values() for line in sweeps.values()]
    there = [{at for at, measure in line.items() if measure.lacks(cells) is None} for line in lines]
    return all(
        found and any(at in other for other in there)
        for line, found in zip(lines, there, strict=True)
        for at, measure in line.items()
        if cell in measure.cells
    )


def figures_are_about_cells_that_are_there(paper: Paper) -> Iterator[str]:
    """Every cell of a figure is at one of the scales, and each that it names has one of its cells."""
    cells = {cell.name for scale in paper.scales for cell in scale.cells}
    for figure in paper.figures:
        shown = {cell for panel in figure.panels for cell in panel.cells}
        for cell in shown - cells:
            if not is_gap(figure, cell, cells):
                yield f"figure {figure.id!r} draws {cell!r}, a cell that no scale has"
        for name in figure.on or ():
            if shown.isdisjoint(cell.name for cell in paper.scale(name).cells):
                yield f"figure {figure.id!r} is drawn at {name}, which has none of its cells"


def figures_are_about_what_is_measured(paper: Paper) -> Iterator[str]:
    """Committed rows of the cells of a figure have its metrics."""
    for scale in paper.scales:
        found = measured(paper, scale)
        for figure in (each for each in paper.figures if each.on is None or scale.name in each.on):
            for panel in figure.panels:
                shown = [cell for cell in found.cells() if cell in panel.cells and panel.kind == "bar"]
                for metric in panel.metrics if shown else ():
                    if not any(_has(found, cell, metric) for cell in shown):
                        yield f"figure {figure.id!r} draws {metric!r}, which no row of {', '.join(shown)} has"


def _has(found: Rows, cell: str, metric: str) -> bool:
    try:
        return bool(found.metric(cell, metric))
    except MissingRows:
        return False


def figures_can_be_drawn(paper: Paper) -> Iterator[str]:
    """Each is drawn at one scale at least, says itself, and fails at none; seeds without a number do not stop it."""
    largest = max(paper.scales, key=lambda scale: len(scale.cells))
    made = [(scale.name, rows(scale), curves(paper, scale)) for scale in paper.scales]
    made.append((largest.name, rows(largest, holes=True), curves(paper, largest)))
    shown = None
    for figure in paper.figures:
        drawing = None
        for name, found, recorded in made:
            try:
                if figure.on is None or name in figure.on:
                    with plots.style():
                        drawing = figure.render(found, recorded, paper.published(name))
            except MissingRows:
                continue
            except Exception as error:
                yield f"figure {figure.id!r} cannot be drawn at {name}: {type(error).__name__}: {error}"
            if drawing is not None and not plots.description(drawing):
                yield f"figure {figure.id!r} says nothing to those who cannot see it"
        if drawing is None:
            yield f"figure {figure.id!r} is drawn at no scale"
        shown = drawing or shown
    if shown is not None:  # one for all, as none is written by itself
        with plots.style():
            assert plots.to_svg(shown, "shown", inline=True).startswith("<svg")


def rows_are_of_cells_that_are_declared(paper: Paper) -> Iterator[str]:
    """Every committed row is a run of a cell as it is declared now."""
    for scale in paper.scales:
        cells = {cell.name: cell for cell in scale.cells}
        for row in committed(paper, scale):
            cell, seed, run = row["cell"], int(row["seed"]), row["config_hash"]
            if cell not in cells or cells[cell].hash(seed) != run:
                yield f"{scale.name}.csv has run {run} of cell {cell!r} with seed {seed}, which is not declared"


def scales_with_rows_are_on_the_card(paper: Paper) -> Iterator[str]:
    """The card of a paper has a place for the figures, claims and results of each scale that has rows."""
    card = (paper.folder or ROOT) / "README.md"
    text = card.read_text() if card.exists() else ""
    for scale in (scale for scale in paper.scales if committed(paper, scale)):
        for kind in ("figures", "claims", "results"):
            if f"<!-- begin:{paper.id}/{kind}/{scale.name} -->" not in text:
                yield f"{scale.name} has rows, and README.md no place for its {kind}"


def agreement_is_of_nets_that_learned(paper: Paper) -> Iterator[str]:
    """Two nets that guess say nothing of how far nets are right on the same samples, which intervals rest on."""
    for scale in paper.scales:
        for row in (row for row in committed(paper, scale) if row["cell"] == AGREEMENT):
            for name in ("test_acc", "other_test_acc"):
                if not float(row[name]) > 25:
                    yield f"{scale.name} has {name}={row[name]} in {AGREEMENT} of seed {row['seed']}: it guesses"


CONTRACTS: list[Callable[[Paper], Iterator[str]]] = [
    tasks_are_there,
    configurations_are_taken,
    claims_are_about_cells_that_are_there,
    claims_can_be_judged,
    claims_are_frozen,
    claims_name_their_sources,
    figures_are_about_cells_that_are_there,
    figures_are_about_what_is_measured,
    figures_can_be_drawn,
    rows_are_of_cells_that_are_declared,
    scales_with_rows_are_on_the_card,
    agreement_is_of_nets_that_learned,
]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("paper_id", find_papers())
def test_a_paper_keeps_its_contract(paper_id: str, contract: Callable[[Paper], Iterator[str]]) -> None:
    assert not list(contract(load_paper(paper_id)))


@pytest.mark.cpu("files know no device, and a lent machine has files beside what is committed")
@pytest.mark.slow
def test_the_committed_cards_show_the_committed_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed, and not what a reproduction has just written into the working tree beside it."""
    archive = ["git", "-C", str(ROOT), "archive", "HEAD", "README.md", "docs/tour.md", "reproductions", "configs"]
    with tarfile.open(fileobj=io.BytesIO(subprocess.run(archive, check=True, capture_output=True).stdout)) as files:
        files.extractall(tmp_path, filter="data")
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(tmp_path))
    papers = [load_paper(name) for name in find_papers()]
    assert {paper.folder for paper in papers} == {path.parent for path in tmp_path.glob("reproductions/*/paper.py")}
    cards = (tmp_path / "README.md", tmp_path / "docs" / "tour.md", *tmp_path.glob("reproductions/*/README.md"))
    stale = [str(card.relative_to(tmp_path)) for card in update(cards, papers)]
    assert not stale, "these cards are older than their results; run make report"


TOY = """
from lightning_regs.study import Cell, Claim, Paper, Scale, Source, points, value

SHEET = Source("sheet", "A sheet of paper")
PAPER = Paper(
    "toy", "A toy", "Nobody", 2020, "",
    (Scale("quick", "small", (Cell("net/none", "toy.tasks:measure"), Cell("net/some", "toy.tasks:measure"))),),
    claims=(Claim("1", "It is small.", value("net/none", "size"), below=100, source=SHEET),),
    figures=(points("f", "Sizes", "size", {"none": "net/none", "some": "net/some"}),),
)
"""
TASKS = "def measure(config, run):\n    return {'size': 1.0}\n"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "reproductions" / "toy"
    folder.mkdir(parents=True)
    (folder / "tasks.py").write_text(TASKS)
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder / "paper.py"
    for name in [name for name in sys.modules if name.split(".")[0] == "toy"]:
        del sys.modules[name]


def test_a_paper_is_enrolled_by_its_folder(toy: Path) -> None:
    assert "toy" not in find_papers()
    toy.write_text(TOY)
    assert find_papers()["toy"] == toy.parent
    assert not [sentence for contract in CONTRACTS for sentence in contract(load_paper("toy"))]


def test_a_paper_that_was_frozen_otherwise_is_told_the_remedy(toy: Path) -> None:
    toy.write_text(TOY)
    freeze(load_paper("toy"), {}, date="2030-01-01", commit="x")
    assert not list(claims_are_frozen(load_paper("toy")))
    toy.write_text(TOY + "PAPER = type(PAPER)(**{**vars(PAPER), 'claims': ()})")
    del sys.modules["toy.paper"]
    [told] = claims_are_frozen(load_paper("toy"))
    assert told.endswith("(1 at quick is gone): what is new or changed counts as exploratory; take them back, or run "
                         "`lightning-regs freeze toy`.")  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('value("net/none", "size")', 'value("net/non")', "unknown cell of claim '1' 'net/non'"),
        ("below=100,", "below=100, on=('quick',),", ""),
        (
            'value("net/none", "size")',
            'type(value("a"))("none", (("net/none", "size"),), lambda size: size / 0)',
            "claim '1' cannot be judged at quick: its measure failed",
        ),
        (", source=SHEET", "", "claim '1' has no source; name what was read, or say kind='control'"),
        (
            '"toy.tasks:measure"',
            '"toy.tasks:mesure"',
            "has the task 'toy.tasks:mesure': unknown task in module toy.tasks",
        ),
        ('"toy.tasks:measure"', '"toy.task:measure"', "has the task 'toy.task:measure': No module named 'toy.task'"),
        ('"some": "net/some"', '"some": "net/som"', "figure 'f' draws 'net/som', a cell that no scale has"),
        ('Cell("net/none",', 'Cell("net/none", needs=("x",), task=', "unknown cell that 'net/none' needs: 'x'"),
    ],
)
def test_a_paper_that_breaks_a_contract_is_told_in_a_sentence(toy: Path, old: str, new: str, says: str) -> None:
    assert old in TOY
    toy.write_text(TOY.replace(old, new))
    try:
        found = [sentence for contract in CONTRACTS for sentence in contract(load_paper("toy"))]
    except ValueError as refused:  # by the declaration itself
        found = [str(refused)]
    assert any(says in sentence for sentence in found) if says else not found
    assert "\n" not in "".join(found)
