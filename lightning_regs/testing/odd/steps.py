"""Steps that are taken in other ways, and networks in a module that nobody trains."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_regs.testing.odd.base import LR, Odd, kind

RHO = 0.05


class _SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization (2010.01412) without its norm: steps another optimizer, or by itself; clears."""

    def __init__(self, parameters: Any, alone: bool = False) -> None:
        super().__init__(parameters, {"lr": LR})
        self.base = None if alone else torch.optim.SGD(self.param_groups, lr=LR)

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        loss = closure()
        moves = [(w, RHO * w.grad) for group in self.param_groups for w in group["params"] if w.grad is not None]
        for w, move in moves:
            w.data.add_(move)
        closure()
        for w, move in moves:
            w.data.sub_(move)
        if self.base is None:
            for w, _ in moves:
                w.data.sub_(LR * w.grad)
        else:
            self.base.step()
        self.zero_grad()
        return loss


_twice = kind("a closure called twice", sharp=True, configure_optimizers=lambda self: _SAM(self.net.parameters()))
kind(
    "a closure called twice, by an optimizer without a base",
    _twice,
    configure_optimizers=lambda self: _SAM(self.net.parameters(), alone=True),
)


class _Manual(Odd):
    """Loss.backward()."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def differentiate(self, loss: Any) -> None:
        loss.backward()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss, optimizer = super().training_step(batch, batch_idx), self.optimizers()
        self.differentiate(loss)
        self.step(optimizer)
        self.zero_grad()

    def step(self, optimizer: Any) -> None:
        optimizer.step()


class _Raw(_Manual):
    """The optimizer's own step."""

    def differentiate(self, loss: Any) -> None:
        self.manual_backward(loss)

    def step(self, optimizer: Any) -> None:
        optimizer.optimizer.step()


class _RawClosure(_Manual):
    """The optimizer's own step, with a closure."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        raw: Any = self.optimizers()

        def closure() -> Any:
            self.zero_grad()
            loss = Odd.training_step(self, batch, batch_idx)
            self.manual_backward(loss)
            return loss

        raw.optimizer.step(closure)


class _Own(_Raw):
    """The step of an optimizer that Lightning does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.own = torch.optim.SGD(self.net.parameters(), lr=LR)

    def step(self, optimizer: Any) -> None:
        self.own.step()

    def configure_optimizers(self) -> Any:
        return None


class _ByHand(_Raw):
    """Weights moved by hand."""

    def step(self, optimizer: Any) -> None:
        with torch.no_grad():
            for w in self.parameters():
                w.sub_(w.grad, alpha=LR)  # type: ignore[arg-type]


class _Distils(Odd):
    """A teacher and an average."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher, self.average = copy.deepcopy(self.net).requires_grad_(False), copy.deepcopy(self.net)

    def forward(self, x: Tensor) -> Any:
        return self.net(x) + self.teacher(x) + self.average(x)
