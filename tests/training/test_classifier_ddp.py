"""Two processes with half a batch each train the network that one process trains with the whole batch."""

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


def fit(path: Path, replicas: list[int] | None, devices: int = 1, strategy: str = "auto") -> dict[str, Any]:
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
        strategy=strategy,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Keep(path)],
    )
    optimizer = {"name": "SGD", "lr": 0.1, "momentum": 0.9}
    trainer.fit(Classifier("mlp", {"hidden": [16]}, optimizer, seed=5, replicas=replicas, seeds=SEEDS), data)
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("replicas", "strategy"), [(None, "ddp_spawn"), ([5, 9], "ddp_fork")], ids=["single", "replicas"]
)
def test_two_processes_equal_one(tmp_path: Path, replicas: list[int] | None, strategy: str) -> None:
    """Processes that are started afresh get module and data pickled; forked ones are there in no time."""
    one, two = fit(tmp_path / "one.pt", replicas), fit(tmp_path / "two.pt", replicas, 2, strategy)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-4, atol=1e-6)
    assert set(two["metrics"]) == set(one["metrics"])
    assert {"train/acc_clean", "train/acc_corrupted", "val/acc"} <= set(one["metrics"])
    assert ("val/acc/1" in one["metrics"]) == (replicas is not None)
    for name, value in one["metrics"].items():
        assert two["metrics"][name] == pytest.approx(value, rel=1e-4), name
