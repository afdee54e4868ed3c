"""The optimizers of the papers, in float64 and step by step, as their formulas say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_regs.optim import make_optimizer

LR, M, B1, B2, EPS, DECAY = 0.1, 0.9, 0.9, 0.999, 1e-8, 0.02
State = dict[str, Any]


def sgd(w: Tensor, g: Tensor, t: int, s: State) -> Tensor:
    return w - LR * g


def polyak(w: Tensor, g: Tensor, t: int, s: State) -> Tensor:
    """Polyak 1964."""
    s["v"] = M * s.get("v", 0) - LR * g
    return w + s["v"]


def nesterov(w: Tensor, g: Tensor, t: int, s: State) -> Tensor:
    """Sutskever et al. 2013: the gradient is that at theta + m v, where torch keeps its weights."""
    old = s.get("v", torch.zeros_like(w))
    s["v"] = M * old - LR * g
    return (w - M * old) + s["v"] + M * s["v"]


def adagrad(w: Tensor, g: Tensor, t: int, s: State) -> Tensor:
    """Duchi et al. 2011."""
    s["sum"] = s.get("sum", 0) + g**2
    return w - LR * g / (s["sum"].sqrt() + EPS)


def rmsprop(w: Tensor, g: Tensor, t: int, s: State) -> Tensor:
    """Tieleman & Hinton 2012."""
    s["v"] = 0.99 * s.get("v", 0) + 0.01 * g**2
    return w - LR * g / (s["v"].sqrt() + EPS)


def moments(g: Tensor, t: int, s: State) -> tuple[Tensor, Tensor]:
    s["m"], s["v"] = B1 * s.get("m", 0) + (1 - B1) * g, B2 * s.get("v", 0) + (1 - B2) * g**2
    return s["m"] / (1 - B1**t), s["v"] / (1 - B2**t)


def adam(w: Tensor, g: Tensor, t: int, s: State) -> Tensor:
    """Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1."""
    m, v = moments(g, t, s)
    return w - LR * m / (v.sqrt() + EPS)


def adam_l2(w: Tensor, g: Tensor, t: int, s: State) -> Tensor:
    """Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2, line 6 in pink."""
    return adam(w, g + DECAY * w, t, s)


def adamw(w: Tensor, g: Tensor, t: int, s: State) -> Tensor:
    """The same, line 12 in green, with a multiplier of 1: its lambda is torch's weight_decay times the rate."""
    return adam(w, g, t, s) - DECAY * w


def radam(w: Tensor, g: Tensor, t: int, s: State) -> Tensor:
    """Liu et al. 2020, arXiv:1908.03265, Algorithm 2; adapted from rho > 5 on, where the paper has 4."""
    m, _ = moments(g, t, s)
    end = 2 / (1 - B2) - 1
    rho = end - 2 * t * B2**t / (1 - B2**t)
    if rho <= 5:
        return w - LR * m
    r = ((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho)) ** 0.5
    return w - LR * r * m * (1 - B2**t) ** 0.5 / (s["v"].sqrt() + EPS)


FORMULAS: dict[str, tuple[dict[str, Any], Callable[[Tensor, Tensor, int, State], Tensor]]] = {
    "SGD": ({"name": "SGD"}, sgd),
    "momentum": ({"name": "SGD", "momentum": M}, polyak),
    "Nesterov": ({"name": "SGD", "momentum": M, "nesterov": True}, nesterov),
    "Adagrad": ({"name": "Adagrad", "eps": EPS}, adagrad),
    "RMSProp": ({"name": "RMSprop"}, rmsprop),
    "Adam": ({"name": "Adam"}, adam),
    "Adam with L2": ({"name": "Adam", "weight_decay": DECAY}, adam_l2),
    "AdamW": ({"name": "AdamW", "weight_decay": DECAY / LR}, adamw),
    "RAdam": ({"name": "RAdam"}, radam),
}


def gradient(w: Tensor, t: int) -> Tensor:
    """Of a valley ten times as steep one way as the other, with what stands for noise."""
    return torch.tensor([2.0, 0.2, 1.0], dtype=torch.float64) * (w - 0.7) + 0.3 * torch.sin(w + 5 * t)


def paths(config: dict[str, Any], formula: Callable[..., Tensor], steps: int = 20) -> tuple[list[Tensor], list[Tensor]]:
    start = torch.tensor([1.0, -2.0, 0.3], dtype=torch.float64)
    p, w, state = nn.Parameter(start.clone()), start, State()
    optimizer = make_optimizer([p], config | {"lr": LR})
    ours, theirs = [], []
    for t in range(1, steps + 1):
        p.grad = gradient(p.detach(), t)
        optimizer.step()
        w = formula(w, gradient(w, t), t, state)
        ours.append(p.detach().clone())
        theirs.append(w)
    return ours, theirs


@pytest.mark.parametrize("name", FORMULAS)
def test_each_step_is_that_of_the_paper(name: str) -> None:
    for ours, theirs in zip(*paths(*FORMULAS[name]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_l2_is_weight_decay_in_sgd_and_not_in_adam() -> None:
    decay = {"weight_decay": DECAY / LR}
    l2, decoupled = paths({"name": "SGD"} | decay, lambda w, g, t, s: sgd(w, g, t, s) - DECAY * w)
    torch.testing.assert_close(l2[-1], decoupled[-1])
    l2, decoupled = paths({"name": "Adam"} | decay, adamw)
    assert (l2[-1] - decoupled[-1]).abs().max() > 0.1
