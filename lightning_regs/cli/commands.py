"""What the commands of ``lightning-regs`` do, from their parsed options to an exit status."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from lightning_regs.core.runs import Store
    from lightning_regs.study.paper.paper import Paper
    from lightning_regs.study.run.events import Event

P = TypeVar("P")
T = TypeVar("T")


def list_papers(options: argparse.Namespace) -> int:
    """List the papers, their scales and what was found so far."""
    from lightning_regs.study.paper.loading import find_papers, load_paper

    found, troubles = find_papers(), _Troubles()
    if not found:
        raise ValueError("there is no reproductions/ folder here; run this in a checkout or set LIGHTNING_REGS_PAPERS.")
    papers = troubles.each(found, load_paper)
    _tell_of_locks(papers, troubles)
    for text in troubles.each(papers, _listed):
        print(text)
    return troubles.tell()


class _Troubles:
    """What goes wrong with single papers of a command that is about several: the others have their turn."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def each(self, papers: Iterable[P], do: Callable[[P], T]) -> list[T]:
        """Do something with each paper and return what came of those that went well.

        Raises:
            Exception: What the first one raised, where none went well.
        """
        done, raised = [], []
        for paper in papers:
            try:
                done.append(do(paper))
            except (Exception, SystemExit) as error:
                raised.append(error)
                name = getattr(paper, "id", paper)
                known = isinstance(error, ValueError)
                self._found[str(error) if known else f"paper {name!r}: {type(error).__name__}: {error}."] = None
        if raised and not done:
            raise raised[0]
        return done

    def tell(self) -> int:
        """Tell of all and return the exit status."""
        from lightning_regs.study.report.legible import legible

        for text in self._found:
            print(legible(f"lightning-regs: {text}"), file=sys.stderr)
        return int(bool(self._found))


def _listed(paper: Paper) -> str:
    from lightning_regs.study.report.legible import legible

    lines = [f"{paper.id}  {paper.title} ({paper.authors}, {paper.year})"]
    for scale in paper.scales:
        runs = sum(cell.seeds or scale.seeds for cell in scale.cells)
        lines.append(f"  {scale.name:9}{len(scale.cells):3} cells {runs:4} runs  {_found(paper, scale.name)}")
        lines.append(textwrap.fill(scale.description, 78, initial_indent=" " * 11, subsequent_indent=" " * 11))
    return str(legible("\n".join(lines), None))


def _found(paper: Paper, scale: str) -> str:
    from lightning_regs.study.report.telling import tallies
    from lightning_regs.study.store.results import default_results, load

    [found] = load(paper, default_results(paper), [scale], curves=False)
    own, *apart = tallies(found.claims)
    counts = [f"{number} {name}" for name, number in own.counts.items() if number]
    counts += [f"{tally.kind} {tally.brief}" for tally in apart]
    return ", ".join(counts + ["damaged"] * bool(found.problems)) or "not run yet"


def reproduce(options: argparse.Namespace) -> int:
    """Run a paper's experiments or go on with them; print its claims and where rows and page are."""
    from lightning_regs.core.runs import Store
    from lightning_regs.study.paper.loading import load_paper
    from lightning_regs.study.report.report import write_report
    from lightning_regs.study.report.terminal import print_claims
    from lightning_regs.study.run import runner
    from lightning_regs.study.run.progress import Reporter
    from lightning_regs.study.wandb.export import CellRun, Results
    from lightning_regs.study.wandb.process import Exporter, default_mode

    paper = load_paper(options.paper)
    _tell_of_locks([paper], _Troubles())
    store = Store(options.runs)
    page_folder = options.page or store.root / "report"
    _make(page_folder)
    with Exporter(options.wandb or default_mode(), store) as exporter:
        with Reporter() as reporter:

            def on_event(event: Event) -> None:
                if event.kind in ("skipped", "finished"):
                    folder = store.root / event.run
                    exporter.add(CellRun(paper.id, options.scale, event.cell, event.seed, folder))
                reporter(event)

            outcome = runner.reproduce(
                paper,
                options.scale,
                options.cells,
                options.seeds,
                options.jobs,
                store.root,
                options.results,
                on_event,
                replicas=options.replicas,
            )
        if outcome.rows and not outcome.interrupted:
            exporter.add(Results(paper.id, options.scale, outcome.csv.parent, store.root))
        print_claims(outcome.claims)
        if outcome.failed:
            some = ", ".join(f"{failure.cell} seed {failure.seed}" for failure in outcome.failed[:3])
            more = f" and {len(outcome.failed) - 3} more" if len(outcome.failed) > 3 else ""
            print(f"\nFailed: {some}{more}; the page has the errors, and the command repeated tries again.")
        if outcome.csv.exists():
            print(f"\nRows: {_short(outcome.csv)}")
        page = write_report(paper, outcome.csv.parent, page_folder, store)
        print(f"Page: {_short(page)}")
        if options.open:
            _open(page)
    return outcome.exit_code


def report(options: argparse.Namespace) -> int:
    """Write pages, cards or a Weights & Biases report from the results that are there."""
    from lightning_regs.core.runs import Store
    from lightning_regs.study.report.report import write_index, write_report
    from lightning_regs.study.store.results import default_results

    papers, troubles = _loaded(options)
    _check_report(options, len(papers))
    _tell_of_locks(papers, troubles)
    store = Store(options.runs)
    folder = options.page or store.root / "report"
    if options.wandb is not None or options.dry_run is not None:
        _report_to_wandb(options, papers, store, folder)
        return troubles.tell()

    def write(paper: Paper) -> Path:
        return write_report(paper, options.results or default_results(paper), folder, store)

    pages = troubles.each(papers, write)
    index = write_index(folder)
    for page in [index, *pages]:
        print(_short(page))
    if options.cards:
        for file in _renew_cards(papers, troubles):
            print(_short(file))
    if options.open:
        _open(pages[0] if len(pages) == 1 else index)
    return troubles.tell()


def _loaded(options: argparse.Namespace) -> tuple[list[Paper], _Troubles]:
    """Load the papers that a command names, else all; a name that is none is refused."""
    from lightning_regs.study.paper.loading import find_papers, load_paper

    found, troubles = find_papers(), _Troubles()
    for name in options.paper:
        if name not in found:
            load_paper(name)
    return troubles.each(dict.fromkeys(options.paper) or found, load_paper), troubles


def _check_report(options: argparse.Namespace, papers: int) -> None:
    """Refuse options that do not go together, before anything is written."""
    if options.results is not None and papers != 1:
        raise ValueError(f"--results {options.results} holds the results of one paper; name that paper: report PAPER.")
    if options.results is not None and not options.results.exists():
        raise ValueError(f"--results {options.results}: there is no such folder; leave it out for the paper's own.")
    if options.results is not None and options.cards:
        raise ValueError("--cards shows the results beside the papers; leave out --results, or --cards.")
    if (options.wandb is not None or options.dry_run is not None) and (options.cards or options.open):
        raise ValueError("--wandb and --dry-run write no page; give --cards and --open to a command without them.")


def _renew_cards(papers: list[Paper], troubles: _Troubles) -> list[Path]:
    """Renew the cards of papers, the claims beside their rows and the README files above; return what changed.

    Papers that came with an installed package are left as they are, and so is a README above a paper that cannot be
    loaded: it would lose that paper.
    """
    from lightning_regs.study.paper.loading import find_papers, load_paper
    from lightning_regs.study.report.card import update
    from lightning_regs.study.store.results import default_results, export_claims

    papers = [paper for paper in papers if paper.folder and "_bundled" not in paper.folder.parts]
    folders = [paper.folder for paper in papers if paper.folder]
    exported = [file for paper in papers for file in export_claims(paper, default_results(paper))]
    cards = [(folder / "README.md", papers) for folder in folders]
    for root in dict.fromkeys(folder.parent.parent for folder in folders):
        names = [name for name, folder in find_papers().items() if folder.parent.parent == root]
        ours = troubles.each(names, load_paper)
        cards += [(root / "README.md", ours)] * (len(ours) == len(names))
    return exported + [card for card, shown in cards if card.is_file() and update(card, shown)]


def _report_to_wandb(options: argparse.Namespace, papers: list[Paper], store: Store, folder: Path) -> None:
    from lightning_regs.study.report.specification import specify
    from lightning_regs.study.store.results import default_results
    from lightning_regs.study.wandb.report import publish, write_json
    from lightning_regs.study.wandb.target import Target

    target = Target.parse(options.wandb) if options.wandb is not None else None
    file = options.dry_run if options.dry_run != Path() else None
    if file is not None and len(papers) != 1:
        raise ValueError(f"--dry-run {file} is one file for {len(papers)} papers; name one paper, or give no FILE.")
    for paper in papers:
        specification = specify(paper, options.results or default_results(paper), store)
        if options.dry_run is not None:
            print(_short(write_json(specification, target, file or folder / f"{paper.id}.wandb.json")))
        else:
            assert target is not None
            print(publish(specification, target))


def sync(options: argparse.Namespace) -> int:
    """Upload to Weights & Biases what the store holds and it does not have yet."""
    from lightning_regs.core.runs import Store
    from lightning_regs.study.wandb.process import sync
    from lightning_regs.study.wandb.target import Target

    target = Target.parse(options.wandb) if options.wandb is not None else None
    papers, troubles = _loaded(options)
    return sync(papers, Store(options.runs), target) or troubles.tell()


def freeze(options: argparse.Namespace) -> int:
    """Write down what the claims of a paper are, before their rows are measured, and print what is new."""
    import datetime

    from lightning_regs.study.lock.lock import FILE, freeze
    from lightning_regs.study.lock.power import sees
    from lightning_regs.study.paper.loading import load_paper
    from lightning_regs.study.run import provenance
    from lightning_regs.study.store.results import measured

    paper = load_paper(options.paper)
    rows = measured(paper)
    commit, date = provenance.commit().partition("+")[0], datetime.datetime.now(datetime.timezone.utc).date()
    done = freeze(paper, rows, date=date.isoformat(), commit=commit, scale=options.scale, reason=options.reason or "")
    forms = {claim.id: claim for claim in paper.claims}
    for change in done:
        claim = forms[change.claim].at(change.scale) if change.claim in forms else None
        seen = sees(claim, change.seeds, rows.get(change.scale)) if claim and change.seeds else ""
        print(f"{change.scale:9} {change.claim:22} {change.what}{seen and '; '}{seen}")
    assert paper.folder is not None
    print(f"{len(done) or 'Nothing'} new or changed: {_short(paper.folder / FILE)}")
    return 0


def _tell_of_locks(papers: list[Paper], troubles: _Troubles) -> None:
    """Say which claims are not what was frozen; the command goes on, and counts them as exploratory."""
    from lightning_regs.study.lock.lock import mismatches

    for told in filter(None, troubles.each(papers, mismatches)):
        print(told, file=sys.stderr)


def _make(folder: Path) -> None:
    """Make the folder of the page before hours of training, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f"the page cannot be written to {folder} ({why}); choose another folder.") from error


def _short(path: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def _open(page: Path) -> None:
    """Show a page where there is a screen; say nothing where there is none, as its path has been printed."""
    import webbrowser

    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.absolute().as_uri())
