"""What the tasks of Li et al. 2018 measure: rises of a parabola, second differences, shares of a path, a line."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lightning_regs.analysis import LossSurface
from lightning_regs.core.runs import RunContext
from lightning_regs.study.paper.loading import load_paper

load_paper("li2018")
tasks = importlib.import_module("li2018.tasks")
at = torch.linspace(-1, 1, 21, dtype=torch.float64)
a, b = torch.meshgrid(at, at, indexing="ij")


def test_the_rise_of_a_parabola_is_its_square_on_both_sides() -> None:
    made = LossSurface((at,), 3 * at**2 + at + 5, at)
    assert tasks._rise(made, 0.5) == pytest.approx(3 * 0.25)
    assert tasks._rise(made, 0.2, 0.5) == pytest.approx(3 * 0.04)


@pytest.mark.parametrize(
    ("surface", "negative"),
    [(a**2 + 3 * b**2 + a * b, 0), (4 * a**2 - b**2, 0.25), (a * b, 1), (-(a**2) - 2 * b**2, 1), (3 * a + 0 * b, 0)],
)
def test_second_differences_say_how_far_a_surface_is_from_convex(surface: torch.Tensor, negative: float) -> None:
    found = tasks._negative(surface)
    assert found.shape == (19, 19)
    torch.testing.assert_close(found, torch.full_like(found, negative), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("far", [math.nan, math.inf])
def test_a_plane_is_drawn_where_its_loss_is_finite(far: float) -> None:
    points = [
        {"position": x, "position_2": y, "surface_loss": 0.01 + x**2 + y**2 if x < 0.5 else far}
        for x in at.tolist()
        for y in at.tolist()
    ]
    drawn = importlib.import_module("li2018.figures").planes(None, SimpleNamespace(data={"plain/deep": {0: points}}))
    (axes,) = drawn.axes
    lines = [path.vertices for path in axes.collections[0].get_paths() if len(path.vertices)]
    assert len(lines) > 5
    assert max(line[:, 0].max() for line in lines) < 0.6


def test_shares_are_those_of_a_path_in_known_directions() -> None:
    net = nn.Linear(2, 2, bias=False).double()
    steps = [[2.0, 0, 0, 0], [-2.0, 0, 0, 0], [0, 1.0, 0, 0], [0, -1.0, 0, 0]]
    path = [{"weight": torch.tensor(step).double().view(2, 2)} for step in steps]
    axes = [{"weight": torch.tensor(axis).double().view(2, 2)} for axis in ([0, 3.0, 0, 0], [0, 0, 0, 5.0])]
    found = tasks._shares(net, path, axes)
    assert found == pytest.approx({"path_share": 100, "random_share": 20})


@pytest.mark.slow
def test_a_line_goes_from_the_small_batch_s_net_to_the_large_one_s(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "model": {"architecture_args": {"hidden": [8, 8, 8], "norm": "batch"}, "optimizer": {"name": "SGD", "lr": 0.1}},
        "data": {"source": "digits", "train_size": 60, "batch_size": 20},
        "trainer": {"max_epochs": 2},
    }
    rows, folders = {}, {}
    for size, batch in (("small", 10), ("large", 30)):
        folders[f"batch/0/{size}"] = str(tmp_path / size)
        runs = [RunContext(tmp_path / size, 3), RunContext(tmp_path / f"{size}4", 4)]
        own = config | {"data": config["data"] | {"batch_size": batch}, "directions": 2}
        plane = {"surface": 5, "map": 3, "map_samples": 20} if size == "small" else {}
        rows[size] = tasks.landscape.stacked([own | plane] * 2, runs)
        alone = RunContext(tmp_path / f"{size}-alone", 3)
        again = tasks.landscape(own | plane, alone)
        assert rows[size][0] == pytest.approx(again, rel=1e-2, nan_ok=True)
    curves = RunContext(tmp_path / "small").curves
    assert sum("surface_loss" in row for row in curves) == 25
    run = RunContext(tmp_path / "line", 3, inputs=folders)
    found = tasks.line(config | {"line": 41, "other": {}}, run)
    losses = {round(row["position"], 6): row["line_loss"] for row in run.curves}
    for place, size in ((0, "small"), (1, "large")):
        near = min(losses, key=lambda position: abs(position - place))
        assert losses[near] == pytest.approx(rows[size][0]["train_loss"], rel=1e-4)
    assert found["rise_large_0.5"] == pytest.approx((losses[0.5] + losses[1.5]) / 2 - losses[1.0], rel=1e-6)
