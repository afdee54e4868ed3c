"""Louizos et al.: Learning Sparse Neural Networks through L0 Regularization (1712.01312), on MNIST."""

from functools import partial
from typing import Any

from lightning_regs.study import (
    WEIGHTS,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    bars,
    curves,
    difference,
    grid,
    points,
    trained,
    value,
)

CONFIG = "configs/louizos2018/mlp.yaml"


def _gated(strength: float) -> dict[str, Any]:
    """Gates of the net's inputs that start more open than the others, as in the authors' code."""
    first, others = "network.body.1", ["network.body.3", "network.head"]
    options = [{"layers": first, "initial_dropout": 0.2}, {"layers": others, "initial_dropout": 0.5}]
    methods = [{"class_path": "lightning_regs.L0", "init_args": {"coefficient": strength} | own} for own in options]
    return {"model.regularizers": methods}


def _cells(samples: int, overrides: dict[str, Any]) -> Any:
    """Train with a strength of 0.1 and of 1, over the number of training samples, and without L0."""
    nets = {"plain": {}, "dropout": {"model.architecture_args.dropout": 0.5}, "l0": _gated(0.1 / samples),
            "l0-strong": _gated(1 / samples)}  # fmt: skip
    cells = grid("{net}", CONFIG, overrides, task=WEIGHTS, stack=True, net=nets)
    return cells + grid("study/agreement", CONFIG, overrides | {"other": _gated(0.1 / samples)}, seeds=3, stack=True)


DIGITS = {"data.source": "digits", "data.batch_size": 50, "model.optimizer.lr": 0.003, "trainer.max_epochs": 160}
MNIST = {"data.train_size": 10_000, "model.optimizer.lr": 0.003, "trainer.max_epochs": 40}

PAPER_ITSELF = Source("paper", "Learning Sparse Neural Networks through L0 Regularization", "Louizos, Welling, Kingma",
                      2018, "arxiv.org/abs/1712.01312")  # fmt: skip
CODE = Source("code", "L0_regularization", "AMLab Amsterdam", 2018, "github.com/AMLab-Amsterdam/L0_regularization",
              "The authors' code: layers, initial gates, averaged weights.")  # fmt: skip
RIGL = Source("rigl", "Rigging the Lottery: Making All Tickets Winners", "Evci, Gale, Menick, Castro, Elsen", 2020,
              "arxiv.org/abs/1911.11134", "Quotes the paper's net of a strength a layer: 266-88-33 inputs, 1.6 % "
              "error.")  # fmt: skip
_recalled = partial(Claim, source=PAPER_ITSELF, where="Table 1", origin="recalled")
_inputs = partial(_recalled, within=30, on=("paper",))

CLAIMS = (
    _inputs("1-first", "The first layer keeps so many of its 784 inputs.", value("l0", "inputs_1"), published=219.0),
    _inputs("1-second", "The second keeps so many of its 300.", value("l0", "inputs_2"), published=214.0),
    _inputs("1-third", "The third keeps its 100.", value("l0", "inputs_3"), published=100.0),
    _recalled("2", "With L0 a net of 300 and 100 units has this test error.", value("l0", "test_error"), published=1.4,
              within=0.3, on=("paper",), headline=True),
    _recalled("3", "L0 leaves less than half of the weights.", value("l0", "kept_weights"), below=50, published=26.0,
              headline=True),
    _recalled("4", "L0 has less than a point more test error than no regularization.", difference("l0", "plain",
              "test_error"), below=1, published="no cost", headline=True, valid_if=trained("plain", at_least=98)),
    Claim("4-dropout", "L0 has less than a point more test error than dropout.", difference("l0", "dropout",
          "test_error"), below=1, kind="control"),
    Claim("5", "L0 of ten times the strength leaves fewer weights.", difference("l0", "l0-strong", "kept_weights"),
          above=0, kind="control"),
    Claim("6", "A strength for each layer leaves a net of 266, 88 and 33 inputs with an error of 1.6 %.",
          source=RIGL, where="Table 2", out_of_reach="The strengths are not in what was read"),
    Claim("7", "On CIFAR a wide residual net with L0 has fewer errors than with dropout, and trains with fewer "
          "operations.", source=PAPER_ITSELF, where="Table 2", origin="recalled",
          out_of_reach="Its gates skip whole filters as it trains; here they multiply"),
)  # fmt: skip
NETS = {"no regularization": "plain", "dropout": "dropout", "L0, 0.1/N": "l0", "L0, 1/N": "l0-strong"}
GATED = {name: cell for name, cell in NETS.items() if cell.startswith("l0")}

PAPER = Paper(
    "louizos2018", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2018, "1712.01312",
    summary="Gates on a net's inputs and units are learned beside its weights, by a penalty on how many are open; what "
    "is closed in the end is removed, and the smaller net makes hardly more errors.",
    scales=(
        Scale("quick", "Digits of 8x8 pixels: the claims' direction, 4 minutes on two cores", _cells(1_200, DIGITS),
              seeds=5, replicas=5),
        Scale("standard", "10,000 images of MNIST, 40 epochs: 15 minutes on one core", _cells(10_000, MNIST), seeds=5,
              replicas=5),
        Scale("paper", "MNIST, 200 epochs: two hours on a GPU", _cells(60_000, {}), seeds=5, replicas=5, test_items=0),
    ),
    claims=CLAIMS,
    figures=(
        bars("inputs", "Inputs that are left", {f"layer {i}": f"inputs_{i}" for i in (1, 2, 3)}, GATED,
             "Of 784, 300 and 100 on MNIST, of 64, 300 and 100 on digits.", y="inputs"),
        points("weights", "Weights that are left", "kept_weights", GATED, "Of those of the net that was trained.",
               y="weights (%)"),
        points("errors", "Test error", "test_error", NETS, y="test error (%)"),
        curves("growth", "Weights over training", "weights_norm", NETS, y="norm of the weights", epochs=True),
    ),
    deviations=(
        Deviation("", "Averages of the weights (decay 0.999) are tested", "The last weights", "Errors may be larger"),
        Deviation("", "Initial gates vary by a hundredth; their logits are held within 1 % and 99 %", "They start "
                  "equal, and are not held", "None known"),
        Deviation("quick", "MNIST, 120,000 steps at a rate of 0.001", "Digits of 8x8 pixels, 3,840 steps of 50 at "
                  "0.003", "Only directions can be compared"),
        Deviation("standard", "120,000 steps at a rate of 0.001", "A sixth of the images, 4,000 steps at 0.003",
                  "Gates have less time to close"),
    ),
)  # fmt: skip
