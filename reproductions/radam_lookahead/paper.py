"""Liu et al.: On the Variance of the Adaptive Learning Rate and Beyond (1908.03265), with Lookahead (1907.08610)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    difference,
    grid,
    grid_search,
    lower,
    points,
    sweep,
    tuning,
    value,
)

SIGNALS, CIFAR = "configs/radam_lookahead/mnist1d-mlp.yaml", "configs/radam_lookahead/cifar10-resnet20.yaml"
SGD: dict[str, Any] = {"name": "SGD", "momentum": 0.9, "weight_decay": 1e-4}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": SGD, "lookahead": {"name": "Lookahead", "base": SGD, "k": 5, "alpha": 0.8},
    "adam": {"name": "AdamW", "weight_decay": 1e-4}, "warm-up": {"name": "AdamW", "weight_decay": 1e-4},
    "radam": {"name": "RAdam", "weight_decay": 1e-4, "decoupled_weight_decay": True},
}  # fmt: skip
RATES = {name: (0.003, 0.01, 0.03, 0.1, 0.3, 1) if name in ("sgd", "lookahead") else (0.0003, 0.001, 0.003, 0.01, 0.03,
         0.1) for name in OPTIMIZERS}  # fmt: skip
# As the best rate of RAdam was the largest at standard scale; all have as many trials.
MORE = {name: sorted((*rates, *((0.001, 3) if name in ("sgd", "lookahead") else (0.3, 1)))) for name, rates in
        RATES.items()}  # fmt: skip


def _searches(config: str, rates: Mapping[str, Sequence[float]] = RATES, **options: Any) -> dict[str, Tuned]:
    found = {}
    for name, own in OPTIMIZERS.items():
        base = "base." if name == "lookahead" else ""
        changes = {"model.optimizer": own} | ({"model.schedule.warmup": 100} if name == "warm-up" else {})
        found[name] = grid_search(f"{name}/lr-{{lr}}", config, changes, sets=f"model.optimizer.{base}lr",
                                  lr=rates[name], **options)  # fmt: skip
    return found


BEST = _searches(SIGNALS, stack=True)
NAMED = dict(zip(("SGD", "Lookahead", "Adam", "Adam, warm-up", "RAdam"), BEST.values(), strict=True))
_OTHER = {"model.optimizer": None} | {f"model.optimizer.{name}": given for name, given in OPTIMIZERS["radam"].items()}
_PAIR = {"model.optimizer": SGD | {"lr": 0.1}, "other": _OTHER | {"model.optimizer.lr": 0.01}}
SMALL = Cells.of(*BEST.values()) + grid("study/agreement", SIGNALS, _PAIR, seeds=3, stack=True)
WIDE = _searches(SIGNALS, MORE, stack=True)
WIDER = SMALL + [cell for cell in Cells.of(*WIDE.values()) if cell not in SMALL and cell.name[:9] != "lookahead"]
FASHION = {"data.source": "fashion_mnist", "data.train_size": 6000, "model.architecture_args.norm": "batch"}

RADAM = Source("radam", "On the Variance of the Adaptive Learning Rate and Beyond", "Liu, Jiang, He, Chen, Liu, Gao, "
               "Han", 2020, "arxiv.org/abs/1908.03265")  # fmt: skip
LOOKAHEAD = Source("lookahead", "Lookahead Optimizer: k steps forward, 1 step back", "Zhang, Lucas, Hinton, Ba", 2019,
                   "arxiv.org/abs/1907.08610")  # fmt: skip
_radam = partial(lower, source=RADAM)
_lookahead: dict[str, Any] = {"source": LOOKAHEAD, "origin": "recalled"}


def _tuned(best: Mapping[str, Tuned]) -> tuple[Claim, ...]:
    """Compare RAdam at its best rate with others at theirs."""
    return (
        _radam("4", "RAdam does not beat SGD: tuned SGD has the lower test error.", best["sgd"], best["radam"], 0.13,
               origin="recalled", headline=True),
        _radam("4-adam", "Tuned RAdam has a lower test error than tuned Adam.", best["radam"], best["adam"], 0.84,
               origin="recalled", headline=True),
        Claim("4-warm-up", "Tuned RAdam has the test error of tuned Adam with a warm-up, within a point.",
              difference(best["radam"], best["warm-up"], "test_error"), within=1.0, published=-0.09,
              source=RADAM, origin="derived"),
    )  # fmt: skip


CLAIMS = (
    *_tuned(BEST),
    *(replace(claim, id=f"{claim.id}-wide", sentence=f"On wider grids: {claim.sentence}", headline=False,
              on=("standard",)) for claim in _tuned(WIDE)),
    _radam("4-rates", "RAdam is less sensitive to its rate: the mean error over 0.003 to 0.1 is below Adam's.",
           BEST["radam"][2:], BEST["adam"][2:], "> 0", headline=True),
    _radam("4-large", "At a large rate RAdam has a lower test error than Adam with a warm-up of 100 steps.",
           "radam/lr-0.03", "warm-up/lr-0.03", 0.93, origin="derived"),
    Claim("5", "Lookahead around SGD keeps the test error of tuned SGD, within a point.",
          difference(BEST["lookahead"], BEST["sgd"], "test_error"), within=1.0, published=-0.04, headline=True,
          **_lookahead),
    lower("5-rates", "Lookahead around SGD is less sensitive to the rate: its mean error over rates of 0.03 to 1 is "
          "lower than SGD's.", BEST["lookahead"][2:], BEST["sgd"][2:], "> 0", headline=True, **_lookahead),
    Claim("control-fit", "At its best rate SGD fits the training data.", value(BEST["sgd"], "train_acc"), at_least=98,
          kind="control"),
    Claim("4-words", "On IWSLT and WMT, and on a billion words, RAdam is as good as Adam with a warm-up.", source=RADAM,
          out_of_reach="It is about translation and language models"),
)  # fmt: skip
PAPER = Paper(
    "radam_lookahead", RADAM.title, RADAM.authors, 2020, "1908.03265",
    summary="Adam's first steps have rates of high variance; RAdam rectifies them and needs no warm-up. Lookahead lets "
    "slow weights follow the fast ones of another optimizer. Both say that the rate matters less.",
    scales=(
        Scale("quick", "MNIST-1D and an MLP: the claims' direction, 4 minutes on two cores", SMALL, seeds=5,
              replicas=30),
        Scale("standard", "5,000 images of Fashion-MNIST and 1,000 to choose, an MLP: 20 minutes on two cores", WIDER,
              overrides=FASHION, seeds=5, replicas=5),
        Scale("paper", "CIFAR-10 and ResNet-20, 164 epochs: five days on one GPU",
              Cells.of(*_searches(CIFAR).values()), seeds=5),
    ),
    claims=CLAIMS,
    figures=(
        points("errors", "Test error at the best rate", "test_error", NAMED, "Chosen on held-out training data.",
               y="test error (%)"),
        sweep("rates", "Test error by rate", "test_error", {name: dict(each.grid) for name, each in NAMED.items()},
              "In the paper RAdam's error is the same over rates of 0.003 to 0.1.", x="learning rate",
              y="test error (%)", log_x=10),
        tuning("choice", "Error on held-out training data by rate", NAMED, "What the rates were chosen by."),
    ),
    deviations=(
        Deviation("quick", "ResNet-20 on CIFAR-10, 164 epochs", "An MLP of two layers of 128 on 3,000 signals of "
                  "MNIST-1D, 40 epochs", "Only directions can be compared"),
        Deviation("standard", "ResNet-20 on CIFAR-10, 164 epochs", "The MLP with batch norm on 5,000 images of "
                  "Fashion-MNIST", "Only directions can be compared"),
        Deviation("", "Rates of 0.003, 0.01, 0.03 and 0.1 for RAdam and Adam; how the best was chosen is not stated",
                  "Six rates for each optimizer, the best by error on 1,000 held-out training samples", "None known"),
        Deviation("", "A rate of 0.1 is the large one", "0.03, as this net may not train at 0.1", "Not known"),
        Deviation("", "Lookahead with ResNet-18, decay 0.001, falls by a factor of 5", "The net, the decay and the "
                  "falls of RAdam's protocol", "Only directions can be compared"),
    ),
)  # fmt: skip
