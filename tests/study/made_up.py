"""A small made-up paper with results on disk, for the tests of page and card."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

from lightning_regs.core.runs import FIXED, LEADING, TRAILING
from lightning_regs.study import value
from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.claims import Claim, Source
from lightning_regs.study.paper.conditions import trained
from lightning_regs.study.paper.figure import Figure
from lightning_regs.study.paper.paper import Deviation, Paper, Scale
from lightning_regs.study.paper.rows import MissingRows
from lightning_regs.study.paper.verdicts import Frozen
from lightning_regs.study.report.plots import SERIES, describe, note, stack
from lightning_regs.study.store.curves import Curves

SLIDES = Source("slides", "Slides of a course", "Roe", 2021, "doi.org/10.1000/1", "They copy Table 1.")
NASTY = "net/<script>alert('x')</script> $1 & |`*"


def draw_loss(rows, curves):
    band = curves.band("net/true-labels", "train_loss")
    if band is None:
        raise MissingRows("cell 'net/true-labels' has no curve")
    figure, [axes] = stack(1)
    axes.plot(band.x, band.mean, color=SERIES[0], label="true labels")
    axes.fill_between(band.x, band.low, band.high, color=SERIES[0], alpha=0.2)
    axes.set_xlabel("steps")
    describe(figure, f"Loss over {band.x[-1]:g} steps.")
    note(figure, "Means over seeds.")
    return figure


def draw_names(rows, curves):
    figure, [axes] = stack(1)
    for cell in rows.cells():
        axes.plot(list(rows.metric(cell, "test_acc").values()), label=cell)
    axes.legend()
    return figure


def broken(rows, curves):
    raise ZeroDivisionError("the axis has no length")


def make_paper(folder=None, paper_id="smith2020", cells=("net/true-labels", "net/random-labels"), **changes):
    made = tuple(Cell(name, "made_up:train", {"name": name}) for name in cells)
    true, noisy = cells[:2]
    about = {"unit": "%", "source": SLIDES, "where": "Table 1"}
    claims = (
        Claim("1", "Nets fit random labels.", value(noisy, "train_acc"), at_least=99, published=100.0, **about),
        Claim("2", "True labels test at 80 %.", value(true), within=1, published=80.0, origin="recalled", **about),
        Claim("3", "Random labels test at 50 %.", value(noisy), at_least=49, at_most=51, published=50.0, **about),
        Claim("4", "Labels cost little.", value(noisy, "slow"), above=1, published="1 to 4", **about | {"unit": "x"}),
        Claim("5", "It also holds on ImageNet.", published=95.2, out_of_reach="ImageNet is not here", **about),
    )
    figures = (
        Figure("loss", "Figure 1: loss", "Loss against steps.", draw_loss),
        Figure("names", "Figure 2: names", "Every cell.", draw_names),
    )
    paper = Paper(
        id=paper_id,
        title="Nets & labels",
        authors="Smith and Doe",
        year=2020,
        arxiv="2001.00001",
        scales=(Scale("quick", "two small nets", made), Scale("full", "two big nets", made)),
        claims=claims,
        figures=figures,
        deviations=(
            Deviation("quick", "CIFAR-10", "Digits in place of CIFAR-10."),
            Deviation("", "Not stated", "Seeds are 0, 1 and 2.", "None."),
        ),
        folder=folder,
    )
    return replace(paper, **changes)


def make_every(folder=None):
    """A paper whose claims have every verdict at the quick scale, and every kind; see :func:`marked`."""
    true, noisy = "net/true-labels", "net/random-labels"
    about = {"unit": "%", "source": SLIDES, "where": "Table 1"}
    acc = value(true, "train_acc")
    claims = (
        Claim("held", "Nets fit true labels.", acc, at_least=99, published=100.0, headline=True, **about,
              settings={"noise": value(noisy, "train_acc"), "tests": value(noisy)}),
        Claim("missed", "Random labels test at 50 %.", value(noisy), within=1, published=50.0, **about),
        Claim("open", "True labels test at 80.3 %.", value(true), above=80.1, published=80.3, headline=True, **about),
        Claim("broken", "Random labels test at 10 %.", value(noisy), below=20, published=10.0, headline=True, **about,
              valid_if=trained(noisy, "test_acc", at_least=50)),
        Claim("waits", "It is slow.", value(true, "slow"), above=1, published="1 to 4", origin="recalled", **about),
        Claim("far", "It holds in full.", acc, at_least=99, published=99.0, on=("full",), headline=True, **about),
        Claim("never", "It holds on ImageNet.", published=95.2, out_of_reach="ImageNet is not here", headline=True,
              **about),
        Claim("proof", "It fits by a proof.", acc, at_least=1, kind="theory", exact=True, **about),
        Claim("check", "Ours fits.", acc, at_least=1, kind="control"),
    )  # fmt: skip
    return make_paper(folder, claims=claims)


MARK = "its seeds were added after a look"


def marks(paper, scale, cells):
    """What a lock would say: one claim was changed, by a rule with two looks; the others were fixed, or never."""
    return {"held": Frozen((2, 3), "2026-01-02", "abc1234", MARK), "missed": Frozen((3,), "2026-01-01", "0000000")}


def make_rows(paper, scale="quick", seeds=3):
    rows = []
    for number, cell in enumerate(paper.scale(scale).cells):
        for seed in range(seeds):
            metrics = {
                "train_acc": 99.9 + 0.01 * seed,
                "test_acc": (10.0 if number else 80.0) + 0.1 * seed,
                "fit_epoch": math.nan if number else 6 + seed,
            }
            origin = {
                "epochs": 60,
                "wall_s": 61.5,
                "device": "cpu (1 thread)",
                "precision": "32-true",
                "commit": "aafda98",
                "versions": "torch 2.15.0",
                "config_hash": cell.hash(seed),
            }
            rows.append({"paper": paper.id, "scale": scale, "cell": cell.name, "seed": seed} | metrics | origin)
    return rows


def make_curves(paper, scale="quick", seeds=3):
    def loss(seed):
        return [{"step": 10.0 * e, "epoch": float(e), "train_loss": 2.3 / e + 0.01 * seed} for e in range(1, 30)]

    return Curves({cell.name: {seed: loss(seed) for seed in range(seeds)} for cell in paper.scale(scale).cells})


def as_csv(rows):
    """Write rows as they are, whatever is in them."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def table(paper, scale, rows):
    """The table of rows, written another way than the program does."""
    flat = [{"paper": paper, "scale": scale} | row.as_dict() | row.origin for row in rows]
    metrics = sorted({name for row in flat for name in row} - set(FIXED))
    return as_csv([dict.fromkeys([*LEADING, *metrics, *TRAILING], "") | row for row in flat])


def write_results(paper, folder, scale="quick", rows=None):
    rows = make_rows(paper, scale) if rows is None else rows
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{scale}.csv").write_text(as_csv(rows), encoding="utf-8", newline="")
    (folder / f"{scale}.curves.csv").write_text(make_curves(paper, scale).to_csv())
    return rows
