from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regs.study.store.curves import Curves, parse_curves, thin


def points(n, scale=1.0):
    return [{"step": 10.0 * e, "epoch": float(e), "train_loss": scale / e, "test_acc": 50.0} for e in range(1, n + 1)]


def test_a_table_written_and_read_again_is_the_same_up_to_its_digits():
    curves = Curves({"net/a": {0: points(5), 3: points(4)}, 'net/"b", c': {1: points(2)}})
    again = parse_curves(curves.to_csv())
    assert again.to_csv() == curves.to_csv()
    assert again.data["net/a"].keys() == {0, 3}
    for read, point in zip(again.data["net/a"][0], points(5), strict=True):
        assert read == pytest.approx(point, rel=1e-3)


@pytest.mark.parametrize("limit", [5_000, 50_000])
def test_a_large_table_is_thinned_to_its_limit_and_keeps_the_ends(limit):
    curves = Curves({f"net/{n}": {seed: points(300) for seed in range(3)} for n in range(10)})
    text = curves.to_csv(limit)
    assert len(text) < limit
    steps = [point["step"] for point in parse_curves(text).data["net/4"][2]]
    assert (steps[0], steps[-1]) == (10, 3000)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 200), limit=st.integers(2, 60))
def test_thinning_keeps_order_ends_and_more_of_the_beginning(n, limit):
    kept = [point["epoch"] for point in thin(points(n), limit)]
    assert len(kept) <= max(limit, 2)
    assert kept == sorted(set(kept))
    assert {1.0, float(n)} <= set(kept)
    steps = np.diff(kept)
    assert len(steps) < 2 or steps[0] <= steps[-1] + 1


def test_a_thinned_table_keeps_the_first_seed_s_plane_whole_and_no_other():
    plane = [{"position": x / 10, "position_2": y / 10, "surface_loss": 1.0} for x in range(9) for y in range(9)]
    curves = Curves({f"net/{n}": {seed: points(300) + plane for seed in (1, 2)} for n in range(10)})
    text = curves.to_csv(60_000)
    assert len(text) < 60_000
    for runs in parse_curves(text).data.values():
        assert [point for point in runs[1] if "position_2" in point] == plane
        assert not [point for point in runs[2] if "position_2" in point]
        assert 2 < len(runs[2]) < 300


def test_a_band_is_mean_and_extremes_of_curves_interpolated_as_numpy_does():
    a = [{"step": 0.0, "train_loss": 3.0}, {"step": 10.0, "train_loss": 1.0}, {"step": 30.0, "train_loss": 0.0}]
    b = [{"step": 5.0, "train_loss": 4.0}, {"step": 20.0, "train_loss": 2.0}]
    band = Curves({"net": {0: a, 1: b}}).band("net", "train_loss")
    assert band is not None
    assert band.x == [5, 10, 20]
    both = np.stack([np.interp(band.x, [0, 10, 30], [3, 1, 0]), np.interp(band.x, [5, 20], [4, 2])])
    np.testing.assert_allclose(band.mean, both.mean(0))
    np.testing.assert_allclose(band.low, both.min(0))
    np.testing.assert_allclose(band.high, both.max(0))
    assert band.n == 2


def test_a_band_of_nothing_is_none():
    assert Curves().band("net", "train_loss") is None
    apart = {0: [{"step": 1.0, "train_loss": 1.0}], 1: [{"step": 2.0, "train_loss": 1.0}]}
    assert Curves({"net": apart}).band("net", "train_loss") is None


def test_a_diverged_loss_leaves_a_gap_and_not_a_nan():
    text = "cell,seed,step,epoch,train_loss\nnet,0,1,1,2.5\nnet,0,2,2,nan\nnet,0,3,3,inf\nnet,0,4,4,\n"
    assert [point.get("train_loss") for point in parse_curves(text).data["net"][0]] == [2.5, None, None, None]


def test_only_tables_that_may_fit_are_written(monkeypatch):
    points = [{"step": float(step), "train_loss": 1.0} for step in range(100)]
    curves, written = Curves({f"net/{at}": dict.fromkeys(range(10), points) for at in range(10)}), []
    table = Curves._table
    monkeypatch.setattr(Curves, "_table", lambda self, limit: written.append(limit) or table(self, limit))
    assert len(curves.to_csv(18_000).splitlines()) == 1201
    assert written == [12]
    assert len(curves.to_csv(1).splitlines()) == 301
    assert written == [12, 3]
