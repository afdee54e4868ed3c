"""What trainings and studies measure, for tables; imports nothing heavy, so that a report does not load torch."""

from __future__ import annotations

from lightning_regs.core.metrics import Family, Metric
from lightning_regs.procedures.measured import STOPPED

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
ROBUSTNESS = Family(
    "Robustness to adversarial examples",
    (
        Metric("fgsm_error", "Error under FGSM", "%"),
        Metric("ifgsm_error", "Error under I-FGSM", "%"),
        Metric("transfer_fgsm_error", "Error under FGSM on another net", "%"),
        Metric("transfer_ifgsm_error", "Error under I-FGSM on another net", "%"),
        Metric("test_error", "Test error", "%"),
        Metric("fgsm_confidence", "Confidence where wrong under FGSM", "%", never="never wrong"),
        Metric("signs_error", "Error under random signs", "%"),
        Metric("train_acc", "Train accuracy", "%"),
    ),
    shown=7,
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
SHARPNESS = Family(
    "Sharpness of minima",
    (
        Metric("sharpness_1e-3", "Sharpness within 1e-3"),
        Metric("sharpness_5e-4", "Sharpness within 5e-4"),
        Metric("subspace_1e-3", "Sharpness within 1e-3 of a random subspace"),
        Metric("subspace_5e-4", "Sharpness within 5e-4 of a random subspace"),
        Metric("train_acc", "Train accuracy", "%"),
        Metric("test_acc", "Test accuracy", "%"),
    ),
    shown=6,
)
WEIGHTS = Family(
    "Weights",
    (
        Metric("weight_norm", "Norm of the weights"),
        Metric("weight_distance", "Distance from their start"),
        Metric("weight_growth", "Norm over that of their start", "x"),
        Metric("zero_weights", "Weights that are zero", "%"),
        Metric("small_weights", "Weights below 0.001", "%"),
        Metric("kept_weights", "Weights that L0 leaves", "%"),
        *(Metric(f"inputs_{i}", f"Inputs that L0 leaves layer {i}") for i in (1, 2, 3)),
        Metric("fit_epoch", "Epochs to fit", "epochs", never="never fitted"),
        Metric("train_loss", "Train loss"),
        Metric("train_acc", "Train accuracy", "%"),
        Metric("test_acc", "Test accuracy", "%"),
    ),
    shown=9,
)
SIGNALS = Family(
    "Signals through activations",
    (
        Metric("jacobian", "Mean singular value of layer Jacobians at the start"),
        Metric("start_deviation_ratio", "Deviation at the start, last over first", "x"),
        Metric("start_gradient_ratio", "Gradient at the start, first over last", "x"),
        *(Metric(f"saturation_{i}", f"Saturation, layer {i}", "%") for i in range(1, 6)),
        Metric("train_acc", "Train accuracy", "%"),
        Metric("test_acc", "Test accuracy", "%"),
        *(Metric(f"{when}{key.lower()}_{i}", f"{key}, layer {i}{', at the start' if when else ''}", unit)
          for when in ("start_", "")
          for key, unit in {"Mean": "", "Deviation": "", "Gradient": "", "Saturation": "%"}.items()
          for i in range(1, 6) if when or key != "Saturation"),
    ),
    shown=10,
)  # fmt: skip
FEATURES = Family(
    "Least squares on random Fourier features",
    (
        Metric("norm", "Norm of the coefficients"),
        Metric("train_error", "Train error, %", "%"),
        Metric("test_error", "Test error, %", "%"),
        Metric("train_loss", "Squared error in training"),
        Metric("test_loss", "Squared error on test samples"),
    ),
    shown=5,
)
TOYS = Family(
    "Wilson's linear problem",
    (
        Metric("train_error", "Train error", "%"),
        Metric("test_error", "Test error", "%"),
        Metric("negatives", "Negatives in the test set", "%"),
        Metric("train_loss", "Train loss"),
    ),
)
# All that the package declares; training runs at the end, whose metrics others have too.
DECLARED = ROBUSTNESS, AGREEMENT, SHARPNESS, STOPPED, SIGNALS, FEATURES, TOYS, WEIGHTS, TRAINED
