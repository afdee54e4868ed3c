"""Static pages of a paper's results, rendered by templates from its specification alone."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from lightning_regs.core.files import atomic_write, lock, whole
from lightning_regs.core.runs import Store
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.report import plots
from lightning_regs.study.report.legible import legible
from lightning_regs.study.report.rendering import fill
from lightning_regs.study.report.specification import Specification, command, download, slug, specify
from lightning_regs.study.store.results import ENDINGS, claims_text

if TYPE_CHECKING:
    from lightning_regs.procedures.diagnosis.diagnose import Diagnosis

_ENTRY = ".entry"
_MOST_LINES = 400


def write_report(paper: Paper, results_dir: str | Path, out_dir: str | Path, store: Store | None = None) -> Path:
    """Write a paper's page, and the index of all papers whose pages are in the folder.

    Args:
        paper: The paper.
        results_dir: Its results: ``SCALE.csv`` and ``SCALE.curves.csv``. What is missing, cut short or damaged is said
            on the page.
        out_dir: Where ``PAPER.html``, ``PAPER.json`` (the specification), ``index.html`` and copies of the results go;
            made when it is not there.
        store: The run folders, to show runs that failed.

    Returns:
        The page.
    """
    out = Path(out_dir)
    page = out / f"{slug(paper.id)}.html"
    with _writing(out):
        specification = specify(paper, results_dir, store)
        for section in specification.sections:
            for name in section.found.downloads:
                target = out / download(paper.id, name)
                if name.endswith(ENDINGS[1]):  # as they are judged now
                    atomic_write(target, legible(claims_text(section.found.claims), None), durable=False)
                else:
                    with whole(target, durable=False) as part:  # what the target may be a link to is left as it is
                        shutil.copyfile(Path(results_dir) / name, part)
        data = json.dumps(specification.as_dict(), ensure_ascii=False, allow_nan=False)
        atomic_write(page.with_suffix(".json"), data, durable=False)
        atomic_write(page, render(specification), durable=False)
        atomic_write(page.with_suffix(_ENTRY), _entry(specification, paper, page.name), durable=False)
    write_index(out)
    return page


def render(specification: Specification, most: int = _MOST_LINES) -> str:
    """Return the page of a specification.

    A table of cells has at most so many lines, as has one of single runs, which is left out where it has more; the
    downloads have them all.
    """
    sections = [section for section in specification.sections if not section.blank]
    headings = [name for name in specification.prose if name not in ("Deviations", "Sources")]
    headings[1:1] = ["Deviations"] if specification.deviations else []
    return fill(
        "paper",
        paper=specification,
        sections=sections,
        unmeasured=[section for section in specification.sections if section.blank],
        after=[*headings, *(["Sources"] if specification.sources else [])],
        deviations=[
            (f"D{number}", each.scale or "all", each.theirs, each.ours, each.effect)
            for number, each in enumerate(specification.deviations, 1)
        ],
        most=most,
        data=f"{slug(specification.paper)}.json",
        svg=Markup,  # only for SVG from plots.to_svg, whose texts matplotlib has escaped
    )


def write_index(out_dir: str | Path) -> Path:
    """Write ``index.html``: every paper whose page is in the folder, if any, with the verdicts of each scale."""
    out = Path(out_dir)
    index = out / "index.html"
    with _writing(out):
        papers = [entry for file in sorted(out.glob(f"*{_ENTRY}")) if (entry := _index_entry(file))]
        atomic_write(index, fill("index", papers=papers), durable=False)
    return index


def write_diagnosis(diagnosis: Diagnosis, out_dir: str | Path, of: str = "") -> Path:
    """Write the page of a diagnosis, with a picture of what each check saw; ``of`` is where the module is from."""
    import matplotlib

    pictures = {}
    with plots.style():
        matplotlib.rcParams["axes.prop_cycle"] = f"cycler(color={[*plots.SERIES]})"
        for finding in diagnosis.findings:
            if finding.draw is not None:
                figure, (axes,) = plots.stack(1)
                finding.draw(axes)
                if axes.get_xscale() == "log":
                    plots.log_axis(axes, "x", 10)
                name = f"doctor-{finding.name}"
                pictures[finding.name] = Markup(plots.to_svg(figure, name, inline=True, title=finding.sentence))  # noqa: S704
    page = Path(out_dir) / f"doctor-{slug(diagnosis.name)}.html"
    text = fill("doctor", found=diagnosis, pictures=pictures, of=of)
    with _writing(page.parent):
        atomic_write(page, text, durable=False)
    return page


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Make a folder and say in one sentence when something in it cannot be written."""
    try:
        # One command after another, so that the files of a page belong together and the index has every page.
        with lock(out, file=""):
            yield
    except OSError as error:
        why = error.strerror or str(error)
        raise ValueError(f"the page cannot be written to {out} ({why}); choose another folder.") from error


def _entry(specification: Specification, paper: Paper, file: str) -> str:
    """Return the lines that a paper has in the index."""
    order = [scale.name for scale in reversed(paper.scales)]
    measured = {section.scale: section for section in specification.sections if not section.blank}
    return fill(
        "entry",
        paper=specification,
        page=file,
        command=command(paper, paper.scales[0].name),
        order=order,
        sections=[measured[scale] for scale in order if scale in measured],
        known_for={claim.id for claim in specification.headlines},
    )


def _index_entry(file: Path) -> Any:
    """Read a paper's part of the index; None without its page, or where it cannot be read."""
    try:
        return Markup(file.read_text(encoding="utf-8")) if file.with_suffix(".html").is_file() else None  # noqa: S704
    except (OSError, UnicodeDecodeError):
        return None
