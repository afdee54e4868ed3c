"""What is measured for Srivastava et al. 2014: their nets, and at small cost the comparisons beside them."""

from functools import partial
from typing import Any

from lightning_regs.study import AGREE, Cells, grid, regularized, resolve, variance_cells

HALF = {"model.architecture_args.dropout": 0.5}
DROP = HALF | {"model.architecture_args.input_dropout": 0.2}
CONFIG = "configs/srivastava2014/mlp.yaml"
CELLS = grid(
    "{net}/{method}", CONFIG, net={"2x800": {}, "3x1024": {"model.architecture_args.hidden": [1024, 1024, 1024]}},
    method={"none": {}, "dropout": DROP, "dropout+max-norm": DROP | regularized("MaxNorm", value=2.0)},
)  # fmt: skip
SIGNALS = {"data.source": "mnist1d", "data.whiten": True, "data.batch_size": 100, "trainer.max_epochs": 60,
           "trainer.precision": "32-true", "model.architecture_args.input_dropout": 0.0}  # fmt: skip
# What the paper does not state, set otherwise: in words, and its key in the names of cells.
SETTINGS = {"learning rate 0.05": "lr0.05", "batches of 200": "batch200"}
TWO_LAYERS = CELLS.only("2x800/*").at(SIGNALS) + grid(
    "2x800/{method}/{setting}", CONFIG, SIGNALS, seeds=3, method={"none": {}, "dropout": HALF},
    setting={"lr0.05": {"model.optimizer.lr": 0.05}, "batch200": {"data.batch_size": 200}},
)  # fmt: skip
# A run takes half a minute, so that the 40 of the study of variance are shorter, 10 epochs instead of 60.
TWO_LAYERS += variance_cells(resolve(CONFIG, DROP | SIGNALS | {"trainer.max_epochs": 10}), split=False, stack=False)
TWO_LAYERS += grid("study/agreement", CONFIG, SIGNALS | {"other": HALF}, task=AGREE, seeds=3)
KEPT, SIZES = (0.2, 0.4, 0.6, 0.8), {100: 400, 500: 160}  # samples -> epochs at quick scale, where the whole has 60


def _study(hidden: list[int], bound: float, drop: dict[str, Any], rates: dict[str, float], **changes: Any) -> Cells:
    """Compare regularizers on a net; vary the share of units that dropout keeps, and the size of the training set.

    ``rates`` are those of ``drop`` by the names of layers, for Gaussian noise in their place.
    """
    l2, norm = {"model.optimizer.weight_decay": 1e-3}, regularized("MaxNorm", value=bound)
    noise = [{"replace": "Dropout", "named": name, "by": "GaussianDropout", "p": p} for name, p in rates.items()]
    ways = {"none": {}, "L2": l2, "max-norm": norm, "dropout": drop, "dropout+L2": drop | l2,
            "dropout+max-norm": drop | norm, "gaussian": drop | {"model.layers": noise}}  # fmt: skip
    kept = {share: drop | {"model.architecture_args.dropout": round(1 - share, 1)} for share in KEPT}
    sizes = {size: {"data.train_size": size, "trainer.max_epochs": epochs} for size, epochs in SIZES.items()}
    net = changes | {"model.architecture_args.hidden": hidden}
    cells = partial(grid, config=CONFIG, overrides=net, task="srivastava2014.thinned:thinned", stack=True)
    return (cells("table/{method}", method=ways) + cells("keep/{kept}", kept=kept)
            + cells("size-{size}/{method}", size=sizes, method={"none": {}, "dropout": drop}))  # fmt: skip


_PAIR = SIGNALS | {"model.architecture_args.hidden": [512], "other": HALF}
QUICK = _study([512], 3.0, HALF, {"*": 0.5}, **SIGNALS)
QUICK += grid("study/agreement", CONFIG, _PAIR, task=AGREE, seeds=3, stack=True)
FULL = CELLS + _study([1024, 1024, 2048], 2.0, DROP, {"body.1": 0.2, "*": 0.5})
UPDATES = {"trainer.max_epochs": -1, "trainer.max_steps": 1_000_000, "trainer.precision": "32-true"}
SHORTENED = {"trainer.max_epochs": -1, "trainer.max_steps": 75_000, "model.cuda_graph": True}
