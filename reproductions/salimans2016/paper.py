"""Salimans & Kingma: Weight Normalization (1602.07868)."""

from functools import partial
from typing import Any

from lightning_regs.study import (
    INITIALIZED,
    Cells,
    Claim,
    Deviation,
    Family,
    Metric,
    Paper,
    Scale,
    Source,
    Tuned,
    across,
    curves,
    difference,
    grid,
    grid_search,
    lower,
    points,
    ratio,
    smallest,
    tuning,
    value,
)

SMALL, CONV = "configs/salimans2016/mlp.yaml", "configs/salimans2016/convpool.yaml"
HE, BY_DATA = {"initial": {"rule": "kaiming_normal"}}, {"initial": {"rule": "data_statistics", "samples": 500}}
WATCH = {"callbacks": [{"class_path": "lightning_regs.analysis.WeightNorms",
                        "init_args": {"parameters": "*original1"}}]}  # fmt: skip
NETS: dict[str, dict[str, Any]] = {
    name: {"model.architecture_args.norm": norm} | start for name, norm, start in (
        ("plain", None, HE), ("batch", "batch", HE), ("weight", "weight", BY_DATA | WATCH),
        ("mean-only", "mean_only", BY_DATA), ("data-start", None, BY_DATA))
}  # fmt: skip
OURS, THEIRS = (0.03, 0.1, 0.3, 1, 3), (0.0003, 0.001, 0.003, 0.01)


def _tuned(name: str, config: str, rates: tuple[float, ...]) -> Tuned:
    task = "salimans2016.lengths:lengths" if name == "weight" else INITIALIZED
    return grid_search(f"{name}/lr-{{lr}}", config, NETS[name], task=task, stack=name, lr=rates)


MLPS = {name: _tuned(name, SMALL, OURS) for name in NETS}
CONVS = {name: _tuned(name, CONV, THEIRS) for name in NETS}
RATE = {"model.optimizer.lr": 0.3}
_PAIR = RATE | {"other": RATE | {"model.architecture_args.norm": "batch"}}
AGREEMENT = grid("study/agreement", SMALL, _PAIR, seeds=3, stack=True)
CELLS = Cells.of(*MLPS.values()) + AGREEMENT
FASHION = {"data.source": "fashion_mnist", "data.train_size": 6000, "data.val_split": 1000}

PAPER_ITSELF = Source("paper", "Weight Normalization: A Simple Reparameterization to Accelerate Training of Deep "
                      "Neural Networks", "Salimans, Kingma", 2016, "arxiv.org/abs/1602.07868")  # fmt: skip
NOTES = Source("notes", "Public notes on the paper, with its table of test errors on CIFAR-10", note="Standard "
               "8.43 %, weight norm 8.46, batch norm 8.05, weight norm with mean-only batch norm 7.31.")  # fmt: skip
AT_SCALE = ("quick", "standard")
_said = partial(Claim, source=PAPER_ITSELF, origin="recalled")


def _claims(nets: dict[str, Tuned], plain: float, weight: float) -> tuple[Claim, ...]:
    """Compare tuned nets, and how fast two are at given rates."""
    epochs = partial(ratio, metric="fit_epoch", until="epochs")
    return (
        _said("1", "At the rate that suits the standard parametrization weight norm has 60 % (90 % at the larger "
              "scales) of the training samples right in fewer epochs than it.",
              epochs(f"weight/lr-{weight:g}", f"plain/lr-{plain:g}"), below=1, published="< 1",
              where="Figure 1", headline=True),
        _said("1-loss", "Each at its best rate, weight norm ends with the lower training loss.",
              ratio(nets["weight"], nets["plain"], "train_loss"), below=1, published="< 1"),
        lower("2", "Weight norm with mean-only batch norm has a lower test error than batch norm.", nets["mean-only"],
              nets["batch"], 0.74, source=NOTES, headline=True),
        lower("2-plain", "Weight norm with mean-only batch norm has a lower test error than the standard "
              "parametrization.", nets["mean-only"], nets["plain"], 1.12, source=NOTES, headline=True),
        Claim("3", "Weight norm alone has the test error of the standard parametrization, within two points.",
              difference(nets["weight"], nets["plain"], "test_error"), at_least=-2, at_most=2, published=0.03,
              source=NOTES),
        lower("4", "Batch norm has a lower test error than the standard parametrization.", nets["batch"],
              nets["plain"], 0.38, source=NOTES),
        Claim("control-start", "From the same weights by data nets fit in fewer epochs with weight norm than without.",
              epochs(f"weight/lr-{weight:g}", f"data-start/lr-{plain:g}"), below=1, kind="control"),
    )  # fmt: skip


CLAIMS = (
    *across(quick=_claims(MLPS, 0.3, 0.3), standard=_claims(MLPS, 0.1, 0.1), paper=_claims(CONVS, 0.0003, 0.003)),
    _said("5", "By plain gradient descent v of weight norm, w = g v / |v|, only grows: over no epoch is it shorter in "
          "any layer.",
          smallest("least_growth", "weight/lr-0.03", "weight/lr-0.1", "weight/lr-0.3", "weight/lr-1"), at_least=1,
          published="grows", where="section 2.1", kind="theory", exact=True, on=AT_SCALE, headline=True),
    _said("6", "The larger the rate, the more it grows.", ratio("weight/lr-1", "weight/lr-0.1", "growth"), above=1,
          published="> 1", where="section 2.1", on=AT_SCALE),
    _said("7", "A rate that is too large does less harm with weight norm: at 1 the training error is lower than in the "
          "standard parametrization.", difference("plain/lr-1", "weight/lr-1", "train_error"), above=0, published="> 0",
          where="section 2.1", on=AT_SCALE, headline=True),
    *(Claim(f"error-{name}", f"ConvPool-CNN-C has this test error: {text}.", value(CONVS[name], "test_error"),
            published=number, within=0.3, source=NOTES, on=("paper",))
      for name, text, number in (("plain", "standard parametrization", 8.43), ("weight", "weight norm", 8.46),
                                 ("batch", "batch norm", 8.05), ("mean-only", "with mean-only batch norm", 7.31))),
    Claim("8", "Agents that learn four games of Atari by DQN have higher scores in three.", source=NOTES,
          out_of_reach="It is about reinforcement learning, which is not in this package"),
    _said("9", "Variational auto-encoders and DRAW reach better bounds.", out_of_reach="Generative nets are not built"),
)  # fmt: skip
LABELS = {"plain": "standard", "batch": "batch norm", "weight": "weight norm", "mean-only": "with mean-only batch norm",
          "data-start": "standard, by data"}  # fmt: skip
NAMED = {label: MLPS[name] for name, label in LABELS.items()}
EPOCHS = {label: f"{name}/lr-0.3" for name, label in LABELS.items()}

PAPER = Paper(
    "salimans2016", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2016, "1602.07868",
    summary="A weight w = g v / |v| is learned by its length and its direction. The gradient is at right angles to v, "
    "which therefore grows until the rate fits.",
    scales=(
        Scale("quick", "MNIST-1D, 2,000 signals, three layers of 100, 20 epochs: 4 minutes on two cores", CELLS,
              overrides={"fitted": 60}, seeds=5, replicas=25),
        Scale("standard", "6,000 images of Fashion-MNIST, three layers of 100, 20 epochs: 25 minutes on one core",
              CELLS, overrides=FASHION | {"fitted": 90}, seeds=5, replicas=25),
        Scale("paper", "CIFAR-10 and ConvPool-CNN-C, 200 epochs: a week on a GPU", Cells.of(*CONVS.values()),
              overrides={"fitted": 90, "data.normalize": "zca"}, seeds=5, replicas=5),
    ),
    claims=CLAIMS,
    metrics=(Family("Lengths of v", (Metric("growth", "Norm of v over that of its start", "x"),
                                     Metric("least_growth", "Least growth of a layer in an epoch", "x"),
                                     Metric("train_acc", "Train accuracy", "%"),
                                     Metric("test_acc", "Test accuracy", "%"),
                                     Metric("fit_epoch", "Epochs to fit", "epochs")), shown=5),),
    figures=(
        curves("learning", "Training loss at a rate of 0.3", "train_loss", EPOCHS, y="training loss", epochs=True,
               on=("quick",)),
        points("errors", "Test error, each at its best rate", "test_error", NAMED, "Best on held-out training data.",
               y="test error (%)", on=AT_SCALE),
        tuning("rates", "Held-out error by rate", NAMED, on=AT_SCALE),
    ),
    deviations=(
        Deviation("", "v is drawn from N(0, 0.05^2)", "v starts as long as the weight, so that a first step is as "
                  "long as without weight norm", "By how much v grows, and which rate is best"),
        *(Deviation(scale, "ConvPool-CNN-C on CIFAR-10, Adam", f"Three fully connected layers on {data}, plain "
                    "gradient descent, of which the argument on v is", "Only directions can be compared")
          for scale, data in (("quick", "MNIST-1D"), ("standard", "Fashion-MNIST"))),
        Deviation("", "How rates were chosen was not read", "By the error on a fifth (quick), a sixth (standard) or a "
                  "tenth (paper) of the training data, the same rates for all nets", "None known"),
        Deviation("", "Curves", "Epochs until 60 % (90 % at the larger scales) of the training samples are right",
                  "None known"),
        Deviation("paper", "Noise on the input, no padding in the seventh convolution", "No noise, padding; the rest "
                  "of the protocol is recalled", "Errors may be larger"),
    ),
)  # fmt: skip
