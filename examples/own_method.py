"""A method of your own: a pure function, a thin hook, and the package's contract tests on it.

Gradient noise (Neelakantan et al. 2015, arXiv:1511.06807). Run it: ``python examples/own_method.py``.
"""

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_regs import Classifier, ImageDataModule, Regularizer
from lightning_regs.core.checks import NotNegative, Positive
from lightning_regs.regularizers import Acts, Moment, example
from lightning_regs.testing import check_regularizer


def gradient_noise(gradients: list[Tensor], variance: float, generator: torch.Generator) -> None:
    """Add noise N(0, variance) to each gradient, in place."""
    for gradient in gradients:
        gradient.add_(torch.randn(gradient.shape, generator=generator).to(gradient), alpha=variance**0.5)


class GradientNoise(Regularizer, acts=Acts.GRADIENTS):
    """Adds noise of variance eta / (1 + step)^gamma to the gradients before each step.

    Args:
        eta: Variance at the first step, above 0.
        gamma: Its decay, at least 0.
        seed: Seed of its draws; default: what ``seed_everything`` was given, else 0.
    """

    eta: Positive = example(0.01, 0.1)  # what the contract tests run; the first is the default
    gamma: NotNegative = 0.55
    seed: int | None = None

    def on_gradients(self, gradients: list[Tensor], at: Moment) -> None:
        """Add the noise."""
        gradient_noise(gradients, self.eta / (1 + at.step) ** self.gamma, at.generator)


def main() -> float:
    """Run the contracts on the method, train with it, and return the accuracy on test data in percent."""
    check_regularizer(GradientNoise)
    model = Classifier("mlp", {"hidden": [64]}, regularizers=[GradientNoise(0.01)], seed=0)
    trainer = pl.Trainer(max_epochs=20, logger=False, enable_checkpointing=False)
    data = ImageDataModule("digits", seed=0)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data)
    return model.results["test"]["acc"]


if __name__ == "__main__":
    main()
