"""What the commands of ``lightning-regs`` do, from their parsed options to an exit status."""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

from lightning_regs.cli import listing
from lightning_regs.cli.common import (
    Troubles,
    carried,
    columns,
    load_papers,
    make_folder,
    places,
    short,
    show,
    tell_of_locks,
)
from lightning_regs.core.runs import Store
from lightning_regs.study.lock import lock
from lightning_regs.study.lock.fingerprint import plans
from lightning_regs.study.lock.power import sees
from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.verdicts import ClaimResult
from lightning_regs.study.report.card import update
from lightning_regs.study.report.report import write_index, write_report
from lightning_regs.study.report.specification import specify
from lightning_regs.study.report.tables import HALF, groups
from lightning_regs.study.report.terminal import ascii_signs, print_claims
from lightning_regs.study.run import provenance, runner
from lightning_regs.study.run.events import Event
from lightning_regs.study.run.progress import Reporter
from lightning_regs.study.store.results import default_results, export_claims, measured
from lightning_regs.study.wandb import process
from lightning_regs.study.wandb.export import CellRun, Results
from lightning_regs.study.wandb.report import publish, write_json
from lightning_regs.study.wandb.target import Target


def reproduce(options: argparse.Namespace) -> int:
    """Run a paper's experiments or go on with them; print its claims and where rows and page are."""
    paper = load_paper(options.paper)
    tell_of_locks([paper], Troubles())
    store = Store(options.runs)
    if options.dry_run:
        return listing.plan(options, paper, store)
    results = _results(options, paper, store)
    committed = results == default_results(paper)
    page_folder = options.page or store.root / ("report" if committed else "results")
    make_folder(page_folder)
    with process.Exporter(options.wandb or process.default_mode(), store) as exporter:
        with Reporter() as reporter:

            def on_event(event: Event) -> None:
                if event.kind in ("skipped", "finished"):
                    folder = store.root / event.run
                    exporter.add(CellRun(paper.id, options.scale, event.cell, event.seed, folder))
                reporter(event)

            names = ("scale", "cells", "seeds", "jobs", "executor", "replicas", "force", "address", "cpus", "gpus")
            asked = {name: getattr(options, name) for name in names}
            outcome = runner.reproduce(paper, runs_dir=store.root, results_dir=results, on_event=on_event, **asked)
        if outcome.rows and not outcome.interrupted:
            exporter.add(Results(paper.id, options.scale, outcome.csv.parent, store.root))
        print_claims(_chosen(paper, options, outcome))
        if outcome.failed:
            some = ", ".join(f"{failure.cell} seed {failure.seed}" for failure in outcome.failed[:3])
            more = f" and {len(outcome.failed) - 3} more" if len(outcome.failed) > 3 else ""
            print(f"\nFailed: {some}{more}; the page has the errors, and the command repeated tries again.")
        if outcome.csv.exists():
            print(f"\nRows: {short(outcome.csv)}")
        page = write_report(paper, outcome.csv.parent, page_folder, store)
        print(f"Page: {short(page)}")
        if not committed and (default_results(paper) / outcome.csv.name).exists():
            print(f"Beside the committed rows: lightning-regs compare {paper.id}{places(options)}")
        if options.open:
            show(page)
    return outcome.exit_code


def _chosen(paper: Paper, options: argparse.Namespace, outcome: runner.Outcome) -> list[ClaimResult]:
    """Return the claims that a command is about; of chosen cells print the numbers first."""
    if options.cells is None:
        return outcome.claims

    scale = paper.scale(options.scale)
    names = {cell.name for cell in scale.select(options.cells)}
    for group in groups([row for row in outcome.rows if row.cell in names], paper.metrics):
        lines = [("cell", "seeds", *(metric.heading for metric in group.metrics))]
        lines += [(cell.name, str(len(cell.runs)), *cell.texts) for cell in group.cells]
        print(ascii_signs(f"\n{columns(lines)}\n  {HALF}\n"))
    about = {id for id, plan in plans(paper, scale).items() if plan.cells & names}
    return [claim for claim in outcome.claims if claim.id in about]


def _results(options: argparse.Namespace, paper: Paper, store: Store) -> Path:
    """Return where the rows of a command go: to the user's own, unless it says otherwise."""
    if options.results is not None and options.commit_results:
        raise ValueError(f"--commit-results and --results {options.results} name two places; give one of them.")
    if options.commit_results and carried(paper):
        raise ValueError(
            f"--commit-results writes beside the paper, and {paper.id} came with the installed package; leave it out "
            "for your own results, or run it in a checkout."
        )
    folder: Path = options.results or (default_results(paper) if options.commit_results else store.results(paper.id))
    return folder.expanduser().absolute()


def report(options: argparse.Namespace) -> int:
    """Write pages, cards or a Weights & Biases report from the results that are there."""
    papers, troubles = load_papers(options)
    _check_report(options, papers)
    tell_of_locks(papers, troubles)
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
        print(short(page))
    if options.cards:
        for file in _renew_cards(papers, troubles):
            print(short(file))
    if options.open:
        show(pages[0] if len(pages) == 1 else index)
    return troubles.tell()


def _check_report(options: argparse.Namespace, papers: list[Paper]) -> None:
    """Refuse options that do not go together, before anything is written; say where there is nothing to report."""
    if options.results is not None and len(papers) != 1:
        raise ValueError(f"--results {options.results} holds the results of one paper; name that paper: report PAPER.")
    if options.results is not None and not options.results.exists():
        raise ValueError(f"--results {options.results}: there is no such folder; leave it out for the paper's own.")
    if options.results is not None and options.cards:
        raise ValueError("--cards shows the results beside the papers; leave out --results, or --cards.")
    if (options.wandb is not None or options.dry_run is not None) and (options.cards or options.open):
        raise ValueError("--wandb and --dry-run write no page; give --cards and --open to a command without them.")
    if options.results is not None and options.results.is_dir():
        tables = [f"{scale.name}.csv" for scale in papers[0].scales]
        if not any((options.results / table).exists() for table in tables):
            print(
                f"--results {options.results} has no table of {papers[0].id} ({', '.join(tables)}), so that nothing is "
                "reported but how to make one; give the folder that a run wrote, such as RUNS/results/PAPER.",
                file=sys.stderr,
            )


def _renew_cards(papers: list[Paper], troubles: Troubles) -> list[Path]:
    """Renew the cards of papers, the claims beside their rows and the README files above; return what changed.

    Papers that came with an installed package are left as they are, and so is a README above a paper that cannot be
    loaded: it would lose that paper.
    """
    papers = [paper for paper in papers if not carried(paper)]
    changed = [file for paper in papers for file in export_claims(paper, default_results(paper))]
    folders = [paper.folder for paper in papers if paper.folder]
    for root in dict.fromkeys(folder.parent.parent for folder in folders):
        cards, shown = [folder / "README.md" for folder in folders if folder.parent.parent == root], papers
        names = [name for name, folder in find_papers().items() if folder.parent.parent == root]
        ours = troubles.each(names, load_paper)
        if len(ours) == len(names):
            cards, shown = [*cards, root / "README.md", root / "docs/tour.md"], ours
        changed += update([card for card in cards if card.is_file()], shown)
    return changed


def _report_to_wandb(options: argparse.Namespace, papers: list[Paper], store: Store, folder: Path) -> None:
    target = Target.parse(options.wandb) if options.wandb is not None else None
    file = options.dry_run if options.dry_run != Path() else None
    if file is not None and len(papers) != 1:
        raise ValueError(f"--dry-run {file} is one file for {len(papers)} papers; name one paper, or give no FILE.")
    for paper in papers:
        specification = specify(paper, options.results or default_results(paper), store)
        if options.dry_run is not None:
            print(short(write_json(specification, target, file or folder / f"{paper.id}.wandb.json")))
        else:
            assert target is not None
            print(publish(specification, target))


def sync(options: argparse.Namespace) -> int:
    """Upload to Weights & Biases what the store holds and it does not have yet."""
    target = Target.parse(options.wandb) if options.wandb is not None else None
    papers, troubles = load_papers(options)
    return process.sync(papers, Store(options.runs), target) or troubles.tell()


def freeze(options: argparse.Namespace) -> int:
    """Write down what the claims of a paper are, before their rows are measured, and print what is new."""
    paper = load_paper(options.paper)
    if carried(paper):
        raise ValueError(f"{paper.id} came with the installed package; freeze its claims in a checkout.")
    rows = measured(paper, Store(options.runs).results(paper.id))  # a look at one's own rows is a look
    commit, date = provenance.commit().partition("+")[0], datetime.datetime.now(datetime.timezone.utc).date()
    about = {"date": date.isoformat(), "commit": commit, "scale": options.scale, "reason": options.reason or ""}
    done = lock.freeze(paper, rows, **about)
    forms = {claim.id: claim for claim in paper.claims}
    for change in done:
        claim = forms[change.claim].at(change.scale) if change.claim in forms else None
        seen = sees(claim, change.seeds, rows.get(change.scale)) if claim and change.seeds else ""
        print(f"{change.scale:9} {change.claim:22} {change.what}{seen and '; '}{seen}")
    assert paper.folder is not None
    print(f"{len(done) or 'Nothing'} new or changed: {short(paper.folder / lock.FILE)}")
    return 0
