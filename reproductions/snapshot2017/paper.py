"""Huang et al.: Snapshot Ensembles: Train 1, Get M for Free (1704.00109), with SGDR (1608.03983)."""

from functools import partial
from typing import Any

from lightning_regs.procedures.measured import snapshot_ensembles
from lightning_regs.study import (
    SNAPSHOTS,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    across,
    grid,
    lower,
    sweep,
    value,
    weighted_sum,
)


def _run(cycles: int, lr: float = 0.1, **options: Any) -> dict[str, Any]:
    return {"model.optimizer.lr": lr, "snapshots": {"cycles": cycles, **options}}


def _runs(m: int) -> dict[str, dict[str, Any]]:
    """Trainings of one length with M cycles; without, the rate falls in steps, or once along a cosine."""
    return {"step": _run(m, schedule="step"), "step-0.2": _run(m, 0.2, schedule="step"),
            "single-cycles": _run(m, schedule="step", fresh=True), "cosine": _run(1, schedule="cosine"),
            "cyclic-0.1": _run(m), "cyclic-0.2": _run(m, 0.2),
            "cyclic-0.2/cycles-2": _run(2, 0.2), "cyclic-0.2/cycles-10": _run(10, 0.2)}  # fmt: skip


SIGNALS, CIFAR = "configs/snapshot2017/mnist1d-mlp.yaml", "configs/snapshot2017/cifar10-resnet110.yaml"
RESTARTS = _run(4, 0.05, growth=2)
QUICK = grid("mlp/{run}", SIGNALS, task=SNAPSHOTS, stack=True, run=_runs(5) | {"restarts": RESTARTS})
_ONE = {"model.schedule": {"name": "CosineAnnealingLR"}, "other": {"model.optimizer.lr": 0.2}}
QUICK += grid("study/agreement", SIGNALS, _ONE, stack=True)
NARROW = {"model.architecture": "resnet18", "model.architecture_args": {"width": 8}, "data.train_size": 5000,
          "trainer.max_epochs": 40, "trainer.precision": "32-true"}  # fmt: skip
STANDARD = grid("resnet18/{run}", CIFAR, NARROW, task=SNAPSHOTS, run=_runs(5))
STANDARD = STANDARD.only("*/step", "*/single-cycles", "*/cosine", "*/cyclic-0.1", "*/cyclic-0.2")
DENSENET = {"model.architecture": "densenet", "model.architecture_args": {"depth": 40, "width": 12},
            "data.source": "cifar100", "trainer.max_epochs": 300}  # fmt: skip
# SGDR's net and recipe; restarts after 10, 30 and 70 epochs.
WRN = {"model.architecture": "wide_resnet", "model.architecture_args": {"depth": 28, "width": 10, "norm": "batch"},
       "model.optimizer.nesterov": False, "model.optimizer.weight_decay": 5e-4, "data.batch_size": 128}  # fmt: skip
STEPS = {"model.schedule": {"name": "MultiStepLR", "milestones": [60, 120, 160], "gamma": 0.2}}
FULL = grid("densenet40/{run}", CIFAR, DENSENET, task=SNAPSHOTS, run=_runs(6))
FULL += grid("wrn-28-10/step", CIFAR, WRN | STEPS)
FULL += grid("wrn-28-10/restarts", CIFAR, WRN | RESTARTS | {"trainer.max_epochs": 150}, task=SNAPSHOTS)
FULL += grid("resnet110/{run}", CIFAR, task=SNAPSHOTS, run=_runs(5)).only("*/step", "*/cyclic-0.1")

PAPER_ITSELF = Source("paper", "Snapshot Ensembles: Train 1, Get M for Free", "Huang, Li, Pleiss, Liu, Hopcroft, "
                      "Weinberger", 2017, "arxiv.org/abs/1704.00109")  # fmt: skip
SGDR = Source("sgdr", "SGDR: Stochastic Gradient Descent with Warm Restarts", "Loshchilov, Hutter", 2017,
              "arxiv.org/abs/1608.03983")  # fmt: skip
# Of claims 1 and 1-high: how much more error one net of the same cost has in the paper, and where.
DENSE = "DenseNet-40 on CIFAR-100"
OTHERS, SAME = ((1.02, "WRN-32 on CIFAR-10"), (3.83, "ResNet-110 on CIFAR-100")), ((1.08, DENSE), (2.49, DENSE))
_quoted = partial(lower, source=PAPER_ITSELF, origin="derived")
_sgdr = partial(lower, source=SGDR, origin="derived")


def _claims(net: str, m: int, gains: Any = OTHERS, sgdr: str = "", slow: str = "error_snapshot5") -> tuple[Claim, ...]:
    """Make the claims on the runs of a net, and on warm restarts of the same or another one."""
    step, low, high = (f"{net}/{run}" for run in ("step", "cyclic-0.1", "cyclic-0.2"))
    steps, restarts = f"{sgdr or net}/step", f"{sgdr or net}/restarts"
    all_m, single, (many, part) = f"error_m{m}", f"error_snapshot{m}", {5: ("five", "fifth"), 6: ("six", "sixth")}[m]
    (gain, of), (gain_high, of_high) = gains
    table_1 = partial(_quoted, metric=all_m, where=f"Table 1, {DENSE}")
    read = partial(lower, source=PAPER_ITSELF)
    control = partial(lower, published="not compared", metric=all_m, kind="control")
    return (
        _quoted("1", f"Snapshots of {many} cycles from 0.1 have together a lower test error than one net of the same "
                "cost.", low, step, gain, all_m, single, where=f"Table 1, {of}", headline=True),
        _quoted("1-high", f"Snapshots of {many} cycles from 0.2 have together a lower test error than one net of the "
                "same cost.", high, step, gain_high, all_m, single,
                where=f"Table 1, {of_high}"),
        table_1("4", "Snapshots of a schedule without cycles have together a higher test error than those of cycles "
                "from 0.2.", high, step, 2.70, headline=True),
        table_1("5", f"{many.capitalize()} nets trained from scratch for a {part} of the length each have together a "
                f"higher test error than snapshots of {many} cycles from 0.2.", high, f"{net}/single-cycles", 0.92,
                headline=True),
        read("6", "The last two snapshots of cycles from 0.2 have together a lower test error than the last alone.",
             high, high, "> 0", "error_m2", "error_m1", where="Figure 4"),
        Claim("6-flat", "The second and third snapshot in the mean lower its error more than the fourth and fifth.",
              weighted_sum((1, high, "error_m1"), (-2, high, "error_m3"), (1, high, "error_m5")), above=0,
              published="> 0", source=PAPER_ITSELF, where="Figure 4"),
        table_1("7", "Snapshots of cycles from 0.2 have together a lower test error than those of cycles from 0.1.",
                high, low, 1.41, headline=True),
        _quoted("8-few", f"Snapshots of two cycles have together a higher test error than those of {many}.", high,
                f"{high}/cycles-2", 0.99, all_m, "error_m2", where="Table 2"),
        _quoted("8-many", f"Snapshots of ten cycles have together a higher test error than those of {many}.", high,
                f"{high}/cycles-10", 0.23, all_m, "error_m10", where="Table 2"),
        read("9", "Softmax outputs of snapshots of cycles from 0.2 correlate less than those of a schedule without "
             "cycles.", high, step, "> 0", "softmax_correlation", where="Figure 5", headline=True),
        _sgdr("10", "Warm restarts with cycles that double end with a lower test error than a schedule of steps.",
              restarts, steps, 0.21, "error_snapshot4", slow, where="Table 1"),
        _sgdr("12", "The last three snapshots of cycles that double have together a lower test error than the last.",
              restarts, restarts, 0.52, "error_m3", "error_m1", where="Table 2"),
        control("control-cosine", "Snapshots of cycles from 0.1 have together a lower test error than one cosine of "
                "all epochs.", low, f"{net}/cosine", than_metric="error_m1"),
        control("control-rate", "Snapshots of cycles from 0.2 have together a lower test error than one net of the "
                "same cost that starts at 0.2 too.", high, f"{net}/step-0.2", than_metric=single),
    )  # fmt: skip


CLAIMS = (
    *across(quick=_claims("mlp", 5),
            standard=[c for c in _claims("resnet18", 5) if not c.measure.lacks([cell.name for cell in STANDARD])],
            paper=_claims("densenet40", 6, SAME, "wrn-28-10", "test_error")),
    _quoted("2", "ResNet-110 on CIFAR-10 is the one exception at 0.1: 5.73 against 5.52 %.", "resnet110/step",
            "resnet110/cyclic-0.1", 0.21, "error_snapshot5", "error_m5", where="Table 1", on=("paper",)),
    Claim("9-basins", "On the line between snapshots of late cycles there is a barrier.", source=PAPER_ITSELF,
          where="Figure 5", out_of_reach="A picture without a number"),
    Claim("11", "Warm restarts reach a competitive accuracy two to four times earlier.", source=SGDR, origin="recalled",
          out_of_reach="Recalled, without a definition of competitive"),
)  # fmt: skip

PAPER = Paper(
    "snapshot2017", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2017, "1704.00109",
    summary="A learning rate that falls to zero in cycles leaves a different net at the end of each, and together they "
    "make fewer errors than one net that trained as long.",
    scales=(
        Scale("quick", "MNIST-1D and an MLP with batch norm: the claims' direction, 4 minutes on two cores", QUICK,
              seeds=5, replicas=5),
        Scale("standard", "5,000 images of CIFAR-10, ResNet-18 at an eighth of its width, 40 epochs: 90 minutes on two "
              "cores, an estimate; five on one H200", STANDARD, seeds=5),
        Scale("paper", "DenseNet-40 on CIFAR-100, ResNet-110, WRN-28-10 on CIFAR-10: 3 days on a GPU", FULL, jobs=1),
    ),
    claims=CLAIMS,
    metrics=(snapshot_ensembles(10),),
    figures=(sweep("m", "Test error of the last m snapshots", "error_m1", {
            title: {label: {m: value(f"{net}/{run}", f"error_m{m}") for m in range(1, n + 1)} for label, run in
                    (("cycles from 0.1", "cyclic-0.1"), ("cycles from 0.2", "cyclic-0.2"), ("no cycles", "step"))}
            for title, net, n in (("MNIST-1D", "mlp", 5), ("CIFAR-10", "resnet18", 5), ("CIFAR-100", "densenet40", 6))
        }, "Means over seeds. In the paper the second and third snapshot lower the error most.",
        x="snapshots, the last m", y="test error (%)"),),
    deviations=(
        Deviation("quick", "ResNet-110, WRN-32, DenseNets on four data sets, 200 to 300 epochs, 40 to 50 a cycle",
                  "An MLP of two layers of 256 with batch norm on 4,000 signals of MNIST-1D, 40 epochs, 8 a cycle",
                  "Only directions can be compared; snapshots may be alike"),
        Deviation("quick", "SGDR: plain momentum, weight decay 5e-4, batch 128", "Nesterov's, 1e-4, 64", "Small"),
        Deviation("standard", "The same nets, 200 to 300 epochs of 50,000 images, 40 to 50 a cycle", "ResNet-18 at an "
                  "eighth of its width, 40 epochs of 5,000 images of CIFAR-10, 8 a cycle", "Snapshots may be alike"),
        Deviation("paper", "Five nets on four data sets", "DenseNet-40 on CIFAR-100, where the paper varies most; "
                  "ResNet-110 where it is the exception", "Other cells of Table 1 are not measured"),
        Deviation("paper", "SGDR: less each pixel's mean; presumably float32", "Channels scaled; bf16", "Small"),
        Deviation("", "An ensemble of M costs M passes in prediction", "So here: the training costs are equal", "None"),
    ),
)  # fmt: skip
