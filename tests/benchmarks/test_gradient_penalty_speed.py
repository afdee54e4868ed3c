"""The second derivative against torch's own, and the memory that each estimator of the gradient penalty needs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import Table, alternate, ratio, seconds
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from lightning_regs.models import build
from lightning_regs.regularizers.parts.double_backward import efficient_double_backward, sum_of_squares

BATCH, ROUNDS, COEFFICIENT, DISTANCE = 128, 7, 0.1, 1e-2
NETS = {"small AlexNet": ("small_alexnet", (3, 28, 28)), "WRN 10-1": ("wide_resnet", (3, 32, 32))}


def training_steps(title: str, precision: str) -> dict[str, Callable[[], None]]:
    """The step of each estimator, and that of the exact penalty as autograd differentiates twice by itself."""
    name, shape = NETS[title]
    torch.manual_seed(0)
    net = build(name, shape, 10).to(memory_format=torch.channels_last)
    parameters = list(net.parameters())
    optimizer = torch.optim.SGD(parameters, lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, *shape, generator=generator).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (BATCH,), generator=generator)

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            return F.cross_entropy(net(x), y)

    def plain() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    def exact(context: Callable[[], AbstractContextManager[Any]]) -> None:
        optimizer.zero_grad()
        with context():
            value = loss()
            gradients = torch.autograd.grad(value, parameters, create_graph=True)
            (value + COEFFICIENT / 4 * sum_of_squares(gradients)).backward()
        optimizer.step()

    def forward_difference() -> None:
        optimizer.zero_grad()
        first = torch.autograd.grad(loss(), parameters)
        distance = DISTANCE / float(sum_of_squares(first).sqrt())
        kept = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            torch._foreach_add_(parameters, first, alpha=distance)
        second = torch.autograd.grad(loss(), parameters)
        with torch.no_grad():
            torch._foreach_copy_(parameters, kept)
            # g + coefficient / 2 * (g(w + distance g) - g) / distance
            mixed = torch._foreach_lerp(first, second, COEFFICIENT / 2 / distance)
        for parameter, gradient in zip(parameters, mixed, strict=True):
            parameter.grad = gradient
        optimizer.step()

    return {
        "plain": plain,
        "exact": lambda: exact(efficient_double_backward),
        "torch": lambda: exact(nullcontext),
        "forward_difference": forward_difference,
    }


@pytest.mark.parametrize("title", list(NETS))
def test_second_derivative(table: Table, title: str) -> None:
    steps = {name: step for name, step in training_steps(title, "fp32").items() if name in ("exact", "torch")}
    for step in steps.values():
        step()
    times = alternate({name: lambda step=step: seconds(step) for name, step in steps.items()}, ROUNDS)
    measured = ratio(times, "torch", "exact")
    table.add(f"{title} step, fp32: exact penalty by torch's double backward / ours", measured, 1.2)
    assert measured > 0.8


def peak_bytes(step: Callable[[], None], trace: Path) -> int:
    """Return the most bytes that torch's CPU allocator had out at once during a step, beyond those at its start.

    Parameters and batch are there at the start and do not count, nor do oneDNN's own buffers; activations, graphs,
    gradients and temporaries do. It counts what was asked for, so it is the same on every run and every machine.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    profiler.export_chrome_trace(str(trace))
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    out = peak = 0
    for event in sorted(events, key=lambda e: e["ts"]):
        out += event["args"]["Bytes"]
        peak = max(peak, out)
    return peak


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("title", "goal"), [("small AlexNet", 3.0), ("WRN 10-1", 3.0)])
def test_peak_memory_of_gradient_penalty(table: Table, tmp_path: Path, title: str, goal: float, precision: str) -> None:
    steps = training_steps(title, precision)
    peaks = {}
    for name, step in steps.items():
        step()
        peaks[name] = peak_bytes(step, tmp_path / f"{name}.json")
    print(f"\n{title} {precision} peak: " + ", ".join(f"{n} {b / 2**20:.0f} MiB" for n, b in peaks.items()))
    what = f"{title} peak memory, {precision}, gradient penalty"
    table.add(f"{what}: exact / plain", peaks["exact"] / peaks["plain"], goal, at_most=True)
    table.add(f"{what}: forward difference / plain", peaks["forward_difference"] / peaks["plain"], 1.5, at_most=True)
    assert peaks["exact"] < peaks["torch"]


GROUPS = {
    "convolution": ("conv",),
    "matrix product": ("mm", "bmm"),
    "pooling": ("pool", "gather"),
    "product, quotient, power": ("mul", "div", "sqrt", "addcmul", "pow", "square", "neg", "reciprocal"),
    "sum": ("add", "sub", "sum", "norm"),
    "ReLU and its gate": ("relu", "clamp_min", "threshold"),
    "copy, cast, fill": ("copy", "fill", "zero", "empty", "clone", "to"),
}
REMAINS = """
The exact step makes 9 convolutions for every 3 of the plain one (4 for 2 in the first layer, whose input needs no
gradient): forward, two of the first backward pass, and six of the second, which runs through the first backward pass
and the forward pass. They, the matrix products and the pooling are at that count; a custom pair for the linear layers,
or fused pairs of convolutions, gain nothing. What exceeds it are sums: autograd adds two contributions for every tensor
that both passes reach. The products are those of the normalisation's second derivative.
"""


def milliseconds(step: Callable[[], None], repeats: int = 5) -> dict[str, float]:
    """Return the time of a step's own kernels by group, a mean over repeats."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            step()
    found = dict.fromkeys([*GROUPS, "other"], 0.0)
    for event in profiler.key_averages():
        if not event.key.startswith("aten::"):
            continue
        name = event.key.removeprefix("aten::")
        matching = (group for group, parts in GROUPS.items() if any(part in name for part in parts))
        found[next(matching, "other")] += event.self_cpu_time_total / 1000 / repeats
    return found


def test_profile_of_the_exact_penalty() -> None:
    lines = ["Written by `make bench`: milliseconds of a step's kernels, small AlexNet, batch 128.", ""]
    for precision in ("fp32", "bf16"):
        steps = training_steps("small AlexNet", precision)
        times = {name: milliseconds(steps[name]) for name in ("plain", "exact", "torch")}
        lines += [
            f"| {precision} | plain | exact | exact / plain | torch's double backward |",
            "| --- |" + " ---: |" * 4,
        ]
        for group in [*GROUPS, "other", "total"]:
            plain, exact, torchs = (sum(t.values()) if group == "total" else t[group] for t in times.values())
            lines.append(f"| {group} | {plain:.1f} | {exact:.1f} | {exact / max(plain, 1e-9):.2f} | {torchs:.1f} |")
        lines.append("")
        assert times["exact"]["convolution"] > 2 * times["plain"]["convolution"]
    text = "\n".join(lines) + REMAINS
    print(text)
    if os.environ.get("LIGHTNING_REGS_BENCH_WRITE"):
        Path(__file__).with_name("profile.md").write_text(text)
