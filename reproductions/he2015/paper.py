"""He, Zhang, Ren, Sun: Delving Deep into Rectifiers (1502.01852)."""

from functools import partial

from lightning_regs.study import (
    SIGNALS,
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
    sweep,
    value,
)

CONFIG = "configs/he2015/mlp.yaml"
DEPTHS, RULES = (14, 22, 30), {"he": "kaiming_normal", "xavier": "xavier_normal"}
SLOPES = {"model.layers": [{"replace": "ReLU", "by": "PReLU"}]}
LOW, HIGH = 30, 90  # percent of the training samples right: a net that stalls, and one that converges


def _cells(width: int) -> dict[int, dict[str, list[int]]]:
    """Return the nets by their layers, the last of which makes the logits."""
    return {depth: {"model.architecture_args.hidden": [width] * (depth - 1)} for depth in DEPTHS}


def _grid(width: int) -> Cells:
    rules = {name: {"model.architecture_args.init": rule} for name, rule in RULES.items()}
    nets = partial(grid, config=CONFIG, overrides={"fitted": 50}, task=SIGNALS, stack=True)
    cells = nets("{depth}/{rule}", depth=_cells(width), rule=rules)
    cells += nets("{depth}/prelu", depth={14: _cells(width)[14] | rules["he"] | SLOPES})
    pair = rules["he"] | {"other": rules["xavier"]}
    return cells + grid("study/agreement", CONFIG, _cells(width)[14] | pair, seeds=3, stack=True)


FASHION = {"data.source": "fashion_mnist", "data.train_size": 10_000, "data.batch_size": 100,
           "trainer.max_epochs": 20}  # fmt: skip
TOLD = Source("notes", "Public notes on the paper with references to its sections, and a dump of its text")
PAPER_ITSELF = Source("paper", "Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet "
                      "Classification", "He, Zhang, Ren, Sun", 2015, "arxiv.org/abs/1502.01852")  # fmt: skip
_theirs = partial(Claim, source=TOLD, where="section 2.2")


def _fits(id: str, sentence: str, cell: str, **options: object) -> Claim:
    return _theirs(id, sentence, value(cell, "train_acc"), **options)  # type: ignore[arg-type]


CLAIMS = (
    _fits("1", "With He's initial weights a net of 30 layers converges: it has at least 90 % of the training "
          "samples right.", "30/he", at_least=HIGH, published="it does", headline=True),
    _fits("1-xavier", "With Xavier's initial weights a net of 30 layers stalls: it has at most 30 % of the training "
          "samples right.", "30/xavier", at_most=LOW, published="it stalls", headline=True),
    _fits("2", "A net of 22 layers converges with He's.", "22/he", at_least=HIGH, published="it does"),
    _fits("2-xavier", "A net of 22 layers converges with Xavier's initial weights, too.",
          "22/xavier", at_least=HIGH, published="it does", headline=True),
    Claim("2-earlier", "With 22 layers nets have half of the training samples right in fewer epochs from He's weights "
          "than from Xavier's.",
          difference("22/xavier", "22/he", "fit_epoch", until="epochs"), above=0, published="> 0",
          source=TOLD, where="figure 2", headline=True),
    Claim("3", "With 14 layers the test errors from He's and from Xavier's weights are the same, within two points.",
          difference("14/xavier", "14/he", "test_error"), at_least=-2, at_most=2, published=0.08,
          source=TOLD, headline=True),
    lower("4", "With He's weights 30 layers have a higher test error than 14.", "14/he", "30/he", 4.74, source=TOLD),
    Claim("control-he", "At the start gradients of the first layer of 30 are within a factor of 10 of the last one's "
          "with He's weights.", value("30/he", "start_gradient_ratio"), at_least=0.1, at_most=10, kind="control"),
    Claim("control-xavier", "At the start gradients of the first layer of 30 are less than a hundredth of the last "
          "one's with Xavier's weights.", value("30/xavier", "start_gradient_ratio"), below=0.01, kind="control"),
    lower("5", "Learned slopes below zero (PReLU) lower the test error of 14 layers.", "14/prelu", "14/he", "> 0",
          source=PAPER_ITSELF, origin="recalled"),
    Claim("6", "A single net has a top-5 error of 5.71 % on ImageNet, six of them 4.94 %.", source=PAPER_ITSELF,
          origin="recalled", out_of_reach="It takes weeks on eight GPUs"),
)  # fmt: skip

PAPER = Paper(
    "he2015", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2015, arxiv="1502.01852",
    summary="Initial weights of variance 2 / fan_in let plain nets of rectifiers with 30 layers converge, where those "
    "of Xavier stall.",
    scales=(
        Scale("quick", "Digits and layers of 128: 5 minutes on two cores", _grid(128), seeds=5, replicas=5),
        Scale("standard", "10,000 images of Fashion-MNIST and layers of 128, 20 epochs: 20 minutes on two cores",
              _grid(128), overrides=FASHION, seeds=5, replicas=5),
        Scale("paper", "Fashion-MNIST and layers of 512, 100 epochs, the learning rate divided by 10 after 60 and 90: "
              "two hours on a GPU", _grid(512), overrides=FASHION | {
                  "data.train_size": None, "trainer.max_epochs": 100, "model.cuda_graph": True,
                  "model.schedule": {"name": "MultiStepLR", "milestones": [60, 90], "gamma": 0.1}},
              seeds=5, replicas=5),
    ),
    claims=CLAIMS,
    metrics=(Family("Nets by depth and initial weights", (
        Metric("train_acc", "Train accuracy", "%"), Metric("test_acc", "Test accuracy", "%"),
        Metric("fit_epoch", "Epochs to half", "epochs"),
        Metric("start_gradient_ratio", "First gradient over last", "x"),
        Metric("start_deviation_ratio", "Last activation over first")), shown=5),),
    figures=(
        *(curves(f"loss-{depth}", f"{depth} layers", "train_loss", {f"{depth} layers": {
          "He": f"{depth}/he", "Xavier": f"{depth}/xavier"}}, "The paper draws 22 layers, where both "
          "converge, and 30, where He's alone does.", y="training loss", epochs=True) for depth in DEPTHS),
        sweep("gradients", "First layer's gradient over the last one's, at the start", "start_gradient_ratio",
              {rule: {depth: f"{depth}/{rule}" for depth in DEPTHS} for rule in RULES}, x="layers", y="ratio",
              log_y=10),
    ),
    deviations=(
        Deviation("", "Convolutional nets on ImageNet, the last three layers fully connected", "Fully connected layers "
                  "of one width on small images", "Only directions can be compared"),
        Deviation("", "A rate of 0.01, divided when the error stalls, weight decay and dropout", "0.003, chosen on "
                  "held-out digits, constant but at paper scale, without either; momentum 0.9 as there",
                  "Errors are those of nets that are not regularized"),
        Deviation("", "Xavier's variance as Caffe has it, 1 / fan_in", "2 / (fan_in + fan_out), the same between "
                  "layers of one width", "None but in the first and last layer"),
        Deviation("", "Top-1 error on ImageNet", "Test error", "Differences are other numbers"),
    ),
)  # fmt: skip
