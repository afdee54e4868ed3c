"""Optimizers on toy problems: their paths as a picture and as an animation, and what they learn on Wilson's problem.

Run it: ``python examples/optimizers_on_toys.py [FOLDER]``. Takes half a minute and no data set.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch.nn.functional import mse_loss

from lightning_regs.analysis import beale, descent, long_valley, saddle, wilson_problem
from lightning_regs.optim import make_optimizer

Function = Callable[[torch.Tensor], torch.Tensor]

# Toy -> the function, where it starts, what is shown of x and of y, and its minimum if it has one.
TOYS = {
    "long valley": (lambda point: long_valley(point, 20.0), (-1.8, 0.7), (-2.0, 0.5), (-1.0, 1.0), (0.0, 0.0)),
    "saddle": (saddle, (-1.5, 0.001), (-2.0, 2.0), (-2.0, 2.0), None),
    "Beale": (beale, (1.0, 1.5), (-0.5, 4.2), (-1.0, 2.0), (3.0, 0.5)),
}
# Optimizer -> its rate on each toy, and its options. None of them is tuned: the rates show how each one moves.
OPTIMIZERS = {
    "SGD": ((0.09, 0.1, 0.01), {"name": "SGD"}),
    "momentum": ((0.02, 0.05, 0.005), {"name": "SGD", "momentum": 0.9}),
    "Nesterov": ((0.02, 0.05, 0.005), {"name": "SGD", "momentum": 0.9, "nesterov": True}),
    "Adagrad": ((0.3, 0.3, 0.5), {"name": "Adagrad"}),
    "RMSprop": ((0.03, 0.03, 0.03), {"name": "RMSprop"}),
    "Adam": ((0.1, 0.1, 0.1), {"name": "Adam"}),
    "Lookahead": ((0.09, 0.1, 0.01), {"name": "Lookahead", "base": {"name": "SGD"}, "k": 5, "alpha": 0.5}),
}


def path(function: Function, start: torch.Tensor, name: str, rate: float, steps: int) -> torch.Tensor:
    """Return the points ``(steps + 1, ...)`` that an optimizer goes through."""
    options = dict(OPTIMIZERS[name][1])
    if "base" in options:
        options["base"] = options["base"] | {"lr": rate}
    else:
        options["lr"] = rate
    return torch.stack(list(descent(function, start, lambda points: make_optimizer(points, options), steps)))


def backgrounds(figure: Figure) -> list[Axes]:
    """Draw the level lines of each toy."""
    panels = list(figure.subplots(1, len(TOYS)))
    for axes, (name, (function, start, x, y, minimum)) in zip(panels, TOYS.items(), strict=True):
        grid = torch.stack(torch.meshgrid(torch.linspace(*x, 120), torch.linspace(*y, 120), indexing="xy"))
        heights = function(grid)
        levels = torch.quantile(heights, torch.linspace(0.01, 0.9, 12)).unique().tolist()
        axes.contour(grid[0], grid[1], heights, levels=levels, colors="0.8", linewidths=0.8)
        axes.plot(*start, "o", color="black", markersize=4)
        if minimum is not None:
            axes.plot(*minimum, "*", color="black", markersize=10)
        axes.set(title=name, xlim=x, ylim=y, xticks=[], yticks=[])
    return panels


def draw(folder: Path, steps: int = 120, frames: int = 40) -> tuple[Path, Path]:
    """Write the picture and the animation of the paths, and return both files."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    lines: list[tuple[Line2D, torch.Tensor]] = []
    for toy, axes in enumerate(backgrounds(figure)):
        function, start, *_ = list(TOYS.values())[toy]
        for number, (name, (rates, _)) in enumerate(OPTIMIZERS.items()):
            found = path(function, torch.tensor(start), name, rates[toy], steps)
            (line,) = axes.plot(*found.T, color=f"C{number}", label=name, linewidth=1.3, marker=".", markevery=[-1])
            lines.append((line, found))
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(OPTIMIZERS))
    picture, animation = folder / "optimizers.png", folder / "optimizers.gif"
    figure.savefig(picture, dpi=150)

    def show(frame: int) -> list[Line2D]:
        for line, found in lines:
            line.set_data(*found[: 1 + frame * steps // max(frames - 1, 1)].T)
        return [line for line, _ in lines]

    FuncAnimation(figure, show, frames, init_func=lambda: []).save(animation, PillowWriter(fps=12), dpi=80)
    return picture, animation


def wilson(rows: int = 50, steps: int = 300) -> dict[str, float]:
    """Return the test error in percent of each optimizer on Wilson's linear problem, which all of them fit."""
    problem = wilson_problem(rows, torch.Generator().manual_seed(1))
    rates = {"SGD": 0.3, "momentum": 0.1, "Adagrad": 0.1, "RMSprop": 0.01, "Adam": 0.01}
    start, errors = torch.zeros(problem.x.shape[1], dtype=torch.float64), {}
    for name, rate in rates.items():
        w = path(lambda w: mse_loss(problem.x @ w, problem.y), start, name, rate, steps)[-1]
        assert ((problem.x @ w).sign() == problem.y).all()
        errors[name] = 100 * ((problem.x_test @ w).sign() != problem.y_test).double().mean().item()
    return errors


if __name__ == "__main__":
    where = Path(sys.argv[1]) if sys.argv[1:] else Path(tempfile.mkdtemp())
    where.mkdir(parents=True, exist_ok=True)
    print(*draw(where), sep="\n")
    for name, error in wilson().items():
        print(f"{name}: {error:.1f} % of the test samples wrong on Wilson's problem, none of training")
