"""The searches for tickets in deep nets as plain data: whole chains of levels, each one run of ``find_ticket``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

RESNET_SHARES = (270_896, 267_696)  # all weights, and those that are pruned
VGG_SHARES = (20_024_000, 20_018_880)


@dataclass(frozen=True)
class Search:
    """One chain of levels.

    Attributes:
        key: Its cell's name.
        config: Its configuration file in ``configs/frankle2019``.
        title: Network, data and what is special, for the claims.
        weights: Number of weights of the net, and of those that are pruned, of all of which 20 % go in a round.
        layers: Globs of what is pruned.
        levels: Rounds of pruning.
        lr: The learning rate, after the warm-up.
        warmup: Iterations over which it rises from 0.
        rewind_to: Where a level starts again, as ``find_ticket`` takes it.
        method: ``"weight_rewinding"``, ``"lr_rewinding"`` or ``"fine_tuning"``.
        fine_tune: Length of a level of ``"fine_tuning"``.
        scope: ``"global"`` or ``"layer"``.
        controls: As ``find_ticket`` takes them.
        trials: Seeds.
        overrides: What it changes in the configuration file.
    """

    key: str
    config: str
    title: str
    weights: tuple[int, int]
    layers: tuple[str, ...]
    levels: int
    lr: float
    warmup: int = 0
    rewind_to: str = "0it"
    method: str = "weight_rewinding"
    fine_tune: str | None = None
    scope: str = "global"
    controls: tuple[str, ...] = ()
    trials: int = 3
    overrides: tuple[tuple[str, Any], ...] = ()

    def p_m(self, level: int) -> float:
        """Return the percent of the net's weights that is left at a level, up to the rounding of layers."""
        total, pruned = self.weights
        left = pruned
        for _ in range(level):
            left -= round(0.2 * left)
        return 100 * (total - pruned + left) / total

    def metric(self, level: int, name: str = "test_acc") -> str:
        """Name the column of a level's metric."""
        return f"{name}_{level:02d}"


RESNET = Search(
    key="resnet20/lr0.1",
    config="resnet20",
    title="ResNet-20 on CIFAR-10, lr 0.1",
    weights=RESNET_SHARES,
    layers=("*.conv?",),
    levels=12,
    lr=0.1,
    controls=("reinitialise:1",),
)
RESNET_LOW = replace(RESNET, key="resnet20/lr0.01", title="ResNet-20 on CIFAR-10, lr 0.01", lr=0.01)
RESNET_WARM = replace(
    RESNET, key="resnet20/warmup0.03", title="ResNet-20 on CIFAR-10, lr 0.03, warm-up 20,000", lr=0.03, warmup=20_000
)
RESNET_LAYERS = replace(RESNET_WARM, key="resnet20/warmup0.03-layerwise", scope="layer", controls=())
RESNET_REWOUND = {
    k: replace(RESNET, key=f"resnet20/lr0.1-rewind-{k}", rewind_to=f"{k}it", controls=()) for k in (100, 500, 2000)
}

VGG = Search(
    key="vgg19/lr0.1",
    config="vgg19",
    title="VGG-19 on CIFAR-10, lr 0.1",
    weights=VGG_SHARES,
    layers=("*features*",),
    levels=19,
    lr=0.1,
    controls=("reinitialise:1",),
)
VGG_LOW = replace(VGG, key="vgg19/lr0.01", title="VGG-19 on CIFAR-10, lr 0.01", lr=0.01)
VGG_WARM = replace(
    VGG, key="vgg19/warmup0.1", title="VGG-19 on CIFAR-10, lr 0.1, warm-up 10,000", lr=0.1, warmup=10_000
)
VGG_LAYERS = replace(VGG_WARM, key="vgg19/warmup0.1-layerwise", scope="layer", controls=())
VGG_REWOUND = {k: replace(VGG, key=f"vgg19/lr0.1-rewind-{k}", rewind_to=f"{k}it", controls=()) for k in (100, 1000)}

# Renda et al.: 182 epochs at batch 128, drops at epochs 91 and 136. They choose the length of retraining on validation
# data; here it is 130 epochs, the same for all three, so both kinds of rewinding go back to epoch 52.
_RENDA = Search(
    key="renda/weight-rewinding",
    config="resnet20",
    title="ResNet-20 on CIFAR-10, 182 epochs",
    weights=(270_896, 270_896),
    layers=("*",),
    levels=10,
    lr=0.1,
    rewind_to="52ep",
    overrides=(
        ("model.optimizer.weight_decay", 2e-4),
        ("model.schedule", {"name": "MultiStepLR", "milestones": [91, 136], "gamma": 0.1, "interval": "epoch"}),
        ("trainer.max_epochs", 182),
        ("trainer.max_steps", -1),
    ),
)
RENDA = {
    "weight": _RENDA,
    "lr": replace(_RENDA, key="renda/lr-rewinding", method="lr_rewinding"),
    "fine_tune": replace(_RENDA, key="renda/fine-tuning", method="fine_tuning", rewind_to="0it", fine_tune="130ep"),
}

SEARCHES = (
    *(RESNET, RESNET_LOW, RESNET_WARM, RESNET_LAYERS, *RESNET_REWOUND.values()),
    *(VGG, VGG_LOW, VGG_WARM, VGG_LAYERS, *VGG_REWOUND.values()),
    *RENDA.values(),
)
