"""Two processes with half a batch each train the network that one process trains with the whole batch."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_regs import Classifier, ImageDataModule

pytestmark = pytest.mark.cpu("it forks, which no process can after CUDA has started")

SEEDS = {"weights": 1, "order": 2, "split": 3}


class Keep(pl.Callback):
    """Writes what rank 0 ends with."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            torch.save({"weights": pl_module.state_dict(), "metrics": metrics}, self.path)


def fit(path: Path, replicas: list[int] | None, devices: int = 1) -> dict[str, Any]:
    data = ImageDataModule(
        "digits",
        train_size=160,
        test_size=97,
        batch_size=20 // devices,
        monitor_test=True,
        corruption="partial_labels",
        corruption_p=0.5,
        seed=5,
        replicas=replicas,
        seeds=SEEDS,
    )
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=devices,
        strategy="auto" if devices == 1 else "ddp_fork",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Keep(path)],
    )
    optimizer = {"name": "SGD", "lr": 0.1, "momentum": 0.9}
    module = Classifier("mlp", {"hidden": [16]}, optimizer, seed=5, replicas=replicas, seeds=SEEDS)
    if devices > 1:  # as processes that are started afresh, and take seconds for it, get them
        module, data = pickle.loads(pickle.dumps((module, data)))
    trainer.fit(module, data)
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


@pytest.mark.parametrize("replicas", [None, [5, 9]], ids=["single", "replicas"])
@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path, replicas: list[int] | None) -> None:
    one, two = fit(tmp_path / "one.pt", replicas), fit(tmp_path / "two.pt", replicas, 2)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-4, atol=1e-6)
    assert set(two["metrics"]) == set(one["metrics"])
    assert {"train/acc_clean", "train/acc_corrupted", "val/acc"} <= set(one["metrics"])
    assert ("val/acc/1" in one["metrics"]) == (replicas is not None)
    for name, value in one["metrics"].items():
        assert two["metrics"][name] == pytest.approx(value, rel=1e-4), name
