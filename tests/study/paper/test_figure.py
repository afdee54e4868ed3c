"""Figures as data: what they show, which follows from the cells and metrics that they name."""

from __future__ import annotations

import pytest

from lightning_regs.study import ratio
from lightning_regs.study.paper.figure import Figure, bars, curves, points, sweep
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.store.curves import Curves


@pytest.mark.parametrize(
    ("figure", "panels"),
    [
        (curves("f", "F", "loss", {"net": "a"}), [("curve", ("loss",), ("a",))]),
        (
            curves("f", "F", ("loss", "acc"), {"left": {"net": "a"}, "right": {"net": "b", "same": "b"}}),
            [("curve", ("loss", "acc"), ("a",)), ("curve", ("loss", "acc"), ("b",))],
        ),
        (
            sweep("f", "F", "acc", {"net": {0: "a", 1: ("b", "c"), 2: ratio("d", "a")}}),
            [("bar", ("acc", "test_acc"), ("a", "b", "c", "d"))],
        ),
        (points("f", "F", {"train": "m", "test": "n"}, {"net": "a"}), [("bar", ("m", "n"), ("a",))]),
        (bars("f", "F", "m", {"net": "a", "other": "b"}), [("bar", ("m",), ("a", "b"))]),
        (Figure("f", "F", "", "module:function"), []),
    ],
)
def test_the_panels_of_a_kind_follow_from_its_cells(figure, panels):
    assert [(panel.kind, panel.metrics, panel.cells) for panel in figure.panels] == panels


def test_a_kind_that_shows_nothing_is_refused():
    for make in (
        lambda: curves("f", "F", "loss", {}),
        lambda: points("f", "F", {}, {"net": "a"}),
        lambda: bars("f", "F", "m", {"left": {"net": "a"}, "right": {}}),
    ):
        with pytest.raises(ValueError, match="figure 'f' shows nothing; name a metric and at least one cell in each"):
            make()


def test_figures_are_drawn_by_function_or_path():
    rows, recorded = Rows([]), Curves()
    assert Figure("f", "F", "", lambda r, c: (r, c)).render(rows, recorded) == (rows, recorded)
    assert Figure("f", "F", "", "operator:is_").render(rows, recorded) is False
    with pytest.raises(MissingRows):
        Figure("f", "F", "", lambda r, c: r.metric("a", "acc")).render(rows, recorded)
