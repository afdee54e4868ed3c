"""Li et al.: Visualizing the Loss Landscape of Neural Nets (1712.09913)."""

from functools import partial
from typing import Any

from lightning_regs.study import (
    Cells,
    Claim,
    Deviation,
    Family,
    Figure,
    Metric,
    Paper,
    Scale,
    Source,
    curves,
    grid,
    lower,
    points,
    rank_correlation,
    ratio,
    trained,
    value,
)

TASK, LINE = "li2018.tasks:landscape", "li2018.tasks:line"
MLP, RESNET, VGG = (f"configs/li2018/{name}.yaml" for name in ("mlp", "resnet", "vgg9"))
ARGS = "model.architecture_args"
DECAY = {"0": {"model.optimizer.weight_decay": 0.0}, "5e-4": {}}
WIDTHS = ("deep-narrow", "deep", "deep-wide")


def _batches(config: str, small: int, large: dict[str, Any], line: int, common: Any, stack: bool = False) -> Cells:
    """Make nets of a small and a large batch, without and with weight decay, and the line between the two."""
    size = {"small": {"data.batch_size": small}, "large": large}
    nets = grid("batch/{decay}/{size}", config, common, task=TASK, stack=stack, decay=DECAY, size=size)
    ends = tuple(f"batch/{{decay}}/{name}" for name in size)
    between = common | size["small"] | {"other": large, "line": line}
    return nets + grid("line/{decay}", config, between, task=LINE, needs=ends, decay=DECAY)


def _large(size: int, epochs: int, *milestones: int) -> dict[str, Any]:
    return {"data.batch_size": size, "trainer.max_epochs": epochs, "model.schedule.milestones": list(milestones)}


def _nets(config: str, shapes: dict[str, dict[str, Any]], around: dict[str, Any], stack: bool = False) -> Cells:
    """Make nets with and without shortcuts, each with a plane around it."""
    net = {"skip": {f"{ARGS}.residual": True}, "plain": {}}
    if config == RESNET:
        net = {"skip": {}, "plain": {f"{ARGS}.shortcut": None}}
    size = {name: {ARGS: shape} for name, shape in shapes.items()}
    return grid("{net}/{size}", config, around, task=TASK, stack=stack, net=net, size=size)


def _mlp(width: int, layers: int = 20) -> dict[str, Any]:
    return {"hidden": [width] * (layers - 1)}


ADAM = {"model.optimizer": {"name": "Adam", "lr": 0.003}, f"{ARGS}.init": None}
SHAPES = {"shallow": _mlp(32, 4), "deep-narrow": _mlp(16), "deep": _mlp(32), "deep-wide": _mlp(64)}
AROUND = {"surface": 21, "map": 5}
PART = ("plain/*", "skip/deep", "skip/shallow")
QUICK = _nets(MLP, SHAPES, ADAM | AROUND | {"map_samples": 200}, stack=True).only(*PART)
QUICK += _batches(MLP, 16, _large(512, 120, 60, 90, 108), 41, {}, stack=True)
_PAIR = {ARGS: _mlp(32), "other": {f"{ARGS}.residual": True}}
QUICK += grid("study/agreement", MLP, ADAM | _PAIR, seeds=3, stack=True)
SHORT = {"data.train_size": 2500, "trainer.max_epochs": 30, "model.schedule.milestones": [15, 22, 27],
         "data.random_crop": False, "data.padding": 0, "data.random_flip": False,
         "trainer.precision": "32-true"}  # fmt: skip
SMALL = SHORT | {f"{ARGS}.depth": 8, f"{ARGS}.width": 8, "trainer.max_epochs": 40,
                 "model.schedule.milestones": [20, 30, 36]}  # fmt: skip
NARROW = {"shallow": {"depth": 8, "width": 4}, "deep-narrow": {"depth": 20, "width": 2},
          "deep": {"depth": 20, "width": 4}, "deep-wide": {"depth": 20, "width": 8}}  # fmt: skip
STANDARD = _nets(RESNET, NARROW, SHORT | AROUND | {"samples": 250, "map_samples": 100}).only(*PART)
STANDARD += _batches(RESNET, 32, _large(512, 90, 45, 67, 81), 41, SMALL | {"samples": 250})
STANDARD += grid("study/agreement", RESNET, SMALL | {"other": {f"{ARGS}.shortcut": None}}, seeds=3)
FULL = _nets(RESNET, {"shallow": {"depth": 20}, "deep-narrow": {"width": 8}, "deep": {}, "deep-wide": {"width": 64}},
             {"surface": 51, "map": 7, "map_samples": 5000})  # fmt: skip
FULL += _batches(VGG, 128, {"data.batch_size": 8192}, 401, {})

TEXT = Source("paper", "Visualizing the Loss Landscape of Neural Nets", "Li, Xu, Taylor, Studer, Goldstein", 2018,
              "arxiv.org/abs/1712.09913", "Read in notes of others and in the released code.")  # fmt: skip
_says = partial(Claim, source=TEXT)
_times = partial(_says)
NEGATIVE, OWN = "negative_curvature", "surface_nonconvex"
FITTED = trained("batch/*", at_least=95)


def _flat(distances: tuple[str, ...], cells: tuple[str, str], metrics: tuple[str, str]) -> dict[str, Any]:
    """Compare how far the loss rises, at the first distance and in settings at the others: large batch over small."""
    main, *others = (ratio(*cells, *(f"{metric}_{d}" for metric in metrics)) for d in distances)
    told = {f"at a distance of {d}": measure for d, measure in zip(distances[1:], others, strict=True)}
    return {"measure": main, "settings": told, "valid_if": FITTED}


def _line(decay: str) -> dict[str, Any]:
    return _flat(("0.25", "0.1", "0.5"), (f"line/{decay}", f"line/{decay}"), ("rise_large", "rise_small"))


def _normalized(decay: str) -> dict[str, Any]:
    return _flat(("0.5", "0.25", "1"), (f"batch/{decay}/large", f"batch/{decay}/small"), ("rise", "rise"))


def _convex(cells: str, others: str, at_least: float = 40) -> dict[str, Any]:
    """Compare how far from convex the loss is: in all directions, and in a setting on the surface."""
    return {"measure": ratio(cells, others, NEGATIVE), "settings": {"on the surface": ratio(cells, others, OWN)},
            "valid_if": trained([cells, others], at_least=at_least), "above": 1, "published": "> 1"}  # fmt: skip


CLAIMS = (
    _times("1-raw-0", "Without weight decay, on the line between the nets of a small and a large batch, the training "
           "loss rises further around the large batch's: at a quarter of the way to both sides.", **_line("0"), above=1,
           published="> 1", where="Figure 2"),
    _times("1-raw", "With weight decay, on the raw line between the nets of a small and a large batch, "
           "the training loss rises less around the large batch's net than around the small one's.", **_line("5e-4"),
           below=1, published="< 1", where="Figure 2", headline=True),
    _times("1-filter-0", "In filter-normalized random directions, without weight decay, the loss rises further around "
           "the large batch's net: at a distance of 0.5.", **_normalized("0"), above=1, published="> 1",
           where="Figure 3"),
    _times("1-filter", "In filter-normalized random directions, with weight decay, the loss rises further around the "
           "large batch's net than around the small one's.", **_normalized("5e-4"), above=1, published="> 1",
           where="Figure 3", headline=True),
    _times("1-weights", "With weight decay the small batch's weights are smaller (norm).", ratio("batch/5e-4/small",
           "batch/5e-4/large", "weight_norm"), below=1, published="< 1", where="Figure 2", origin="recalled",
           valid_if=FITTED),
    lower("1-error-0", "Without weight decay the small batch has the lower test error.", "batch/0/small",
          "batch/0/large", 3.7, source=TEXT, where="Figure 2", origin="derived", valid_if=FITTED),
    lower("1-error", "With weight decay the small batch has the lower test error.", "batch/5e-4/small",
          "batch/5e-4/large", 4.19, source=TEXT, where="Figure 2", origin="derived", valid_if=FITTED),
    lower("2-error", "A deep net has a lower test error with shortcuts than without.", "skip/deep", "plain/deep", 7.42,
          source=TEXT, where="Figure 5", origin="derived", headline=True),
    _times("2-chaos", "Around a deep net the loss is further from convex without shortcuts than with: mean over a "
           "plane of the smallest over the largest eigenvalue of the Hessian, in size.",
           **_convex("plain/deep", "skip/deep"), where="Figures 1, 5", headline=True),
    _times("2-depth", "Without shortcuts the loss is further from convex around a deep net than around a shallow one: "
           "mean over a plane of the smallest over the largest eigenvalue of the Hessian, in size.",
           **_convex("plain/deep", "plain/shallow"), where="Figure 5", headline=True),
    _says("3", "Width makes the loss around a deep net without shortcuts more convex: rank correlation of that mean "
          "with width.", rank_correlation(NEGATIVE, *(f"plain/{w}" for w in WIDTHS)), below=0, published="it does",
          where="Figure 6", settings={"on the surface": rank_correlation(OWN, *(f"plain/{w}" for w in WIDTHS))}),
    _says("3-error", "Width lowers the test error of a deep net without shortcuts: rank correlation.", rank_correlation(
          "test_error", *(f"plain/{w}" for w in WIDTHS)), below=0, published="it does", where="Figure 6"),
    _says("4", "The weights go a path of few dimensions: two principal components hold 40 to 90 % of its variance over "
          "the epochs.", value("skip/deep", "path_share"), at_least=40, at_most=90, published="40 to 90 %",
          where="section 7", settings={"without shortcuts": value("plain/deep", "path_share")}),
    _says("4-random", "Two random directions hold next to nothing of that variance: less than 1 %.",
          value("skip/deep", "random_share"), below=1, published="nothing", where="section 7"),
    _says("5", "Where a surface is not convex, other directions have negative curvature as well: rank correlation of "
          "both over a plane around a deep net without shortcuts.", value("plain/deep", "curvature_agreement"), above=0,
          published="they have", where="Figure 7"),
    Claim("control-walk", "Two principal components of the path of a deep net's weights, with shortcuts, hold more of "
          "its variance than the 76 % that they hold of a random walk's.",
          value("skip/deep", "path_share"), above=76, kind="control"),
    _says("6", "At 156 layers a net without shortcuts cannot be trained.", where="section 5",
          out_of_reach="It fails, so that there is no net to look at"),
)  # fmt: skip
PAIRS = {title: {f"{size} batch": f"batch/{decay}/{size}" for size in ("small", "large")}
         for title, decay in (("no weight decay", "0"), ("weight decay", "5e-4"))}  # fmt: skip
ALL = {f"{name}, {how}": f"{net}/{name}" for net, how in (("skip", "shortcuts"), ("plain", "plain"))
       for name in ("shallow", *WIDTHS)}  # fmt: skip
EVERY_PLANE = (
    Metric("negative_curvature", "Mean |smallest / largest eigenvalue|"),
    Metric("surface_nonconvex", "Surface not convex, %", "%"), Metric("curvature_agreement", "Correlation of both"),
    Metric("top_eigenvalue", "Largest eigenvalue"),
    Metric("path_share", "Path in two components, %", "%"),
    Metric("random_share", "Path in two random directions, %", "%"),
    Metric("train_acc", "Train accuracy", "%"), Metric("test_acc", "Test accuracy", "%"),
)  # fmt: skip

PAPER = Paper(
    "li2018", TEXT.title, TEXT.authors, 2018, "1712.09913",
    summary="The loss around a net can be compared between nets in directions whose filters are as long as the net's "
    "own; seen so, flat minima generalise better, and shortcuts and width keep the loss of deep nets near to convex.",
    scales=(
        Scale("quick", "Digits, MLPs of 4 and 20 layers, 40 to 120 epochs: 5 minutes on two cores", QUICK, seeds=5,
              replicas=5),
        Scale("standard", "2,500 images of CIFAR-10, ResNets of 8 and 20 layers and 2 to 8 filters, 30 to 90 "
              "epochs: 90 minutes on two cores", STANDARD, seeds=3),
        Scale("paper", "CIFAR-10, ResNets of 20 and 56 layers and VGG-9, 300 epochs: weeks on a GPU", FULL, seeds=3),
    ),
    claims=CLAIMS,
    metrics=(
        Family("Planes", EVERY_PLANE, shown=8),
        Family("Random directions", (*(Metric(f"rise_{d}", f"Rise of the loss at {d}") for d in ("0.25", "0.5", "1")),
               Metric("weight_norm", "Norm of the weights"), *EVERY_PLANE[-2:]), shown=6),
        Family("Lines between nets", tuple(Metric(f"rise_{size}_{d}", f"Rise at {d} from the {size} batch's")
               for size in ("small", "large") for d in ("0.1", "0.25", "0.5")), shown=6),
    ),
    figures=(
        Figure("planes", "Training loss around nets", "On planes of two filter-normalized random directions, as in the "
               "paper's Figures 1 and 5.", "li2018.figures:planes"),
        curves("lines", "Training loss between the nets of a small and a large batch", "line_loss", {
               "no weight decay": "line/0", "weight decay": "line/5e-4"}, "The small batch's is at 0, the large one's "
               "at 1, as in the paper's Figure 2.", x="place between both nets", y="training loss", log_y=10),
        curves("random", "Training loss in random directions", "random_loss", PAIRS, "Filter-normalized, mean of ten, "
               "as in the paper's Figure 3.", x="distance", y="training loss", log_y=10),
        points("convexity", "How far from convex the loss is", NEGATIVE, ALL, "Over a plane around each net.",
               y="mean |smallest / largest eigenvalue|"),
    ),
    deviations=(
        Deviation("quick", "ResNets of 20 to 110 layers, VGG-9, CIFAR-10, 300 epochs", "MLPs of 4 and 20 layers with "
                  "batch norm, digits, 40 epochs; for the planes Adam at 0.003 without weight decay",
                  "Only directions can be compared"),
        Deviation("quick", "Batches of 128 and 8,192, of 50,000", "16 and 512, of 1,200", "The gap may be another"),
        Deviation("quick", "300 epochs for both batches", "40 and 120, so that both fit",
                  "The large batch's net is fitted better"),
        Deviation("standard", "300 epochs for both batches", "40 and 90", "How well each is fitted; without decay the "
                  "large batch's net has the higher training loss, 0.14 to 0.08"),
        Deviation("standard", "ResNets of 20 to 110 layers and 16 filters, VGG-9, 300 epochs", "ResNets of 8 and 20 "
                  "layers and 2 to 8 filters, 2,500 images without crops and flips, 30 epochs; batches of 32 and 512",
                  "Only directions can be compared"),
        Deviation("", "Surfaces are judged by eye", "Means over the plane of |smallest / largest eigenvalue|, on 200 "
                  "samples at 25 points (100 in scale standard, 5,000 at 49 in scale paper); as a setting, how much "
                  "of the surface is not convex", "Another measure may say something else"),
        Deviation("", "Last layers drawn from N(0, 0.001)", "As the others", "Small"),
        Deviation("", "Trained in float32; surfaces of 51 x 51 points, lines of 401, on all training samples, in one "
                  "random direction", "In scale paper trained in bfloat16; below it 21 x 21 and 41 "
                  "points, around nets on 250 samples in scale standard; ten random directions", "Small"),
    ),
)  # fmt: skip
