"""Shares of variance: their interval against an inverted test and by simulation; cells and figure."""

import math
import statistics
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr

from lightning_regs.study import Estimate, MissingRows, Rows, override, share_of_variance, variance_cells
from lightning_regs.study import variance_figure as drawn
from lightning_regs.study.store.curves import Curves
from lightning_regs.study.studies.variance import SEEDS, WHOLE

CONFIG: dict[str, Any] = {"model": {}, "data": {"source": "digits"}, "trainer": {"max_epochs": 1}}
PART = "variance/weights"


def rows(**cells: Any) -> Rows:
    return Rows(
        {"cell": f"variance/{cell}", "seed": seed, "test_acc": value}
        for cell, values in cells.items()
        for seed, value in enumerate(values)
    )


def share(part: Any, whole: Any) -> Estimate:
    found = share_of_variance(PART)(rows(weights=part, seed=whole))
    assert isinstance(found, Estimate)
    return found


def test_the_interval_holds_what_a_test_of_equal_variances_does_not_reject() -> None:
    """Pitman: of equal variances the sum and the difference of the pairs are not correlated."""
    generator = np.random.default_rng(3)
    part = generator.normal(size=8)
    whole = part + 2 * generator.normal(size=8)
    found = share(part.tolist(), whole.tolist())
    assert found.ours == pytest.approx(np.var(part, ddof=1) / np.var(whole, ddof=1))
    assert statistics.fmean(found.values) == pytest.approx(found.ours)
    for confidence in (0.5, 0.95):
        for end in found.ends(confidence):
            scaled = part / math.sqrt(end)
            assert pearsonr(scaled + whole, scaled - whole).pvalue == pytest.approx(1 - confidence)


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.slow
def test_the_interval_covers_the_share_of_a_sum_of_effects(n: int) -> None:
    generator, held, times = np.random.default_rng(n), 0, 2000
    for _ in range(times):
        part = generator.normal(size=n)
        low, high = share(part.tolist(), (part + 1.5 * generator.normal(size=n)).tolist()).ends(0.95)
        held += low <= 1 / 3.25 <= high
    assert held / times == pytest.approx(0.95, abs=0.015)


def test_what_does_not_vary() -> None:
    nothing = share([5.0] * 4, [1.0, 2.0, 4.0, 3.0])
    assert (nothing.ours, nothing.ends(0.95)) == (0.0, (0.0, 0.0))
    same = share([1.0, 2.0, 4.0, 3.0], [1.0, 2.0, 4.0, 3.0])
    assert same.ends(0.95) == pytest.approx((1.0, 1.0))
    for part, whole in (([1.0, 2.0], [2.0, 1.0]), ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])):
        with pytest.raises(MissingRows, match="a share of variance needs 3 seeds, and a whole that varies"):
            share(part, whole)


def test_one_thing_at_a_time_follows_the_seed() -> None:
    cells = {cell.name: cell for cell in variance_cells(CONFIG)}
    assert list(cells) == [WHOLE, "variance/weights", "variance/order", "variance/split", "variance/items"]
    assert cells[WHOLE].config == CONFIG | {"seeds": {}}
    for varied in ("weights", "order", "split"):
        fixed = {"weights", "order", "split"} - {varied}
        assert cells[f"variance/{varied}"].config == CONFIG | {"seeds": dict.fromkeys(fixed, 0)}
    items = cells["variance/items"].config
    assert items == override(cells["variance/split"].config, {"data.resplit": True})
    assert {(cell.seeds, cell.stack == name) for name, cell in cells.items()} == {(SEEDS, True)}
    assert "variance/split" not in {cell.name for cell in variance_cells(CONFIG, split=False)}


def test_the_figure_shows_each_share_with_its_interval() -> None:
    whole, part = [1.0, 2.0, 4.0, 3.0], [1.0, 1.5, 1.0, 2.0]
    measured = rows(seed=whole, weights=part, items=[4.0, 2.0, 9.0, 0.0])
    drawing = drawn("Net", "validation split").render(measured, Curves({}))
    (axes,) = drawing.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["initial weights", "train and test samples"]
    (ends,) = axes.collections[0].get_segments()
    assert tuple(ends[:, 0]) == pytest.approx(share(part, whole).ends(0.95))
    for other in ({}, {"weights": [1.0, math.nan, 2.0, 3.0]}):
        with pytest.raises(MissingRows):
            drawn("Net").render(rows(seed=whole, **other), Curves({}))
