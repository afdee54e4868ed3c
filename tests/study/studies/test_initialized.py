from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_regs.core.runs import RunContext
from lightning_regs.data import ImageDataModule
from lightning_regs.procedures.splits import samples
from lightning_regs.study.studies.initialized import initialized


def config(**initial: Any) -> dict[str, Any]:
    return {
        "model": {"architecture_args": {"hidden": [16, 16]}, "optimizer": {"name": "SGD", "lr": 1e-30}},
        "data": {"source": "digits", "train_size": 200, "batch_size": 100},
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        "initial": initial,
    }


def contexts(folder: Path, *seeds: int) -> list[RunContext]:
    return [RunContext(folder / f"{i}-{seed}", seed) for i, seed in enumerate(seeds)]


@pytest.mark.slow
def test_a_net_starts_from_what_its_rule_makes_of_its_samples_alone_and_in_a_stack(tmp_path: Path):
    rules = [
        {"rule": "data_statistics", "samples": 200},
        {"rule": "data_statistics", "data": {"train_size": 1000}},
        {"rule": "normal", "std": 0.3},
    ]
    stacked = contexts(tmp_path / "stack", 1, 1, 2)
    rows = initialized.stacked([config(**rule) for rule in rules], stacked)
    single = contexts(tmp_path / "single", 1)
    own = initialized(config(**rules[0]), single[0])
    assert rows[0]["test_loss"] == pytest.approx(own["test_loss"], rel=1e-4)
    spread = []
    for run in (single[0], *stacked):
        trained = run.trained
        data = trained.data
        x = torch.cat(
            [data.eval_transform(x) for x, *_ in data.train_dataloader()], -4 if trained.replica is None else 1
        )
        x = x if trained.replica is None else x[trained.replica]
        spread.append(trained.network().body[1](x.flatten(1)).detach().var(0, correction=0))
    assert torch.allclose(spread[0], torch.ones(16), atol=1e-3)
    assert torch.allclose(spread[1], torch.ones(16), atol=1e-3)
    assert not torch.allclose(spread[2], torch.ones(16), atol=1e-2)  # of 1,000 samples, so not quite of these
    assert torch.allclose(spread[2], torch.ones(16), atol=0.5)


def test_runs_that_differ_in_more_are_refused(tmp_path: Path):
    other = config(rule="zeros")
    other["trainer"]["max_epochs"] = 2
    with pytest.raises(ValueError, match=r"differ in trainer.max_epochs"):
        initialized.stacked([config(rule="zeros"), other], contexts(tmp_path, 1, 2))
    with pytest.raises(ValueError, match="Did you mean 'lsuv'"):
        initialized(config(rule="lsuw"), contexts(tmp_path / "other", 1)[0])


def test_some_samples_are_drawn_as_archives_may_hold_class_after_class(tmp_path: Path):
    x, y = np.arange(250 * 4).reshape(250, 2, 2).astype(np.uint8), np.arange(250) // 25
    x[:, 0, 0] = np.arange(250)  # no two images are equal
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])
    data = ImageDataModule(source=str(tmp_path / "own.npz"), whiten=False)
    data.setup()
    whole, labels = samples(data, "train")
    assert torch.equal(labels, torch.from_numpy(y))
    some, classes = samples(data, "train", 60, seed=3)
    places = (some[:, None] == whole).flatten(2).all(2).nonzero()[:, 1]
    assert len(places.unique()) == 60
    assert torch.equal(labels[places], classes)
    assert len(classes.unique()) == 10
    assert torch.equal(samples(data, "train", 60, seed=3)[0], some)
    assert not torch.equal(samples(data, "train", 60, seed=4)[0], some)
    assert torch.equal(samples(data, "train", 250)[1], labels)
