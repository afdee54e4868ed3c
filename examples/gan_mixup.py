"""Mixup for a GAN: the discriminator learns from mixtures of real and generated points, with two optimizers by hand.

The toy of Zhang et al. 2018, arXiv:1710.09412, who find that it stabilises training: 8 Gaussians on a ring, 25 on a
grid, or a spiral; nets of three hidden layers of 512 ReLU; Adam; 5 steps of the discriminator for each of the
generator, which raises the discriminator's loss. The weight of the other point is uniform in [0, m], as in the authors'
code. Run it: ``python examples/gan_mixup.py --steps 20000`` (20 minutes a setting on one core; 1000 show a little).
It writes one picture a setting: samples after 10, 100, 1,000, 10,000 and 20,000 steps, real points in grey.
"""

import argparse
import logging
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.utils.data import DataLoader, IterableDataset

from lightning_regs.functional import mixup

SHOWN = (10, 100, 1_000, 10_000, 20_000)
BATCH, CRITIC_STEPS, NOISE, LIMIT = 128, 5, 0.01, 1.6


def real_points(data: str, number: int, generator: torch.Generator) -> Tensor:
    """Draw points (number, 2) of a ring, a grid or a spiral."""
    uniform = torch.rand(number, 2, generator=generator)
    if data == "grid":
        centers = (5 * uniform).floor() / 2 - 1
    else:
        share = (8 * uniform[:, 0]).floor() / 8 if data == "ring" else uniform[:, 0].sqrt()
        angle = 2 * torch.pi * share * (1 if data == "ring" else 2)
        radius = torch.ones(number) if data == "ring" else share
        centers = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return centers + NOISE * torch.randn(number, 2, generator=generator)


class Batches(IterableDataset[Tensor]):
    """Batches of real points for each step, (5, 128, 2), without an end."""

    def __init__(self, data: str, seed: int) -> None:
        self.data, self.seed = data, seed

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield real_points(self.data, CRITIC_STEPS * BATCH, generator).view(CRITIC_STEPS, BATCH, 2)


def mlp(inputs: int, outputs: int, width: int) -> nn.Sequential:
    """Return a net with three hidden layers."""
    layers: list[nn.Module] = []
    for size in (inputs, width, width):
        layers += [nn.Linear(size, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


class MixupGAN(pl.LightningModule):
    """A GAN whose discriminator sees mixtures; ``samples`` holds what the generator made after the steps ``shown``."""

    def __init__(self, most: float, width: int = 512, latent: int = 2, shown: tuple[int, ...] = SHOWN) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.most, self.latent, self.shown = most, latent, shown
        self.generator, self.discriminator = mlp(latent, 2, width), mlp(2, 1, width)
        self.samples: dict[int, Tensor] = {}

    def generated(self, number: int) -> Tensor:
        return self.generator(torch.randn(number, self.latent, device=self.device))

    def training_step(self, real: Tensor, step: int) -> None:
        of_generator, of_discriminator = self.optimizers()
        for points in real:
            with torch.no_grad():
                pool = torch.cat([points, self.generated(len(points))])
            labels = torch.ones(len(pool), 1, device=self.device)
            labels[len(points) :] = 0
            weight = 1 - self.most * torch.rand(()).item()
            mixed, labels = mixup(pool, labels, weight, torch.randperm(len(pool), device=self.device))
            self.descend(of_discriminator, cross_entropy(self.discriminator(mixed), labels))
        logits = self.discriminator(self.generated(real.shape[1]))
        self.descend(of_generator, -cross_entropy(logits, torch.zeros_like(logits)))
        if step + 1 in self.shown:
            with torch.no_grad():
                self.samples[step + 1] = self.generated(1_000).cpu().float()

    def descend(self, optimizer: pl.core.optimizer.LightningOptimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(net.parameters(), fused=True) for net in (self.generator, self.discriminator)]


def picture(data: str, samples: dict[int, Tensor], file: Path) -> None:
    """Draw the samples after each number of steps, over real points."""
    real = real_points(data, 1_000, torch.Generator().manual_seed(0))
    figure = Figure(figsize=(2.4 * len(samples), 2.6), layout="constrained")
    for axes, (step, points) in zip(figure.subplots(1, len(samples), squeeze=False)[0], samples.items(), strict=True):
        axes.scatter(*real.T, s=3, color="0.75")
        axes.scatter(*points.T, s=3, alpha=0.3)
        outside = 1 - (points.abs() <= LIMIT).all(1).float().mean()
        title = f"{step:,} steps" + (f", {outside:.0%} outside" if outside > 0.01 else "")
        axes.set(title=title, xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=[], yticks=[], aspect="equal")
    figure.savefig(file, dpi=120)


def train(
    data: str, most: float, steps: int, width: int = 512, seed: int = 0, precision: str = "32-true", **options: object
) -> MixupGAN:  # fmt: skip
    """Train one GAN, which holds its samples."""
    pl.seed_everything(seed, verbose=False)
    module = MixupGAN(most, width, **options)
    trainer = pl.Trainer(
        max_epochs=1, limit_train_batches=steps, accelerator="cpu", precision=precision, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(Batches(data, seed), batch_size=None))
    return module


def main(arguments: list[str] | None = None) -> list[Path]:
    """Train each setting, and return the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=SHOWN[-1])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--data", nargs="+", choices=["ring", "grid", "spiral"], default=["ring", "grid"])
    parser.add_argument("--most", nargs="+", type=float, default=[0, 0.1, 0.2, 0.5, 1], help="m, the largest weight")
    parser.add_argument("--precision", default="32-true", help="bf16-mixed is faster where the CPU has AMX")
    parser.add_argument("--out", type=Path, default=Path())
    given = parser.parse_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    given.out.mkdir(parents=True, exist_ok=True)
    files = []
    for data, most in product(given.data, given.most):
        shown = (*(step for step in SHOWN if step < given.steps), given.steps)
        module = train(data, most, given.steps, given.width, precision=given.precision, shown=shown)
        files.append(given.out / f"gan-{data}-{most:g}.png")
        picture(data, module.samples, files[-1])
    return files


if __name__ == "__main__":
    main()
