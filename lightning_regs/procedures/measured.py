"""What tasks of procedures measure, for tables; imports nothing, so that a report does not load torch."""

from __future__ import annotations

from lightning_regs.core.metrics import Family, Metric


def snapshot_ensembles(snapshots: int) -> Family:
    """Say what cells of so many snapshots measure, for ``Paper(metrics=...)``; see ``procedures.snapshots.cells``."""
    together = [Metric(f"error_m{m}", f"Test error, last {m}", "%") for m in range(1, snapshots + 1)]
    alone = [Metric(f"error_snapshot{i}", f"Test error, snapshot {i}", "%") for i in range(1, snapshots + 1)]
    correlation = Metric("softmax_correlation", "Correlation of softmax outputs")
    return Family("Snapshot ensembles", (*together, correlation, *alone), shown=snapshots + 1)


# Criteria of early stopping in Prechelt (1998), by class, of each the fastest first and the slowest last.
CLASSES = {"GL": ("GL1", "GL2", "GL3", "GL5"), "PQ": ("PQ0.5", "PQ0.75", "PQ1", "PQ2", "PQ3"),
           "UP": ("UP2", "UP3", "UP4", "UP6", "UP8")}  # fmt: skip
PRECHELT = tuple(name for names in CLASSES.values() for name in names)
STOPPED = Family(
    "Trainings that criteria would have stopped",
    (
        Metric("fired", "Criteria that came true", "%"),
        Metric("best_epoch", "Epoch of the least validation loss", "epochs"),
        *(Metric(f"{name.lower()}_epoch", f"{name} stops", "epochs") for name in PRECHELT),
        *(Metric(f"{name.lower()}_test_loss", f"Test loss, {name}") for name in PRECHELT),
        *(Metric(f"{name.lower()}_test_error", f"Test error, {name}", "%") for name in PRECHELT),
        *(Metric(f"{name.lower()}_good", f"Good solution, {name}", "%") for name in PRECHELT),
    ),
    shown=16,
)
