"""What a training after pruning measures, for tables; imports nothing, so that a report does not load torch."""

from __future__ import annotations

from lightning_regs.core.metrics import Family, Metric

PRUNED = Family(
    "Pruned nets",
    (
        Metric("p_m", "Weights left", "%"),
        Metric("stop_iteration", "Early-stopping iteration", "iterations", never="never came"),
        Metric("test_acc_stop", "Test accuracy at early stopping", "%"),
        Metric("test_acc", "Test accuracy", "%"),
        Metric("train_acc", "Train accuracy", "%"),
        Metric("val_acc", "Validation accuracy", "%"),
        Metric("start_test_acc", "Test accuracy before training", "%"),
        Metric("stop_val_acc", "Validation accuracy at early stopping", "%"),
        Metric("barrier", "Error barrier to its twin", "%"),
    ),
)
