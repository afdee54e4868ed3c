"""Masters & Luschi: Revisiting Small Batch Training for Deep Neural Networks (1804.07612)."""

import math
import statistics
from functools import partial

from lightning_regs.study import (
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
    lower,
    per_seed,
    sweep,
    tuning,
    weighted_sum,
)

SIGNALS, ALEXNET, RESNET = (f"configs/masters2018/{name}.yaml" for name in ("mnist1d-mlp", "cifar10-alexnet",
                            "cifar10-resnet32"))  # fmt: skip
BATCHES, SMALL = (4, 16, 32, 64, 128, 512), 32
NORM = {"model.architecture_args.norm": "batch"}
NEAR = 5  # points of held-out error: as near the best base rate is near
Searches = dict[str, dict[int, Tuned]]


def _searches(least: float, rates: int, plain: str = SIGNALS, norm: str = SIGNALS) -> Searches:
    """Tune the base rate, which is that of a single sample, in factors of two: the rate is it times the batch."""

    def search(net: str, config: str, batch: int) -> Tuned:
        small, own = config == SIGNALS, {"data.batch_size": batch}
        return grid_search(
            f"{net}/batch-{batch}/base-{{base}}", config, own | NORM if small and net == "norm" else own,
            sets=lambda base: {"model.optimizer.lr": batch * base}, base=[least * 2**power for power in range(rates)],
            of="base rate", method=f"batch {batch}", stack=small,
        )  # fmt: skip

    return {net: {batch: search(net, config, batch) for batch in BATCHES}
            for net, config in (("plain", plain), ("norm", norm))}  # fmt: skip


def _cells(searches: Searches) -> Cells:
    return Cells.of(*searches["plain"].values(), *searches["norm"].values())


QUICK, STANDARD, FULL = _searches(0.001, 7), _searches(0.000125, 9), _searches(0.00025, 11, ALEXNET, RESNET)
_PAIR = NORM | {"model.optimizer.lr": 0.125, "other": {"data.batch_size": 128, "model.optimizer.lr": 0.5}}
AGREEMENT = grid("study/agreement", SIGNALS, _PAIR, seeds=3, stack=True)
FASHION = {"data.source": "fashion_mnist", "data.train_size": 6000, "trainer.max_epochs": 8,
           "model.schedule.milestones": [4, 6]}  # fmt: skip
PAPER_ITSELF = Source("paper", "Revisiting Small Batch Training for Deep Neural Networks", "Masters, Luschi", 2018,
                      "arxiv.org/abs/1804.07612")  # fmt: skip
_theirs = partial(Claim, source=PAPER_ITSELF)


def _best(*errors: float) -> int:
    """Return the batch of the least error."""
    return BATCHES[errors.index(min(errors))]


def _widens(*errors: float) -> float:
    """Correlate, by ranks, the batch and the number of base rates that are near its best."""
    rates = len(errors) // len(BATCHES)
    lines = [errors[at : at + rates] for at in range(0, len(errors), rates)]
    near = [sum(error <= min(line) + NEAR for error in line) for line in lines]
    ranks = [sum((other < one) + (other <= one) for other in near) for one in near]
    return statistics.correlation(range(len(ranks)), ranks) if len(set(ranks)) > 1 else 0.0


def _claims(searches: Searches, base: float) -> tuple[Claim, ...]:
    claims: list[Claim] = []
    for net, where, theirs in (("plain", "Without batch norm", "2 to 8"), ("norm", "With batch norm", "4 or 8")):
        tuned, end = searches[net], "" if net == "plain" else "-norm"
        errors = [(each, "test_error") for each in tuned.values()]
        mean = weighted_sum(*((-1 / 3 if batch <= SMALL else 1 / 3, tuned[batch], "test_error") for batch in BATCHES))
        claims += [
            _theirs(f"1{end}", f"{where} batches of at most 32 have a lower test error than larger ones: means of "
                    "three at their best rates.", mean, above=0, published="> 0", headline=True),
            _theirs(f"1-best{end}", f"{where} the batch that has the lowest test error is at most 32.",
                    per_seed(_best, *errors), at_most=32, published=theirs, headline=True),
            _theirs(f"1-best-log2{end}", f"{where} that batch is at most 32 in the geometric mean over seeds: the mean "
                    "of its logarithm to base 2.", per_seed(lambda *errors: math.log2(_best(*errors)), *errors),
                    at_most=math.log2(SMALL), published=f"log2 of {theirs}"),
            _theirs(f"2{end}", f"{where} the range of base rates near the best one shrinks as the batch grows.",
                    per_seed(_widens, *((cell, "val_error") for each in tuned.values() for cell in each)), below=0,
                    published="it shrinks", origin="recalled", where="abstract", headline=net == "plain"),
            lower(f"3{end}", f"{where} a batch of 512 has a higher test error than one of 4 at a base rate that suits "
                  "that.", tuned[4].grid[base], tuned[512].grid[base], "> 0", source=PAPER_ITSELF),
            lower(f"control-training{end}", f"{where} a batch of 512 has the higher training error, too, at its best "
                  "rate.", tuned[4], tuned[512], metric="train_error", kind="control"),
        ]  # fmt: skip
    least = difference(searches["plain"][4][0], searches["plain"][512][0], "test_error")
    return (*claims, Claim("control-scaling", "Without batch norm 4 and 512 are the same at the least base rate.",
                           least, at_least=-2, at_most=2, kind="control"))  # fmt: skip


PANELS = {"without batch norm": QUICK["plain"], "with batch norm": QUICK["norm"]}
PAPER = Paper(
    "masters2018", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2018, "1804.07612",
    summary="With rates in proportion to the batch and equal epochs, batches of 2 to 32 generalise best, and bear the "
    "widest range of rates.",
    scales=(
        Scale("quick", "MNIST-1D and an MLP: the claims' direction, 4 minutes on two cores",
              _cells(QUICK) + AGREEMENT, seeds=5, replicas=35),
        Scale("standard", "5,000 images of Fashion-MNIST and 1,000 to choose, the MLP: 15 minutes on two cores",
              _cells(STANDARD) + AGREEMENT, overrides=FASHION, seeds=5, replicas=45),
        Scale("paper", "CIFAR-10, a small AlexNet and ResNet-32: ten days on one GPU", _cells(FULL), seeds=3),
    ),
    claims=(
        *across(quick=_claims(QUICK, 0.016), standard=_claims(STANDARD, 0.008), paper=_claims(FULL, 0.016)),
        _theirs("4", "With a warm-up the best batch is small, too.", out_of_reach="It takes every grid once more"),
        _theirs("5", "Batch norm is best over 4 to 8 samples, whatever the batch.", out_of_reach="It takes more grids"),
        _theirs("6", "On ImageNet, ResNet-50 is best with batches of 16 to 64.", out_of_reach="It is about ImageNet"),
    ),
    figures=(
        sweep("batches", "Test error by batch", "test_error", PANELS, "Each at its best base rate, chosen on held-out "
              "training data.", x="batch", y="test error (%)", log_x=2, on=("quick",)),
        tuning("rates", "Error on held-out training data by base rate", {name: {each.name: each for each in
               found.values()} for name, found in PANELS.items()}, "In the paper the range of base rates shrinks as "
               "the batch grows.", log_x=2, on=("quick",)),
    ),
    deviations=(
        Deviation("", "A reduced AlexNet of five convolutions, and ResNets, on CIFAR-10, 82 epochs", "An MLP of two "
                  "layers of 64, 20 epochs of 3,000 signals or 8 of 5,000 images; at paper scale an AlexNet of "
                  "two convolutions, and ResNet-32", "Only directions can be compared"),
        Deviation("", "Batches of 2 to 2,048", "Six of 4 to 512, three up to 32 and three above", "The best may be 2"),
        Deviation("", "Errors are the median of the last five epochs", "Those of the last epoch", "None known"),
        Deviation("", "A range of rates is seen in a picture", "The number of base rates, in factors of two, whose "
                  f"held-out error is within {NEAR} points of the least", "It depends on that width"),
    ),
)  # fmt: skip
