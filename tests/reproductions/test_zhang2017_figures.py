from __future__ import annotations

import importlib
import math

import pytest

from lightning_regs.study.paper.config import search_folders
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.paper.tasks import add_to_path
from lightning_regs.study.report import plots
from lightning_regs.study.store.curves import Curves

add_to_path(search_folders("reproductions")[0])
figures = importlib.import_module("zhang2017.figures")

SWEEP = ("true-labels", "partial-0.2", "partial-0.4", "partial-0.6", "partial-0.8", "random-labels")


def rows(scale="paper", models=("small-inception", "small-alexnet", "mlp-1x512"), modes=SWEEP, seeds=2):
    made = []
    for m, model in enumerate(models):
        for level, mode in enumerate(modes):
            for seed in range(seeds):
                made.append(
                    {
                        "cell": f"{model}/{mode}", "seed": seed, "scale": scale, "train_acc": 100.0,
                        "test_acc": 80.0 - 14 * level - m + seed, "fit_epoch": float(5 + 3 * level + seed),
                    }
                )  # fmt: skip
    return Rows(made)


def curves(model="small-inception", modes=tuple(figures.MODES), column="train_loss"):
    def loss(rank, seed):
        return [{"step": 391.0 * e, column: 2.3 * math.exp(-e / (2 + rank)) + 0.01 * seed} for e in range(1, 20)]

    return Curves({f"{model}/{mode}": {seed: loss(rank, seed) for seed in (0, 1)} for rank, mode in enumerate(modes)})


def drawn(function, *arguments):
    with plots.style():
        figure = function(*arguments)
        assert plots.to_svg(figure, "test", inline=True).startswith("<svg")
    assert plots.description(figure)
    return figure


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")}


def test_1a_draws_each_mode_of_the_papers_network_in_thousands_of_steps():
    both = Curves({**curves().data, **curves("mlp-1x512").data})
    figure = drawn(figures.figure_1a, Rows([]), both)
    found = lines(figure)
    assert list(found) == ["true labels", "shuffled pixels", "random pixels", "Gaussian", "random labels"]
    x, y = found["true labels"].get_data()
    assert x[-1] == pytest.approx(0.391 * 19)
    assert y[0] == pytest.approx(2.3 * math.exp(-0.5) + 0.005)
    assert "Inception" in plots.description(figure)


def test_1a_falls_back_to_the_network_that_was_run_and_says_so():
    figure = drawn(figures.figure_1a, Rows([]), curves("mlp-1x512", ("true-labels", "random-labels")))
    text = " ".join(plots.notes(figure))
    assert "this is MLP 1x512" in text
    assert "shuffled pixels and random pixels and Gaussian" in text


def test_1b_is_the_ratio_of_epochs_seed_by_seed():
    figure = drawn(figures.figure_1b, rows(models=("mlp-1x512",)), Curves())
    line = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 6)
    expected = [((5 + 3 * level) / 5 + (6 + 3 * level) / 6) / 2 for level in range(6)]
    assert list(line.get_ydata()) == pytest.approx(expected)
    assert list(line.get_xdata()) == [0, 0.2, 0.4, 0.6, 0.8, 1]


@pytest.mark.parametrize("unfitted", [(0, 1), (1,)])
def test_1b_names_what_not_every_seed_fitted_and_draws_no_mean_of_the_others(unfitted):
    found = rows(models=("mlp-1x512",))
    for seed in unfitted:
        found.row("mlp-1x512/random-labels", seed)["fit_epoch"] = math.nan
    figure = drawn(figures.figure_1b, found, Curves())
    fitted = 2 - len(unfitted)
    assert f"Not fitted by every seed: MLP 1x512 at 1 ({fitted} of 2 seeds did)." in " ".join(plots.notes(figure))


def test_1c_is_test_error_with_the_papers_ends_as_rings():
    figure = drawn(figures.figure_1c, rows(), Curves())
    line = lines(figure)["Inception"]
    assert list(line.get_ydata()) == pytest.approx([100 - (80.5 - 14 * level) for level in range(6)])
    rings = {(line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[0].lines if len(line.get_xdata()) == 1}
    assert {(0, 14.25), (0, 23.93), (0, 49.49), (1, 90.0)} <= rings


def test_two_ends_are_not_joined_by_a_line():
    figure = drawn(figures.figure_1c, rows(modes=("true-labels", "random-labels")), Curves())
    assert lines(figure)["AlexNet"].get_linestyle() == "None"


def test_2b_ends_at_the_papers_accuracies_and_misses_no_half():
    both = curves(modes=("true-labels",), column="test_acc")
    figure = drawn(figures.figure_2b, Rows([]), both)
    assert "Not measured at this scale: the curve of without batch norm" in " ".join(plots.notes(figure))
    rings = [line.get_ydata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert 85.75 in rings
    assert 82.00 not in rings


def test_table_1_has_the_papers_nineteen_rows_and_counts_what_is_missing():
    figure = drawn(figures.table_1, rows(modes=("true-labels", "random-labels")), Curves())
    assert len(figure.axes[0].get_yticks()) == 19
    assert "13 of the 19 rows" in " ".join(plots.notes(figure))


def test_figures_on_digits_do_not_pass_for_cifar():
    with pytest.raises(MissingRows, match="CIFAR-10"):
        figures.table_1(rows("quick"), Curves())
    assert "digits" in " ".join(plots.notes(drawn(figures.figure_1c, rows("quick"), Curves())))


@pytest.mark.parametrize("draw", figures.DRAWINGS.values(), ids=figures.DRAWINGS)
@pytest.mark.parametrize(
    "found", [Rows([]), rows(models=("other-net",)), rows(modes=("partial-0.4",), models=("mlp-3x512",))]
)
def test_nothing_to_draw_is_said_and_not_drawn(draw, found):
    with pytest.raises(MissingRows):
        draw(found, Curves())


def test_what_a_figure_shows_has_a_mark_that_layout_does_not_change():
    def mark(found, width=4.3):
        with plots.style():
            figure = figures.figure_1c(found, Curves())
            figure.set_size_inches(width, 3)
            return plots.fingerprint(figure)

    assert mark(rows()) == mark(rows(), width=8)
    assert mark(rows()) != mark(rows(seeds=1))
