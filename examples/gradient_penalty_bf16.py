"""The penalty on the norm of the gradient that SGD has implicitly, made explicit: in bf16, with accumulated batches.

A batch of 200 is made of micro-batches of 20, each with its own penalty, and two batches make one step. Run it:
``python examples/gradient_penalty_bf16.py``. Takes a few seconds and no data set.
"""

import pytorch_lightning as pl

from lightning_regs import Classifier, GradientPenalty, ImageDataModule


def main() -> float:
    """Train with the penalty and return the accuracy on test data, in percent."""
    # In the Classifier the penalty optimizes manually, where accumulation and clipping are its own arguments.
    penalty = GradientPenalty(0.05, micro_batch_size=20, accumulate_grad_batches=2, gradient_clip_val=1.0)
    model = Classifier("mlp", {"hidden": [128]}, optimizer={"name": "SGD", "lr": 0.5}, regularizers=[penalty], seed=0)
    trainer = pl.Trainer(max_epochs=30, precision="bf16-mixed", logger=False, enable_checkpointing=False)
    data = ImageDataModule("digits", batch_size=200, seed=0)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data)
    return model.results["test"]["acc"]


if __name__ == "__main__":
    main()
