"""Huang et al.: Snapshot Ensembles: Train 1, Get M for Free (1704.00109), with SGDR (1608.03983)."""

from typing import Any

from lightning_regs.procedures.measured import snapshot_ensembles
from lightning_regs.study import (
    AGREE,
    SNAPSHOTS,
    Cell,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    difference,
    resolve,
    sweep,
    value,
    weighted_sum,
)

_CONFIG = "configs/snapshot2017/mnist1d-mlp.yaml"


def _cell(name: str, cycles: int, lr: float = 0.1, **options: Any) -> Cell:
    """Snapshots of one training, the seeds together."""
    config = resolve(_CONFIG, {"model.optimizer.lr": lr}) | {"snapshots": {"cycles": cycles, **options}}
    return Cell(f"mlp/{name}", SNAPSHOTS, config, stack=name)


_OTHER = resolve(_CONFIG, {"model.schedule": {"name": "CosineAnnealingLR"}}) | {"other": {"model.optimizer.lr": 0.2}}
QUICK = (
    _cell("step", 5, schedule="step"),
    _cell("step-0.2", 5, 0.2, schedule="step"),
    _cell("single-cycles", 5, schedule="step", fresh=True),
    _cell("cosine", 1, schedule="cosine"),
    _cell("cyclic-0.1", 5),
    _cell("cyclic-0.2", 5, 0.2),
    _cell("cyclic-0.2/cycles-2", 2, 0.2),
    _cell("cyclic-0.2/cycles-10", 10, 0.2),
    _cell("restarts", 4, 0.05, growth=2),
    Cell("study/agreement", AGREE, _OTHER, stack="agreement"),
)

PAPER_ITSELF = Source("paper", "Snapshot Ensembles: Train 1, Get M for Free", "Huang, Li, Pleiss, Liu, Hopcroft, "
                      "Weinberger", 2017, "arxiv.org/abs/1704.00109")  # fmt: skip
SGDR = Source("sgdr", "SGDR: Stochastic Gradient Descent with Warm Restarts", "Loshchilov, Hutter", 2017,
              "arxiv.org/abs/1608.03983")  # fmt: skip
STEP, LOW, HIGH, RESTARTS = (f"mlp/{run}" for run in ("step", "cyclic-0.1", "cyclic-0.2", "restarts"))


def _better(id: str, sentence: str, worse: tuple[str, str], better: tuple[str, str], published: float | str,
            **more: Any) -> Claim:  # fmt: skip
    """Our error of a cell and metric less that of another, in points, is above 0."""
    more = {"source": PAPER_ITSELF, "unit": "points"} | more
    return Claim(
        id, sentence, difference(worse[0], better[0], worse[1], better[1]), above=0, published=published, **more
    )


CLAIMS = (
    _better("1", "Snapshots of five cycles from 0.1 have together a lower test error than one net of the same cost.",
            (STEP, "error_snapshot5"), (LOW, "error_m5"), 1.02, where="Table 1, WRN-32 on CIFAR-10", origin="derived",
            headline=True),
    _better("1-high", "So have snapshots of five cycles from 0.2.", (STEP, "error_snapshot5"), (HIGH, "error_m5"), 3.83,
            where="Table 1, ResNet-110 on CIFAR-100", origin="derived"),
    _better("4", "Snapshots of a schedule without cycles have together a higher test error.", (STEP, "error_m5"),
            (HIGH, "error_m5"), 2.70, where="Table 1, DenseNet-40 on CIFAR-100", origin="derived", headline=True),
    _better("5", "Five nets trained from scratch for a fifth of the length each have together a higher test error.",
            ("mlp/single-cycles", "error_m5"), (HIGH, "error_m5"), 0.92, where="Table 1, DenseNet-40 on CIFAR-100",
            origin="derived", headline=True),
    _better("6", "The second snapshot lowers the error.", (HIGH, "error_m1"), (HIGH, "error_m2"), "> 0",
            where="Figure 4"),
    Claim("6-flat", "The second and third snapshot lower it more than the fourth and fifth.",
          weighted_sum((1, HIGH, "error_m1"), (-2, HIGH, "error_m3"), (1, HIGH, "error_m5")), above=0, published="> 0",
          unit="points", source=PAPER_ITSELF, where="Figure 4"),
    _better("7", "Cycles from 0.2 are better than cycles from 0.1.", (LOW, "error_m5"), (HIGH, "error_m5"), 1.41,
            where="Table 1, DenseNet-40 on CIFAR-100", origin="derived", headline=True),
    _better("8-few", "Two cycles are worse than a middling number.", (f"{HIGH}/cycles-2", "error_m2"),
            (HIGH, "error_m5"), 0.99, where="Table 2", origin="derived"),
    _better("8-many", "Ten cycles are worse than a middling number.", (f"{HIGH}/cycles-10", "error_m10"),
            (HIGH, "error_m5"), 0.23, where="Table 2", origin="derived"),
    _better("9", "Softmax outputs of snapshots of cycles correlate less than those of a schedule without cycles.",
            (STEP, "softmax_correlation"), (HIGH, "softmax_correlation"), "> 0", unit="", where="Figure 5",
            headline=True),
    _better("10", "Warm restarts with cycles that double end with a lower test error than a schedule of steps.",
            (STEP, "error_snapshot5"), (RESTARTS, "error_snapshot4"), 0.21, source=SGDR, where="Table 1",
            origin="derived"),
    _better("12", "The last three snapshots of such a run have together a lower test error than the last alone.",
            (RESTARTS, "error_m1"), (RESTARTS, "error_m3"), 0.52, source=SGDR, where="Table 2", origin="derived"),
    _better("control-cosine", "Snapshots of cycles have together a lower test error than one cosine of all epochs.",
            ("mlp/cosine", "error_m1"), (LOW, "error_m5"), "not compared", kind="control", source=()),
    _better("control-rate", "Cycles from 0.2 are better than a net of the same cost that starts at 0.2 too.",
            ("mlp/step-0.2", "error_snapshot5"), (HIGH, "error_m5"), "not compared", kind="control", source=()),
    Claim("2", "ResNet-110 on CIFAR-10 is the one exception at 0.1: 5.73 against 5.52 %.", source=PAPER_ITSELF,
          where="Table 1", out_of_reach="It is about that net, which the scales here do not train"),
    Claim("9-basins", "On the line between snapshots of late cycles there is a barrier.", source=PAPER_ITSELF,
          where="Figure 5", out_of_reach="A picture without a number"),
    Claim("11", "Warm restarts reach a competitive accuracy two to four times earlier.", source=SGDR, origin="recalled",
          out_of_reach="Recalled, without a definition of competitive"),
)  # fmt: skip

PAPER = Paper(
    "snapshot2017", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2017, "1704.00109",
    summary="A learning rate that falls to zero in cycles leaves a different net at the end of each, and together they "
    "make fewer errors than one net that trained as long.",
    scales=(Scale("quick", "MNIST-1D and an MLP with batch norm: the claims' direction", QUICK, seeds=5, replicas=5,
                  budget="4 minutes on two cores", test_items=1000),),
    claims=CLAIMS,
    metrics=(snapshot_ensembles(10),),
    figures=(sweep("m", "Test error of the last m snapshots", "error_m1",
                   {label: {m: value(cell, f"error_m{m}") for m in range(1, 6)} for label, cell in
                    (("cycles from 0.1", LOW), ("cycles from 0.2", HIGH), ("no cycles", STEP))},
                   "Means over seeds. In the paper the second and third snapshot lower the error most.",
                   x="snapshots, the last m", y="test error (%)"),),
    deviations=(
        Deviation("quick", "ResNet-110, WRN-32, DenseNets on CIFAR, SVHN and Tiny ImageNet, 200 to 300 epochs",
                  "An MLP of two layers of 256 with batch norm on 4,000 signals of MNIST-1D, 40 epochs",
                  "Only directions can be compared"),
        Deviation("quick", "Cycles M of 5 or 6 of 40 to 50 epochs", "Five of 8 epochs", "Snapshots may be alike"),
        Deviation("quick", "SGDR: plain momentum, weight decay 5e-4, batch 128", "Nesterov's, 1e-4 and 64, as for the "
                  "snapshots", "Small"),
        Deviation("", "An ensemble of M costs M passes in prediction", "So here: the training costs are equal", "None"),
    ),
)  # fmt: skip
