"""The theory of Zhang et al. 2017 as tasks: Theorem 1, Section 5's kernels, and minimum norms.

Every task is ``task(config, run) -> metrics``. Errors are in percent. An option that a configuration leaves out takes
its value from the task's table of defaults below; an option that is not in the table is refused.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_regs import analysis
from lightning_regs.core.files import lock
from lightning_regs.core.names import unknown_name
from lightning_regs.core.rng import generator
from lightning_regs.data.sources import load
from lightning_regs.study import RunContext

THEOREM1 = {"n": 200, "d": 30, "num_labels": 10, "depths": [2, 3, 5, 11]}

MIN_NORM = {"n": 100, "d": 500, "steps": 10_000, "batch_size": 10}

KERNEL = {
    "source": "digits",
    "n_train": None,  # all; else a subset drawn by the seed
    "n_test": None,
    "features": "pixels",  # pixels, gabor, random_conv
    "feature_options": {},
    "bandwidths": [0.02],  # one is used as it is; of several the best on held-out training data
    "relative": False,  # True: bandwidths are in units of 1 / mean squared distance
    "ridges": [0.0],  # on a kernel of mean diagonal 1; chosen like the bandwidth, 0 is always fitted
    "n_select": 5000,  # training images that the choice may use, a fifth of them held out
    "precision": "float32",  # of the factorization; residuals are float64
    "tolerance": 1e-6,
    "max_iterations": 50,
    "jitter": 0.0,  # first jitter of the preconditioner; more than 0 spares a factorization known to fail
    "block": 2048,
    "device": "auto",
}

FEATURES: dict[str, dict[str, Any]] = {
    "pixels": {},
    "gabor": {"size": 11, "wavelengths": [3.0, 4.5, 7.0], "orientations": 8, "pool": 4},
    "random_conv": {"num_filters": 1000, "patch_size": 6, "pools": 2, "threshold": 0.25, "filters_per_block": 250},
}


def theorem1(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Fit random labels on Gaussian points with 2n + d weights.

    Returns:
        ``max_residual``, ``max_residual_float32``, ``num_weights``, ``excess_weights`` over 2n + d, ``condition``
        number of the triangular matrix, and ``example_error`` on the worked example.
    """
    options = _options(config, THEOREM1, "theorem1 option")
    x, y, direction = _points(options, run.seed)
    fit = analysis.fit_relu(x, y, direction)
    single = analysis.fit_relu(x, y, direction, dtype=torch.float32)
    z = (x @ fit.direction).sort().values
    example = analysis.fit_relu(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([5.0, -1.0, 4.0]), torch.ones(1))
    run.precision = "64-true"
    run.progress(1, 1, "theorem 1")
    return {
        "max_residual": float((analysis.evaluate_relu(fit, x) - y).abs().max()),
        "max_residual_float32": float((analysis.evaluate_relu(single, x).double() - y).abs().max()),
        "num_weights": float(fit.num_weights),
        "excess_weights": float(fit.num_weights - (2 * options["n"] + options["d"])),
        "condition": float(torch.linalg.cond((z[:, None] - fit.thresholds).clamp_min(0.0))),
        "example_error": float((example.weights - torch.tensor([10.0, -32.0, 54.0])).abs().max()),
    }


def theorem1_deep(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Spread the same network over more layers.

    Returns:
        For each depth k ``max_residual_k``, ``width_k`` and ``connections_k``; over all of them ``max_residual``,
        ``width_ratio`` (largest width over n / (k - 1)) and ``connections_ratio`` (largest number over n + d).
    """
    options = _options(config, THEOREM1, "theorem1_deep option")
    x, y, direction = _points(options, run.seed)
    fit = analysis.fit_relu(x, y, direction)
    metrics = {"max_residual": 0.0, "width_ratio": 0.0, "connections_ratio": 0.0}
    n, d = options["n"], options["d"]
    run.precision = "64-true"
    for index, depth in enumerate(options["depths"]):
        network = analysis.deep_relu(fit, depth)
        with torch.no_grad():
            residual = float((network(x)[:, 0] - y).abs().max())
        width, connections = analysis.max_width(network), analysis.num_connections(network)
        own = {"max_residual": residual, "width": float(width), "connections": float(connections)}
        metrics |= {f"{name}_{depth}": number for name, number in own.items()}
        worst = {"width_ratio": width / (n / (depth - 1)), "connections_ratio": connections / (n + d)}
        worst["max_residual"] = residual
        metrics |= {name: max(metrics[name], number) for name, number in worst.items()}
        run.progress(index + 1, len(options["depths"]), f"depth {depth}")
    return metrics


def min_norm(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Run SGD on least squares with d > n, from zero and from a random start, against the pseudo-inverse.

    Returns:
        ``norm_min`` and ``norm_sgd``, ``norm_gap`` (percent), ``distance`` of SGD's solution from the minimum-norm one
        and its part ``outside_span`` of the data (both relative to the norm), ``residual`` (relative); the same from
        the random start as ``random_start_norm``, ``random_start_residual`` and ``random_start_distance``, the last
        one against minimum norm plus the start's part outside the span.
    """
    options = _options(config, MIN_NORM, "min_norm option")
    n, d = options["n"], options["d"]
    draw = generator(run.seed, "min-norm-data")
    x = torch.randn(n, d, generator=draw, dtype=torch.float64)
    y = torch.randn(n, generator=draw, dtype=torch.float64)
    start = torch.randn(d, generator=draw, dtype=torch.float64) / d**0.5
    best = analysis.min_norm_solution(x, y)
    run.precision = "64-true"
    found = []
    for index, begin in enumerate((None, start)):
        draw = generator(run.seed, "min-norm-batches", index)
        found.append(analysis.gradient_descent(x, y, options["steps"], None, options["batch_size"], draw, begin))
        run.progress(index + 1, 2, "SGD from zero" if begin is None else "SGD from a random start")
    zero, moved = found
    norm = float(best.norm())
    kept = best + analysis.outside_span(x, start)
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


def kernel(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Interpolate one-hot labels with a kernel, and compare with the best ridge.

    Bandwidth and ridge are chosen on held-out training images, never on the test set.

    Returns:
        ``test_error``, ``train_error``, ``residual`` (relative), ``iterations`` and ``jitter`` of the interpolation;
        ``ridge``, ``ridge_test_error``, ``ridge_train_error`` with the chosen ridge, and ``ridge_gain``, the points of
        test error that it saves; ``norm`` (of the function, ``sqrt(tr(a^T K a))``) and ``coefficient_norm``;
        ``bandwidth`` and ``bandwidth_relative``; ``n_train``, ``n_test``, ``num_features``.
    """
    options = _options(config, KERNEL, "kernel option")
    if options["precision"] not in ("float32", "float64"):
        raise unknown_name("precision", options["precision"], ("float32", "float64"))
    data = _subset(options, run)
    run.precision = "32-true" if options["precision"] == "float32" else "64-true"
    run.device = torch.cuda.get_device_name(data.x.device) if data.x.is_cuda else run.device
    with _memory_for(options, data, run), analysis.full_precision(), torch.no_grad():
        blocks = _feature_blocks(options, data.x, run.seed)
        bandwidth, ridge = _choose(options, data, blocks, run)
        setting = (blocks, data.x, data.x_test, bandwidth, options["relative"], options["block"])
        if options["features"] == "random_conv":
            machine = analysis.stored_kernel(
                *setting, progress=lambda count: run.progress(1, 3, f"Gram matrix of {count:,} features")
            )
        else:
            machine = analysis.recomputed_kernel(*setting)

        def solve(strength: float) -> dict[str, float]:
            def say(done: float, total: float) -> None:
                text = f"solving {len(data.x):,} equations, ridge {strength:g}"
                run.progress(2 + (strength > 0) + done / total, 3 + (ridge > 0), text)

            solution = analysis.solve_spd(
                machine.operator, analysis.one_hot(data.y, data.num_classes), strength,
                getattr(torch, options["precision"]), options["tolerance"], options["max_iterations"],
                options["jitter"], say,
            )  # fmt: skip
            return {
                "test_error": analysis.error_rate(machine.scores(solution.coefficients), data.y_test),
                "train_error": analysis.error_rate(solution.fitted, data.y),
                "residual": solution.residual,
                "iterations": float(solution.iterations),
                "jitter": solution.jitter,
                "norm": analysis.rkhs_norm(solution.coefficients, solution.fitted),
                "coefficient_norm": analysis.coefficient_norm(solution.coefficients),
            }

        plain = solve(0.0)
        best = solve(ridge) if ridge else plain
    return plain | {
        "ridge": ridge,
        "ridge_test_error": best["test_error"],
        "ridge_train_error": best["train_error"],
        "ridge_gain": plain["test_error"] - best["test_error"],
        "bandwidth": machine.bandwidth,
        "bandwidth_relative": machine.bandwidth * machine.spread,
        "n_train": float(len(data.x)),
        "n_test": float(len(data.x_test)),
        "num_features": float(machine.num_features),
    }


class _Data(NamedTuple):
    x: Tensor  # (N, C, H, W) in [0, 1], or (N, L)
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    num_classes: int


Blocks = Callable[[Tensor], Iterator[Tensor]]


def _options(config: Mapping[str, Any], defaults: dict[str, Any], kind: str) -> dict[str, Any]:
    for name in config:
        if name not in defaults:
            raise unknown_name(kind, name, defaults)
    return defaults | dict(config)


def _points(options: dict[str, Any], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = generator(seed, "theorem-1")
    x = torch.randn(options["n"], options["d"], generator=draw, dtype=torch.float64)
    y = torch.randint(options["num_labels"], (options["n"],), generator=draw).double()
    return x, y, torch.randn(options["d"], generator=draw, dtype=torch.float64)


def _subset(options: dict[str, Any], run: RunContext) -> _Data:
    source = load(options["source"])
    device = options["device"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    parts: list[Tensor] = []
    for name, x, y in (("train", source.x_train, source.y_train), ("test", source.x_test, source.y_test)):
        count = options[f"n_{name}"]
        if count is not None:
            if not 1 <= count <= len(x):
                raise ValueError(f"n_{name} is {count}, but {options['source']} has {len(x)} {name} images.")
            if count < len(x):
                chosen = torch.randperm(len(x), generator=generator(run.seed, f"kernel-{name}"))[:count]
                x, y = x[chosen], y[chosen]
        x = x.to(device)
        parts += [x.float() / 255.0 if x.dtype == torch.uint8 else x.float(), y.to(device)]
    return _Data(*parts, num_classes=source.num_classes)


def _memory(device: torch.device) -> float:
    """Return how many bytes a card has free, or the machine has; infinity where nobody says."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if hasattr(os, "sysconf") else math.inf


@contextlib.contextmanager
def _memory_for(options: dict[str, Any], data: _Data, run: RunContext) -> Iterator[None]:
    """Wait until no other large kernel of this user is on the machine, and refuse one that its memory cannot hold."""
    n, m = len(data.x), len(data.x_test)
    triangle = n * (n + options["block"]) / 2 * (4 if options["precision"] == "float32" else 8)
    needed = triangle + (n * n * 2 + n * m * 4 if options["features"] == "random_conv" else 0)
    device = data.x.device
    with contextlib.ExitStack() as held:
        if needed > _memory(device) / 4:
            folder = Path(tempfile.gettempdir()) / f"lightning-regs-{os.getuid()}"
            held.enter_context(lock(folder, lambda _: run.progress(0, 3, "waiting for another kernel"), str(device)))
        if needed > 0.95 * (memory := _memory(device)):
            where = "this machine has" if device.type == "cpu" else "the card has free"
            raise ValueError(
                f"a kernel on {n:,} images needs {needed / 1e9:.1f} GB, but {where} {memory / 1e9:.1f} GB; set n_train "
                "lower or precision to float32."
            )
        yield


def _feature_blocks(options: dict[str, Any], x: Tensor, seed: int) -> Blocks:
    """Return a function from images to their features, some columns at a time."""
    kind = options["features"]
    if kind not in FEATURES:
        raise unknown_name("features", kind, FEATURES)
    extra = _options(options["feature_options"], FEATURES[kind], f"option of {kind} features")
    if kind == "pixels":
        return lambda images: iter([images.flatten(1)])
    if x.ndim != 4:
        raise ValueError(f"{kind} features need images (N, C, H, W), but {options['source']} has {tuple(x.shape)}.")
    if kind == "gabor":
        bank = analysis.gabor_filters(extra["size"], extra["wavelengths"], extra["orientations"])
        return lambda images: iter([analysis.gabor_features(images, bank, extra["pool"])])
    draw, step = generator(seed, "random-filters"), extra["filters_per_block"]
    filters = analysis.random_conv_filters(x, extra["num_filters"], draw, extra["patch_size"])

    def blocks(images: Tensor) -> Iterator[Tensor]:
        for weight, shift in zip(filters.weight.split(step), filters.shift.split(step), strict=True):
            part = analysis.ConvFilters(weight, shift)
            yield analysis.random_conv_features(images, part, extra["pools"], extra["threshold"])

    return blocks


def _choose(options: dict[str, Any], data: _Data, blocks: Blocks, run: RunContext) -> tuple[float, float]:
    """Choose bandwidth and ridge where there is a choice; the bandwidth is returned in the configuration's unit."""
    bandwidths = list(options["bandwidths"])
    ridges = sorted({0.0, *map(float, options["ridges"])})
    if len(ridges) == len(bandwidths) == 1:
        return bandwidths[0], 0.0
    draw = generator(run.seed, "kernel-selection")
    count = min(options["n_select"], len(data.x))
    chosen = torch.randperm(len(data.x), generator=draw)[:count].to(data.x.device)
    gram = analysis.gram_matrix(blocks(data.x[chosen]))
    if options["relative"]:
        gram /= 2.0 * (gram.diagonal().mean() - gram.mean())
    choice = analysis.select(gram, data.y[chosen], data.num_classes, bandwidths, ridges, draw)
    run.progress(1, 3, f"chose bandwidth {choice.bandwidth:g}, ridge {choice.ridge:g} on held-out training data")
    return choice.bandwidth, choice.ridge
