"""What the papers printed, with where each figure was seen."""

from __future__ import annotations

PAPER = "seen: PAPER"
ABSTRACT = "seen: ABSTRACT of 1905.01067"
KR_NOTES = "seen: KR-NOTES"
KR_UBER = "seen: KR-NOTES, UBER README"
LMC = "seen: ABSTRACT of 1912.05671"
SURVEY = "seen: SURVEY"
READING_NOTES = "seen: two reading notes agreeing on 0.1-7 %"
RENDA = "computed from seen: RENDA data"
RENDA_MIKLER = "seen: RENDA data, MIKLER"
RECALLED = "recalled"
DERIVED = "derived"

# P_m after n rounds on LeNet, in percent, as the curves of the paper have them [derived: all its values lie on it].
LENET_P_M = (
    *(100, 80.0, 64.1, 51.3, 41.1, 32.9, 26.3, 21.1, 16.9, 13.5),
    *(10.8, 8.7, 7.0, 5.6, 4.5, 3.6, 2.9, 2.3, 1.8, 1.5),
)

# LeNet: the least validation loss this much earlier than the dense net's, in percent, at P_m = 21 %.
EARLIER = 38.0
# LeNet: points of test accuracy above the dense net's, at early stopping (P_m = 13.5 %) and after training.
GAIN, GAIN_AT_END = 0.3, 0.35
# LeNet, P_m = 21 %: the ticket's minimum comes this many times sooner than a reinitialised one's; points above it.
FASTER_THAN_REINIT, ABOVE_REINIT = 2.51, 0.5
# Conv nets: key of the net -> (times faster than dense, points above dense).
CONV = {"conv2": (3.5, 3.4), "conv4": (3.5, 3.5), "conv6": (2.5, 3.3)}
# Conv nets with dropout: (points that dropout adds to the dense net, points that pruning adds to that).
DROPOUT = {"conv2": (2.1, 2.3), "conv4": (3.0, 4.6), "conv6": (2.4, 4.7)}
# ResNet-18 (the CIFAR net of 20 layers), test accuracy: dense at 0.1; the best ticket at 0.01; with warm-up at 0.03.
RESNET_DENSE, RESNET_LOW, RESNET_WARM = 90.5, 89.5, 90.5

# Error of the middle of the line between two runs, above that of its ends, below which they count as connected (%).
STABLE = 2.0

# Zhou et al., test accuracy in % of masks on weights that are never trained: net -> (how the mask was found, weights).
# "rescaled" is learned with dynamic weight rescaling. The table is recalled but for the four figures of READ.
_KINDS = [(how, weights) for how in ("untrained", "learned", "rescaled") for weights in ("initial", "signed_constant")]
SUPERMASKS = {
    "lenet": dict(zip(_KINDS, (79.3, 86.0, 95.3, 96.4, 97.8, 98.0), strict=True)),
    "conv4": dict(zip(_KINDS, (23.7, 39.7, 65.4, 66.2, 71.7, 72.5), strict=True)),
    "conv6": dict(zip(_KINDS, (24.0, 41.0, 65.3, 65.4, 76.3, 76.5), strict=True)),
}
READ = {
    ("lenet", "untrained", "signed_constant"): ABSTRACT,
    ("conv6", "untrained", "signed_constant"): ABSTRACT,
    ("lenet", "learned", "initial"): KR_NOTES,
    ("conv4", "learned", "initial"): KR_NOTES,
}

# Renda et al., ResNet-20, iterative, median test accuracy in %: density -> (fine-tune, weight rewind, lr rewind).
RENDA_RESNET20 = {0.512: (91.34, 91.94, 92.01), 0.210: (90.60, 91.67, 91.75), 0.107: (89.78, 90.91, 90.76)}
