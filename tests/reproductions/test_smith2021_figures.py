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
figures = importlib.import_module("smith2021.figures")
studies = importlib.import_module("smith2021.studies")

STUDY = studies.MNIST1D


@pytest.fixture(scope="module")
def rows():
    """Rows of every training cell of the quick scale: accuracy by number, two seeds one point apart."""
    made = []
    for number, cell in enumerate(load_paper("smith2021").scale("quick").cells):
        for seed in (0, 1):
            row = {"cell": cell.name, "seed": seed}
            if cell.name == "theory/sgd-flow":
                for step in range(4):
                    lr = 0.04 / 2**step
                    orders = (("none", 2), ("quarter", 3), ("half", 2))
                    row |= {f"lr_{step}": lr} | {f"error_{name}_{step}": lr**order for name, order in orders}
            elif not cell.name.startswith("theory"):
                row |= {"test_acc": 30.0 + number + seed, "regulariser": 2.0**-number}
            made.append(row)
    return Rows(made)


def drawn(function, *arguments):
    with plots.style():
        figure = function(*arguments)
        assert plots.to_svg(figure, "test", inline=True).startswith("<svg")
    assert plots.description(figure)
    return figure


def lines(figure):
    found = {line.get_label(): line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")}
    return {name: line for name, line in found.items() if len(line.get_xdata())}


def test_both_sweeps_share_the_axes(rows):
    figure = drawn(figures.figure_1b, rows, Curves())
    found = lines(figure)
    plain, penalised = found["learning rate, no penalty"], found["coefficient, at learning rate 2⁻³"]
    assert list(plain.get_xdata()) == [2.0**lr for lr in STUDY.lrs]
    assert list(penalised.get_xdata()) == [2.0**strength for strength in STUDY.penalties]
    at = list(plain.get_xdata()).index(2.0**STUDY.small)
    mean = sum(rows.values(STUDY.sgd(STUDY.small), "test_acc")) / 2
    assert plain.get_ydata()[at] == mean
    assert "MNIST-1D" in plots.description(figure)


def test_the_regulariser_is_drawn_on_a_logarithmic_axis(rows):
    assert drawn(figures.figure_1c, rows, Curves()).axes[0].get_yscale() == "log"


def test_equal_quotients_stand_above_each_other(rows):
    found = lines(drawn(figures.figure_2, rows, Curves()))
    assert set(found) == {"batch 10", "batch 20", "batch 40"}
    for batch, lr in STUDY.equal_lr[0]:
        assert 2.0**lr / batch in found[f"batch {batch}"].get_xdata()
    assert len({2.0**lr / batch for batch, lr in STUDY.equal_lr[0]}) == 1


def test_coefficients_over_batch_sizes(rows):
    found = lines(drawn(figures.figure_2b, rows, Curves()))
    assert set(found) == {f"batch {batch}" for batch, _, _ in STUDY.equal_penalty[0]}


def test_updates_a_minibatch_against_the_bare_rate(rows):
    found = lines(drawn(figures.figure_3, rows, Curves()))
    assert set(found) == {"n = 1"} | {f"n = {n}" for n, _ in STUDY.steps}
    assert list(found["n = 4"].get_xdata()) == [2.0**-3]


def test_the_flows_orders_are_told(rows):
    text = plots.description(drawn(figures.flow_error, rows, Curves()))
    assert "eps/4 R: order 3.00" in text
    assert "eps/2 R: order 2.00" in text


def test_large_batches_stand_beside_novacks(rows):
    figure = drawn(figures.large_batch, rows, Curves())
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    clipped, published = 1, 6
    assert len(labels) == 2 + len(STUDY.micro) + clipped + published
    rings = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none" and len(line.get_xdata())]
    rings = [line.get_xdata()[0] for line in rings]
    assert {92.64, 89.83, 91.75, 78.19, 73.90, 77.62} <= set(rings)


@pytest.mark.parametrize("column", ["test_acc", "train_loss"])
def test_learning_curves_are_of_the_test_set_where_it_was_watched(column):
    cells = (STUDY.sgd(STUDY.small), STUDY.penalised(STUDY.best_penalty), STUDY.sgd(STUDY.best_lr))
    points = [{"step": 50.0 * epoch, column: 1.0 * epoch} for epoch in range(1, 5)]
    figure = drawn(figures.figure_1a, Rows([]), Curves({cell: {0: points, 1: points} for cell in cells}))
    assert figure.axes[0].get_ylabel() == {"test_acc": "test accuracy (%)", "train_loss": "training loss"}[column]
    assert any("after the last epoch only" in note for note in plots.notes(figure)) == (column == "train_loss")
    assert lines(figure)[f"learning rate {plots.power(2, STUDY.small)}"].get_ydata()[-1] == 4


@pytest.mark.parametrize("draw", figures.DRAWINGS.values(), ids=figures.DRAWINGS)
@pytest.mark.parametrize("found", [Rows([]), Rows([{"cell": "other", "seed": 0, "test_acc": 1.0}])])
def test_nothing_to_draw_is_said_and_not_drawn(draw, found):
    with pytest.raises(MissingRows):
        draw(found, Curves())


def test_logarithmic_ticks_are_text_and_not_markup(rows):
    figure = drawn(figures.flow_error, rows, Curves())
    figure.canvas.draw()
    axes = figure.axes[0]
    for axis, base in ((axes.xaxis, "2"), (axes.yaxis, "10")):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        assert labels
        assert all(label.startswith(base) and set(label[len(base) :]) <= set("⁻⁰¹²³⁴⁵⁶⁷⁸⁹") for label in labels)
    assert plots.power(2, -10) == "2⁻¹⁰"
