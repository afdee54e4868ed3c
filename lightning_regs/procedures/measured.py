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


def snapshot_ensembles(snapshots: int) -> Family:
    """Say what cells of so many snapshots measure, for ``Paper(metrics=...)``; see ``procedures.snapshots.cells``."""
    together = [Metric(f"error_m{m}", f"Test error, last {m}", "%") for m in range(1, snapshots + 1)]
    alone = [Metric(f"error_snapshot{i}", f"Test error, snapshot {i}", "%") for i in range(1, snapshots + 1)]
    correlation = Metric("softmax_correlation", "Correlation of softmax outputs")
    return Family("Snapshot ensembles", (*together, correlation, *alone), shown=snapshots + 1)
