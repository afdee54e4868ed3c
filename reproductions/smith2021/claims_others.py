"""Novack's and Geiping's rows at paper scale, the n-step study's, and the project's own row on MNIST."""

from __future__ import annotations

from smith2021.checks import INF, closed
from smith2021.published import GEIPING, NOVACK, NOVACK_MICRO, NOVACK_NAMES

from lightning_regs.study.paper.measures import Measure, difference, value
from lightning_regs.study.paper.old import Claim

_GPU = "needs the paper scale: ResNets and VGG on all of CIFAR-10, a GPU for days"
_FULL = (
    "needs the paper scale: 3,000 full-batch steps of ResNet-18, each of 50,000 images twice through the network, are "
    "a GPU's day a run"
)


def _row(number: str, sentence: str, cell: str, figure: float, provenance: str, reason: str) -> Claim:
    return Claim(
        id=number,
        sentence=f"{sentence} has this test accuracy on CIFAR-10 (within 1.5 points).",
        paper=figure,
        provenance=provenance,
        unit="%",
        measure=value(cell),
        holds=(figure - 1.5, figure + 1.5),
        scales=("paper",),
        out_of_reach=reason,
    )


def _compared(
    number: str, sentence: str, measure: Measure, paper: float | str, least: float = 1e-9, **fields: str
) -> Claim:
    return Claim(
        id=number,
        sentence=sentence,
        paper=paper,
        provenance=fields.get("provenance", "seen: NOVACK"),
        unit=fields.get("unit", "points"),
        measure=measure,
        holds=(least, INF),
        scales=("paper",),
        out_of_reach=_GPU,
    )


_LARGE = {"small": "batch 128", "large": "batch 5120", "large+micro-128": "batch 5120 + penalty"}

OTHERS = (
    Claim(
        id="MNIST",
        sentence="LeNet on MNIST, penalty on (coefficient = learning rate), is above 98.5 % test accuracy.",
        paper="our own bar; a penalty from stale gradients had stayed at 10 %",
        provenance="the project's seed experiment",
        unit="%",
        measure=value("mnist/lenet-penalty"),
        holds=(98.5, INF),
        scales=("standard",),
        out_of_reach="needs MNIST: standard scale",
    ),
    *(
        _row(
            f"N-{model}-{short}",
            f"Novack et al.: {NOVACK_NAMES[model]}, {name},",
            f"novack-{model}/{short}",
            figure,
            "seen: NOVACK",
            _GPU,
        )
        for model, figures in NOVACK.items()
        for (short, name), figure in zip(_LARGE.items(), figures, strict=True)
    ),
    *(
        _compared(
            f"N-{model}-closed",
            f"Novack et al.: {NOVACK_NAMES[model]}: the penalty recovers most of what the large batch loses (share, at "
            "least half).",
            closed(f"novack-{model}/large+micro-128", f"novack-{model}/large", f"novack-{model}/small"),
            round((figures[2] - figures[1]) / (figures[0] - figures[1]), 2),
            least=0.5,
            provenance="derived from NOVACK",
            unit="",
        )
        for model, figures in NOVACK.items()
    ),
    *(
        _row(
            f"N-vgg11-micro-{micro}",
            f"Novack et al.: VGG-11, batch 5120 with the penalty on micro-batches of {micro},",
            f"novack-vgg11/large+micro-{micro}",
            figure,
            "seen: NOVACK",
            _GPU,
        )
        for micro, figure in NOVACK_MICRO.items()
    ),
    _compared(
        "N-vgg11-micro",
        "Novack et al.: VGG-11: the penalty on micro-batches of 100 helps more than on those of 2500.",
        difference("novack-vgg11/large+micro-100", "novack-vgg11/large+micro-2500"),
        round(NOVACK_MICRO[100] - NOVACK_MICRO[2500], 2),
    ),
    *(
        _row(
            f"G-{name}",
            f"Geiping et al.: full-batch ResNet-18, {how},",
            f"geiping-resnet18/{name}",
            figure,
            "recalled; experiment list seen: FULLBATCH",
            _FULL,
        )
        for name, (figure, how) in GEIPING.items()
    ),
    _compared(
        "8-cifar10-wrn-16-4",
        "CIFAR-10, Wide-ResNet 16-4: at equal effective rate, 2⁻⁴, one large step a minibatch is better than 16 small "
        "ones: discretisation helps.",
        difference("cifar10-wrn-16-4/n1-lr2^-4", "cifar10-wrn-16-4/n16-lr2^-8"),
        "> 0",
        provenance="seen: LECTURE",
    ),
    _compared(
        "8-n-cifar10-wrn-16-4",
        "CIFAR-10, Wide-ResNet 16-4: at equal bare rate, 2⁻⁷, 16 steps a minibatch are worse than one: stochasticity "
        "by itself hurts.",
        difference("cifar10-wrn-16-4/n1-lr2^-7", "cifar10-wrn-16-4/n16-lr2^-7"),
        "> 0",
        provenance="seen: LECTURE",
    ),
)
