"""What the task of Ioffe & Szegedy 2015 puts in the place of batch norm, and what it measures."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_regs.core.runs import RunContext
from lightning_regs.study.paper.loading import load_paper

load_paper("ioffe2015")
task = importlib.import_module("ioffe2015.smooth")


def test_by_the_root_mean_square_of_centered_inputs_it_is_batch_norm() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 3)
    x -= x.mean(0)
    ours, theirs = task.LpNorm(3, 2.0), nn.BatchNorm1d(3, eps=1e-12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
    sizes = {1.0: x.abs().mean(0), float("inf"): x.abs().amax(0)}
    for p, size in sizes.items():
        norm = task.LpNorm(3, p)
        torch.testing.assert_close(norm(x + 0), x / (size + norm.eps))
        for _ in range(200):
            norm(x)
        torch.testing.assert_close(norm.eval()(x), x / (size + norm.eps), rtol=1e-4, atol=1e-5)


def test_noise_moves_means_and_scales_in_training_alone() -> None:
    torch.manual_seed(0)
    x, noisy, plain = torch.randn(4000, 200), task.NoisyBatchNorm(200), nn.BatchNorm1d(200)
    plain(x)
    first, second = noisy(x), noisy(x)
    means, scales = first.mean(0), (first * plain(x)).mean(0)
    assert float(means.std(correction=0)) == pytest.approx(12**-0.5, rel=0.15)  # of U(-1/2, 1/2)
    assert float(scales.mean()) == pytest.approx(1.125, abs=0.02)
    assert (first.mean(0) - second.mean(0)).abs().max() > 0.5  # a time apart
    noisy.load_state_dict(plain.state_dict())
    torch.testing.assert_close(noisy.eval()(x), plain.eval()(x))


@pytest.mark.slow
def test_each_net_of_a_stack_is_measured(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "model": {"architecture_args": {"hidden": [6, 5], "norm": "batch"}, "optimizer": {"name": "SGD", "lr": 0.1}},
        "data": {"source": "digits", "train_size": 120, "batch_size": 60},
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "normalization": "linf",
    }
    runs = [RunContext(tmp_path / str(seed), seed) for seed in (3, 4)]
    alone = RunContext(tmp_path / "alone", 4)
    rows = task.smooth.stacked([config] * 2, runs)
    single = task.smooth(config, alone)
    for name in ("loss_range", "gradient_change", "gradient_turn", "smoothness", "input_shift", "train_acc"):
        assert rows[1][name] == pytest.approx(single[name], rel=1e-3), name
        assert rows[0][name] > 0
    assert rows[0]["smoothness"] != rows[1]["smoothness"]
