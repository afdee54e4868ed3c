"""Ioffe & Szegedy: Batch Normalization (1502.03167), and why it helps: Santurkar et al. (1805.11604)."""

from functools import partial

from lightning_regs.study import (
    Cells,
    Claim,
    Deviation,
    Family,
    Metric,
    Paper,
    Scale,
    Source,
    curves,
    difference,
    grid,
    lower,
    points,
    ratio,
    trained,
    value,
)

CONFIG, TASK = "configs/ioffe2015/mlp.yaml", "ioffe2015.smooth:smooth"
NORM = {"none": {}, "batch": {"model.architecture_args.norm": "batch"}}
DEEP = {"model.optimizer.lr": 0.1, "model.architecture_args": {
    "hidden": [100] * 5, "activation": "relu", "init": "kaiming_normal"}}  # fmt: skip
RATE = {"x5": {"model.optimizer.lr": 0.5}, "x30": {"model.optimizer.lr": 3.0}}
SIGMOID = RATE["x5"] | {"model.architecture_args.activation": "sigmoid", "model.architecture_args.init": None}
OTHERS = ("noisy", "l1", "l2", "linf")


def _cells(deep_epochs: int, epochs: int) -> Cells:
    deep = DEEP | {"trainer.max_epochs": deep_epochs}
    cells = grid("sigmoid/{norm}", CONFIG, {"trainer.max_epochs": epochs}, task=TASK, stack=True, norm=NORM)
    cells += grid("deep/{norm}", CONFIG, deep, task=TASK, stack=True, norm=NORM | {
        name: NORM["batch"] | {"normalization": name} for name in OTHERS})  # fmt: skip
    cells += grid("deep/{norm}/{rate}", CONFIG, deep, stack="fast/{norm}", norm=NORM, rate=RATE)
    cells += grid("deep/{norm}/sigmoid", CONFIG, deep | SIGMOID, stack=True, norm=NORM)
    return cells + grid("study/agreement", CONFIG, deep | {"other": NORM["batch"]}, seeds=3, stack=True)


FIT = {"fitted": 99}
TEXT = Source(
    "paper", "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
    "Ioffe, Szegedy", 2015, "arxiv.org/abs/1502.03167", "Read as a full text without its figures.",
)  # fmt: skip
NOTES = Source(
    "santurkar", "How Does Batch Normalization Help Optimization?", "Santurkar, Tsipras, Ilyas, Madry", 2018,
    "arxiv.org/abs/1805.11604", "Read in summaries; it has curves and no table.",
)  # fmt: skip
_says = partial(Claim, source=TEXT, where="section 4.2.2")
_asks = partial(Claim, source=NOTES, valid_if=trained("deep/batch", at_least=90))
PLAIN, BATCH, NOISY = "deep/none", "deep/batch", "deep/noisy"
_epochs = partial(ratio, metric="fit_epoch", until="epochs")

CLAIMS = (
    lower("1", "In a net of three sigmoid layers batch norm lowers the test error.", "sigmoid/batch", "sigmoid/none",
          "> 0", source=TEXT, where="Figure 1a"),
    _says("2", "Batch norm makes the distribution of a sigmoid's input more stable over the training: how far medians "
          "wander in units of the spread, with it over without.", ratio("sigmoid/batch", "sigmoid/none", "input_shift"),
          below=1, published="< 1", where="Figure 1b, c", headline=True),
    _says("3", "Batch norm at the same rate reaches the accuracy of the net without in less than half of the steps: "
          "epochs to 99 % of the training samples.", _epochs(BATCH, PLAIN), below=0.5, published=0.43),
    _says("3-x5", "At five times the rate batch norm takes less than half of the steps that the net without takes at "
          "the single rate: epochs to 99 % of the training samples.", _epochs("deep/batch/x5", PLAIN),
          below=0.5, published=0.07, headline=True),
    _says("4", "With batch norm a net learns at five times the rate (training accuracy).",
          value("deep/batch/x5", "train_acc"), at_least=90, published="it does"),
    _says("4-plain", "At five times the rate a net without batch norm does not learn: in the paper its parameters "
          "reach infinity (training accuracy).", value("deep/none/x5", "train_acc"), at_most=30,
          published="it does not", headline=True),
    _says("4-x30", "With batch norm it learns at thirty times the rate (training accuracy).",
          value("deep/batch/x30", "train_acc"), at_least=90, published="it does"),
    lower("5", "At the same rate batch norm lowers the test error.", BATCH, PLAIN, 0.5, source=TEXT, where="Figure 3"),
    lower("5-x30", "Thirty times the rate ends at a lower test error than five times.", "deep/batch/x30",
          "deep/batch/x5", 1.8, source=TEXT, where="Figure 3"),
    _says("6", "With batch norm five layers of sigmoid units learn (training accuracy).",
          value("deep/batch/sigmoid", "train_acc"), at_least=90, published="it does"),
    _says("6-plain", "Without batch norm five layers of sigmoid units stay near chance (training accuracy).",
          value("deep/none/sigmoid", "train_acc"), at_most=20, published="at chance", headline=True),
    _asks("S1", "Noise behind batch norm, whose mean and scale change at each step, hardly costs accuracy: less than "
          "two points of test error.", difference(NOISY, BATCH, "test_error"), at_most=2, published="comparable"),
    _asks("S1-faster", "The noisy net still learns faster than one without batch norm: epochs to 99 % of the training "
          "samples.", _epochs(NOISY, PLAIN), below=1, published="< 1"),
    _asks("S1-stable", "And yet its inputs are less stable than those without batch norm: how far medians wander in "
          "units of the spread.", ratio(NOISY, PLAIN, "input_shift"), above=1, published="> 1"),
    _asks("S2", "Along the gradient the loss of five layers of rectifiers varies less with batch norm than without, "
          "mean over the training.", ratio(BATCH, PLAIN, "loss_range"), below=1, published="< 1", headline=True),
    _asks("S2-gradient", "So does the gradient.", ratio(BATCH, PLAIN, "gradient_change"), below=1, published="< 1"),
    _asks("S2-smoothness", "So does the gradient by the distance (effective smoothness).",
          ratio(BATCH, PLAIN, "smoothness"), below=1, published="< 1"),
    *(_asks(f"S3-{name}", f"A normalization by the {what} does as well as batch norm: it needs fewer epochs to 99 % of "
            "the training samples than none.", _epochs(f"deep/{name}", PLAIN), below=1, published="< 1")
      for name, what in {"l1": "mean size", "l2": "root mean square", "linf": "largest size"}.items()),
    Claim("control-turn", "In units of its own norm, too, the gradient of five layers of rectifiers changes less along "
          "a step with batch norm than without.", ratio(BATCH, PLAIN, "gradient_turn"), below=1, kind="control"),
    _says("7", "An ensemble of six has a top-5 error of 4.82 % on ImageNet.", where="section 4.2.3",
          out_of_reach="It takes weeks on many GPUs"),
)  # fmt: skip
THREE = {"none": PLAIN, "batch norm": BATCH, "noisy batch norm": NOISY}
ALL = THREE | {name: f"deep/{name}" for name in ("l1", "l2", "linf")} | {
    "batch norm, x5": "deep/batch/x5", "batch norm, x30": "deep/batch/x30"}  # fmt: skip

PAPER = Paper(
    "ioffe2015", TEXT.title, TEXT.authors, 2015, arxiv="1502.03167",
    summary="Inputs of each layer that are normalized by the batch let a net learn in fewer steps and at higher rates; "
    "Santurkar et al. ask whether that is for their stable distribution or for a smoother loss.",
    scales=(
        Scale("quick", "Digits, 20 and 40 epochs: 5 minutes on one core", _cells(20, 40), overrides=FIT | {
              "data.source": "digits", "data.whiten": True}, seeds=5, replicas=5),
        Scale("standard", "10,000 images of MNIST, 15 and 30 epochs: 25 minutes on one core", _cells(15, 30),
              overrides=FIT | {"data.train_size": 10_000}, seeds=5, replicas=5),
        Scale("paper", "MNIST, 50 epochs: an hour on a GPU", _cells(50, 50), overrides=FIT | {"model.cuda_graph": True},
              seeds=5, replicas=5),
    ),
    claims=CLAIMS,
    metrics=(Family("Nets along the gradient", (
        Metric("input_shift", "Wander of inputs over their spread"), Metric("loss_range", "Range of the loss"),
        Metric("gradient_change", "Change of the gradient"), Metric("gradient_turn", "That over its norm"),
        Metric("smoothness", "Effective smoothness"), Metric("fit_epoch", "Epochs to fit", "epochs", never="never"),
        Metric("train_acc", "Train accuracy", "%"), Metric("test_acc", "Test accuracy", "%")), shown=8),),
    figures=(
        curves("learning", "Training loss", "train_loss", {
            "Three layers of sigmoid units": {"batch norm": "sigmoid/batch", "none": "sigmoid/none"},
            "Five layers": THREE | {"batch norm, five times the rate": "deep/batch/x5"}}, "The paper's Figures 1a and "
            "2 draw accuracies, of the net of section 4.1 and of Inception.", y="training loss", epochs=True),
        curves("input", "Median input of a unit of the last sigmoid layer", "signal_input", {
            "batch norm": "sigmoid/batch", "none": "sigmoid/none"}, "One unit, as in the paper's Figure 1b and c.",
            y="median input", epochs=True),
        curves("range", "Range of the loss along the gradient", "signal_loss_range", THREE, "Over half to four times "
               "the rate, on one batch; Santurkar et al. draw it as the ground of their Figure 4a.", y="range of the "
               "loss", epochs=True, log_y=10),
        points("errors", "Test error", "test_error", ALL, y="test error (%)"),
    ),
    deviations=(
        Deviation("", "Binary images, small Gaussian weights, and a rate that was not read", "Grey pixels, torch's "
                  "weights and a rate of 1 in the net of section 4.1", "How soon the net without leaves its plateau"),
        Deviation("", "Inception on ImageNet (section 4.2) and VGG on CIFAR-10 (Santurkar et al.)", "Five layers of "
                  "100 rectifiers, from He's weights, in batches of 60; rates of 0.1, 0.5 and 3, no momentum",
                  "Only directions can be compared"),
        Deviation("", "With higher rates: no dropout, less weight decay, faster decay of the rate", "Rates alone",
                  "How much faster"),
        Deviation("", "Steps to the largest validation accuracy of the net without", "Epochs to 99 % of the training "
                  "samples", "It is of training alone"),
        Deviation("", "The loss along the gradient at every step", "After each epoch, always on one batch",
                  "Curves are coarser"),
        Deviation("", "Noise and averages of p-norms whose numbers were not read again", "As in the recalled "
                  "appendix: see smooth.py", "How much the noise costs"),
        Deviation("quick", "50,000 steps", "800, of the deep nets 400", "Nets that have not fitted may still do so"),
        Deviation("standard", "50,000 steps", "5,000, of the deep nets 2,500", "Plateaus may not end"),
    ),
)  # fmt: skip
