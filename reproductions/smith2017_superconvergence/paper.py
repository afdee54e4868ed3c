"""Smith & Topin: Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates (1708.07120)."""

from functools import partial
from typing import Any

from lightning_regs.study import (
    Cells,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    Tuned,
    grid,
    grid_search,
    lower,
    points,
    tuning,
    weighted_sum,
)

SIGNALS, CIFAR = (f"configs/smith2017_superconvergence/{name}.yaml" for name in ("mnist1d-mlp", "cifar10-resnet20"))
RATES = (0.01, 0.03, 0.1, 0.3, 1, 3)
# Up to the largest rate from a thirtieth of it, and back: the paper's from 0.1 to 3.
CYCLE = {"name": "OneCycleLR", "interval": "step", "pct_start": 0.5, "anneal_strategy": "linear", "div_factor": 30.0,
         "final_div_factor": 1.0, "cycle_momentum": False}  # fmt: skip


def _searches(
    config: str, short: int, share: int, every: int | None, few: int, stack: bool = False
) -> dict[str, Tuned]:
    """Train for so many epochs or eight times as many; where data are few, for as many iterations."""
    found = {}
    for data, epochs, size in (("all", short, every), ("few", short * share, few)):
        for name, length in (("steps", 8 * epochs), ("short", epochs), ("cycle", epochs)):
            falls = {"name": "MultiStepLR", "gamma": 0.1, "milestones": [length * 5 // 8, length * 7 // 8]}
            schedule, path = (CYCLE, "model.schedule.max_lr") if name == "cycle" else (falls, "model.optimizer.lr")
            changes = {"trainer.max_epochs": length, "model.schedule": schedule} | _of(size)
            cell = f"{data}/{name}/lr-{{lr}}"  # the schedule has the cycle's rate, so that no stack can hold two
            found[f"{data}/{name}"] = grid_search(cell, config, changes, sets=path, lr=RATES, of="largest rate",
                                                  stack=stack and (cell if name == "cycle" else True))  # fmt: skip
    return found


def _of(size: int | None) -> dict[str, Any]:
    return {"data.train_size": size} if size else {}


def _agreement(short: int, every: int | None) -> Cells:
    pair = {"model.schedule": CYCLE | {"max_lr": 0.3}, "trainer.max_epochs": short,
            "other": {"model.schedule": None, "trainer.max_epochs": 8 * short}}  # fmt: skip
    return grid("study/agreement", SIGNALS, pair | _of(every), seeds=3, stack=True)


SMALL, LARGER = (_searches(SIGNALS, *sizes, stack=True) for sizes in ((12, 4, None, 1750), (4, 4, 11_000, 3500)))
FASHION = {"data.source": "fashion_mnist"}

PAPER_ITSELF = Source("paper", "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates",
                      "Smith, Topin", 2017, "arxiv.org/abs/1708.07120")  # fmt: skip
LOGS = Source("logs", "The logs in the author's repository", link="github.com/lnsmith54/super-convergence")
STEPS, SHORT, CYCLED, FEW_STEPS, FEW_SHORT, FEW_CYCLED = SMALL.values()
WAYS = ("long steps", "short steps", "short cycle")
PANELS = {"all samples": dict(zip(WAYS, (STEPS, SHORT, CYCLED), strict=True)),
          "few samples": dict(zip(WAYS, (FEW_STEPS, FEW_SHORT, FEW_CYCLED), strict=True))}  # fmt: skip
_logs = partial(lower, source=LOGS, origin="derived")
_GAIN = ((1.0, FEW_STEPS), (-1.0, FEW_CYCLED), (-1.0, STEPS), (1.0, CYCLED))

CLAIMS = (
    _logs("12", "One cycle has a lower test error in an eighth of the iterations than a rate that falls in steps.",
          CYCLED, STEPS, 2.12, where="ResNet-56", headline=True),
    Claim("12-few", "One cycle's gain over steps of eight times its length is larger with few training samples.",
          weighted_sum(*((sign, cells, "test_error") for sign, cells in _GAIN)), above=0, published=7.27,
          source=LOGS, origin="derived", where="10,000 and 50,000 images", headline=True),
    _logs("12-gain-few", "With few training samples one cycle has a lower test error than steps of eight times its "
          "length.", FEW_CYCLED, FEW_STEPS, 9.39),
    _logs("12-short", "A rate that falls in steps has a higher test error than one cycle of as many iterations.",
          CYCLED, SHORT, "> 0", where="no steps of that length in what was read", headline=True),
    lower("control-length", "Steps have a lower test error in eight times the cycle's iterations than in as many: "
          "those are too few for them.", STEPS, SHORT, kind="control"),
    Claim("13", "A range test shows the largest rate at which a net trains, and a net that can have super-convergence.",
          source=LOGS, out_of_reach="It is read off a picture; range_test draws it"),
)  # fmt: skip
PAPER = Paper(
    "smith2017_superconvergence", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2017, "1708.07120",
    summary="With one cycle of a very large learning rate, residual nets train in an eighth of the iterations, and "
    "generalise better, the more so the fewer the samples.",
    scales=(
        Scale("quick", "MNIST-1D and an MLP with batch norm: the claims' direction, 4 minutes on two cores",
              Cells.of(*SMALL.values()) + _agreement(12, None), seeds=5, replicas=30),
        Scale("standard", "10,000 images of Fashion-MNIST and 1,000 to choose, the MLP: 15 minutes on two cores",
              Cells.of(*LARGER.values()) + _agreement(4, 11_000), overrides=FASHION, seeds=5, replicas=5),
        Scale("paper", "CIFAR-10 and ResNet-20: two weeks on one GPU",
              Cells.of(*_searches(CIFAR, 222, 5, None, 14_000).values()), seeds=3),
    ),
    claims=CLAIMS,
    figures=(
        points("errors", "Test error at the best rate", "test_error", PANELS, "Short is an eighth of the "
               "iterations.", y="test error (%)"),
        tuning("rates", "Error on held-out training data by the largest rate", PANELS, "Short is an eighth of the "
               "iterations."),
    ),
    deviations=(
        Deviation("quick", "ResNets on CIFAR-10, batches of 1,000, 10,000 and 80,000 iterations", "An MLP with batch "
                  "norm on 3,000 signals of MNIST-1D, batches of 100, 360 and 2,880 iterations", "Only directions can "
                  "be compared"),
        Deviation("paper", "ResNet-20, -56 and -110", "ResNet-20", "The gain to compare with is 1.78 points, not 2.12"),
        Deviation("standard", "ResNets on CIFAR-10", "The MLP on 10,000 images of Fashion-MNIST, 400 and "
                  "3,200 iterations", "Only directions can be compared"),
        Deviation("", "Rates of 0.35, and 0.1 to 3 in the cycle", "Six rates for each schedule, the best by error on "
                  "held-out training data; a cycle begins at a thirtieth", "Their steps may have been tuned less"),
        Deviation("", "10,000 of 50,000 images are few", "A quarter: 750 of 3,000 signals, 2,500 of 10,000 images; "
                  "a fifth at paper scale, 9,000 of 45,000", "None known"),
        Deviation("", "A moving average of batch norm of 0.95 in the cycle, and 0.999 in steps", "0.9 in both",
                  "Steps may gain"),
    ),
)  # fmt: skip
