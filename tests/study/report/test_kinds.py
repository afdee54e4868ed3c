"""What the kinds of figures draw, on made-up rows and curves."""

from __future__ import annotations

import math

import pytest

from lightning_regs.study.paper.figure import curves, points, sweep
from lightning_regs.study.paper.measures import ratio
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.report import plots
from lightning_regs.study.store.curves import Curves

LEVELS = (0, 0.5, 1)


def rows(cells=("net/0", "net/0.5", "net/1"), seeds=2, **metrics):
    return Rows(
        {"cell": cell, "seed": seed, "test_acc": 90 - 20 * at + seed, "epoch": 5.0 + 3 * at + seed} | metrics
        for at, cell in enumerate(cells)
        for seed in range(seeds)
    )


def drawn(figure, found, recorded=None, published=None):
    with plots.style():
        drawing = figure.render(found, recorded or Curves(), published)
        assert plots.to_svg(drawing, "test", inline=True).startswith("<svg")
    assert plots.description(drawing)
    return drawing


def lines(drawing):
    return {line.get_label(): line for line in drawing.axes[0].lines if not str(line.get_label()).startswith("_")}


def rings(drawing):
    unfilled = [line for line in drawing.axes[0].lines if line.get_markerfacecolor() == "none"]
    return {(line.get_xdata()[0], line.get_ydata()[0]) for line in unfilled if math.isfinite(line.get_xdata()[0])}


SWEEP = sweep("s", "Error", "test_acc", {"net": {at: f"net/{at}" for at in LEVELS}}, x="level", error=True)


def test_a_sweep_of_errors_turns_accuracies_and_published_values_around():
    drawing = drawn(SWEEP, rows(), published={("net/0", "test_acc"): 92.5})
    assert list(lines(drawing)["net"].get_ydata()) == pytest.approx([9.5, 29.5, 49.5])
    assert rings(drawing) == {(0, 7.5)}


def test_a_sweep_of_ratios_takes_them_seed_by_seed():
    figure = sweep("s", "Time", "epoch", {"net": {at: ratio(f"net/{at}", "net/0", "epoch") for at in LEVELS}})
    line = lines(drawn(figure, rows()))["net"]
    assert list(line.get_ydata()) == pytest.approx([1, (8 / 5 + 9 / 6) / 2, (11 / 5 + 12 / 6) / 2])


def test_the_two_ends_of_a_sweep_are_not_joined():
    assert lines(drawn(SWEEP, rows()))["net"].get_linestyle() == "-"
    assert lines(drawn(SWEEP, rows(("net/0", "net/1"))))["net"].get_linestyle() == "None"


@pytest.mark.parametrize("broken", [(0, 1), (1,)])
def test_a_position_that_not_every_seed_has_is_named_and_no_mean_of_the_others_drawn(broken):
    found = rows()
    for seed in broken:
        found.row("net/1", seed)["test_acc"] = math.nan
    drawing = drawn(SWEEP, found)
    assert list(lines(drawing)["net"].get_xdata()) == [0, 0.5]
    assert f"not every seed has a number: net at 1 ({2 - len(broken)} of 2 seeds)" in " ".join(plots.notes(drawing))


def test_curves_end_in_rings_and_say_what_is_missing():
    recorded = Curves({f"net/{n}": {0: [{"step": 1000 * e, "loss": 2.0 / e} for e in (1, 2)]} for n in "ab"})
    figure = curves("c", "Loss", "loss", {"first": "net/a", "second": "net/b", "third": "net/c"})
    drawing = drawn(figure, Rows([]), recorded, {("net/b", "loss"): 0.9})
    assert list(lines(drawing)["first"].get_data()[0]) == [1, 2]
    assert rings(drawing) == {(2, 0.9)}
    assert "Too little was measured at this scale to draw: third." in plots.notes(drawing)
    with pytest.raises(MissingRows):
        figure.render(Rows([]), Curves())


def test_points_ring_what_claims_and_the_figure_itself_have_published():
    figure = points("p", "Accuracy", "test_acc", {"a": "net/0", "b": "net/7"}, published={("net/7", "test_acc"): 70.0})
    drawing = drawn(figure, rows(), published={("net/0", "test_acc"): 92.5})
    assert rings(drawing) == {(92.5, 0), (70.0, 1)}
    with pytest.raises(MissingRows):
        figure.render(rows(("net/1",)), Curves())
