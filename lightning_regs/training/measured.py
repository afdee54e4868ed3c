"""What a training run measures, for tables; imports nothing, so that a report does not load torch."""

from __future__ import annotations

from lightning_regs.core.metrics import Family, Metric

TRAINED = Family(
    "Training runs",
    (
        Metric("train_acc", "Train accuracy", "%"),
        Metric("test_acc", "Test accuracy", "%"),
        Metric("fit_epoch", "Epochs to fit", "epochs", never="never fitted"),
        Metric("train_loss", "Train loss"),
        Metric("test_loss", "Test loss"),
        Metric("train_acc_clean", "Train accuracy, clean labels", "%"),
        Metric("train_acc_corrupted", "Train accuracy, corrupted labels", "%"),
        Metric("best_test_acc", "Best test accuracy of all epochs", "%"),
        Metric("test_error", "Test error", "%"),
        Metric("val_acc", "Validation accuracy", "%"),
        Metric("val_loss", "Validation loss"),
        Metric("val_error", "Validation error", "%"),
    ),
    shown=3,
)
