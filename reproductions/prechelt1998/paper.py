"""Prechelt: Early Stopping, But When? (1998), and its measurements in Neural Networks 11 (1998)."""

import math
from functools import partial
from statistics import fmean
from typing import Any

from lightning_regs.procedures.measured import CLASSES, PRECHELT
from lightning_regs.study import (
    STOPPING,
    Cells,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    across,
    grid,
    lower,
    per_seed,
    points,
    ratio,
    value,
    weighted_sum,
)

CONFIG = "configs/prechelt1998/mlp.yaml"
NAMES = [name.lower() for name in PRECHELT]


def _cells(sizes: tuple[int, ...], nets: tuple[tuple[int, ...], ...], overrides: dict[str, Any]) -> Cells:
    """Nets on so many training samples, and half as many to validate on."""
    return grid(
        "{size}/{net}", CONFIG, overrides, task=STOPPING, stack=True,
        size={size: {"data.train_size": size * 3 // 2, "data.val_split": size // 2} for size in sizes},
        net={"-".join(map(str, net)): {"model.architecture_args.hidden": list(net)} for net in nets},
    )  # fmt: skip


def _with_agreement(cells: Cells, overrides: dict[str, Any], long: int) -> Cells:
    """Add how far a net is right on the same test samples as one that was stopped much earlier."""
    net = overrides | {"trainer.max_epochs": long, "other": {"trainer.max_epochs": long // 4}}
    return cells + grid("study/agreement", CONFIG, net, seeds=3, stack=True)


FASHION = {"data.source": "fashion_mnist"}
QUICK = _cells((300, 600), ((8,), (16,), (32,), (16, 8)), {})
STANDARD = _cells((500, 1000), ((8,), (16,), (32,)), FASHION | {"trainer.max_epochs": 300})
NETS = ((2,), (4,), (8,), (16,), (24,), (32,), (2, 2), (4, 2), (4, 4), (8, 4), (8, 8), (16, 8))
FULL = _cells((500, 1000, 2000, 4000), NETS, FASHION | {"trainer.max_epochs": 3000})

ABSTRACT = Source("abstract", "Automatic early stopping using cross validation: quantifying the criteria", "Prechelt",
                  1998, note="Neural Networks 11, 761-767; its abstract was read.")  # fmt: skip
SUMMARY = Source("summary", "Summaries of the chapter by others, one of them written by a machine")


def _geometric(*numbers: float) -> float:
    """Return the geometric mean of the quotients of two numbers each: of single runs."""
    return math.exp(fmean(math.log(slow / fast) for slow, fast in zip(numbers[::2], numbers[1::2], strict=True)))


def _claims(among: Cells) -> tuple[Claim, ...]:
    cells = tuple(cell.name for cell in among)
    said = partial(Claim, source=ABSTRACT, valid_if="control-fired")

    pairs = [(names[-1].lower(), names[0].lower()) for names in CLASSES.values()]  # the slowest and the fastest
    shares = {name: (1.0 if kind == "GL" else -0.5) / len(names) for kind, names in CLASSES.items() for name in names}

    def parts(metric: str) -> list[tuple[str, str]]:
        return [(cell, f"{name}_{metric}") for cell in cells for pair in pairs for name in pair]

    gain = per_seed(lambda *losses: 100 * (1 - _geometric(*losses)), *parts("test_loss"))
    times = per_seed(_geometric, *parts("epoch"))
    good, average = (weighted_sum(*((share, cells, f"{name.lower()}_{metric}") for name, share in shares.items()))
                     for metric in ("good", "test_error"))  # fmt: skip
    by_class = [
        claim for slow, fast in pairs for claim in (
            said(f"{slow}-gain", f"{slow.upper()} leaves a lower test loss than {fast.upper()}.",
                 ratio(cells, cells, f"{slow}_test_loss", f"{fast}_test_loss"), below=1),
            said(f"{slow}-time", f"{slow.upper()} stops later than {fast.upper()}.",
                 ratio(cells, cells, f"{slow}_epoch", f"{fast}_epoch"), above=1),
            lower(f"{slow}-error", f"Of {slow.upper()} fewer test samples are wrong than of {fast.upper()}.", cells,
                  cells, metric=f"{slow}_test_error", than_metric=f"{fast}_test_error", kind="control"))
    ]  # fmt: skip
    return (
        said("gain", "Slower criteria generalise better: of the slowest of each class the test loss is lower than of "
             "the fastest.", gain, above=0, published=4.0, unit="%", headline=True),
        said("gain-size", "The slowest criteria gain about 4 % of test loss on the fastest.", gain, within=2,
             published=4.0, unit="%", headline=True),
        said("time", "The slowest criteria take at least twice as many epochs as the fastest.", times, at_least=2,
             published=4.0, unit="x", headline=True),
        said("time-size", "The slowest criteria take about 4 times as long as the fastest.", times, within=1,
             published=4.0, unit="x", headline=True),
        *by_class,
        Claim("good", "GL finds a good solution, at most 5 % above the best, more often than PQ and UP.", good,
              above=0, source=SUMMARY, origin="derived", valid_if="control-fired"),
        Claim("average", "PQ and UP leave a lower test error than GL on the average.", average, above=0,
              source=SUMMARY, origin="derived", valid_if="control-fired"),
        Claim("control-fired", "The criteria come true before the last epoch.", value(cells, "fired"), at_least=85,
              kind="control"),
        Claim("control-end", "Training to the last epoch leaves a higher test loss than any criterion.", per_seed(
              lambda end, *each: 100 * (end / max(each) - 1), *((cells, f"{n}test_loss") for n in ("", *(
                  f"{name}_" for name in NAMES)))), above=0, unit="%", kind="control", headline=True),
    )  # fmt: skip


CELLS = {"digits": [cell.name for cell in QUICK], "Fashion-MNIST": [cell.name for cell in STANDARD]}
PAPER = Paper(
    "prechelt1998", "Early Stopping, But When?", "Prechelt", 1998, arxiv="", link="doi.org/10.1007/3-540-49430-8_3",
    summary="When a validation error counts as rising is a matter of rules: of fourteen, the slower ones find slightly "
    "better weights and take several times as long.",
    scales=(
        Scale("quick", "Digits, four small nets on 300 and 600 images, 240 trainings: 4 minutes on two cores",
              _with_agreement(QUICK, {}, 400), seeds=30, replicas=30),
        Scale("standard", "Fashion-MNIST, three small nets on 500 and 1,000 images, 210 trainings: 15 minutes a core",
              _with_agreement(STANDARD, FASHION, 200), seeds=35, replicas=35),
        Scale("paper", "Fashion-MNIST, twelve small nets, four numbers of images, 1,296 trainings: hours on one GPU",
              FULL, seeds=27, replicas=27),
    ),
    claims=(
        *across(quick=_claims(QUICK), standard=_claims(STANDARD), paper=_claims(FULL)),
        Claim("trade-off", "UP, and of it UP3, UP4 and UP6, has the best trade-off of time and generalisation.",
              source=SUMMARY, out_of_reach="How the paper weighs the one against the other was not to be read"),
    ),
    figures=tuple(
        points(metric, title, metric, {source: {name.upper(): value(cells, f"{name}_{metric}") for name in NAMES}
                                       for source, cells in CELLS.items()}, "Means over nets, seed by seed.",
               y=y, on=("quick", "standard"))
        for metric, title, y in (("epoch", "When criteria stop", "epochs"),
                                 ("test_loss", "Test loss of the weights that they leave", "test loss"))
    ),
    deviations=(
        Deviation("", "Twelve problems of Proben1", "One problem a scale: Proben1 is in no package that data come from",
                  "Gains and times depend on the problem"),
        Deviation("", "24 nets of sigmoid units, with shortcuts (recalled)", "Four at quick scale, three at standard, "
                  "twelve at paper scale, of tanh and without shortcuts", "Not known"),
        Deviation("", "50 % of the data to train, 25 % to validate, 25 % to test (recalled)", "Twice as many to train "
                  "as to validate; the test set of the data", "Test errors are less noisy"),
        Deviation("", "RPROP for at most 3,000 epochs, or until progress ends (recalled)", "Rprop of torch to the last "
                  "epoch, 600 at quick scale and 300 at standard; a criterion that has not come true stops there",
                  "Slow criteria look faster than they are; how many came true is a condition"),
        Deviation("", "Thresholds of the criteria and strips of 5 epochs (recalled)", "The same", "None known"),
    ),
)  # fmt: skip
