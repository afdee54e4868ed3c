"""Han et al.: Deep Compression (1510.00149), LeNet-300-100 and LeNet-5 on MNIST."""

from functools import partial
from typing import Any

from lightning_regs.study import (
    Cells,
    Claim,
    Deviation,
    Family,
    Metric,
    Paper,
    Scale,
    Source,
    bars,
    difference,
    grid,
    lower,
    points,
    trained,
    value,
)

TASK = "han2016.tasks:stage"
FC, CONV = "lenet-300-100", "lenet-5"
# Shares of weights that are kept, of tables 2 and 3; and bits: 8 for convolutions and 5 else, 6 in the net without any.
KEEP = {FC: {"*body.1": 0.08, "*body.3": 0.09, "*head": 0.26},
        CONV: {"*features.0": 0.66, "*features.3": 0.12, "*classifier*": 0.08, "*head": 0.19}}  # fmt: skip
BITS = {FC: {"*": 6}, CONV: {"*features*": 8, "*": 5}}
STARTS = ("linear", "density", "random")


def _cells(net: str, epochs: tuple[int, int, int], overrides: dict[str, Any]) -> Cells:
    """Train, prune and train, share weights and train; and with other bits, starts and no pruning."""
    first, pruning, sharing = ({"epochs": number, "lr": 1e-3} for number in epochs)
    dense = [first]
    pruned = [*dense, pruning | {"keep": KEEP[net]}]
    found = {"dense": dense, "pruned": pruned, "compressed": [*pruned, sharing | {"lr": 1e-4, "bits": BITS[net]}]}
    if net == CONV:
        found["3-bit-convolutions"] = [*pruned, sharing | {"bits": {"*features*": 3, "*": 5}}]
    else:
        found["3-bits"] = [*pruned, sharing | {"bits": {"*": 3}}]
        found["2-bits-unpruned"] = [*dense, sharing | {"bits": {"*": 2}}]
        found |= {f"4-bits-{start}": [*pruned, sharing | {"bits": {"*": 4}, "start": start}] for start in STARTS}
    cells = Cells()
    for name, stages in found.items():
        needs = tuple(f"{net}/{before}" for before, others in found.items() if others == stages[:-1])
        own = overrides | {"stages": stages}
        # Stacked convolutions are slower on a CPU than one net after another.
        cells += grid(f"{net}/{name}", f"han2016/{net}", own, task=TASK, needs=needs, stack=net == FC)
    return cells


DIGITS = {"data.source": "digits", "data.batch_size": 50}
SMALLER = {"trainer.max_epochs": 60, "other": {"model.architecture_args.hidden": [60, 20]}}
AGREEMENT = grid("study/agreement", f"configs/han2016/{FC}.yaml", DIGITS | SMALLER, seeds=3, stack=True)

DEEP = Source("paper", "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and "
              "Huffman Coding", "Han, Mao, Dally", 2016, "arxiv.org/abs/1510.00149")  # fmt: skip
LARGER = ("standard", "paper")
_says = partial(Claim, source=DEEP)
_size = partial(_says, on=LARGER)


def _of(net: str, metric: str, **settings: str) -> dict[str, Any]:
    made, told = f"{net}/compressed", {name.replace("_", " "): metric for name, metric in settings.items()}
    return {"measure": value(made, metric), "settings": {name: value(made, metric) for name, metric in told.items()}}


def _cost(net: str, most: float) -> dict[str, Any]:
    measured = difference(f"{net}/compressed", f"{net}/dense", "test_error")
    return {"measure": measured, "below": most, "where": "Table 1", "headline": True,
            "published": -0.06, "valid_if": trained(f"{net}/dense", at_least=98)}  # fmt: skip


RATES = {"metric": "rate_huffman", "biases_counted": "rate_all", "the_whole_file": "rate_file"}
CLAIMS = (
    _size("1-300-100", "Weights of LeNet-300-100 become 40 times smaller.", **_of(FC, **RATES), at_least=36,
          published=40.0, where="Table 2", headline=True),
    _size("1-5", "Weights of LeNet-5 become 39 times smaller.", **_of(CONV, **RATES), at_least=35.1, published=39.0,
          where="Table 3", headline=True),
    _size("2-300-100", "Compression costs LeNet-300-100 no accuracy: less than 0.2 points.", **_cost(FC, 0.2)),
    _size("2-5", "Compression costs LeNet-5 no accuracy: less than 0.2 points.", **_cost(CONV, 0.2)),
    _says("2-digits", "On digits compression costs LeNet-300-100 less than a point of accuracy.",
          **_cost(FC, 1) | {"headline": False}, on=("quick",)),
    _size("3-300-100", "Without Huffman coding LeNet-300-100 becomes 32 times smaller.", **_of(FC, "rate_quantized"),
          at_least=28.8, published=32.0, where="Table 2"),
    _size("3-5", "Without Huffman coding LeNet-5 becomes 33 times smaller.", **_of(CONV, "rate_quantized"),
          at_least=29.7, published=33.0, where="Table 3"),
    _size("4-300-100", "Huffman coding saves a fifth of LeNet-300-100.", **_of(FC, "saved_by_huffman"), within=6,
          published=19.7, where="Table 2", origin="derived"),
    _size("4-5", "Huffman coding saves a sixth of LeNet-5.", **_of(CONV, "saved_by_huffman"), within=6, published=16.4,
          where="Table 3", origin="derived"),
    _size("5-weights", "A weight of LeNet-300-100's first layer takes 4.4 bits in Huffman code.",
          **_of(FC, "bits_weight_1"), within=1, published=4.4, where="Table 2"),
    _size("5-index", "Its index takes 3.7 bits.", **_of(FC, "bits_index_1"), within=1, published=3.7, where="Table 2"),
    _size("6-300-100", "Weights take about half of what is written of LeNet-300-100, indices the other half.",
          **_of(FC, "weights_share"), within=10, published=50.0, where="section 6.4"),
    _size("6-5", "So they do of LeNet-5.", **_of(CONV, "weights_share"), within=10, published=50.0,
          where="section 6.4"),
    _size("7-300-100", "Before compression LeNet-300-100 has a test error of 1.64 %.",
          value(f"{FC}/dense", "test_error"), within=0.3, published=1.64, where="Table 1"),
    _size("7-5", "Before compression LeNet-5 has a test error of 0.80 %.", value(f"{CONV}/dense", "test_error"),
          within=0.3, published=0.8, where="Table 1"),
    lower("8-random", "With 4 bits, centroids that start evenly end better than at random weights.",
          f"{FC}/4-bits-linear", f"{FC}/4-bits-random", "> 0", source=DEEP, where="Figure 8"),
    lower("8-density", "They end better than at quantiles.", f"{FC}/4-bits-linear", f"{FC}/4-bits-density", "> 0",
          source=DEEP, where="Figure 8"),
    lower("9", "Quantized to 2 bits and not pruned, LeNet-300-100 has a higher test error than pruned and quantized to "
          "6 bits, which makes it smaller.", f"{FC}/compressed", f"{FC}/2-bits-unpruned", "> 0", source=DEEP,
          where="Figure 6", headline=True),
    _size("10-linear", "Linear layers can have 3 bits: it costs less than 0.2 points.",
          difference(f"{FC}/3-bits", f"{FC}/pruned", "test_error"), below=0.2, published="no loss", where="Figure 7"),
    lower("10-convolutions", "Convolutions need 4 bits: with 3 they lose accuracy.", f"{CONV}/compressed",
          f"{CONV}/3-bit-convolutions", "> 0", source=DEEP, where="Figure 7", on=LARGER),
    Claim("11-300-100", "LeNet-300-100 with the weights of its file gives the same outputs as the net that was "
          "written, bit for bit.", **_of(FC, "same_outputs"), at_least=100, kind="control"),
    Claim("11-5", "LeNet-5 with the weights of its file gives the same outputs as the net that was written, bit for "
          "bit.", **_of(CONV, "same_outputs"), at_least=100, kind="control", on=LARGER),
    Claim("12", "The file of LeNet-300-100 is at most 2 % larger than the bits that are counted of it.",
          **_of(FC, "file_overhead"), at_most=2, kind="control", on=LARGER),
    _says("13", "AlexNet becomes 35 and VGG-16 49 times smaller; nets need less time and energy.",
          where="Tables 4 to 6, Figures 9 and 10", out_of_reach="ImageNet, and hardware for sparse nets"),
)  # fmt: skip

NETS = {"LeNet-300-100": f"{FC}/compressed", "LeNet-5": f"{CONV}/compressed"}
ERRORS = {
    "LeNet-300-100": f"{FC}/dense", "... pruned": f"{FC}/pruned", "... compressed, 6 bits": f"{FC}/compressed",
    "... 4 bits": f"{FC}/4-bits-linear", "... 3 bits": f"{FC}/3-bits",
    "... 2 bits, not pruned": f"{FC}/2-bits-unpruned",
    "LeNet-5": f"{CONV}/dense", "LeNet-5, pruned": f"{CONV}/pruned", "LeNet-5, compressed": f"{CONV}/compressed",
    "LeNet-5, 3 bits in convolutions": f"{CONV}/3-bit-convolutions",
}  # fmt: skip
SIZES = Family(
    "Compressed nets",
    (
        Metric("rate_pruned", "Times smaller: pruned, with indices", "x"),
        Metric("rate_quantized", "Times smaller: quantized", "x"),
        Metric("rate_huffman", "Times smaller: in Huffman code", "x"),
        Metric("rate_all", "Times smaller: with biases", "x"),
        Metric("rate_file", "Times smaller: the file", "x"),
        Metric("kilobytes", "Size, KB", "KB"),
        Metric("test_acc", "Test accuracy", "%"),
        Metric("start_test_error", "Test error before training", "%"),
        Metric("kept_weights", "Weights kept", "%"),
        Metric("saved_by_huffman", "Saved by Huffman coding", "%"),
        Metric("weights_share", "Weights, of weights and indices", "%"),
        Metric("file_overhead", "File over count", "%"),
        Metric("same_outputs", "Images with the file's net's logits", "%"),
        Metric("bits_weight", "Bits of a weight", "bits"),
        Metric("bits_index", "Bits of an index", "bits"),
        *(
            Metric(f"bits_{what}_{i}", f"The same, layer {i}: {what}", "bits")
            for i in range(1, 5)
            for what in ("weight", "index")
        ),
    ),
    shown=7,
)

PAPER = Paper(
    "han2016", "Deep Compression", DEEP.authors, 2016, "1510.00149",
    summary="Small weights are pruned, the others share few values, and what is left is written in Huffman code: nets "
    "become 35 to 49 times smaller and make no more errors.",
    scales=(
        Scale("quick", "LeNet-300-100 on digits of 8x8 pixels: 4 minutes on two cores",
              _cells(FC, (60, 60, 10), DIGITS) + AGREEMENT, seeds=5, replicas=5),
        Scale("standard", "MNIST, both nets: planned for an hour on one core",
              _cells(FC, (15, 10, 3), {}) + _cells(CONV, (6, 5, 2), {}), seeds=5, replicas=5),
        Scale("paper", "MNIST, ten times as long: hours on a GPU",
              _cells(FC, (150, 100, 30), {}) + _cells(CONV, (60, 50, 20), {}), seeds=5, replicas=5),
    ),
    metrics=(SIZES,),
    claims=CLAIMS,
    figures=(
        bars("stages", "Size by stage", {"pruned": "rate_pruned", "quantized": "rate_quantized",
             "Huffman code": "rate_huffman", "with biases, as a file": "rate_file"}, NETS,
             "How many times smaller than 32 bits a weight.", y="times smaller"),
        points("errors", "Test error by stage", "test_error", ERRORS, "After each stage and its training.",
               y="test error (%)"),
        points("starts", "Where k-means starts", {"before training": "start_test_error", "after": "test_error"},
               {start: f"{FC}/4-bits-{start}" for start in STARTS},
               "LeNet-300-100 with 4 bits.", y="test error (%)"),
    ),
    deviations=(
        Deviation("", "Thresholds by the deviation of each layer's weights", "The shares that these left are kept",
                  "None on sizes; how shares were found is not tested"),
        Deviation("", "Nets of Caffe's examples, trained by SGD with weight decay", "Adam, the same weight decay of "
                  "0.0005, pixels / 255; LeNet-5 has activations behind its convolutions", "Other weights, other bits"),
        Deviation("", "256, 64 or 32 values a layer", "One of them is zero, which fillers need", "None known"),
        Deviation("", "Which stages biases are in is not said", "They are not in rates of stages; with biases, "
                  "and as a file, stands beside", "Rates of the whole are about 5 % lower, on digits a fifth"),
        Deviation("quick", "MNIST", "Digits of 8x8 pixels; 60, 60 and 10 epochs", "Layers are too small for rates, and "
                  "only directions can be compared"),
        Deviation("standard", "Lengths are not said", "15, 10 and 3 epochs; LeNet-5 6, 5 and 2", "Longer training may "
                  "have fewer errors"),
    ),
)  # fmt: skip
