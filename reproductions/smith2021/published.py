"""What the papers printed and the figures show. Smith et al.'s own accuracies were not read and are not here."""

from __future__ import annotations

# Novack et al. (2211.15853), test accuracy in %: small batch, large batch, large batch + gradient norm penalty.
NOVACK = {"resnet18": (92.64, 89.83, 91.75), "vgg11": (78.19, 73.90, 77.62)}
NOVACK_NAMES = {"resnet18": "ResNet-18", "vgg11": "VGG-11"}
# The same, VGG-11: micro-batch size -> test accuracy with the penalty.
NOVACK_MICRO = {50: 77.34, 100: 77.23, 1000: 75.73, 2500: 75.64}
# Their penalty is lambda * ||g||^2, four times weaker per unit than ours: (lr of the large batch, lambda).
NOVACK_SETTINGS = {"resnet18": (0.1, 0.01), "vgg11": (0.01, 0.5)}
NOVACK_SMALL_LR = {"resnet18": 0.1, "vgg11": 0.15}

# Geiping et al. (2109.14119), CIFAR-10 validation accuracy in %, recalled and not read again.
GEIPING = {
    "full-batch": (87.36, "trained longer"),
    "full-batch+clip": (93.85, "clipped"),
    "full-batch+clip+penalty": (95.36, "clipped and with the penalty"),
}
