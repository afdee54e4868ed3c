"""The three ways of training that are compared: a hand-written loop, ours, and the usual Lightning recipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import torchmetrics
from PIL import Image
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.models import build

BATCH = 128
SGD = {"name": "SGD", "lr": 0.01, "momentum": 0.9}


def write_images(folder: Path, number: int) -> Path:
    """Write CIFAR-shaped noise, large enough that no cache holds all of it."""
    rng = np.random.Generator(np.random.PCG64(0))
    path = folder / f"noise{number}.npz"
    x, y = rng.integers(0, 256, (number, 32, 32, 3), dtype=np.uint8), np.arange(number, dtype=np.uint8) % 10
    np.savez(path, x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
    return path


def wait(device: str) -> None:
    """Wait until a card has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


class EpochTimer(pl.Callback):
    """Seconds of each epoch, from the start of its first batch's loading to after its metrics were logged."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        wait(pl_module.device.type)
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        wait(pl_module.device.type)
        self.seconds.append(time.perf_counter() - self.start)


def fit_seconds(model: pl.LightningModule, data: Any, folder: Path, precision: Any) -> float:
    """Return the seconds of the second epoch of a fit with progress bar and logger on."""
    timer = EpochTimer()
    trainer = pl.Trainer(
        max_epochs=2, precision=precision, accelerator="cpu", logger=CSVLogger(folder), callbacks=[timer],
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    if isinstance(data, pl.LightningDataModule):
        trainer.fit(model, datamodule=data)
    else:
        trainer.fit(model, data)
    return timer.seconds[-1]


def ours(path: Path, folder: Path, architecture: str, options: dict[str, Any], precision: str, augment: bool) -> float:
    """Trainer + Classifier + ImageDataModule."""
    data = ImageDataModule(str(path), image_size=28, batch_size=BATCH, random_crop=augment, random_flip=augment)
    return fit_seconds(Classifier(architecture, options, SGD), data, folder, precision)


def cropped(path: Path) -> tuple[Tensor, Tensor]:
    """Return the images (N, 3, 28, 28), uint8, and the labels (N,)."""
    with np.load(path) as arrays:
        x = torch.from_numpy(arrays["x_train"]).permute(0, 3, 1, 2)[:, :, 2:30, 2:30]
        y = torch.from_numpy(arrays["y_train"]).long()
    return x.contiguous(), y


def whiten(x: Tensor) -> Tensor:
    """Give each image zero mean and unit variance, in the fewest passes that we know of on a CPU."""
    flat = x.float().flatten(1)
    flat -= flat.mean(1, keepdim=True)
    return flat.div_(torch.linalg.vector_norm(flat, dim=1, keepdim=True) / flat.shape[1] ** 0.5).view(x.shape)


def whitened(path: Path) -> tuple[Tensor, Tensor]:
    """Return the images (N, 3, 28, 28), cropped and whitened, and the labels (N,)."""
    x, y = cropped(path)
    return whiten(x), y


def by_hand(
    path: Path, architecture: str, options: dict[str, Any], precision: str, device: str = "cpu", graph: bool = False,
    batch: int = BATCH, whole: bool = False,
) -> float:  # fmt: skip
    """Return the seconds of the last epoch of a plain loop over tensors that are whitened already.

    It is the least that the step itself costs; or what its replay as one CUDA graph costs, of whole batches alone. A
    ``whole`` loop does what ours does beside: it holds bytes, whitens each batch, and counts loss and accuracy.
    """
    x, y = (t.to(device) for t in (cropped if whole else whitened)(path))
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.long, device=device)
    torch.manual_seed(0)
    network = build(architecture, (3, 28, 28), 10, **options).to(device)
    if any(isinstance(m, nn.Conv2d) for m in network.modules()):
        network, x = network.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=graph)

    def step(images: Tensor, labels: Tensor) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=not graph):
            logits = network(whiten(images) if whole else images)
            loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=not graph)
        loss.backward()
        optimizer.step()
        if whole:
            loss_sum.add_(loss.detach() * len(labels))
            correct.add_((logits.detach().argmax(1) == labels).sum())

    run = replayed(step, x[:batch].clone(), y[:batch].clone()) if graph else step
    elapsed = 0.0
    for _ in range(2):
        wait(device)
        start = time.perf_counter()
        for rows in torch.randperm(len(x), device=device).split(batch):
            if not graph or len(rows) == batch:
                run(x[rows], y[rows])
        wait(device)
        elapsed = time.perf_counter() - start
    return elapsed


def replayed(step: Callable[[Tensor, Tensor], None], x: Tensor, y: Tensor) -> Callable[[Tensor, Tensor], None]:
    """Capture a step on fixed tensors as a CUDA graph, after the warm-up that capturing asks for."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(5):
            step(x, y)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(x, y)

    def replay(images: Tensor, labels: Tensor) -> None:
        x.copy_(images)
        y.copy_(labels)
        graph.replay()

    return replay


class UsualModule(pl.LightningModule):
    """A LightningModule as the tutorials write it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=10)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.network(x)
        loss = F.cross_entropy(logits, y)
        self.accuracy(logits, y)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_acc", self.accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class PILImages(Dataset[tuple[Tensor, int]]):
    """Images from an array through PIL, as torchvision's CIFAR10 gives them."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.x, self.y = arrays["x_train"], arrays["y_train"]
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(28),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Lambda(whiten_one),
            ]
        )

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.x[index])), int(self.y[index])


def whiten_one(x: Tensor) -> Tensor:
    """Per-image whitening, one image at a time."""
    return (x - x.mean()) / x.std(correction=0).clamp(min=x.numel() ** -0.5)


def usual_alexnet() -> nn.Module:
    """The small AlexNet from torch's own layers."""

    def norm() -> nn.Module:
        return nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)

    return nn.Sequential(
        nn.Conv2d(3, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), norm(),
        nn.Conv2d(64, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), norm(),
        nn.Flatten(), nn.Linear(3136, 384), nn.ReLU(), nn.Linear(384, 192), nn.ReLU(), nn.Linear(192, 10),
    )  # fmt: skip


def usual(path: Path, folder: Path, network: nn.Module, precision: str) -> float:
    """The usual recipe: PIL transforms in a DataLoader with two workers, torch's own layers, plain Lightning."""
    loader = DataLoader(PILImages(path), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    return fit_seconds(UsualModule(network), loader, folder, precision)
