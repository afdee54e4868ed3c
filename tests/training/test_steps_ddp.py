"""Manual optimization in two processes against a plain loop over all shards, micro-batches and accumulated batches."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lightning_regs import Classifier
from lightning_regs.regularizers.gradient_penalty import GradientPenalty

pytestmark = pytest.mark.cpu("it forks, which no process can after CUDA has started")

WORLD, BATCH, MICRO, ACCUMULATE, CLIP, LR, STRENGTH, EPOCHS = 2, 12, 4, 2, 0.3, 0.2, 0.8, 2


def tensors() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(72, 6, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (72,), generator=generator)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


class Keep(pl.Callback):
    """Writes what each rank ends with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        state = {"weights": pl_module.network.state_dict(), "steps": trainer.global_step, "metrics": metrics}
        torch.save(state, self.folder / f"{trainer.global_rank}.pt")


class Data(pl.LightningDataModule):
    """Each rank's rows in order: rank, rank + 2, rank + 4 ..."""

    def train_dataloader(self) -> Any:
        data = TensorDataset(*tensors())
        sampler = DistributedSampler(data, WORLD, self.trainer.global_rank, shuffle=False)
        return DataLoader(data, BATCH, sampler=sampler)


def penalised_gradient(net: nn.Module, x: Tensor, y: Tensor, estimator: str, step_size: float) -> list[Tensor]:
    """Gradient of loss + STRENGTH / 4 |g|^2 as the estimator defines it."""
    parameters = list(net.parameters())

    def gradient(at: nn.Module, graph: bool = False) -> list[Tensor]:
        return list(torch.autograd.grad(F.cross_entropy(at(x), y), list(at.parameters()), create_graph=graph))

    if estimator == "exact":
        g = gradient(net, graph=True)
        half_square = 0.5 * torch.stack([v.square().sum() for v in g]).sum()
        product = torch.autograd.grad(half_square, parameters)
    else:
        g = gradient(net)
        distance = step_size / torch.cat([v.flatten() for v in g]).norm()
        moved = copy.deepcopy(net)
        with torch.no_grad():
            for p, v in zip(moved.parameters(), g, strict=True):
                p += distance * v
        product = tuple((after - v) / distance for after, v in zip(gradient(moved), g, strict=True))
    return [v.detach() + STRENGTH / 2 * h for v, h in zip(g, product, strict=True)]


def by_hand(estimator: str, step_size: float) -> nn.Module:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), LR)
    x, y = tensors()
    batches = len(x) // (WORLD * BATCH)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        for i in range(batches):
            for rank in range(WORLD):
                rows = torch.arange(rank, len(x), WORLD)[i * BATCH : (i + 1) * BATCH]
                for part in rows.split(MICRO):
                    share = len(part) / len(rows) / WORLD / ACCUMULATE
                    gradients = penalised_gradient(net, x[part], y[part], estimator, step_size)
                    for p, g in zip(net.parameters(), gradients, strict=True):
                        p.grad = share * g + (0 if p.grad is None else p.grad)
            if (i + 1) % ACCUMULATE == 0 or i + 1 == batches:
                clip_grad_norm_(net.parameters(), CLIP)
                optimizer.step()
                optimizer.zero_grad()
    return net


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["exact", "forward_difference"])
def test_two_processes_equal_a_plain_loop(tmp_path: Path, estimator: Any) -> None:
    penalty = GradientPenalty(
        STRENGTH,
        estimator,
        micro_batch_size=MICRO,
        gradient_clip_val=CLIP,
        accumulate_grad_batches=ACCUMULATE,
        step_size=0.1,
    )
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        precision="64-true",
        accelerator="cpu",
        devices=WORLD,
        strategy="ddp_fork",
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Keep(tmp_path)],
    )
    model = Classifier(network(), optimizer={"name": "SGD", "lr": LR}, regularizers=[penalty], seed=0)
    trainer.fit(model, datamodule=Data())
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    torch.testing.assert_close(ranks[0], ranks[1], rtol=0, atol=0)
    torch.testing.assert_close(ranks[0]["weights"], by_hand(estimator, 0.1).state_dict(), rtol=1e-9, atol=1e-12)
    assert ranks[0]["steps"] == 4
