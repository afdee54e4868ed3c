"""Why neural networks generalise: regularization as Lightning hooks, and honest reproductions of the papers."""

from __future__ import annotations

from lightning_regs.core import registry

__version__ = "0.1.0"

# Public name -> module that defines it. Resolved on first use, so that `import lightning_regs` costs nothing.
_PUBLIC = {
    "Classifier": "lightning_regs.training.classifier",
    "ImageDataModule": "lightning_regs.data",
    "InformationPenalty": "lightning_regs.layers",
    "Initialization": "lightning_regs.init.initialization",
    "Mask": "lightning_regs.pruning",
    "Pruning": "lightning_regs.pruning",
    "Regularizer": "lightning_regs.regularizers.base",
    "SnapshotEnsemble": "lightning_regs.procedures.snapshots.snapshot_ensemble",
    "StopWhen": "lightning_regs.procedures.stopping.stop_when",
    "WeightAgnosticNet": "lightning_regs.procedures.agnostic.weight_agnostic_net",
    "add_supermask": "lightning_regs.pruning",
    "diagnose": "lightning_regs.procedures.diagnosis.diagnose",
    "find_ticket": "lightning_regs.procedures.tickets",
    "find_topology": "lightning_regs.procedures.agnostic.find_topology",
    "load_ensemble": "lightning_regs.procedures.snapshots.ensemble",
    "range_test": "lightning_regs.procedures.range_test.range_test",
    "retrain": "lightning_regs.procedures.stopping.retrain",
    "train_snapshots": "lightning_regs.procedures.snapshots.snapshot_ensemble",
    **registry.classes("lightning_regs.regularizers"),
}

__all__ = sorted(["__version__", *_PUBLIC])
__getattr__, __dir__ = registry.lazy(__name__, _PUBLIC)
