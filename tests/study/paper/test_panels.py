from __future__ import annotations

import csv
from collections import defaultdict

import pytest

from lightning_regs.study.paper.figure import Panel
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.report.plots import style
from lightning_regs.study.store.curves import Curves
from lightning_regs.study.store.ledger import default_results
from lightning_regs.study.store.results import load

PAPERS = ("zhang2017", "smith2021", "frankle2019")
# Columns of a results table that say where a row is from.
ORIGIN = {"paper", "scale", "cell", "seed", "device", "precision", "commit", "versions", "config_hash"}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"kind": "pie"}, ValueError, "unknown kind of panel 'pie'. Known: bar, curve."),
        ({"kind": "bars"}, ValueError, "Did you mean 'bar'?"),
        ({"metrics": ()}, ValueError, "a bar panel has metrics=(); name at least one."),
        ({"cells": ()}, ValueError, "a bar panel has cells=(); name at least one."),
        ({"metrics": "test_acc"}, TypeError, "write names in a tuple: ('test_acc',)."),
        ({"cells": "net/*"}, TypeError, "write names in a tuple: ('net/*',)."),
    ],
)
def test_a_panel_that_shows_nothing_is_refused(change, error, words):
    with pytest.raises(error) as refused:
        Panel(**({"kind": "bar", "metrics": ("test_acc",)} | change))
    assert words in str(refused.value)


def test_a_panel_shows_names_and_globs_in_the_order_of_the_cells():
    cells = ("a/true", "b/true", "a/random", "a/true/control", "a/[x]")
    assert Panel("bar", ("m",), ("a/random", "*/true")).select(cells) == ("a/true", "b/true", "a/random")
    assert Panel("bar", ("m",)).select(cells) == cells
    assert Panel("bar", ("m",), ("a/[x]",)).select(cells) == ("a/[x]",)  # a name that is also a glob
    assert Panel("bar", ("m",), ("c/*",)).select(cells) == ()


def recorded(paper, ending):
    """Cell -> columns that have an entry, from the committed tables as they are."""
    found = defaultdict(set)
    for scale in paper.scales:
        path = default_results(paper) / f"{scale.name}{ending}"
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    found[row["cell"]] |= {name for name, entry in row.items() if entry and name not in ORIGIN}
    return found


@pytest.mark.parametrize("name", PAPERS)
def test_every_cell_and_metric_of_a_panel_exists(name):
    paper = load_paper(name)
    cells = {cell.name: cell for scale in paper.scales for cell in scale.cells}
    tables = {"bar": recorded(paper, ".csv"), "curve": recorded(paper, ".curves.csv")}
    for figure in paper.figures:
        assert figure.panels, figure.id
        for panel in figure.panels:
            for pattern in panel.cells:
                assert Panel("bar", ("any",), (pattern,)).select(cells), (figure.id, pattern)
            shown, table = panel.select(cells), tables[panel.kind]
            for cell in shown:
                assert cell not in table or table[cell] >= set(panel.metrics), (figure.id, cell)
            tasks = {cells[cell].task for cell in shown}
            alike = set().union(*(columns for cell, columns in table.items() if cells[cell].task in tasks))
            if all(cells[cell].config.get("data", {}).get("monitor_test") for cell in shown):
                alike |= {"test_acc"} if panel.kind == "curve" else set()
            assert set(panel.metrics) <= alike, (figure.id, panel.metrics)


@pytest.mark.parametrize("name", PAPERS)
def test_panels_show_the_cells_that_the_figure_draws(name, monkeypatch):
    looked = set()
    metric, band = Rows.metric, Curves.band

    def read_metric(self, cell, column):
        values = metric(self, cell, column)
        looked.add(("bar", cell, column))
        return values

    def read_band(self, cell, column, x="step"):
        found = band(self, cell, column, x)
        if found is not None:
            looked.add(("curve", cell, column))
        return found

    monkeypatch.setattr(Rows, "metric", read_metric)
    monkeypatch.setattr(Curves, "band", read_band)
    paper = load_paper(name)
    found = load(paper, default_results(paper), ["quick"])[0]
    measured = list(dict.fromkeys(row.cell for row in found.rows))
    drawn = 0
    for figure in paper.figures:
        looked.clear()
        try:
            with style():
                figure.render(found.lookup(), found.curves)
        except MissingRows:
            continue
        drawn += 1
        for panel in figure.panels:
            for column in panel.metrics:
                if not column.startswith("order_"):  # slopes of the errors that the figure draws
                    same = [
                        other
                        for other in figure.panels
                        if (other.kind, column) in {(panel.kind, m) for m in other.metrics}
                    ]
                    declared = {cell for other in same for cell in other.select(measured)}
                    assert declared == {cell for kind, cell, m in looked if (kind, m) == (panel.kind, column)}, (
                        figure.id,
                        column,
                    )
    assert drawn >= 3
