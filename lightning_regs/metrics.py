"""The numbers of one epoch of classification, gathered on the device and read once."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class ClassificationMetrics(Metric):
    """Mean loss and accuracy, and accuracy apart for samples whose label was changed and for the others.

    One metric instead of four: an update costs a handful of kernels and never waits for the device.

    ``compute`` returns ``loss`` (mean over samples), ``acc`` and, where a mask was given, ``acc_clean`` and
    ``acc_corrupted``, all accuracies in percent; a group without samples is left out. Higher accuracy is better.
    """

    full_state_update = False
    loss_sum: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("loss_sum", torch.zeros(()), dist_reduce_fx="sum")
        # samples, correct; the same among corrupted labels; samples that came with a mask
        self.add_state("counts", torch.zeros(5, dtype=torch.long), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, loss: Tensor, logits: Tensor, target: Tensor, corrupted: Tensor | None = None) -> None:
        """Take in one batch.

        Args:
            loss: Mean loss of the batch, a scalar.
            logits: ``(N, K)``.
            target: Class indices ``(N,)``.
            corrupted: ``(N,)``, True where the label was changed; None where nothing was.
        """
        number = target.shape[0]
        correct = logits.argmax(1) == target
        self.loss_sum += loss.float() * number
        self.counts[0] += number
        self.counts[1] += correct.sum()
        if corrupted is not None:
            self.counts[2] += corrupted.sum()
            self.counts[3] += (correct & corrupted).sum()
            self.counts[4] += number

    def compute(self) -> dict[str, float]:
        """Read the totals; see the class for the names."""
        loss_sum, (number, correct, corrupted, corrupted_correct, masked) = self.loss_sum.item(), self.counts.tolist()
        if not number:
            return {}
        values = {"loss": loss_sum / number, "acc": 100.0 * correct / number}
        if masked and corrupted:
            values["acc_corrupted"] = 100.0 * corrupted_correct / corrupted
        if masked and masked > corrupted:
            values["acc_clean"] = 100.0 * (correct - corrupted_correct) / (masked - corrupted)
        return values
