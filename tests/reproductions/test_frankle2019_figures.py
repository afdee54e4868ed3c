from __future__ import annotations

import importlib

import pytest

from lightning_regs.study.paper.config import search_folders
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.paper.tasks import add_to_path
from lightning_regs.study.report import plots
from lightning_regs.study.store.curves import Curves

add_to_path(search_folders("reproductions")[0])
figures = importlib.import_module("frankle2019.figures")
ladders = importlib.import_module("frankle2019.ladders")

METRICS = ("stop_iteration", "test_acc_stop", "test_acc")


@pytest.fixture(scope="module", params=["quick", "standard"])
def drawable(request):
    """The scale's first ladder, and rows of all its cells: a number by cell, two seeds one point apart."""
    cells = load_paper("frankle2019").scale(request.param).cells
    rows = Rows(
        {"cell": cell.name, "seed": seed} | dict.fromkeys(METRICS, 30.0 + number / 10 + seed)
        for number, cell in enumerate(cells)
        for seed in (0, 1)
    )
    return next(ladder for ladder in ladders.LADDERS if ladder.scale == request.param), rows


def drawn(function, *arguments):
    with plots.style():
        figure = function(*arguments)
        assert plots.to_svg(figure, "test", inline=True).startswith("<svg")
    assert plots.description(figure)
    return figure


def lines(axes):
    found = {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    return {name: line for name, line in found.items() if len(line.get_xdata())}


@pytest.mark.parametrize("draw", [figures.early_stopping, figures.accuracy_at_stop, figures.accuracy_at_end])
def test_curves_are_drawn_as_the_paper_draws_them(drawable, draw):
    ladder, rows = drawable
    figure = drawn(draw, rows, Curves())
    axes = figure.axes[0]
    left, right = axes.get_xlim()
    assert left > 100 > right > 0
    assert axes.get_xscale() == "log"
    found = lines(axes)
    assert set(found) == {"winning ticket", "random reinit", "random mask", "one-shot ticket"}
    ticket, reinit = found["winning ticket"], found["random reinit"]
    assert list(ticket.get_xdata()) == [ladder.p_m(level) for level in range(ladder.last + 1)]
    assert list(reinit.get_xdata()) == [ladder.p_m(level) for level in ladder.reinit]
    assert (ticket.get_linestyle(), reinit.get_linestyle(), found["random mask"].get_linestyle()) == ("-", "--", ":")
    assert ladder.title in plots.description(figure)


def test_the_weights_that_are_left_stand_at_the_axis(drawable):
    ladder, rows = drawable
    figure = drawn(figures.accuracy_at_stop, rows, Curves())
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    if ladder is ladders.LENET:
        assert labels == ["100", "51.3", "32.9", "21.1", "13.5", "7.0", "2.9"]
    assert labels[0] == "100"
    assert labels[-1] == f"{ladder.p_m(ladder.last):.1f}"


def test_bars_reach_from_the_lowest_to_the_highest_run(drawable):
    ladder, rows = drawable
    axes = drawn(figures.accuracy_at_stop, rows, Curves()).axes[0]
    bars = axes.containers[0].lines[2][0].get_segments()
    values = rows.values(ladder.dense, "test_acc_stop")
    assert bars[0][:, 1].tolist() == pytest.approx([min(values), max(values)])
    of_reinits = [v for cell in ladder.reinit_cells(ladder.reinit[0]) for v in rows.values(cell, "test_acc_stop")]
    bars = axes.containers[1].lines[2][0].get_segments()
    assert bars[0][:, 1].tolist() == pytest.approx([min(of_reinits), max(of_reinits)])


def test_training_shows_dense_net_ticket_and_reinitialised_ticket():
    ladder = ladders.LENET
    cells = (ladder.dense, ladder.cell("ticket", 7), ladder.cell("reinit-1", 7))
    points = [{"step": 100.0 * number, "val_acc": 90.0 + number} for number in range(1, 5)]
    curves = Curves({cell: {0: points, 1: points} for cell in cells})
    figure = drawn(figures.training, Rows([]), curves)
    assert set(lines(figure.axes[0])) == {"dense net", "ticket, 21.1 %", "the same, reinitialised"}


def test_signs_stand_below_the_ticket(drawable):
    ladder, rows = drawable
    figure = drawn(figures.signs, rows, Curves())
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == list(figures._SIGN_NAMES.values())
    assert f"{ladder.p_m(ladder.details[0]):.1f} %" in figure.axes[0].get_title(loc="left")


def test_supermasks_stand_beside_zhous(drawable):
    ladder, rows = drawable
    axes = drawn(figures.supermasks, rows, Curves()).axes[0]
    rings = [line.get_xdata()[0] for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert rings == ([] if ladder.scale == "quick" else [79.3, 86.0, 95.3, 96.4, 97.8, 98.0])
    assert len(axes.get_yticklabels()) == 7


@pytest.mark.parametrize("draw", figures.DRAWINGS.values(), ids=figures.DRAWINGS)
@pytest.mark.parametrize("found", [Rows([]), Rows([{"cell": "other", "seed": 0, "test_acc": 1.0}])])
def test_nothing_to_draw_is_said_and_not_drawn(draw, found):
    with pytest.raises(MissingRows):
        draw(found, Curves())


def test_every_figure_of_the_paper_is_drawn_here():
    named = {figure.draw for figure in load_paper("frankle2019").figures}
    assert named == {f"frankle2019.figures:{draw.__name__}" for draw in figures.DRAWINGS.values()}
