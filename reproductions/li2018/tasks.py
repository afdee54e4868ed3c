"""The tasks of Li et al. 2018: what the loss is like around a trained net, and on the line between two."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from lightning_regs import analysis
from lightning_regs.core import rng
from lightning_regs.core.checks import Count, Whole, call, checked
from lightning_regs.core.files import load
from lightning_regs.core.lightning import Callback, pl
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.splits import samples
from lightning_regs.training.fit import data_of, fit_stack, initial_network, shared, stackable

NET = "net.pt"
DISTANCES = (0.1, 0.25, 0.5, 1.0)


@checked
@dataclass(frozen=True)
class Options:
    """What is measured around a net.

    Args:
        directions: Random directions of which the rise of the loss is a mean.
        surface: Points a side of the surface, odd; 0 measures neither it nor the map nor the path.
        map: Points a side of the map of eigenvalues, which divide the surface's inner ones.
        samples: Of the training set, drawn by the seed; None for all.
        map_samples: Of these, for the map, drawn as well.
    """

    directions: Count = 10
    surface: Whole = 0
    map: Count = 7
    samples: Count | None = None
    map_samples: Count = 300


@stackable
def landscape(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    r"""Train a net, keep its weights for :func:`line`, and measure the training loss around it in evaluation mode.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`, and what :class:`Options` has.
        runs: The engine's, several as replicas of one net.

    Returns:
        The metrics of the training; ``rise_0.5`` and the like: how far the loss is higher at this distance, mean over
        both sides of random filter-normalized directions; ``weight_norm``. With a surface: ``negative_curvature``, the
        mean of :math:`|\lambda_{min} / \lambda_{max}|` over the map on the surface's plane, from -0.9 to 0.9, and
        ``negative_median``; ``curvature_agreement``, Spearman's correlation over its points with the same ratio of the
        surface alone, by second differences; ``surface_nonconvex``, the share in percent of the surface's inner points
        where that is above 0.01; ``top_eigenvalue``; ``path_share``, the share in percent of
        the variance of the weights over the epochs in two principal components, and ``random_share`` in the two random
        directions. Curves have ``random_loss`` by ``position``, and ``surface_loss`` by that and ``position_2``.
    """
    config = shared(configs)
    options = call("landscape", Options, **{f.name: config.pop(f.name) for f in fields(Options) if f.name in config})
    path = _Path()
    found, rows = fit_stack(config, runs, [path] if options.surface else []), []
    for trained, run in zip(found, runs, strict=True):
        torch.save(trained.state(), run.folder / NET)
        device = trained.trainer.strategy.root_device
        x, y = samples(trained.data, "train", options.samples, run.seed, device, trained.replica)
        net = trained.network().to(device)
        draws = rng.generator(run.seed, "li2018 directions")
        row = trained.metrics | _rises(net, x, y, options.directions, draws, run)
        if options.surface:
            plane = [analysis.random_direction(net, draws) for _ in range(2)]
            row |= _surface(net, x, y, plane, options, run) | _shares(net, path.of(trained.replica), plane)
        rows.append(row)
    return rows


def line(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Measure the training loss on the line from the net of a small batch, at 0, to that of a large one, at 1.

    Args:
        config: That of the small batch's net; ``"other"``, what the large one's changes in it; and ``"line"``, how
            many points from -0.5 to 1.5, one more than a multiple of 40.
        run: The engine's; ``run.inputs`` are the runs of both, whose names end in ``small`` and ``large``.

    Returns:
        ``rise_small_0.25`` and ``rise_large_0.25``, and the like: how far the loss is higher at this distance from
        either, mean over both sides. Curves have ``line_loss`` by ``position``.
    """
    data = data_of(config, run)
    x, y = samples(data, "train")
    net = initial_network(config["model"], data, run.seed)
    states = {name.rpartition("/")[2]: load(folder / NET) for name, folder in run.inputs.items()}
    net.load_state_dict(states["small"])
    made = analysis.loss_surface(net, x, y, [analysis.direction_to(net, states["large"])], config["line"], (-0.5, 1.5))
    _log(run, made.at[0], line_loss=made.losses)
    return {f"rise_{size}_{distance:g}": _rise(made, distance, at)
            for at, size in enumerate(("small", "large")) for distance in DISTANCES if distance <= 0.5}  # fmt: skip


class _Path(Callback):
    """Keeps a net's weights at the start and after each epoch, through a restart too."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.states:
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        network: Any = pl_module.network
        self.states.append({name: value.detach().clone() for name, value in network.state_dict().items()})

    def state_dict(self) -> dict[str, Any]:
        return {"states": self.states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.states = list(state_dict["states"])

    def of(self, replica: int | None) -> list[dict[str, Tensor]]:
        return [{n: v if replica is None else v[replica] for n, v in state.items()} for state in self.states]


def _log(run: RunContext, *at: Tensor, **columns: Tensor) -> None:
    places = torch.cartesian_prod(*at).view(-1, len(at)).tolist()
    names = ("position", "position_2")[: len(at)]
    for i, place in enumerate(places):
        run.log_curve(dict(zip(names, place, strict=True)) | {n: float(v.flatten()[i]) for n, v in columns.items()})


def _rise(made: analysis.LossSurface, distance: float, center: float = 0.0) -> float:
    losses = [float(made.losses[(made.at[0] - at).abs().argmin()])
              for at in (center - distance, center, center + distance)]  # fmt: skip
    return (losses[0] + losses[2]) / 2 - losses[1]


def _rises(
    net: nn.Module, x: Tensor, y: Tensor, number: int, draws: torch.Generator, run: RunContext
) -> dict[str, float]:
    lines = [analysis.loss_surface(net, x, y, [analysis.random_direction(net, draws)], 41) for _ in range(number)]
    _log(run, lines[0].at[0], random_loss=torch.stack([made.losses for made in lines]).mean(0))
    found = {f"rise_{d:g}": statistics.fmean(_rise(made, d) for made in lines) for d in DISTANCES}
    weights = torch.cat([p.detach().flatten() for p in net.parameters() if p.ndim > 1])
    return found | {"weight_norm": float(weights.norm())}


def _surface(
    net: nn.Module, x: Tensor, y: Tensor, plane: Sequence[dict[str, Tensor]], options: Options, run: RunContext
) -> dict[str, float]:
    made = analysis.loss_surface(net, x, y, plane, options.surface)
    _log(run, *made.at, surface_loss=made.losses)
    step = float(made.at[0][1] - made.at[0][0])
    some = torch.randperm(len(y), generator=rng.generator(run.seed, "li2018 map"))[: options.map_samples].to(y.device)
    found = analysis.eigenvalue_map(net, x[some], y[some], plane, options.map, (step - 1, 1 - step))
    full, own = found.ratios, _negative(made.losses)
    places = torch.linspace(0, len(own) - 1, options.map).round().long()
    ranks = spearmanr(full.flatten().tolist(), own[places][:, places].flatten().tolist()).statistic
    middle = options.map // 2
    return {
        "negative_curvature": float(full.mean()), "negative_median": float(full.median()),
        "surface_nonconvex": 100 * float((own > 0.01).double().mean()), "curvature_agreement": float(ranks),
        "top_eigenvalue": float(found.largest[middle, middle]),
    }  # fmt: skip


def _negative(losses: Tensor) -> Tensor:
    """Return how negative a surface's second differences are, at inner points, as a share of the largest in size."""
    middle, (xx, yy, xy) = losses[1:-1, 1:-1], _differences(losses)
    center, spread = (xx + yy) / 2, (((xx - yy) / 2) ** 2 + xy**2).sqrt()
    low, high = center - spread, center + spread
    return (-low).clamp(min=0) / torch.maximum(low.abs(), high.abs()).clamp(min=1e-6 * middle.abs().max())


def _differences(f: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    middle = f[1:-1, 1:-1]
    mixed = (f[2:, 2:] - f[2:, :-2] - f[:-2, 2:] + f[:-2, :-2]) / 4
    return f[2:, 1:-1] - 2 * middle + f[:-2, 1:-1], f[1:-1, 2:] - 2 * middle + f[1:-1, :-2], mixed


def _shares(net: nn.Module, path: Sequence[dict[str, Tensor]], plane: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """Return the share in percent of a path's variance in its first two components, and in two other directions."""
    names = list(plane[0])
    rows = torch.stack([torch.cat([state[name].flatten() for name in names]) for state in path]).double()
    rows = rows - rows.mean(0)
    columns = torch.stack([torch.cat([direction[name].flatten() for name in names]) for direction in plane], 1)
    within = rows @ torch.linalg.qr(columns.double())[0]
    shares = analysis.path_plane(net, path).shares
    return {"path_share": 100 * float(shares[:2].sum()),
            "random_share": 100 * float(within.square().sum() / rows.square().sum())}  # fmt: skip
