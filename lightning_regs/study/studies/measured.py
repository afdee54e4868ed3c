"""What studies measure, for tables; imports nothing, so that a report does not load torch."""

from __future__ import annotations

from lightning_regs.core.metrics import Family, Metric

ROBUSTNESS = Family(
    "Robustness to adversarial examples",
    (
        Metric("fgsm_error", "Error under FGSM", "%"),
        Metric("ifgsm_error", "Error under I-FGSM", "%"),
        Metric("transfer_fgsm_error", "Error under FGSM on another net", "%"),
        Metric("transfer_ifgsm_error", "Error under I-FGSM on another net", "%"),
        Metric("test_error", "Test error", "%"),
    ),
)
AGREEMENT = Family(
    "Agreement of two nets",
    (
        Metric("agreement", "Correlation of being right"),
        Metric("agreement_within", "The same, between two seeds of one net"),
        Metric("test_acc", "Test accuracy", "%"),
        Metric("other_test_acc", "Test accuracy of the other", "%"),
    ),
)
