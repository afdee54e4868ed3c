"""Achille & Soatto: Information Dropout: Learning Optimal Representations Through Noisy Computation (1611.01353)."""

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
    difference,
    grid,
    grid_search,
    lower,
    points,
    sweep,
    weighted_sum,
)

SIGNALS, CIFAR = "configs/achille2018/mnist1d-mlp.yaml", "configs/achille2018/cifar10-conv6.yaml"
SMALL, LARGE = 32, 192
WIDTHS = (SMALL, 96, LARGE)
FRACTIONS = (0.25, 0.5, 1.0)  # of the filters, at paper scale
RATES, BETAS = (0.0, 0.15, 0.3, 0.5, 0.7), (0.0, 1e-4, 1e-3, 3e-3, 1e-2)
THEIR_BETAS = (0.0, 2e-5, 6e-5, 2e-4, 6e-4)  # about 3 on 50,000 images
Searches = dict[float, Tuned]


def _informed(beta: float, replace: str = "Linear", named: tuple[str, ...] = ("body.*",)) -> dict[str, Any]:
    """Have the noise of information dropout in layers, by default both hidden ones, and its term in the loss."""
    penalty = {"class_path": "lightning_regs.layers.InformationPenalty", "init_args": {"beta": beta}}
    layers = [{"replace": replace, "named": name, "by": "InformationDropout"} for name in named]
    return {"model.layers": layers, "model.regularizers": [penalty]}


def _searches(way: str, **options: Any) -> Searches:
    return {width: grid_search(f"{width}/{way}", SIGNALS, {"model.architecture_args.hidden": [width, width]},
                               stack=f"{width}/{way}", **options) for width in WIDTHS}  # fmt: skip


def _conv(way: str, **options: Any) -> Searches:
    return {share: grid_search(f"filters-{share:g}/{way}", CIFAR, {"model.architecture_args.width": share},
                               stack=f"filters-{share:g}/{way}", **options) for share in FRACTIONS}  # fmt: skip


def _dropped(p: float) -> dict[str, Any]:
    """Drop units behind each stage of Conv-6."""
    return {"model.layers": [{"after": "ReLU", "named": f"features.{at}", "add": "Dropout", "p": p} for at in
                             (4, 9, 14)]}  # fmt: skip


DROPOUT = _searches("dropout-{p}", method="dropout", sets="model.architecture_args.dropout", of="rate", p=RATES)
INFORMATION = _searches("information-{beta}", method="information dropout", sets=_informed, of="beta", beta=BETAS)
CELLS = Cells(cell for found in (DROPOUT, INFORMATION) for tuned in found.values() for cell in tuned.cells)
CELLS += grid("study/agreement", SIGNALS, {"model.architecture_args.dropout": 0.15, "other": _informed(1e-3) | {
              "model.architecture_args.dropout": 0.0}}, seeds=3, stack=True)  # fmt: skip
FULL = (_conv("dropout-{p}", method="dropout", sets=_dropped, of="rate", p=RATES),
        _conv("information-{beta}", method="information dropout", sets=lambda beta: _informed(beta, "Conv2d", tuple(
              f"features.{at}" for at in (2, 7, 12))), of="beta", beta=THEIR_BETAS))  # fmt: skip
FASHION = {"data.source": "fashion_mnist", "data.train_size": 6000, "trainer.max_epochs": 12}

PAPER_ITSELF = Source("paper", "Information Dropout: Learning Optimal Representations Through Noisy Computation",
                      "Achille, Soatto", 2018, "arxiv.org/abs/1611.01353")  # fmt: skip
CODE = Source("code", "The authors' code, with what the paper finds", link="github.com/ucla-vision/information-dropout")


def _claims(margin: float, dropout: Searches, information: Searches, of: str = "layers of {}") -> tuple[Claim, ...]:
    """Compare the two at their best settings; a margin in points is what counts as no worse."""
    small, large = min(dropout), max(dropout)
    nets = {width: of.format(width) for width in dropout}
    gain = {width: ((1.0, dropout[width], "test_error"), (-1.0, information[width], "test_error")) for width in nets}
    shrinks = (*gain[small], *((-weight, *of) for weight, *of in gain[large]))
    return (
        *(Claim(f"1-{width}", f"In {net} information dropout is no worse than dropout, within a margin.",
                difference(dropout[width], information[width], "test_error"), at_least=-margin, published=">= 0",
                source=CODE, headline=width in (SMALL, LARGE),
                settings={"dropout at its usual half": difference(dropout[width].grid[0.5], information[width],
                          "test_error")}) for width, net in nets.items()),
        lower("2", f"In the smallest net, {nets[small]}, information dropout has a lower test error than dropout.",
              information[small], dropout[small], "> 0", source=CODE, headline=True),
        Claim("3", f"Information dropout gains more on dropout in {nets[small]} than in {nets[large]}.",
              weighted_sum(*shrinks), above=0, published="> 0", source=CODE, headline=True),
        *(lower(f"4-{width}", f"In {nets[width]} information dropout has a lower test error than the net without "
                "noise.", information[width], dropout[width].grid[0.0], "> 0", source=PAPER_ITSELF, origin="recalled",
                headline=width == SMALL) for width in (small, large)),
        lower("control-beta", f"In {nets[large]} information dropout has a lower test error at the best weight of its "
              "term than at a weight of 0.", information[large], information[large].grid[0.0], kind="control"),
    )  # fmt: skip


PAPER = Paper(
    "achille2018", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2018, "1611.01353",
    summary="A net that learns how much noise its units bear, and pays for what they tell about the sample, is no "
    "worse than one with binary dropout, and better where it is small.",
    scales=(
        Scale("quick", "MNIST-1D and MLPs of three widths: the claims' direction, 4 minutes on two cores", CELLS,
              seeds=5, replicas=5),
        Scale("standard", "5,000 images of Fashion-MNIST and 1,000 to choose, the MLPs: 12 minutes on one thread",
              CELLS, overrides=FASHION, seeds=5, replicas=5),
        Scale("paper", "CIFAR-10, 200 epochs, and Conv-6 of 0.25, 0.5 and 1 times its filters: four days on one GPU",
              Cells.of(*FULL[0].values(), *FULL[1].values()), seeds=3, replicas=3),
    ),
    claims=(
        *across(quick=_claims(2.0, DROPOUT, INFORMATION), standard=_claims(1.0, DROPOUT, INFORMATION),
                paper=_claims(0.5, *FULL, of="a Conv-6 of {} times its filters")),
        Claim("5", "The information of single pixels leaves the clutter around a digit out.", source=CODE,
              out_of_reach="Cluttered MNIST and its net of convolutions are not in this package"),
    ),
    figures=(
        sweep("widths", "Test error by width", "test_error", {"no noise": {width: tuned.grid[0.0] for width, tuned in
              DROPOUT.items()}, "dropout": DROPOUT, "information dropout": INFORMATION}, "The two dropouts at the "
              "best of their settings on held-out training data.", x="width", y="test error (%)", log_x=2),
        points("settings", "Error on held-out training data by setting", "val_error", {f"layers of {width}": {
               f"{tuned.name} {at:g}": cell for tuned in (DROPOUT[width], INFORMATION[width]) for at, cell in
               tuned.grid.items()} for width in WIDTHS}, "What the rate of dropout and the weight of the information "
               "were chosen by.", y="held-out error (%)"),
    ),
    deviations=(
        Deviation("", "All-CNN on CIFAR-10 with ZCA, of 0.25 to 1 times its filters, 200 epochs", "MLPs of two layers "
                  "of 32, 96 and 192; at paper scale Conv-6 on whitened images, without batch norm and so without new "
                  "statistics of it, of 0.25 to 1 times its filters", "Only directions can be compared"),
        Deviation("", "One rate of dropout and one beta", "The best of five of each, 0 among them, by the error on "
                  "held-out training data; dropout at a half stands beside it, as another setting",
                  "Both are stronger"),
        Deviation("", "Weight decay of 0.001, Nesterov, rates that fall at fixed epochs", "So at paper scale; "
                  "else no weight decay, momentum, a rate that falls linearly", "Not known"),
    ),
)  # fmt: skip
