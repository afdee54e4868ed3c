"""What the kinds of figures draw, on made-up rows and curves."""

from __future__ import annotations

import math

import pytest

from lightning_regs.study import ratio
from lightning_regs.study.paper.cells import Tuned
from lightning_regs.study.paper.figure import bars, curves, points, sweep, tuning
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.report import plots
from lightning_regs.study.store.curves import Curves

LEVELS = (0, 0.5, 1)
LINES = {"first": "net/0", "second": "net/1"}


def rows(cells=("net/0", "net/0.5", "net/1"), seeds=2, lacks=(), **metrics):
    """Made-up rows; of ``lacks``, cell, seed and metric, there is no number."""
    return Rows(
        {"cell": cell, "seed": seed, "test_acc": 90 - 20 * at + seed, "epoch": 5.0 + 3 * at + seed}
        | metrics
        | {metric: math.nan for broken, number, metric in lacks if (broken, number) == (cell, seed)}
        for at, cell in enumerate(cells)
        for seed in range(seeds)
    )


def recorded(cells="ab", seeds=2, steps=1000.0, **columns):
    return Curves(
        {
            f"net/{cell}": {
                seed: [{"step": steps * e, "epoch": e, "loss": 2 / e + seed} | columns for e in (1, 2, 4)]
                for seed in range(seeds)
            }
            for cell in cells
        }
    )


def drawn(figure, found=None, curves=None, published=None):
    with plots.style():
        drawing = figure.render(found or Rows([]), curves or Curves(), published)
        assert plots.to_svg(drawing, "test", inline=True).startswith("<svg")
    assert plots.description(drawing)
    return drawing


def lines(drawing, axes=0):
    return {line.get_label(): line for line in drawing.axes[axes].lines if not str(line.get_label()).startswith("_")}


def rings(drawing, axes=0):
    unfilled = [line for line in drawing.axes[axes].lines if line.get_markerfacecolor() == "none"]
    return {(line.get_xdata()[0], line.get_ydata()[0]) for line in unfilled if math.isfinite(line.get_xdata()[0])}


def notes(drawing):
    return " ".join(plots.notes(drawing))


BANDS = "Lines are means over {} seeds, bands reach from the lowest to the highest seed."
SWEEP = sweep("s", "Error", "test_acc", {"net": {at: f"net/{at}" for at in LEVELS}}, x="level", error=True)


def test_a_sweep_of_errors_turns_accuracies_and_published_values_around():
    drawing = drawn(SWEEP, rows(), published={("net/0", "test_acc"): 92.5, ("net/0", "other"): 1.0})
    assert list(lines(drawing)["net"].get_ydata()) == pytest.approx([9.5, 29.5, 49.5])
    assert rings(drawing) == {(0, 7.5)}
    assert plots.description(drawing) == "100 \u2212 test accuracy by level. net: 9.5 at 0, 29.5 at 0.5, 49.5 at 1."


@pytest.mark.parametrize("few", [1, 2])
def test_dots_beside_lines_say_where_they_are_of_fewer_seeds(few):
    places = {"net": {at: f"net/{at}" for at in LEVELS}, "dots": {0: "few/0", 0.5: "few/0.5", 1: "few/1"}}
    counts = {f"net/{at}": 2 for at in LEVELS} | {"few/0": few, "few/1": few}
    found = Rows({"cell": cell, "seed": seed, "test_acc": 50 + seed} for cell, n in counts.items() for seed in range(n))
    drawing = drawn(sweep("s", "Error", "test_acc", places, x="level"), found)
    assert BANDS.format(2) in notes(drawing)
    assert ("Dots of fewer seeds: dots (1)." in notes(drawing)) == (few == 1)


def test_a_sweep_of_ratios_takes_them_seed_by_seed():
    figure = sweep("s", "Time", "epoch", {"net": {at: ratio(f"net/{at}", "net/0", "epoch") for at in LEVELS}})
    drawing = drawn(figure, rows(), published={("net/0", "epoch"): 5.0})
    assert list(lines(drawing)["net"].get_ydata()) == pytest.approx([1, (8 / 5 + 9 / 6) / 2, (11 / 5 + 12 / 6) / 2])
    assert not rings(drawing)  # a number of a cell is none of a ratio


def test_a_sweep_says_what_its_bands_are():
    some = ({"cell": f"net/{at}", "seed": s, "test_acc": s} for at in LEVELS for s in range(3 if at else 2))
    assert BANDS.format("2 to 3") in notes(drawn(SWEEP, Rows(some)))
    assert "bands" not in notes(drawn(SWEEP, rows(seeds=1)))


def test_whole_positions_have_whole_ticks():
    (axes,) = drawn(sweep("s", "S", "test_acc", {"net": {1: "net/0", 2: "net/1"}}), rows()).axes
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_the_two_ends_of_a_sweep_are_not_joined():
    assert lines(drawn(SWEEP, rows()))["net"].get_linestyle() == "-"
    ends = drawn(SWEEP, rows(("net/0", "net/1")))
    assert lines(ends)["net"].get_linestyle() == "None"
    assert "bands" not in notes(ends)


@pytest.mark.parametrize("broken", [(0, 1), (1,)])
def test_a_position_that_not_every_seed_has_is_named_and_no_mean_of_the_others_drawn(broken):
    drawing = drawn(SWEEP, rows(lacks=[("net/1", seed, "test_acc") for seed in broken]))
    assert list(lines(drawing)["net"].get_xdata()) == [0, 0.5]
    assert f"not every seed has a number: net at 1 ({2 - len(broken)} of 2 seeds)" in notes(drawing)


def test_a_sweep_has_axes_as_its_figure_has_them():
    found = rows(("net/1", "net/2", "net/8", "net/none"))
    line = {"net": {at: f"net/{at}" for at in (1, 2, 8)}}
    about = {
        "log_x": 2,
        "log_y": 10,
        "descending": True,
        "x": "width",
        "y": "accuracy",
        "reference": {"up": "net/none"},
    }
    drawing = drawn(sweep("s", "S", "test_acc", {"up": line, "down": {"other": {1: "z", 2: "z"}}}, **about), found)
    (axes,) = drawing.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("width", "accuracy", "up")
    assert (axes.get_xscale(), axes.get_yscale(), axes.xaxis_inverted()) == ("log", "log", True)
    assert 30.5 in [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert notes(drawing) == f"The dotted line in up is net/none. {BANDS.format(2)}"  # no "down"
    found = rows((*found.cells(), "net/z"))
    drawing = drawn(sweep("s", "S", "test_acc", {"up": line, "down": {"other": {1: "net/z", 2: "z"}}}), found)
    assert notes(drawing).endswith("Too little was measured at this scale to draw: down.")


@pytest.mark.slow
def test_what_was_tuned_has_a_star_where_it_is_best_and_its_edges_are_named():
    cells = [f"{name}/{at}" for name in "ab" for at in (1, 2, 3)]
    errors = dict(zip(cells, (9, 5, 7, 3, 4, 5), strict=True))
    found = Rows({"cell": cell, "seed": seed, "val_error": errors[cell] + seed} for cell in cells for seed in (0, 1))
    one, other = (Tuned(name, {at: f"{name}/{at}" for at in (1, 2, 3)}) for name in "ab")
    drawing = drawn(tuning("t", "T", {"one": one, "other": other}), found)
    (axes,) = drawing.axes
    stars = [(*line.get_xdata(), *line.get_ydata()) for line in axes.lines if line.get_marker() == "*"]
    assert stars == [(2, 5.5), (1, 3.5)]
    assert (axes.get_xlabel(), axes.get_xscale()) == ("learning rate", "log")
    edge = "the best setting of b is at the lower edge of its grid of the learning rate"
    assert notes(drawing) == f"Stars are the settings that were chosen; {edge}. {BANDS.format(2)}"
    assert axes.get_ylim()[1] > 9.5

    far = Rows({"cell": cell, "seed": 0, "val_error": 90 if cell == "b/3" else errors[cell]} for cell in cells)
    drawing = drawn(tuning("t", "T", {"one": one, "other": other}), far)
    assert 9 < drawing.axes[0].get_ylim()[1] < 10
    assert notes(drawing).endswith("Outside the axes: other at 3 (90).")

    plane = Tuned("p", {(1, 1): "a/1", (1, 2): "a/2", (2, 1): "b/1", (2, 2): "b/2"}, of=("rate", "decay"))
    drawing = drawn(tuning("t", "T", {"left": {"one": one}, "plane": {"method": plane}}), found)
    assert [axes.get_title(loc="left") for axes in drawing.axes] == ["left", "method"]
    assert [*lines(drawing, 1)] == ["rate 1", "rate 2"]


def test_curves_end_in_rings_and_say_what_is_missing():
    plain = curves("c", "Loss", "loss", {"first": "net/a", "second": "net/b", "third": "net/c", "4, wide": "net/d"})
    drawing = drawn(plain, curves=recorded(), published={("net/b", "loss"): 0.9, ("net/c", "loss"): 0.8})
    assert list(lines(drawing)["first"].get_data()[0]) == [1, 2, 4]
    assert list(lines(drawing)["first"].get_data()[1]) == pytest.approx([2.5, 1.5, 1.0])
    assert rings(drawing) == {(4, 0.9)}
    assert plots.description(drawing) == "Loss over training. At the end: first 1; second 1."
    assert "Lines are means over 2 seeds" in notes(drawing)
    assert "Too little was measured at this scale to draw: third; 4, wide." in notes(drawing)
    with pytest.raises(MissingRows, match="fewer than two of its learning curves of loss have been recorded"):
        plain.render(Rows([]), Curves())


def test_curves_of_unequal_steps_lie_on_each_other_over_epochs():
    drawing = drawn(curves("c", "C", "loss", {"net": "net/a"}, epochs=True), curves=recorded(steps=7.0))
    assert list(lines(drawing)["net"].get_data()[0]) == [1, 2, 4]
    assert drawing.axes[0].get_xlabel() == "epochs"


def test_curves_over_a_place_begin_where_they_begin_and_leave_out_what_is_over_time():
    found = recorded("a").data["net/a"][0] + [{"position": at, "loss": 10.0 ** (3 * at)} for at in (-1, 0, 1)]
    figure = curves("c", "C", "loss", {"net": "net/a"}, x="distance", log_y=10)
    drawing = drawn(figure, curves=Curves({"net/a": {0: found}}))
    x, y = lines(drawing)["net"].get_data()
    assert (list(x), list(y)) == ([-1, 0, 1], pytest.approx([1e-3, 1, 1e3]))
    assert drawing.axes[0].get_yscale() == "log"
    assert drawing.axes[0].get_xlim()[0] < -1
    assert drawing.axes[0].get_xlabel() == "distance"
    assert plots.description(drawing) == "Loss by distance. At the end: net 1e+03."


def test_curves_of_another_metric_are_called_so_and_what_no_axes_have_is_named_once():
    both = {
        "left": {"a": "net/a", "b": "net/b", "gone": "net/x"},
        "right": {"c": "net/c", "d": "net/d", "gone": "net/y"},
    }
    plots_ = both | {"never": {"e": "net/e", "f": "net/f"}}
    drawing = drawn(curves("c", "C", ("test_acc", "val_acc"), plots_), curves=recorded("abcd", 1, val_acc=9.0))
    assert [axes.get_title(loc="left") for axes in drawing.axes] == ["left", "right"]
    assert {(axes.get_xlabel(), axes.get_ylabel()) for axes in drawing.axes} == {
        ("thousand steps", "validation accuracy")
    }
    assert plots.notes(drawing) == [
        "Not recorded over training: test accuracy, so validation accuracy is drawn.",
        "Too little was measured at this scale to draw: gone.",
    ]


@pytest.mark.parametrize("kind", [points, bars])
def test_rows_of_dots_ring_what_claims_and_the_figure_itself_have_published(kind):
    figure = points("p", "Accuracy", "test_acc", {"a": "net/0", "b": "net/7"}, published={("net/7", "test_acc"): 70.0})
    drawing = drawn(figure, rows(), published={("net/0", "test_acc"): 92.5})
    assert rings(drawing) == {(92.5, 0), (70.0, 1)}
    drawing = drawn(kind("p", "P", "test_acc", LINES, limits=(0, 100)), rows(), published={("net/1", "test_acc"): 51})
    assert rings(drawing) == {(51, 1)}
    assert [bar.get_width() for bar in drawing.axes[0].patches] == ([90.5, 50.5] if kind is bars else [])
    assert drawing.axes[0].get_xlim() == (0, 100)
    assert plots.description(drawing) == "Test accuracy: first 90.5; second 50.5."
    with pytest.raises(MissingRows, match="no cell of it has test accuracy"):
        kind("p", "P", "test_acc", {"b": "net/7"}).render(rows(), Curves(), {("net/7", "test_acc"): 1.0})


def test_dots_leave_out_seeds_without_a_number_and_name_them():
    found = rows(seeds=3, lacks=[("net/1", 2, "epoch")])
    lines_ = LINES | {"third": "net/x"}
    drawing = drawn(points("p", "P", {"test": "test_acc", "time": "epoch"}, {"all": lines_}), found)
    assert "second, time 11 to 12 (2 of 3)" in plots.description(drawing)
    assert "Not every seed has a number, so no mean is drawn: second, time of all (2 of 3 seeds)." in notes(drawing)
    assert notes(drawing).endswith("Too little was measured at this scale to draw: third.")


def test_what_a_scale_has_no_cells_for_is_not_called_unmeasured():
    found = Rows([{"cell": "net/0", "seed": 0, "test_acc": 9.0}], planned=["net/0", "net/1"])
    figure = points("p", "P", "test_acc", {"here": "net/0", "later": "net/1", "never": "net/2"})
    both = ["Not at this scale: never.", "Too little was measured at this scale to draw: later."]
    assert plots.notes(drawn(figure, found))[1:] == both
    figure = curves("c", "C", "loss", {"a": "net/a", "b": "net/b", "never": "net/c"})
    shown = drawn(figure, Rows([], planned=["net/a", "net/b"]), recorded(seeds=1))
    assert plots.notes(shown) == ["Not at this scale: never."]


def test_dots_of_which_no_seed_has_a_number_were_measured_all_the_same():
    drawing = drawn(points("p", "P", "epoch", LINES), rows(lacks=[("net/1", seed, "epoch") for seed in (0, 1)]))
    assert [text.get_text() for text in drawing.axes[0].get_yticklabels()] == ["first"]
    assert "no mean is drawn: second (0 of 2 seeds)." in notes(drawing)
    assert "Too little" not in notes(drawing)


def test_dots_of_many_metrics_have_marks_that_come_again():
    names = {f"m{at}": f"m{at}_acc" for at in range(8)}
    drawing = drawn(points("p", "P", names, {"a": "net/0"}), rows(**dict.fromkeys(names.values(), 50.0)))
    assert drawing.axes
