"""Loshchilov & Hutter: Decoupled Weight Decay Regularization (1711.05101)."""

import statistics
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
    across,
    grid,
    grid_search,
    lower,
    per_seed,
    percent_lower,
    points,
    tuning,
)

SIGNALS, CIFAR = "configs/loshchilov_adamw/mnist1d-mlp.yaml", "configs/loshchilov_adamw/cifar10.yaml"
# Rates, and decays of each method; torch's AdamW multiplies its decay by the rate, the paper's does not.
Plane = dict[str, tuple[float, ...]]
OURS: Plane = {"rates": (0.003, 0.01, 0.03, 0.1), "l2": (3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
               "adamw": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)}  # fmt: skip
THEIRS: Plane = {"rates": (3e-4, 1e-3, 3e-3, 1e-2), "l2": (3e-6, 1e-5, 3e-5, 1e-4, 3e-4),
                 "adamw": (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)}  # fmt: skip
# As best rates and decays were the smallest at standard scale.
WIDER: Plane = {"rates": (3e-4, 1e-3, *OURS["rates"]), "l2": (1e-5, *OURS["l2"]), "adamw": (1e-4, *OURS["adamw"])}
NAMES = {"l2": "Adam", "adamw": "AdamW"}


def _sets(method: str, lr: float, decay: float) -> dict[str, float]:
    return {"model.optimizer.lr": lr, "model.optimizer.weight_decay": decay / lr if method == "AdamW" else decay}


def _searches(config: str, plane: Plane, epochs: int, **options: Any) -> dict[str, Tuned]:
    """Tune both methods over rates and decays, and the rate of each schedule of AdamW at its middle decay."""
    falls = {"name": "MultiStepLR", "interval": "epoch", "gamma": 0.1,
             "milestones": [round(epochs * share) for share in (0.3, 0.6, 0.8)]}  # fmt: skip
    middle, options = plane["adamw"][len(plane["adamw"]) // 2], options | {"lr": plane["rates"]}
    planes = {
        of: grid_search(f"{of}/lr-{{lr}}/decay-{{decay}}", config, {"model.optimizer.name": name}, method=name,
                        sets=partial(_sets, name), of=("learning rate", "weight decay"), **options, decay=plane[of])
        for of, name in NAMES.items()
    }  # fmt: skip
    return planes | {
        schedule: grid_search(f"{of}/lr-{{lr}}/decay-{middle:g}", config, changes, method=schedule,
                              sets=partial(_sets, "AdamW", decay=middle), **options)
        for schedule, of, changes in (("cosine", "adamw", {}), ("fixed", "fixed", {"model.schedule": None}),
                                      ("step", "step", {"model.schedule": falls}))
    }  # fmt: skip


def _cost(errors: tuple[float, ...], rates: int) -> float:
    """Return how much more error the decay that is best on average over the rates has than that best at each rate."""
    size = len(errors) // rates
    lines = [errors[at * size : (at + 1) * size] for at in range(rates)]
    shared = min(range(size), key=lambda decay: statistics.fmean(line[decay] for line in lines))
    return statistics.fmean(line[shared] - min(line) for line in lines)


SMALL, FULL = _searches(SIGNALS, OURS, 30, stack=True), _searches(CIFAR, THEIRS, 100)
WIDE = _searches(SIGNALS, WIDER, 30, stack=True)
_PAIR = {"model.optimizer.lr": 0.01, "model.optimizer.weight_decay": 0.3,
         "other": {"model.optimizer.name": "Adam", "model.optimizer.weight_decay": 3e-4}}  # fmt: skip
CELLS = Cells.of(*SMALL.values()) + grid("study/agreement", SIGNALS, _PAIR, seeds=3, stack=True)
MORE = CELLS + [cell for cell in Cells.of(*WIDE.values()) if cell not in CELLS]
FASHION = {"data.source": "fashion_mnist", "data.train_size": 6000, "model.architecture_args.norm": "batch"}

PAPER_ITSELF = Source("paper", "Decoupled Weight Decay Regularization", "Loshchilov, Hutter", 2019,
                      "arxiv.org/abs/1711.05101")  # fmt: skip
_read = partial(lower, source=PAPER_ITSELF, published="> 0")


def _claims(searches: dict[str, Tuned]) -> tuple[Claim, ...]:
    l2, adamw, cosine, fixed, step = searches.values()

    def coupled(*errors: float) -> float:
        half = len(errors) // 2
        return _cost(errors[:half], len(cosine)) - _cost(errors[half:], len(cosine))

    return (
        Claim("6", "Tuned AdamW has a lower test error than Adam with a tuned L2 term, by this share of it.",
              percent_lower(adamw, l2, "test_error"), above=0, published=15, source=PAPER_ITSELF, headline=True),
        Claim("7", "With L2 in Adam the best decay depends more on the rate than in AdamW: one decay for all rates "
              "costs more error.", per_seed(coupled, *((cell, "val_error") for each in (l2, adamw) for cell in each)),
              above=0, published="> 0", unit="points", source=PAPER_ITSELF, headline=True),
        _read("8", "AdamW with a cosine has a lower test error than at a fixed rate.", cosine,
              fixed, headline=True),
        _read("8-step", "AdamW with a cosine has a lower test error than with a rate that falls in steps.", cosine,
              step),
    )  # fmt: skip


CLAIMS = (
    *across(quick=_claims(SMALL), standard=_claims(SMALL), paper=_claims(FULL)),
    *(replace(claim, id=f"{claim.id}-wide", sentence=f"On wider grids: {claim.sentence}", headline=False,
              on=("standard",)) for claim in _claims(WIDE) if claim.id != "7"),
    lower("control-decay", "At a rate of 0.01 AdamW has a lower test error with a decay of 0.003 than with 0.0003: "
          "decay helps it.", "adamw/lr-0.01/decay-0.003", "adamw/lr-0.01/decay-0.0003", kind="control",
          on=("quick", "standard")),
    Claim("9", "With warm restarts AdamW is good at any time of the training.", source=PAPER_ITSELF,
          out_of_reach="Restarts are measured in snapshot2017"),
    Claim("10", "One normalized decay fits trainings of different length.", source=PAPER_ITSELF,
          out_of_reach="It takes grids of trainings of several lengths"),
)  # fmt: skip


NAMED = ("Adam with L2", "AdamW", "AdamW, cosine, one decay", "AdamW, fixed", "AdamW, step")
BEST = dict(zip(NAMED, SMALL.values(), strict=True))
PAPER = Paper(
    "loshchilov_adamw", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2019, "1711.05101",
    summary="An L2 term in Adam's loss is no weight decay, as Adam divides it by the size of gradients. Decay beside "
    "the step generalises better, and its best strength does not hang on the rate.",
    scales=(
        Scale("quick", "MNIST-1D and an MLP: the claims' direction, 4 minutes on two cores", CELLS, seeds=5,
              replicas=100),
        Scale("standard", "5,000 images of Fashion-MNIST and 1,000 to choose, an MLP: 25 minutes on two cores", MORE,
              overrides=FASHION, seeds=5, replicas=5),
        Scale("paper", "CIFAR-10 and WRN-28-4, 100 epochs: six days on one GPU", Cells.of(*FULL.values()),
              seeds=5),
    ),
    claims=CLAIMS,
    figures=(
        points("errors", "Test error at the best rate and decay", "test_error", BEST, "Chosen on held-out training "
               "data.", y="test error (%)", on=("quick", "standard")),
        tuning("plane", "Error on held-out training data by rate and decay", {name: BEST[name] for name in NAMED[:2]},
               "In the paper the good settings of Adam with L2 lie on a diagonal, and those of AdamW along the axes.",
               on=("quick", "standard")),
    ),
    deviations=(
        Deviation("quick", "Shake-Shake 26 2x64d on CIFAR-10, 100 epochs in grids and 1,800 at the end", "An MLP of "
                  "two layers of 128 on 3,000 signals of MNIST-1D, 30 epochs", "Only directions can be compared"),
        Deviation("standard", "Shake-Shake 26 2x64d on CIFAR-10", "The MLP with batch norm on 5,000 images of "
                  "Fashion-MNIST", "Only directions can be compared"),
        Deviation("paper", "Shake-Shake 26 2x64d", "WRN-28-4, as this package has no shake-shake", "Errors are larger"),
        Deviation("", "The best of a grid by test error (presumably)", "By error on 1,000 held-out training samples, "
                  "20 settings a method", "None known"),
        Deviation("", "Separability is seen in a picture", "A number of our own: what one decay for all rates costs, "
                  "on held-out data", "It is above 0 by noise alone, for both methods alike"),
        Deviation("", "Schedules are compared over the whole plane", "Over rates, at the middle decay",
                  "A fixed rate may be better with less: its decay sums to twice a cosine's"),
    ),
)  # fmt: skip
