"""Wilson et al.: The Marginal Value of Adaptive Gradient Methods in Machine Learning (1705.08292)."""

from dataclasses import replace
from functools import partial
from typing import Any

from lightning_regs.study import (
    TOY,
    Cell,
    Cells,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    Tuned,
    across,
    difference,
    grid,
    grid_search,
    largest,
    lower,
    points,
    smallest,
    trained,
    tuning,
)

SIGNALS, CIFAR = "configs/wilson2017/mnist1d-mlp.yaml", "configs/wilson2017/cifar10.yaml"
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"name": "SGD"}, "heavy-ball": {"name": "SGD", "momentum": 0.9}, "adagrad": {"name": "Adagrad"},
    "rmsprop": {"name": "RMSprop"}, "adam": {"name": "Adam"},
}  # fmt: skip
ADAPTIVE = ("adagrad", "rmsprop", "adam")
Rates = dict[str, tuple[float, ...]]
OURS: Rates = {
    "sgd": (0.03, 0.1, 0.3, 1, 3, 10), "heavy-ball": (0.003, 0.01, 0.03, 0.1, 0.3, 1),
    "adagrad": (0.003, 0.01, 0.03, 0.1, 0.3, 1), "rmsprop": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
    "adam": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
}  # fmt: skip
# Theirs, with a larger one for AdaGrad and RMSProp, so that all have six.
THEIRS: Rates = {
    "sgd": (0.01, 0.05, 0.25, 0.5, 1, 2), "heavy-ball": (0.01, 0.05, 0.25, 0.5, 1, 2),
    "adagrad": (0.005, 0.0075, 0.01, 0.05, 0.1, 0.5), "rmsprop": (0.0001, 0.0003, 0.0005, 0.001, 0.005, 0.01),
    "adam": (0.00005, 0.0001, 0.0003, 0.0005, 0.001, 0.005),
}  # fmt: skip


def _searches(config: str, rates: Rates, **options: Any) -> dict[str, Tuned]:
    return {name: grid_search(f"{name}/lr-{{lr}}", config, {"model.optimizer": own}, lr=rates[name], **options)
            for name, own in OPTIMIZERS.items()}  # fmt: skip


SMALL, FULL = _searches(SIGNALS, OURS, stack=True), _searches(CIFAR, THEIRS)
NAMED = dict(zip(("SGD", "heavy ball", "AdaGrad", "RMSProp", "Adam"), SMALL.values(), strict=True))
TOY_RATES = {"sgd": 0.3, "heavy-ball": 0.3, "adagrad": 0.1, "rmsprop": 0.001, "adam": 0.01}
TOYS = Cells(Cell(f"toy/{name}", TOY, {"optimizer": OPTIMIZERS[name] | {"lr": lr}, "steps": 1000, "rows": 100}, 10)
             for name, lr in TOY_RATES.items())  # fmt: skip
_OTHER = {"model.optimizer.lr": 1.0, "other": {"model.optimizer": {"name": "Adam", "lr": 0.01}}}
AGREEMENT = grid("study/agreement", SIGNALS, _OTHER, seeds=3, stack=True)
FASHION = {"data.source": "fashion_mnist", "data.train_size": 6000, "trainer.max_epochs": 30,
           "model.schedule.milestones": [15, 23], "model.architecture_args.norm": "batch"}  # fmt: skip

PAPER_ITSELF = Source("paper", "The Marginal Value of Adaptive Gradient Methods in Machine Learning",
                      "Wilson, Roelofs, Stern, Srebro, Recht", 2017, "arxiv.org/abs/1705.08292")  # fmt: skip
REPETITION = Source("repetition", "A public repetition at small scale, which quotes the paper",
                    link="github.com/NafeelAhmad/learning-rate-sensitivity-reproduction")  # fmt: skip
CODE = Source("code", "The linear problem, as third parties wrote it")
_quoted = partial(lower, source=REPETITION, origin="derived")
_toy = partial(Claim, source=CODE, unit="%", kind="theory", exact=True, on=("quick",), where="section 3")


def _claims(by_val: dict[str, Tuned]) -> tuple[Claim, ...]:
    """Compare tuned optimizers, whose nets fit their training data."""
    by_loss = {name: replace(each, by="train_loss") for name, each in by_val.items()}

    def sgd_ahead(id: str, than: str, published: float | str, **about: Any) -> Claim:
        as_theirs = difference(by_loss[than], by_loss["sgd"], "test_error")
        return _quoted(id, f"Tuned SGD has a lower test error than tuned {OPTIMIZERS[than]['name']}, where both fit "
                       "the training data.",
                       by_val["sgd"], by_val[than], published, valid_if=trained((by_val["sgd"], by_val[than]),
                       at_least=98), settings={"rates chosen by training loss, as theirs": as_theirs},
                       **about)  # fmt: skip

    return (
        sgd_ahead("1", "rmsprop", 1.95, where="CIFAR-10", headline=True),
        sgd_ahead("1-adam", "adam", "> 1.95", headline=True),
        sgd_ahead("1-adagrad", "adagrad", "> 1.95"),
        _quoted("1-heavy-ball", "Tuned SGD with heavy-ball momentum has a lower test error than tuned RMSprop.",
                by_val["heavy-ball"], by_val["rmsprop"], 1.86, origin="recalled",
                valid_if=trained((by_val["heavy-ball"], by_val["rmsprop"]), at_least=98)),
        _quoted("2", "Adam's default rate of 0.001 has a higher test error than its tuned one.", by_val["adam"],
                "adam/lr-0.001", "> 0", headline=True),
    )  # fmt: skip


CLAIMS = (
    *across(quick=_claims(SMALL), standard=_claims(SMALL), paper=_claims(FULL)),
    _toy("3", "On a linear problem made against adaptive methods, SGD and heavy-ball momentum have no test error.",
         largest("test_error", "toy/sgd", "toy/heavy-ball"), published=0.0, at_most=0, headline=True),
    _toy("3-adaptive", "On a linear problem made against them, adaptive methods are no better than the larger class "
         "alone, which is 60 %.",
         smallest("test_error", *(f"toy/{name}" for name in ADAPTIVE)), published=40.0, within=6, headline=True),
    *(_toy(f"3-{name}", f"On that linear problem {name} errs on all negatives of the test set and on no others.",
           difference(f"toy/{name}", f"toy/{name}", "test_error", "negatives"), published=0.0, at_least=0, at_most=0)
      for name in ADAPTIVE),
    Claim("4", "Adaptive methods are ahead early in the training, and then reach a plateau.", source=REPETITION,
          out_of_reach="When early ends is not said"),
    Claim("5", "On language models and parsing, too, adaptive methods generalise worse.", source=PAPER_ITSELF,
          origin="recalled", out_of_reach="It is about recurrent nets"),
)  # fmt: skip

PAPER = Paper(
    "wilson2017", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2017, "1705.08292",
    summary="Adaptive methods find solutions that generalise worse than those of SGD, even where they fit as well: "
    "on a linear problem made for it they know the larger class alone.",
    scales=(
        Scale("quick", "MNIST-1D and an MLP, and the linear problem: the claims' direction, 5 minutes on two cores",
              Cells.of(*SMALL.values()) + TOYS + AGREEMENT, seeds=5, replicas=30),
        Scale("standard", "5,000 images of Fashion-MNIST and 1,000 to choose rates, an MLP: 15 minutes on two cores",
              Cells.of(*SMALL.values()) + AGREEMENT, overrides=FASHION, seeds=5, replicas=5),
        Scale("paper", "CIFAR-10 and a VGG net with batch norm: three days on one GPU", Cells.of(*FULL.values()),
              seeds=5),
    ),
    claims=CLAIMS,
    figures=(
        points("errors", "Test error of the tuned optimizers", "test_error", NAMED, "Each at the rate that is best on "
               "held-out training data.", y="test error (%)", on=("quick", "standard")),
        tuning("rates", "Error on held-out training data by rate", NAMED, "What the rates were chosen by.",
               on=("quick", "standard")),
    ),
    deviations=(
        Deviation("quick", "A VGG net with batch norm and dropout on CIFAR-10", "An MLP of two layers of 256 "
                  "without either on 3,000 signals of MNIST-1D, 50 epochs", "Only directions can be compared"),
        Deviation("standard", "A VGG net with batch norm and dropout on CIFAR-10", "The MLP with batch norm, "
                  "without dropout, on 5,000 images of Fashion-MNIST, 30 epochs", "Only directions can be compared"),
        Deviation("paper", "A net like VGG-16, with dropout", "VGG-19 without", "Errors may be larger"),
        Deviation("", "Grids of 5 or 6 rates, the choice by training loss", "6 rates for each optimizer, half a "
                  "decade apart, at paper scale theirs; the choice by the error on held-out training data, and "
                  "theirs beside it, as another setting", "None known"),
        Deviation("", "The rate falls at fixed epochs, or when the development error stalls; the factor is not stated",
                  "To a tenth at half and three quarters of the epochs; at paper scale to a half each 25 epochs "
                  "(recalled)", "Not known"),
    ),
)  # fmt: skip
