"""Nets of several widths in one stack, and nets that grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_regs.core.runs import RunContext
from lightning_regs.models import build
from lightning_regs.study import GROWN, PADDED
from lightning_regs.study.paper.config import override
from lightning_regs.study.paper.tasks import import_task
from lightning_regs.study.studies.sizes import _embed
from lightning_regs.training.fit import train

CONFIG: dict[str, Any] = {
    "model": {"architecture_args": {"hidden": [8, 8]}, "optimizer": {"name": "Adam", "lr": 0.01}},
    "data": {"source": "digits", "train_size": 100, "batch_size": 20},
    "trainer": {"max_epochs": 5, "accelerator": "cpu"},
}
GROWS: dict[str, Any] = {
    "model": {"optimizer": {"name": "SGD", "lr": 1e-30}, "loss": "squared_error"},
    "data": {"source": "digits", "train_size": 100, "batch_size": 50},
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    "grown": {"sizes": [3, 8], "std": 1e-6},
}


def contexts(folder: Path, *seeds: int) -> list[RunContext]:
    return [RunContext(folder / f"{at}-{seed}", seed) for at, seed in enumerate(seeds)]


@pytest.mark.slow
def test_nets_of_several_widths_learn_together_what_each_learns_alone(tmp_path: Path) -> None:
    widths, seeds = (3, 8, 5, 5), (1, 1, 1, 2)
    runs = contexts(tmp_path / "stack", *seeds)
    rows = import_task(PADDED).stacked([CONFIG | {"padded": {"hidden": [w, w]}} for w in widths], runs)
    for width, run, row in zip(widths, contexts(tmp_path / "alone", *seeds), rows, strict=True):
        own = train(override(CONFIG, {"model.architecture_args.hidden": [width, width]}), run)
        assert row["train_loss"] == pytest.approx(own["train_loss"], rel=1e-3)
        assert row["test_acc"] == pytest.approx(own["test_acc"], abs=0.4)  # two of 597 samples


def test_a_unit_that_is_not_zero_at_zero_is_refused(tmp_path: Path) -> None:
    config = override(CONFIG, {"model.architecture_args.activation": "sigmoid", "trainer.max_epochs": 1})
    with pytest.raises(ValueError, match="have not stayed zero"):
        import_task(PADDED)(config | {"padded": {"hidden": [3, 3]}}, contexts(tmp_path, 1)[0])
    with pytest.raises(ValueError, match="widen the net"):
        import_task(PADDED)(CONFIG | {"padded": {"hidden": [9, 9]}}, contexts(tmp_path / "wide", 1)[0])


def test_a_net_that_has_grown_is_what_it_was_where_new_weights_are_nothing(tmp_path: Path) -> None:
    rows = import_task(GROWN).stacked([GROWS] * 2, contexts(tmp_path, 1, 2))
    for row in rows:  # without training: with new weights near 0 it computes what the smaller one did
        assert row["test_loss_8"] == pytest.approx(row["test_loss_3"], rel=1e-4)
    assert rows[0]["test_loss_3"] != rows[1]["test_loss_3"]


def test_new_weights_have_their_standard_deviation() -> None:
    small, large = build("mlp", (30,), 10, hidden=[4]), build("mlp", (30,), 10, hidden=[400])
    _embed(large, small, 0.1, torch.Generator().manual_seed(0))
    weight = large.body[1].weight
    assert torch.equal(weight[:4], small.body[1].weight)
    assert float(weight[4:].std()) == pytest.approx(0.1, rel=0.03)
    assert torch.equal(large.head.bias, small.head.bias)


def test_sizes_that_do_not_ascend_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sizes ascend"):
        import_task(GROWN)(GROWS | {"grown": {"sizes": [8, 3]}}, contexts(tmp_path, 1)[0])


def test_weights_that_are_set_apart_are_the_same_for_all_runs(tmp_path: Path) -> None:
    one, other = import_task(GROWN).stacked([GROWS | {"seeds": {"weights": 0}}] * 2, contexts(tmp_path, 1, 2))
    assert one["test_loss_8"] == pytest.approx(other["test_loss_8"], rel=1e-6)
