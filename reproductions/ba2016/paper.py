"""Ba, Kiros, Hinton: Layer Normalization (1607.06450), section 6.6: batches of 128 and of 4."""

from lightning_regs.study import (
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    bars,
    curves,
    difference,
    grid,
    lower,
    points,
    ratio,
    trained,
    weighted_sum,
)

CONFIG = "configs/ba2016/mlp.yaml"
NORMS = {"none": {}, "layer": {"model.architecture_args.norm": "layer"},
         "batch": {"model.architecture_args.norm": "batch"}}  # fmt: skip
CELLS = grid("{norm}/{size}", CONFIG, stack=True, norm=NORMS, size={n: {"data.batch_size": n} for n in (128, 4)})
CELLS += grid("study/agreement", CONFIG, NORMS["layer"] | {"other": NORMS["batch"]}, seeds=3, stack=True)
SIGNALS = {"data.source": "mnist1d", "data.train_size": 2000, "data.whiten": True, "fitted": 60,
           "model.architecture_args.hidden": [100, 100], "trainer.max_epochs": 20}  # fmt: skip
FULL = {"data.train_size": 55_000, "fitted": 98}
IMAGES = {"data.train_size": 6000, "model.architecture_args.hidden": [200, 200], "trainer.max_epochs": 20, "fitted": 98}

PAPER_ITSELF = Source("paper", "Layer Normalization", "Ba, Kiros, Hinton", 2016, "arxiv.org/abs/1607.06450",
                      "The section on MNIST has curves and no numbers.")  # fmt: skip
TEXT = {"source": PAPER_ITSELF, "where": "section 6.6"}

CLAIMS = (
    lower("1", "With batches of 4 layer norm has a lower test error than batch norm.", "layer/4", "batch/4", "> 0",
          headline=True, valid_if=trained("layer/4", at_least=50), **TEXT),
    Claim("2", "Smaller batches cost batch norm more than layer norm: test error at 4 less that at 128, batch norm's "
          "less layer norm's.", weighted_sum((1, "batch/4", "test_error"), (-1, "batch/128", "test_error"),
          (-1, "layer/4", "test_error"), (1, "layer/128", "test_error")), above=0, published="> 0",
          headline=True, valid_if=trained(["layer/*", "batch/128"], at_least=50), **TEXT),
    Claim("3", "Layer norm is faster than batch norm with batches of 128: epochs until 60 % (98 % at the larger "
          "scales) of the training samples are right.", ratio("layer/128", "batch/128", "fit_epoch", until="epochs"),
          below=1, published="< 1", headline=True, **TEXT),
    Claim("4", "Layer norm is faster than batch norm with batches of 4, too.",
          ratio("layer/4", "batch/4", "fit_epoch", until="epochs"), below=1, published="< 1", **TEXT),
    Claim("5", "At 128 the two have the same test error: within two points.",
          difference("layer/128", "batch/128", "test_error"), at_least=-2, at_most=2, published="similar curves",
          **TEXT),
    Claim("control-faster", "Layer norm is faster than no normalization with batches of 128: epochs until 60 % (98 % "
          "at the larger scales) of the training samples are right.",
          ratio("layer/128", "none/128", "fit_epoch", until="epochs"), below=1, kind="control"),
    lower("control-noise", "With batches of 4 batch norm's training error at the end is higher than that of the net "
          "without normalization.", "none/4", "batch/4", "> 0", "train_error", kind="control"),
    Claim("6", "In recurrent nets layer norm trains faster and ends better: order embeddings find 48.5 in place of "
          "46.6 % of captions first.", source=PAPER_ITSELF, where="Table 2",
          out_of_reach="It is about recurrent nets, which are not in this package"),
    Claim("7", "In convolutional nets it is better than no normalization and worse than batch norm.",
          source=PAPER_ITSELF, where="section 6.7", out_of_reach="The section is preliminary and names no net"),
)  # fmt: skip
LINES = {f"batches of {n}": {"layer norm": f"layer/{n}", "batch norm": f"batch/{n}", "none": f"none/{n}"}
         for n in (128, 4)}  # fmt: skip
ALL = {f"{name}, {n}": cell for n in (128, 4) for name, cell in LINES[f"batches of {n}"].items()}

PAPER = Paper(
    "ba2016", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2016, "1607.06450",
    summary="Each sample's own mean and variance over the units of a layer normalise it as well as the batch's do, and "
    "no worse in small batches.",
    scales=(
        Scale("quick", "MNIST-1D, 2,000 signals, two layers of 100, 20 epochs: 4 minutes on two cores", CELLS,
              overrides=SIGNALS, seeds=5, replicas=5),
        Scale("standard", "6,000 images of MNIST, two layers of 200, 20 epochs: 20 minutes on one core", CELLS,
              overrides=IMAGES, seeds=5, replicas=5),
        Scale("paper", "MNIST, 784-1000-1000-10, 60 epochs: an hour on a GPU", CELLS, overrides=FULL,
              seeds=5, replicas=5),
    ),
    claims=CLAIMS,
    figures=(
        curves("learning", "Training loss", "train_loss", LINES, "The paper's Figure 6 is of these, and of the test "
               "error. Batch norm's is with the statistics of the batch.", y="training loss", epochs=True),
        points("errors", "Test error", "test_error", ALL, y="test error (%)"),
        bars("epochs", "Epochs to fit", "fit_epoch", ALL, y="epochs"),
    ),
    deviations=(
        Deviation("", "Rate and activation are not in what was read", "Adam's default rate of 0.001, and ReLU",
                  "How fast each is"),
        Deviation("", "Batch norm at a batch of 4 takes the unbiased variance", "torch's: biased in training, "
                  "unbiased in the running one", "A factor of 4/3 on the variance in training"),
        Deviation("", "Curves", "Epochs to a training accuracy, and the test error at the end", "Batch norm's "
                  "epochs at 4 are with statistics of four samples"),
        Deviation("quick", "MNIST, two layers of 1000, 60 epochs", "2,000 signals of MNIST-1D, two layers of 100, 20 "
                  "epochs", "Only directions can be compared"),
        Deviation("standard", "55,000 images, 60 epochs", "6,000 images, 20 epochs, layers of 200", "Errors are "
                  "larger"),
    ),
)  # fmt: skip
