"""Claims 7, 8, 9, 12 and 14: deep nets, late rewinding, rewinding against fine-tuning. At paper scale only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from frankle2019 import published
from frankle2019.checks import INF, gain_of
from frankle2019.claims import ABOVE_0, OUT_OF_REACH
from frankle2019.searches import (
    RENDA,
    RESNET,
    RESNET_LAYERS,
    RESNET_LOW,
    RESNET_REWOUND,
    RESNET_WARM,
    VGG,
    VGG_LAYERS,
    VGG_LOW,
    VGG_REWOUND,
    VGG_WARM,
    Search,
)

from lightning_regs.study.paper.measures import Measure, per_seed, value
from lightning_regs.study.paper.old import Claim
from lightning_regs.study.paper.rows import Rows

# As good as the dense net: within this many points of test accuracy.
TOLERANCE = 0.5


def _claim(
    number: str,
    sentence: str,
    measure: Measure,
    holds: tuple[float, float] = ABOVE_0,
    paper: float | str = "> 0",
    provenance: str = published.PAPER,
    unit: str = "points",
) -> Claim:
    return Claim(
        id=number,
        sentence=sentence,
        paper=paper,
        provenance=provenance,
        unit=unit,
        measure=measure,
        holds=holds,
        scales=("paper",),
        out_of_reach=OUT_OF_REACH["paper"],
    )


def above_dense(search: Search, level: int, dense: Search | None = None) -> Measure:
    """Points of test accuracy of a level above the dense net: that of the same search, or of another."""
    dense = dense or search
    return gain_of((search.key, search.metric(level)), (dense.key, dense.metric(0)))


def best(search: Search, levels: Sequence[int]) -> Measure:
    """The best test accuracy over some levels."""
    return per_seed(lambda *values: max(values), *((search.key, search.metric(level)) for level in levels))


def width(search: Search, other: Search, level: int) -> Measure:
    """How many points less a level loses against the dense net in one search than in another."""

    def measure(rows: Rows) -> list[float]:
        first, second = (above_dense(each, level)(rows) for each in (search, other))
        return [a - b for a, b in zip(first, second, strict=False)]

    return measure


def _vgg() -> Iterator[Claim]:
    yield _claim(
        "7",
        f"{VGG.title}, 112,480 iterations, P_m = {VGG.p_m(10):.1f} %: there are no tickets: test accuracy is below the "
        "dense net's.",
        above_dense(VGG, 10),
        (-INF, -1e-9),
        paper="< 0",
    )
    yield _claim(
        "7-low",
        f"{VGG_LOW.title}, P_m = {VGG_LOW.p_m(15):.1f} %: subnetworks stay within 1 point of the dense net.",
        above_dense(VGG_LOW, 15),
        (-1.0, INF),
        paper="-1 to 0",
    )
    yield _claim(
        "7-warm",
        f"{VGG_WARM.title}, P_m = {VGG_WARM.p_m(19):.1f} %: tickets exceed the dense net's accuracy.",
        above_dense(VGG_WARM, 19),
    )
    yield _claim(
        "9",
        f"{VGG_WARM.title}, P_m = {VGG.p_m(16):.1f} %: global pruning loses less than layer-wise pruning.",
        width(VGG_WARM, VGG_LAYERS, 16),
    )


def _resnet() -> Iterator[Claim]:
    yield _claim(
        "8",
        f"{RESNET.title}, 30,000 iterations, P_m = {RESNET.p_m(6):.1f} %: there are no tickets: test accuracy is below "
        "the dense net's.",
        above_dense(RESNET, 6),
        (-INF, -1e-9),
        paper="< 0",
    )
    yield _claim(
        "8-low",
        f"{RESNET_LOW.title}, P_m from {RESNET.p_m(4):.1f} to {RESNET.p_m(7):.1f} %: the best ticket's test accuracy "
        "(within 1 point of the paper's).",
        best(RESNET_LOW, range(4, 8)),
        (published.RESNET_LOW - 1, published.RESNET_LOW + 1),
        paper=published.RESNET_LOW,
        unit="%",
    )
    yield _claim(
        "8-dense",
        f"{RESNET.title}: the dense net's test accuracy (within 1 point of the paper's).",
        value(RESNET.key, RESNET.metric(0)),
        (published.RESNET_DENSE - 1, published.RESNET_DENSE + 1),
        paper=published.RESNET_DENSE,
        unit="%",
    )
    yield _claim(
        "8-warm",
        f"{RESNET_WARM.title}, P_m = {RESNET.p_m(6):.1f} %: tickets are as accurate as the dense net at lr 0.1 "
        f"(at most {TOLERANCE:g} points below).",
        above_dense(RESNET_WARM, 6, RESNET),
        (-TOLERANCE, INF),
        paper=published.RESNET_WARM - published.RESNET_DENSE,
    )
    yield _claim(
        "9-resnet",
        f"{RESNET_WARM.title}, P_m = {RESNET.p_m(9):.1f} %: global pruning loses less than layer-wise pruning.",
        width(RESNET_WARM, RESNET_LAYERS, 9),
    )


def _rewinding() -> Iterator[Claim]:
    for plain, rewound, level in ((RESNET, RESNET_REWOUND, 8), (VGG, VGG_REWOUND, 15)):
        for k, search in rewound.items():
            yield _claim(
                f"12-{search.config}-{k}",
                f"{search.title}, P_m = {search.p_m(level):.1f} %: rewinding to iteration {k:,} is better than to the "
                "start.",
                gain_of((search.key, search.metric(level)), (plain.key, plain.metric(level))),
                provenance=published.READING_NOTES,
            )
    for level, density in ((7, 0.210), (10, 0.107)):
        fine, weight, rate = published.RENDA_RESNET20[density]
        tuned = RENDA["fine_tune"]
        column = tuned.metric(level)
        for name, theirs in (("weight", weight), ("lr", rate)):
            yield _claim(
                f"14-{name}-{level}",
                f"{tuned.title}, P_m = {tuned.p_m(level):.1f} %: {name} rewinding beats fine-tuning (130 epochs each).",
                gain_of((RENDA[name].key, column), (tuned.key, column)),
                paper=round(theirs - fine, 2),
                provenance=published.RENDA,
            )
        yield _claim(
            f"14-{level}",
            f"{tuned.title}, P_m = {tuned.p_m(level):.1f} %: lr rewinding is as good as weight rewinding, or better "
            f"(at most {TOLERANCE:g} points below).",
            gain_of((RENDA["lr"].key, column), (RENDA["weight"].key, column)),
            (-TOLERANCE, INF),
            paper=round(rate - weight, 2),
            provenance=published.RENDA_MIKLER,
        )


DEEP_CLAIMS = (
    *_vgg(),
    *_resnet(),
    *_rewinding(),
    Claim(
        id="14-wide",
        sentence="WRN-16-8: repeated lr rewinding at low sparsity loses accuracy (a finding against claim 14).",
        paper="< 0",
        provenance="seen: MIKLER",
        unit="points",
        out_of_reach="no scale has a Wide-ResNet 16-8: many full trainings of 11M weights",
    ),
)
