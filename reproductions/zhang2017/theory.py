"""The theory of Zhang et al. 2017 as tasks: Theorem 1, Section 5's kernels, and minimum norms.

Every task is ``task(config, run) -> metrics``. Errors are in percent.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from lightning_regs import analysis
from lightning_regs.core.checks import Count, Name, NotNegative, Positive, call, checked, nonempty
from lightning_regs.core.files import lock
from lightning_regs.core.rng import generator
from lightning_regs.data.sources import ArraySource, load
from lightning_regs.study import RunContext

POINTS, INPUTS, LABELS, DEPTHS = 200, 30, 10, (2, 3, 5, 11)  # of Theorem 1
EQUATIONS, UNKNOWNS, STEPS, BATCH = 100, 500, 10_000, 10  # of least squares
BLOCK = 2048  # rows of a kernel at a time
FILTERS = 250  # random filters at a time


def theorem1(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Fit random labels on Gaussian points with 2n + d weights.

    Returns:
        ``max_residual``, ``max_residual_float32``, ``num_weights``, ``excess_weights`` over 2n + d, ``condition``
        number of the triangular matrix, and ``example_error`` on the worked example.
    """
    run.precision = "64-true"
    x, y, direction = _points(run.seed)
    fit = analysis.fit_relu(x, y, direction)
    single = analysis.fit_relu(x, y, direction, dtype=torch.float32)
    example = analysis.fit_relu(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([5.0, -1.0, 4.0]), torch.ones(1))
    z = (x @ fit.direction).sort().values
    return {
        "max_residual": float((analysis.evaluate_relu(fit, x) - y).abs().max()),
        "max_residual_float32": float((analysis.evaluate_relu(single, x).double() - y).abs().max()),
        "num_weights": float(fit.num_weights),
        "excess_weights": float(fit.num_weights - (2 * POINTS + INPUTS)),
        "condition": float(torch.linalg.cond((z[:, None] - fit.thresholds).clamp_min(0.0))),
        "example_error": float((example.weights - torch.tensor([10.0, -32.0, 54.0])).abs().max()),
    }


def theorem1_deep(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Spread the same network over more layers.

    Returns:
        For each depth k ``max_residual_k``, ``width_k`` and ``connections_k``; over all of them ``max_residual``,
        ``width_ratio`` (largest width over n / (k - 1)) and ``connections_ratio`` (largest number over n + d).
    """
    run.precision = "64-true"
    x, y, direction = _points(run.seed)
    fit = analysis.fit_relu(x, y, direction)
    metrics = {"max_residual": 0.0, "width_ratio": 0.0, "connections_ratio": 0.0}
    for depth in DEPTHS:
        network = analysis.deep_relu(fit, depth)
        with torch.no_grad():
            residual = float((network(x)[:, 0] - y).abs().max())
        width, connections = float(analysis.max_width(network)), float(analysis.num_connections(network))
        worst = {"max_residual": residual, "width_ratio": width / (POINTS / (depth - 1)),
                 "connections_ratio": connections / (POINTS + INPUTS)}  # fmt: skip
        metrics |= {name: max(metrics[name], number) for name, number in worst.items()}
        metrics |= {f"max_residual_{depth}": residual, f"width_{depth}": width, f"connections_{depth}": connections}
    return metrics


def min_norm(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Run SGD on least squares with d > n, from zero and from a random start, against the pseudo-inverse.

    Returns:
        ``norm_min`` and ``norm_sgd``, ``norm_gap`` (percent), ``distance`` of SGD's solution from the minimum-norm one
        and its part ``outside_span`` of the data (both relative to the norm), ``residual`` (relative); the same from
        the random start as ``random_start_norm``, ``random_start_residual`` and ``random_start_distance``, the last
        one against minimum norm plus the start's part outside the span.
    """
    run.precision = "64-true"
    draw = generator(run.seed, "min-norm-data")
    x = torch.randn(EQUATIONS, UNKNOWNS, generator=draw, dtype=torch.float64)
    y = torch.randn(EQUATIONS, generator=draw, dtype=torch.float64)
    start = torch.randn(UNKNOWNS, generator=draw, dtype=torch.float64) / UNKNOWNS**0.5
    zero, moved = (
        analysis.gradient_descent(x, y, STEPS, None, BATCH, generator(run.seed, "min-norm-batches", index), begin)
        for index, begin in enumerate((None, start))
    )
    best = analysis.min_norm_solution(x, y)
    norm, kept = float(best.norm()), best + analysis.outside_span(x, start)
    return {
        "norm_min": norm,
        "norm_sgd": float(zero.norm()),
        "norm_gap": 100.0 * abs(float(zero.norm()) / norm - 1.0),
        "distance": float((zero - best).norm()) / norm,
        "outside_span": float(analysis.outside_span(x, zero).norm()) / norm,
        "residual": float((x @ zero - y).norm() / y.norm()),
        "random_start_norm": float(moved.norm()),
        "random_start_residual": float((x @ moved - y).norm() / y.norm()),
        "random_start_distance": float((moved - kept).norm() / kept.norm()),
    }


@checked
@dataclass(frozen=True)
class Kernel:
    """What :func:`kernel` reads of a configuration."""

    source: Name = "digits"
    n_train: Count | None = None  # all; else a subset drawn by the seed
    n_test: Count | None = None
    features: Literal["pixels", "gabor", "random_conv"] = "pixels"
    feature_options: Mapping[str, Any] = field(default_factory=dict)
    # One bandwidth is used as it is; of several the best on held-out training data.
    bandwidths: Annotated[Sequence[Positive], nonempty] = (0.02,)
    relative: bool = False  # whether bandwidths are in units of 1 / mean squared distance
    ridges: Sequence[NotNegative] = ()  # on a kernel of mean diagonal 1; chosen like the bandwidth, beside 0
    n_select: Count = 5000  # training images that the choice may use, a fifth of them held out
    precision: Literal["float32", "float64"] = "float32"  # of the factorization; residuals are float64


Blocks = Callable[[Tensor], Iterator[Tensor]]


def kernel(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Interpolate one-hot labels with a kernel, and compare with the best ridge.

    Bandwidth and ridge are chosen on held-out training images, never on the test set.

    Returns:
        ``test_error``, ``train_error``, ``residual`` (relative), ``iterations`` and ``jitter`` of the interpolation;
        ``ridge``, ``ridge_test_error``, ``ridge_train_error`` with the chosen ridge, and ``ridge_gain``, the points of
        test error that it saves; ``norm`` (of the function, ``sqrt(tr(a^T K a))``) and ``coefficient_norm``;
        ``bandwidth`` and ``bandwidth_relative``; ``n_train``, ``n_test``, ``num_features``.
    """
    options: Kernel = call("task", Kernel, **config)
    data = _samples(options, run.seed)
    run.precision = "32-true" if options.precision == "float32" else "64-true"
    run.device = torch.cuda.get_device_name(data.x_train.device) if data.x_train.is_cuda else run.device
    with _memory_for(options, data, run), analysis.full_precision(), torch.no_grad():
        make: Any = {"pixels": _pixels, "gabor": _gabor, "random_conv": _random_conv}[options.features]
        blocks: Blocks = call("features", make, data.x_train, run.seed, **options.feature_options)
        bandwidth, ridge = _choose(options, data, blocks, run)
        setting = (blocks, data.x_train, data.x_test, bandwidth, options.relative, BLOCK)
        if options.features == "random_conv":
            machine = analysis.stored_kernel(
                *setting, progress=lambda count: run.progress(1, 4, f"Gram matrix of {count:,} features")
            )
        else:
            machine = analysis.recomputed_kernel(*setting)
        plain = _solve(options, data, machine, 0.0, run)
        best = _solve(options, data, machine, ridge, run) if ridge else plain
    return plain | {
        "ridge": ridge,
        "ridge_test_error": best["test_error"],
        "ridge_train_error": best["train_error"],
        "ridge_gain": plain["test_error"] - best["test_error"],
        "bandwidth": machine.bandwidth,
        "bandwidth_relative": machine.bandwidth * machine.spread,
        "n_train": float(len(data.x_train)),
        "n_test": float(len(data.x_test)),
        "num_features": float(machine.num_features),
    }


def _points(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = generator(seed, "theorem-1")
    x = torch.randn(POINTS, INPUTS, generator=draw, dtype=torch.float64)
    y = torch.randint(LABELS, (POINTS,), generator=draw).double()
    return x, y, torch.randn(INPUTS, generator=draw, dtype=torch.float64)


def _samples(options: Kernel, seed: int) -> ArraySource:
    """Load images, or points, in [0, 1]."""
    source, parts = load(options.source), dict[str, Tensor]()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, x, y in (("train", source.x_train, source.y_train), ("test", source.x_test, source.y_test)):
        count = getattr(options, f"n_{name}") or len(x)
        if count > len(x):
            raise ValueError(f"n_{name} is {count}, but {options.source} has {len(x)} {name} images.")
        if count < len(x):
            chosen = torch.randperm(len(x), generator=generator(seed, f"kernel-{name}"))[:count]
            x, y = x[chosen], y[chosen]
        x = x.to(device)
        parts |= {f"x_{name}": x.float() / 255.0 if x.dtype == torch.uint8 else x.float(), f"y_{name}": y.to(device)}
    return replace(source, **parts)


def _memory(device: torch.device) -> float:
    """Return how many bytes a card has free, or the machine has; infinity where nobody says."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if hasattr(os, "sysconf") else math.inf


@contextlib.contextmanager
def _memory_for(options: Kernel, data: ArraySource, run: RunContext) -> Iterator[None]:
    """Wait until no other large kernel of this user is on the machine, and refuse one that its memory cannot hold."""
    n, m, device = len(data.x_train), len(data.x_test), data.x_train.device
    needed = n * (n + BLOCK) / 2 * (4 if options.precision == "float32" else 8)
    needed += n * n * 2 + n * m * 4 if options.features == "random_conv" else 0
    with contextlib.ExitStack() as held:
        if needed > _memory(device) / 4:
            folder = Path(tempfile.gettempdir()) / f"lightning-regs-{os.getuid()}"
            held.enter_context(lock(folder, lambda _: run.progress(0, 4, "waiting for another kernel"), str(device)))
        if needed > 0.95 * (memory := _memory(device)):
            where = "this machine has" if device.type == "cpu" else "the card has free"
            raise ValueError(
                f"a kernel on {n:,} images needs {needed / 1e9:.1f} GB, but {where} {memory / 1e9:.1f} GB; set n_train "
                "lower or precision to float32."
            )
        yield


def _pixels(x: Tensor, seed: int) -> Blocks:
    return lambda images: iter([images.flatten(1)])


def _gabor(x: Tensor, seed: int, pool: int = 4, **bank: Any) -> Blocks:
    filters = analysis.gabor_filters(**bank)
    return lambda images: iter([analysis.gabor_features(images, filters, pool)])


def _random_conv(x: Tensor, seed: int, num_filters: int = 1000, patch_size: int = 6) -> Blocks:
    filters = analysis.random_conv_filters(x, num_filters, generator(seed, "random-filters"), patch_size)
    parts = list(map(analysis.ConvFilters, filters.weight.split(FILTERS), filters.shift.split(FILTERS)))
    return lambda images: (analysis.random_conv_features(images, part) for part in parts)


def _choose(options: Kernel, data: ArraySource, blocks: Blocks, run: RunContext) -> tuple[float, float]:
    """Choose bandwidth and ridge where there is a choice; the bandwidth is returned in the configuration's unit."""
    bandwidths, ridges = list(options.bandwidths), sorted({0.0, *map(float, options.ridges)})
    if len(ridges) == len(bandwidths) == 1:
        return bandwidths[0], 0.0
    draw = generator(run.seed, "kernel-selection")
    chosen = torch.randperm(len(data.x_train), generator=draw)[: options.n_select].to(data.x_train.device)
    gram = analysis.gram_matrix(blocks(data.x_train[chosen]))
    if options.relative:
        gram /= 2.0 * (gram.diagonal().mean() - gram.mean())
    choice = analysis.select(gram, data.y_train[chosen], data.num_classes, bandwidths, ridges, draw)
    run.progress(1, 4, f"chose bandwidth {choice.bandwidth:g}, ridge {choice.ridge:g} on held-out training data")
    return choice.bandwidth, choice.ridge


def _solve(
    options: Kernel, data: ArraySource, machine: analysis.KernelMachine, ridge: float, run: RunContext
) -> dict[str, float]:
    begun, equations = 2 + (ridge > 0), f"{len(data.x_train):,} equations, ridge {ridge:g}"
    solution = analysis.solve_spd(
        machine.operator, analysis.one_hot(data.y_train, data.num_classes), ridge, getattr(torch, options.precision),
        progress=lambda done, total: run.progress(begun + done / total, 4, f"solving {equations}"),
        refined=lambda steps, residual: run.progress(
            begun + 1, 4, f"{equations}: residual {residual:.1e}, step {steps}"
        ),
    )  # fmt: skip
    return {
        "test_error": analysis.error_rate(machine.scores(solution.coefficients), data.y_test),
        "train_error": analysis.error_rate(solution.fitted, data.y_train),
        "residual": solution.residual,
        "iterations": float(solution.iterations),
        "jitter": solution.jitter,
        "norm": analysis.rkhs_norm(solution.coefficients, solution.fitted),
        "coefficient_norm": analysis.coefficient_norm(solution.coefficients),
    }
