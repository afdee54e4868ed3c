"""Claims 7 to 9, 12 and 14: tickets in deep nets, rewinding and fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
from frankle2019.sources import MIKLER, PAPER, RENDA_DATA, REWINDING

from lightning_regs.study import Claim, Measure, difference, per_seed, value, weighted_sum


def of_search(id: str, search: Search, level: int | None, sentence: str, measure: Measure, **about: Any) -> Claim:
    """Make a claim about a search, whose sentence says net and P_m; by default a number above 0 points."""
    if not {"below", "at_least", "within"} & set(about):
        about["above"] = 0
    at = "" if level is None else f", P_m = {search.p_m(level):.1f} %"
    about = {"published": "> 0", "source": PAPER, "unit": "points"} | about
    return Claim(id, f"{search.title}{at}: {sentence}", measure, **about)


def between(search: Search, level: int, other: Search, other_level: int) -> Measure:
    """Points of test accuracy of a level of a search above a level of another."""
    return difference(search.key, other.key, search.metric(level), other.metric(other_level))


def narrower(search: Search, other: Search, level: int) -> Measure:
    """How many points less a level loses against the dense net in one search than in another."""
    return weighted_sum(*(
        (sign * way, each.key, each.metric(at))
        for sign, each in ((1, search), (-1, other))
        for way, at in ((1, level), (-1, 0))
    ))  # fmt: skip


def deep() -> Iterator[Claim]:
    """Claims 7 to 9, 12 and 14: VGG-19 and ResNet-20, rewinding and fine-tuning."""
    none = "there are no tickets: test accuracy is below the dense net's."
    layers = "global pruning loses less than layer-wise pruning."
    yield of_search("7", VGG, 10, none, between(VGG, 10, VGG, 0), below=0, published="< 0")
    yield of_search("7-low", VGG_LOW, 15, "subnetworks stay within 1 point of the dense net.",
                    between(VGG_LOW, 15, VGG_LOW, 0), at_least=-1.0, published="-1 to 0")  # fmt: skip
    yield of_search(
        "7-warm", VGG_WARM, 19, "tickets exceed the dense net's accuracy.", between(VGG_WARM, 19, VGG_WARM, 0)
    )
    yield of_search("9", VGG_WARM, 16, layers, narrower(VGG_WARM, VGG_LAYERS, 16))
    yield of_search("8", RESNET, 6, none, between(RESNET, 6, RESNET, 0), below=0, published="< 0")
    levels = [RESNET_LOW.metric(level) for level in range(4, 8)]
    yield of_search("8-low", RESNET_LOW, None, f"the best ticket's test accuracy, P_m from {RESNET.p_m(4):.1f} to "
                    f"{RESNET.p_m(7):.1f} %.",
                    per_seed(lambda *values: max(values), *((RESNET_LOW.key, level) for level in levels)),
                    within=1, published=89.5, unit="%")  # fmt: skip
    yield of_search("8-dense", RESNET, None, "the dense net's test accuracy.", value(RESNET.key, RESNET.metric(0)),
                    within=1, published=90.5, unit="%")  # fmt: skip
    yield of_search("8-warm", RESNET_WARM, 6, "tickets are as accurate as the dense net at lr 0.1.",
                    between(RESNET_WARM, 6, RESNET, 0), at_least=-0.5, published=0.0)  # fmt: skip
    yield of_search("9-resnet", RESNET_WARM, 9, layers, narrower(RESNET_WARM, RESNET_LAYERS, 9))
    for plain, rewound, level in ((RESNET, RESNET_REWOUND, 8), (VGG, VGG_REWOUND, 15)):
        for k, search in rewound.items():
            yield of_search(f"12-{search.config}-{k}", search, level, f"rewinding to iteration {k:,} is better than "
                            "to the start.",
                            between(search, level, plain, level), source=REWINDING)  # fmt: skip
    # Medians of test accuracy: fine-tuning, weight rewinding, lr rewinding.
    for level, (fine, weight, rate) in ((7, (90.60, 91.67, 91.75)), (10, (89.78, 90.91, 90.76))):
        tuned = RENDA["fine_tune"]
        for name, theirs in (("weight", weight), ("lr", rate)):
            yield of_search(f"14-{name}-{level}", tuned, level, f"{name} rewinding beats fine-tuning (130 epochs "
                            "each).",
                            between(RENDA[name], level, tuned, level), published=round(theirs - fine, 2),
                            source=RENDA_DATA,
                            origin="derived")  # fmt: skip
        yield of_search(f"14-{level}", tuned, level, "lr rewinding is as good as weight rewinding, or better.",
                        between(RENDA["lr"], level, RENDA["weight"], level), at_least=-0.5,
                        published=round(rate - weight, 2), source=(RENDA_DATA, MIKLER), origin="derived")  # fmt: skip
    yield Claim("14-wide", "WRN-16-8: repeated lr rewinding at low sparsity loses accuracy (a finding against claim "
                "14).",
                published="< 0", source=MIKLER, unit="points",
                out_of_reach="no scale has a Wide-ResNet 16-8: many full trainings of 11M weights")  # fmt: skip
