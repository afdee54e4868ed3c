"""The numbers of one epoch of classification, gathered on the device and read once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_regs.regularizers.parts.targets import MixedTarget
from lightning_regs.training.recorder import Recorder


class ClassificationMetrics(Metric):
    """Mean loss and accuracy, and accuracy apart for samples whose label was changed and for the others.

    One metric instead of four: an update costs a handful of kernels and never waits for the device.

    ``compute`` returns ``loss`` (mean over samples), ``acc`` and, where a mask was given, ``acc_clean`` and
    ``acc_corrupted``, all accuracies in percent; a group without samples is left out. Higher accuracy is better. Where
    targets were mixed, only the heavier label of a sample is counted, and the names say so: ``acc_heavier``. Of
    replicas, R of which lead the shapes, it returns the means, and leaves in ``each`` what each would give alone.
    """

    full_state_update = False
    loss_sum: Tensor
    counts: Tensor

    def __init__(self, replicas: int | None = None) -> None:
        super().__init__()
        size = () if replicas is None else (replicas,)
        self.each: list[dict[str, float]] = []
        self.mixed = False
        self.add_state("loss_sum", torch.zeros(size), dist_reduce_fx="sum")
        # samples, correct; the same among corrupted labels; samples that came with a mask
        self.add_state("counts", torch.zeros(5, *size, dtype=torch.long), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, loss: Tensor, logits: Tensor, target: Tensor, corrupted: Tensor | None = None) -> None:
        """Take in one batch: its mean loss, logits ``(N, K)``, targets, and which were changed; of replicas of each.

        Targets are class indices ``(N,)``, which replicas may share, or floats ``(N, K)`` whose likeliest class counts.
        """
        self.mixed |= isinstance(target, MixedTarget) and target.is_mixed
        if target.is_floating_point():
            target = target.argmax(-1)
        number = target.shape[-1]
        correct = logits.argmax(-1) == target
        # In place: += would write each sum back once more, and through nn.Module's __setattr__.
        self.loss_sum.add_(loss.float() * number)
        self.counts[0].add_(number)
        self.counts[1].add_(correct.sum(-1))
        if corrupted is not None:
            self.counts[2].add_(corrupted.sum(-1))
            self.counts[3].add_((correct & corrupted).sum(-1))
            self.counts[4].add_(number)

    def compute(self) -> dict[str, float]:
        """Read the totals; see the class for the names."""
        sums = self.loss_sum.reshape(-1).tolist()
        counts = self.counts.reshape(5, -1).T.tolist()
        # Here and not later: torchmetrics has the sums over all processes only within this method.
        self.each = [_values(*both) for both in zip(sums, counts, strict=True)]
        # A name is left out where a replica has no such samples: a mean over fewer would not be comparable.
        shared = [name for name in self.each[0] if all(name in values for values in self.each)]
        means = {name: sum(values[name] for values in self.each) / len(self.each) for name in shared}
        return {f"{name}_heavier" if self.mixed and name != "loss" else name: mean for name, mean in means.items()}

    def counted(self) -> None:
        """Note an update that came without Python, as a CUDA graph."""
        self._update_count += 1
        self._computed = None

    def reset(self) -> None:
        """Start anew, in the same memory, to which a CUDA graph adds."""
        sums = self.loss_sum, self.counts
        super().reset()
        if not self.counts.is_inference() and not sums[1].is_inference():
            self.loss_sum, self.counts = (total.zero_() for total in sums)
        self.mixed = False


def _values(loss_sum: float, counts: list[int]) -> dict[str, float]:
    number, correct, corrupted, corrupted_correct, masked = counts
    if not number:
        return {}
    values = {"loss": loss_sum / number, "acc": 100.0 * correct / number}
    if masked and corrupted:
        values["acc_corrupted"] = 100.0 * corrupted_correct / corrupted
    if masked and masked > corrupted:
        values["acc_clean"] = 100.0 * (correct - corrupted_correct) / (masked - corrupted)
    return values


def log_stage(module: Any, stage: str, prefix: str) -> None:
    """Log what a Classifier's metrics of a stage found, under names with a prefix, and start them anew."""
    metrics: Any = module.stages[stage]
    values: dict[str, float] = metrics.compute()
    each: list[dict[str, float]] = metrics.each
    metrics.reset()
    module.results[prefix] = values
    logged = {f"{prefix}/{name}": value for name, value in values.items()}
    if module.replicas is not None:
        module.replica_results[prefix] = each
        # Logging a few numbers of each of many small nets takes as long as training them; a recorder reads the results.
        trainer = module.trainer
        recorded = not trainer.loggers and any(isinstance(callback, Recorder) for callback in trainer.callbacks)
        for i, own in enumerate([] if recorded else each):
            logged |= {f"{prefix}/{name}/{i}": value for name, value in own.items()}
    # The metric has been reduced over the processes already; rank_zero_only would make callbacks on others blind.
    for name, value in logged.items():
        on_bar = name.endswith(("/loss", "/acc", "/acc_heavier"))
        module.log(name, value, prog_bar=on_bar, rank_zero_only=False, sync_dist=False)
