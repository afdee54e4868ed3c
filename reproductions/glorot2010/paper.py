"""Glorot & Bengio: Understanding the difficulty of training deep feedforward neural networks (AISTATS 2010)."""

from functools import partial

from lightning_regs.study import (
    SIGNALS,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    curves,
    difference,
    grid,
    lower,
    points,
    sweep,
    trained,
    value,
)

CONFIG = "configs/glorot2010/mlp.yaml"
RULE = {"standard": {}, "normalized": {"model.architecture_args.init": "xavier_uniform"}}
CELLS = grid("{activation}/{rule}", CONFIG, task=SIGNALS, stack=True, rule=RULE, activation={
    name: {"model.architecture_args.activation": name} for name in ("tanh", "softsign", "sigmoid")})  # fmt: skip
CELLS += grid("study/agreement", CONFIG, {"other": RULE["normalized"]}, seeds=3, stack=True)
SMALL = {"data.source": "mnist1d", "data.batch_size": 50, "trainer.max_epochs": 40,
         "model.optimizer.lr": 0.05, "model.architecture_args.hidden": [100] * 5}  # fmt: skip
IMAGES = {"data.train_size": 10_000, "data.batch_size": 50, "trainer.max_epochs": 20, "model.optimizer.lr": 0.05,
          "model.architecture_args.hidden": [200] * 5}  # fmt: skip

PAPER_ITSELF = Source("paper", "Understanding the difficulty of training deep feedforward neural networks",
                      "Glorot, Bengio", 2010, "proceedings.mlr.press/v9/glorot10a")  # fmt: skip
NOTES = Source("notes", "Notes on the paper that quote its tables", note="Third-party notes.")
_quoted = partial(Claim, source=NOTES)
TANH, PLAIN, SIGMOID = "tanh/normalized", "tanh/standard", "sigmoid/standard"

CLAIMS = (
    _quoted("1-standard", "At the start the mean singular value of layer Jacobians is about 0.5 with the standard "
            "rule, in nets of tanh.", value(PLAIN, "jacobian"), published=0.5, within=0.1, headline=True),
    _quoted("1-normalized", "At the start the mean singular value of layer Jacobians is about 0.8 with the normalized "
            "rule, in nets of tanh.", value(TANH, "jacobian"), published=0.8, within=0.1, headline=True),
    _quoted("2", "With the standard rule gradients shrink on their way back through five layers of tanh: at the first "
            "layer they are less than half of those at the last.", value(PLAIN, "start_gradient_ratio"), below=0.5,
            published="they shrink", headline=True),
    _quoted("2-normalized", "With the normalized rule they keep their size: within a factor of two.",
            value(TANH, "start_gradient_ratio"), at_least=0.5, at_most=2, published="about 1"),
    _quoted("3", "So do activations on their way forward: at the last layer less than half of those at the first with "
            "the standard rule.", value(PLAIN, "start_deviation_ratio"), below=0.5, published="they shrink"),
    lower("4", "Five layers of tanh have a lower test error with the normalized rule than with the standard one.",
          TANH, PLAIN, 0.12, headline=True, source=NOTES, where="Table 1, MNIST",
          valid_if=trained([TANH, PLAIN], at_least=30)),
    _quoted("4-softsign", "With softsign the test errors of the two rules are within two points.",
            difference("softsign/standard", "softsign/normalized", "test_error"), at_least=-2, at_most=2,
            published=-0.08, where="Table 1, MNIST"),
    _quoted("5", "Five layers of sigmoid units stall with the standard rule: the training accuracy stays near "
            "chance, at less than half.", value(SIGMOID, "train_acc"), below=50, published="a long plateau",
            headline=True),
    _quoted("5-saturation", "There the units of the last layer saturate at 0: their mean is below 0.2 at the end.",
            value(SIGMOID, "mean_5"), below=0.2, published="0", where="Figure 2"),
    Claim("control-half", "The last of five layers of sigmoid units starts around the middle of its range, with a mean "
          "within 0.1 of 0.5.", value(SIGMOID, "start_mean_5"), at_least=0.4, at_most=0.6, kind="control"),
    Claim("control-forward", "Five layers of sigmoid units lose the input on the way: before training the deviation at "
          "the last layer is less than a tenth of that at the first.", value(SIGMOID, "start_deviation_ratio"),
          below=0.1, kind="control"),
    _quoted("6", "On Shapeset the normalized rule lowers the error of tanh from 27.15 to 15.60 %.", where="Table 1",
            out_of_reach="The generator of Shapeset-3x2 is not to be had"),
)  # fmt: skip
NETS = {f"{name}, {rule}": f"{name}/{rule}" for name in ("tanh", "softsign", "sigmoid") for rule in RULE}


def _by_layer(metric: str, activation: str) -> dict[str, dict[float, object]]:
    return {rule: {i: value(f"{activation}/{rule}", f"{metric}_{i}") for i in range(1, 6)} for rule in RULE}


PAPER = Paper(
    "glorot2010", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2010, arxiv="",
    summary="Weights so small that each layer shrinks signals and gradients make deep nets slow, and sigmoid units "
    "saturate; a rule by inputs and outputs of a layer keeps both.",
    scales=(
        Scale("quick", "MNIST-1D, five layers of 100, 40 epochs: 4 minutes on two cores", CELLS, overrides=SMALL,
              seeds=5, replicas=5),
        Scale("standard", "10,000 images of MNIST, five layers of 200, 20 epochs: 20 minutes on one core", CELLS,
              overrides=IMAGES, seeds=5, replicas=5),
        Scale("paper", "MNIST, five layers of 1000, 100 epochs: 500,000 updates, three hours on a GPU", CELLS,
              overrides={"data.train_size": 50_000}, seeds=5, replicas=5),
    ),
    claims=CLAIMS,
    figures=(
        sweep("gradients", "Gradients at the start, by layer", "start_gradient_1", {
              name: _by_layer("start_gradient", name) for name in ("tanh", "softsign")},
              "Root mean square of the gradients that come back to each layer's activations; the paper's Figure 7.",
              x="layer", y="gradient", log_y=10),
        sweep("activations", "Activations at the start, by layer", "start_deviation_1", {
              name: _by_layer("start_deviation", name) for name in ("tanh", "softsign")}, "Over samples and units of "
              "one batch; the paper's Figure 6 has histograms.", x="layer", y="standard deviation"),
        curves("saturation", "Mean activation of the last layer over training", "signal_mean_5",
               {name: f"{name}/standard" for name in ("sigmoid", "tanh", "softsign")}, "In the paper's Figure 2 the "
               "last sigmoid layer goes to 0.", y="mean activation", epochs=True),
        points("errors", "Test error", "test_error", NETS, y="test error (%)"),
    ),
    deviations=(
        Deviation("", "Biases start at 0", "With the standard rule, torch's, they are uniform like the weights",
                  "Activations of the first steps"),
        Deviation("", "The rate is tuned for each net on held-out data", "One rate for all", "A net may be better at "
                  "another"),
        Deviation("", "Shapeset-3x2, CIFAR-10 and Small-ImageNet, too", "MNIST, or MNIST-1D", "The largest effect is "
                  "on Shapeset"),
        Deviation("quick", "1000 units, 5 million updates in batches of 10", "100 units, 3,200 in batches of 50",
                  "Only directions can be compared"),
        Deviation("standard", "1000 units, 5 million updates in batches of 10", "200 units, 4,000 in batches of 50",
                  "Plateaus may end later"),
        Deviation("paper", "5 million updates", "500,000", "Plateaus may end later"),
    ),
)  # fmt: skip
