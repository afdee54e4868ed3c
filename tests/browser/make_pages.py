"""Writes the pages that the browser check opens: of committed results, and of results in every bad state.

Usage: ``python tests/browser/make_pages.py FOLDER``; writes ``FOLDER/STATE/*.html`` for each state.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from made_up import NASTY, SLIDES, draw_loss, make_every, make_paper, make_rows, marks, write_results

from lightning_regs.core.runs import Store
from lightning_regs.study import value
from lightning_regs.study.paper.claims import Claim, Source
from lightning_regs.study.paper.figure import Figure
from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.paper.paper import Deviation
from lightning_regs.study.report.report import write_index, write_report
from lightning_regs.study.store.results import default_results

LONG = "a-name-of-a-cell-that-nobody-would-choose-" * 4
WORDS = "This sentence of a claim goes on and on, as sentences in papers do. " * 8


def committed(folder):
    for name in find_papers():
        paper = load_paper(name)
        write_report(paper, default_results(paper), folder)


def empty(folder):
    write_report(make_paper(), folder / "nowhere", folder)
    write_report(make_paper(paper_id="doe2021", title="Other nets"), folder / "nowhere", folder)


def no_pages(folder):
    write_index(folder)


def half_finished(folder):
    paper = make_paper()
    rows = make_rows(paper)
    rows[0]["commit"], rows[1]["device"] = "0123456", "gpu"
    write_results(paper, folder / "results", rows=rows[:2])
    store = Store(folder / "runs")
    run = store.run(paper.scales[0].cells[1].hash(0))
    run.folder.mkdir(parents=True)
    run.fail("Traceback (most recent call last):\n  File ...\nValueError: the disk is full")
    write_report(paper, folder / "results", folder, store)


def damaged(folder):
    paper = make_paper()
    results = folder / "results"
    for scale in ("quick", "full"):
        write_results(paper, results, scale)
    (results / "quick.csv").write_text("cell,seed,test_acc\nnet/true-labels,0,80\nnet/true-la", encoding="utf-8")
    (results / "quick.curves.csv").write_bytes(b"\x89PNG\xff")
    (results / "full.csv").write_bytes(b"")
    write_report(paper, results, folder)


def hostile(folder):
    long = f"net/{LONG}"
    source = Source(LONG, f"{NASTY} {LONG}", LONG, link=LONG, note=f"{NASTY} {WORDS}")
    about = {"published": NASTY * 3, "unit": "%", "source": (source, SLIDES), "where": NASTY}
    more = tuple(
        Claim(f"{LONG}{n}", f"{NASTY} {WORDS} {LONG}", value(long, "test_acc"), at_least=low, at_most=high, **about)
        for n, (low, high) in enumerate([(0, 90), (90, 100), (75, 80)])
    )
    unreached = Claim(f"{LONG}3", f"{NASTY} {WORDS}", out_of_reach=f"{NASTY} {LONG}", **about)
    more = tuple(replace(claim, headline=True) for claim in (*more, unreached))
    figures = (Figure("loss", f"{NASTY} {LONG}", WORDS, draw_loss), Figure("no", LONG, WORDS, "made_up:broken"))
    paper = make_paper(cells=(long, NASTY, "net/true-labels"), title=f"{NASTY} {LONG}", authors=LONG, figures=figures)
    deviations = (Deviation("quick", "not stated", f"{NASTY} {WORDS}"), Deviation("", WORDS, LONG, NASTY))
    paper = replace(paper, claims=(*paper.claims, *more), deviations=deviations)
    rows = make_rows(paper)
    for row in rows[:4]:
        row |= {"device": f"{NASTY} {LONG}", "commit": LONG, "versions": NASTY, f"metric_{LONG}": 1e300}
    write_results(paper, folder / "results", rows=rows)
    store = Store(folder / "runs")
    run = store.run(paper.scales[1].cells[1].hash(2))
    run.folder.mkdir(parents=True)
    run.fail(f"Traceback ...\nValueError: \x1b[31m{NASTY} {LONG}")
    write_report(paper, folder / "results", folder, store)


def many_claims(folder):
    cells = tuple(f"net-{n % 8}/mode-{n}" for n in range(60))
    made = make_paper(cells=cells, figures=make_paper().figures[:1])
    ends = [(0, 79), (79, 90), (80, 80.1)]
    claims = tuple(
        Claim(
            f"c{n}",
            f"Claim {n}: {WORDS[:90]}",
            value(cell, "test_acc"),
            at_least=ends[n % 3][0],
            at_most=ends[n % 3][1],
            published=float(n),
            unit="%",
            source=SLIDES,
            where=f"Table {n}",
            on=("full",) if n % 7 == 6 else None,
            headline=n < 5,
        )
        for n, cell in enumerate(cells)
    )
    paper = replace(made, claims=(*made.claims, *claims))
    write_results(paper, folder / "results", rows=make_rows(paper, seeds=5))
    write_report(paper, folder / "results", folder)


def every_verdict(folder):
    paper = make_every()
    write_results(paper, folder / "results")
    with mock.patch("lightning_regs.study.store.results.marks", marks):
        write_report(paper, folder / "results", folder)


STATES = (committed, every_verdict, empty, no_pages, half_finished, damaged, hostile, many_claims)


def main(target):
    for state in STATES:
        folder = Path(target) / state.__name__
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        state(folder)
        print(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/browser/make_pages.py FOLDER")
    main(sys.argv[1])
