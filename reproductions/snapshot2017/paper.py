"""Huang et al.: Snapshot Ensembles: Train 1, Get M for Free (1704.00109), with SGDR (1608.03983)."""

from functools import partial
from typing import Any

from lightning_regs.procedures.measured import snapshot_ensembles
from lightning_regs.study import (
    AGREE,
    SNAPSHOTS,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    grid,
    lower,
    sweep,
    value,
    weighted_sum,
)


def _run(cycles: int, lr: float = 0.1, **options: Any) -> dict[str, Any]:
    return {"model.optimizer.lr": lr, "snapshots": {"cycles": cycles, **options}}


_CONFIG = "configs/snapshot2017/mnist1d-mlp.yaml"
QUICK = grid("mlp/{run}", _CONFIG, task=SNAPSHOTS, stack=True, run={
    "step": _run(5, schedule="step"),
    "step-0.2": _run(5, 0.2, schedule="step"),
    "single-cycles": _run(5, schedule="step", fresh=True),
    "cosine": _run(1, schedule="cosine"),
    "cyclic-0.1": _run(5),
    "cyclic-0.2": _run(5, 0.2),
    "cyclic-0.2/cycles-2": _run(2, 0.2),
    "cyclic-0.2/cycles-10": _run(10, 0.2),
    "restarts": _run(4, 0.05, growth=2),
})  # fmt: skip
_ONE = {"model.schedule": {"name": "CosineAnnealingLR"}, "other": {"model.optimizer.lr": 0.2}}
QUICK += grid("study/agreement", _CONFIG, _ONE, task=AGREE, stack=True)

PAPER_ITSELF = Source("paper", "Snapshot Ensembles: Train 1, Get M for Free", "Huang, Li, Pleiss, Liu, Hopcroft, "
                      "Weinberger", 2017, "arxiv.org/abs/1704.00109")  # fmt: skip
SGDR = Source("sgdr", "SGDR: Stochastic Gradient Descent with Warm Restarts", "Loshchilov, Hutter", 2017,
              "arxiv.org/abs/1608.03983")  # fmt: skip
STEP, LOW, HIGH, RESTARTS = (f"mlp/{run}" for run in ("step", "cyclic-0.1", "cyclic-0.2", "restarts"))
_five = partial(lower, metric="error_m5", source=PAPER_ITSELF)
_table_1 = partial(_five, where="Table 1, DenseNet-40 on CIFAR-100", origin="derived")
_sgdr = partial(lower, source=SGDR, origin="derived")
_control = partial(lower, published="not compared", metric="error_m5", kind="control")

CLAIMS = (
    _five("1", "Snapshots of five cycles from 0.1 have together a lower test error than one net of the same cost.",
          LOW, STEP, 1.02, than_metric="error_snapshot5", where="Table 1, WRN-32 on CIFAR-10", origin="derived",
          headline=True),
    _five("1-high", "So have snapshots of five cycles from 0.2.", HIGH, STEP, 3.83, than_metric="error_snapshot5",
          where="Table 1, ResNet-110 on CIFAR-100", origin="derived"),
    _table_1("4", "Snapshots of a schedule without cycles have together a higher test error.", HIGH, STEP, 2.70,
             headline=True),
    _table_1("5", "Five nets trained from scratch for a fifth of the length each have together a higher test error.",
             HIGH, "mlp/single-cycles", 0.92, headline=True),
    lower("6", "The second snapshot lowers the error.", HIGH, HIGH, "> 0", "error_m2", "error_m1", source=PAPER_ITSELF,
          where="Figure 4"),
    Claim("6-flat", "The second and third snapshot lower it more than the fourth and fifth.",
          weighted_sum((1, HIGH, "error_m1"), (-2, HIGH, "error_m3"), (1, HIGH, "error_m5")), above=0, published="> 0",
          unit="points", source=PAPER_ITSELF, where="Figure 4"),
    _table_1("7", "Cycles from 0.2 are better than cycles from 0.1.", HIGH, LOW, 1.41, headline=True),
    _five("8-few", "Two cycles are worse than a middling number.", HIGH, f"{HIGH}/cycles-2", 0.99,
          than_metric="error_m2", where="Table 2", origin="derived"),
    _five("8-many", "Ten cycles are worse than a middling number.", HIGH, f"{HIGH}/cycles-10", 0.23,
          than_metric="error_m10", where="Table 2", origin="derived"),
    lower("9", "Softmax outputs of snapshots of cycles correlate less than those of a schedule without cycles.", HIGH,
          STEP, "> 0", "softmax_correlation", unit="", source=PAPER_ITSELF, where="Figure 5", headline=True),
    _sgdr("10", "Warm restarts with cycles that double end with a lower test error than a schedule of steps.",
          RESTARTS, STEP, 0.21, "error_snapshot4", "error_snapshot5", where="Table 1"),
    _sgdr("12", "The last three snapshots of such a run have together a lower test error than the last alone.",
          RESTARTS, RESTARTS, 0.52, "error_m3", "error_m1", where="Table 2"),
    _control("control-cosine", "Snapshots of cycles have together a lower test error than one cosine of all epochs.",
             LOW, "mlp/cosine", than_metric="error_m1"),
    _control("control-rate", "Cycles from 0.2 are better than a net of the same cost that starts at 0.2 too.", HIGH,
             "mlp/step-0.2", than_metric="error_snapshot5"),
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
    scales=(Scale("quick", "MNIST-1D and an MLP with batch norm: the claims' direction, 4 minutes on two cores", QUICK,
                  seeds=5, replicas=5, test_items=1000),),
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
