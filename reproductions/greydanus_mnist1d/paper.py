"""Greydanus, Kobak: Scaling down deep learning with MNIST-1D (2011.14439): four nets, and shuffled positions."""

from functools import partial

from lightning_regs.study import Claim, Deviation, Paper, Scale, Source, difference, grid, lower, points, trained, value

CONFIG = "configs/greydanus_mnist1d/signals.yaml"
NETS = {
    "logistic": {"model.architecture_args": {"hidden": []}},
    "mlp": {"model.architecture_args": {"hidden": [100, 100], "residual": "each"}},
    "conv": {"model.architecture": "signal_conv"},
}
ORDERS = {"ordered": {}, "shuffled": {"data.corruption": "shuffled_pixels"}}
STACKED = grid("{net}/{order}", CONFIG, stack=True, net=NETS, order=ORDERS)
CELLS = STACKED + grid("{net}/{order}", CONFIG, net={"gru": {"model.architecture": "signal_gru"}}, order=ORDERS)

README = Source("readme", "MNIST-1D, README", "Greydanus, Kobak", 2020, "github.com/greydanus/mnist1d")
RUN = Source("run", "MNIST-1D, outputs saved in its notebooks", "Greydanus, Kobak", 2020,
             "github.com/greydanus/mnist1d", "One run with seed 42: 31.5, 65.1, 92.3 and 89.1 %.")  # fmt: skip
WHOLE = ("standard", "paper")
_says = partial(Claim, source=(README, RUN), on=WHOLE)
_order = partial(lower, source=README, origin="derived")
_shuffled = partial(Claim, source=(README, RUN), origin="derived")


def _cost(net: str) -> dict[str, object]:
    return {"measure": difference(f"{net}/ordered", f"{net}/shuffled"), "valid_if": trained(f"{net}/*", above=20)}


CLAIMS = (
    _says("logistic", "Logistic regression has a test accuracy of about 32 %.", value("logistic/ordered"), at_least=30,
          at_most=34, published=32.0),
    _says("mlp", "An MLP has a test accuracy of about 65 to 68 %.", value("mlp/ordered"), at_least=62, at_most=70,
          published=68.0, headline=True),
    _says("conv", "A convolutional net has a test accuracy of about 92 to 94 %.", value("conv/ordered"), at_least=90,
          at_most=96, published=94.0, headline=True),
    _says("gru", "A gated recurrent net has a test accuracy of about 89 to 91 %.", value("gru/ordered"), at_least=86,
          at_most=93, published=91.0),
    _order("order-mlp", "An MLP is better than logistic regression.", "mlp/ordered", "logistic/ordered", 36.0),
    _order("order-conv", "A convolutional net is better than an MLP.", "conv/ordered", "mlp/ordered", 26.0,
           headline=True),
    _order("order-gru", "A convolutional net is better than a recurrent one.", "conv/ordered", "gru/ordered", 3.0,
           on=WHOLE),
    _shuffled("shuffled-logistic", "Shuffled positions cost logistic regression no test accuracy: within two points.",
              **_cost("logistic"), at_least=-2, at_most=2, published=0.0),
    _shuffled("shuffled-mlp", "Shuffled positions cost an MLP no test accuracy: within two points.", **_cost("mlp"),
              at_least=-2, at_most=2, published=0.0, headline=True),
    _shuffled("shuffled-conv", "Shuffled positions cost a convolutional net at least 20 points of test accuracy, more "
              "than half of its lead over an MLP.",
              **_cost("conv"), at_least=20, published=38.0, headline=True),
    _shuffled("shuffled-gru", "Shuffled positions cost a recurrent net at least 20 points of test accuracy, too.",
              **_cost("gru"), at_least=20, published=34.0, on=WHOLE),
    Claim("tickets", "At a sparsity of 92 % lottery tickets beat dense and random nets, and lose their lead where "
          "positions are shuffled.", source=RUN, out_of_reach="It takes 100 rounds of pruning, not declared "
          "here; frankle2019 has tickets of another net on these data"),
)  # fmt: skip
LINES = {order: {"logistic": f"logistic/{order}", "MLP": f"mlp/{order}", "convolutional": f"conv/{order}",
                 "recurrent": f"gru/{order}"} for order in ORDERS}  # fmt: skip
PUBLISHED = {"logistic": 32, "mlp": 68, "conv": 56, "gru": 57}  # where positions are shuffled

PAPER = Paper(
    "greydanus_mnist1d", "Scaling down deep learning with MNIST-1D", "Greydanus, Kobak", 2020, "2011.14439",
    summary="A data set of short signals: convolutional and recurrent nets are tens of points better than an MLP, "
    "and no longer where the positions are shuffled.",
    scales=(
        Scale("quick", "2,000 steps, without the recurrent net: 3 minutes on one core", STACKED,
              overrides={"trainer.max_epochs": 50}, seeds=5, replicas=5),
        Scale("standard", "6,000 steps, all nets: an hour on one core", CELLS, seeds=5, replicas=5),
        Scale("paper", "The same with ten seeds: minutes on a GPU for all but the recurrent net", CELLS, seeds=10,
              replicas=10),
    ),
    claims=CLAIMS,
    figures=(points("accuracy", "Test accuracy by the order of positions", "test_acc", LINES, "Each seed shuffles the "
                  "positions of all its signals, training and test, by one permutation of its own.",
                  y="test accuracy (%)", limits=(0, 100), bars=True,
                  published={(f"{net}/shuffled", "test_acc"): acc for net, acc in PUBLISHED.items()}),),
    deviations=(
        Deviation("", "Batches of 100 in a fixed order, never shuffled", "A new order each epoch", "Not known"),
        Deviation("", "One training of each net in what was read", "Several seeds, one data set: that of seed 42",
                  "Intervals are over trainings and, where positions are shuffled, permutations, one a seed; 1,000 "
                  "test signals are one sample"),
        Deviation("", "The data are standardised by all 5,000 signals, those of the test among them", "The same, as "
                  "they are generated by the authors' package", "None to speak of"),
        Deviation("quick", "6,000 steps", "2,000 steps", "Accuracies may be lower; orders and what shuffling "
                  "costs are judged, accuracies are not"),
    ),
)  # fmt: skip
