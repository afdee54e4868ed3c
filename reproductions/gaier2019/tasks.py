"""The tasks of Gaier & Ha 2019: a search for a topology and what it does untrained, and the training of its weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_regs import ImageDataModule, WeightAgnosticNet, find_topology
from lightning_regs.core import rng
from lightning_regs.core.files import load
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.agnostic.find_topology import WEIGHTS
from lightning_regs.procedures.agnostic.graphs import accuracies, packed, unpacked
from lightning_regs.procedures.splits import samples
from lightning_regs.training.fit import data_of, fit

NET = "champion.pt"
RANDOM = ((torch.arange(64) + 0.5) / 16 - 2).tolist()  # as random ones in [-2, 2], at even distances
TUNED = torch.linspace(-3, 3, 121).tolist()


class Deskew(nn.Module):
    """Scales images to a smaller side, and shears them upright by their moments, as the authors' code does by OpenCV.

    Shape: ``(N, 1, H, W)`` in [0, 1] to ``(N, size * size)``.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return what is in the rows of each image, moved so that no row leans."""
        small = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)
        at = torch.arange(self.size, dtype=x.dtype, device=x.device)
        mass = small.sum((1, 2, 3)).clamp_min(1e-6)
        middle = [(small * axis).sum((1, 2, 3)) / mass for axis in (at, at[:, None])]
        dx, dy = at - middle[0][:, None, None, None], at[:, None] - middle[1][:, None, None, None]
        lean, height = (small * dx * dy).sum((1, 2, 3)), (small * dy * dy).sum((1, 2, 3))
        skew = torch.where(height < 0.01, 0.0, lean / height.clamp_min(0.01))
        column = at + skew[:, None, None] * (at[:, None] - self.size / 2)
        places = torch.stack([column, at[:, None].expand_as(column)], -1) * 2 / (self.size - 1) - 1
        return F.grid_sample(small, places, align_corners=True).flatten(1)


def searched(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Search for a topology on the training set, keep it for :func:`trained`, and measure it without training.

    Args:
        config: ``"data"`` as for :func:`~lightning_regs.training.fit.fit`, ``"search"``, arguments of
            :func:`~lightning_regs.find_topology`, and ``"size"``: the side to which images are scaled and deskewed,
            None for images as they are.
        run: The engine's. An interrupted search goes on.

    Returns:
        Test accuracies in percent, of the champion: ``random_acc`` of shared weights in [-2, 2], mean over 64 at even
        distances, ``random_sd``, the deviation over these, ``least_acc`` and ``most_acc``; ``six_acc``, mean over those
        of the search; ``ensemble_acc`` of the mean probabilities of those; ``tuned_acc`` of the weight that has most
        training samples right, of 121 in [-3, 3], and ``tuned_weight``; ``separate_acc`` with weights drawn from
        [-2, 2] for each connection, mean over 64 draws. ``first_acc`` is ``random_acc`` of the best of the first
        generation; ``connections``, ``hidden``, ``inputs`` and ``depth`` are the champion's. Curves have the search,
        the accuracy by shared weight, and the graph: source, target and the target's activation of each connection.
    """
    data, before = data_of(config, run), _before(config)
    x, y = _samples(data, "train", before)
    options, total = dict(config["search"]), config["search"]["generations"]

    def told(row: dict[str, float]) -> None:
        run.log_curve(row)
        run.progress(row["step"], total, f"loss {row['train_loss']:.3g}, {row['connections']} connections")

    net = find_topology(x, y, **options, seed=run.seed, folder=run.folder / "search", on_generation=told)
    first = find_topology(x, y, **options | {"generations": 1}, seed=run.seed)
    x_test, y_test = _samples(data, "val" if config["data"].get("val_split") else "test", before)
    by_weight = accuracies(net.graph, x_test, y_test, RANDOM)
    of_first = accuracies(first.graph, x_test, y_test, RANDOM)
    torch.save(packed([net.graph]), run.folder / NET)
    graph, rows = net.graph, [row for row in run.curves if "position" not in row]
    rows += [{"position": w, "test_acc": float(acc)} for w, acc in zip(RANDOM, by_weight, strict=True)]
    kinds = [0] * (1 + graph.inputs + graph.outputs) + graph.activation.tolist()
    ends = zip(graph.source[graph.on].tolist(), graph.target[graph.on].tolist(), strict=True)
    run.restore_curves([*rows, *({"position": a, "position_2": b, "activation": kinds[b]} for a, b in ends)])
    return {
        "random_acc": float(by_weight.mean()), "random_sd": float(by_weight.std()), "least_acc": float(by_weight.min()),
        "most_acc": float(by_weight.max()), "first_acc": float(of_first.mean()), "connections": graph.connections,
        "hidden": len(graph.depth), "inputs": graph.inputs, "depth": int(graph.depth.max(initial=0)),
    } | untrained(net, (x, y), (x_test, y_test), run.seed)  # fmt: skip


@torch.no_grad()
def untrained(
    net: WeightAgnosticNet, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seed: int
) -> dict[str, float]:
    """Return what a champion reaches with six weights, with them together, with the best, and with separate ones."""
    x, y = test

    def right(made: Tensor) -> float:
        return 100 * float((made.argmax(1) == y).double().mean())

    each = torch.stack([net.share(weight)(x).softmax(1) for weight in WEIGHTS])
    best = TUNED[int(accuracies(net.graph, *train, TUNED).argmax())]
    found = {"six_acc": sum(map(right, each)) / len(WEIGHTS), "ensemble_acc": right(each.mean(0)),
             "tuned_acc": right(net.share(best)(x)), "tuned_weight": best}  # fmt: skip
    draws, drawn = rng.generator(seed, "gaier2019 separate weights"), []
    for _ in RANDOM:
        net.load_state_dict({"weights": 4 * torch.rand(net.weights.shape, generator=draws) - 2})
        drawn.append(right(net(x)))
    return found | {"separate_acc": sum(drawn) / len(drawn)}


def trained(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Train each weight of a champion from 1 on, or where no cell is needed a linear net from 0, by a configuration.

    Args:
        config: That of :func:`~lightning_regs.training.fit.fit`, ``"size"`` as of :func:`searched`, and ``"search"``,
            which says whose champion it is.
        run: The engine's; ``run.inputs`` has the run that searched, or nothing.

    Returns:
        The metrics of :func:`~lightning_regs.training.fit.fit`.
    """
    data, net = data_of(config, run), nn.Module()
    for folder in run.inputs.values():
        net = WeightAgnosticNet(unpacked(load(folder / NET))[0])
    if not run.inputs:
        inputs = config["size"] ** 2 if config["size"] else data.input_shape[-1] ** 2
        net = nn.Linear(inputs, data.num_classes)
        nn.init.zeros_(net.weight)
        nn.init.zeros_(net.bias)
    return fit(config, run, start=nn.Sequential(_before(config), net), data=data).metrics


def _before(config: dict[str, Any]) -> nn.Module:
    return Deskew(config["size"]) if config["size"] else nn.Flatten()


@torch.no_grad()
def _samples(data: ImageDataModule, split: str, before: nn.Module) -> tuple[Tensor, Tensor]:
    x, y = samples(data, split)
    return before(x), y
