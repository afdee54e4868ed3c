"""Modules that take their steps in other ways than most, and networks in them that nobody trains."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_regs.core.checks import NoEffectWarning
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.testing.modules import Case, ReturnsDict
from lightning_regs.testing.runs import Run, fit, plain
from lightning_regs.testing.variants import Variant

LR = 0.1


class _SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization (2010.01412): calls its closure twice, steps another optimizer, clears gradients."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": LR})
        self.base = torch.optim.SGD(self.param_groups, lr=LR)
        self.param_groups = self.base.param_groups

    def step(self, closure: Any) -> Any:  # type: ignore[override]
        loss = closure()
        moves = [(w, 0.05 * w.grad) for group in self.param_groups for w in group["params"] if w.grad is not None]
        for w, move in moves:
            w.data.add_(move)
        closure()
        for w, move in moves:
            w.data.sub_(move)
        self.base.step()
        self.zero_grad()
        return loss


class _Manual(ReturnsDict):
    """Steps as ``how`` says, in manual optimization."""

    how = "backward"

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        optimizer: Any = self.optimizers()
        returned = super().training_step(batch, batch_idx)
        loss: Any = returned["loss"]
        loss.backward() if self.how == "backward" else self.manual_backward(loss)
        if self.how == "by hand":
            with torch.no_grad():
                for w in self.parameters():
                    w.sub_(w.grad, alpha=LR)  # type: ignore[arg-type]
        else:
            (optimizer.optimizer if self.how == "raw" else optimizer).step()
        optimizer.zero_grad()
        return {"loss": loss.detach()}


class _Raw(_Manual):
    how = "raw"


class _ByHand(_Manual):
    how = "by hand"


class _Sharp(ReturnsDict):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return _SAM(self.parameters())


class _Fetches(ReturnsDict):
    """Fetches its batches within the training step."""

    def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
        (x, y), _, _ = next(dataloader_iter)
        return F.cross_entropy(self(x), y)


class _Distils(ReturnsDict):
    """Has a teacher that is frozen, and an average that wants gradients; no optimizer has either."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher, self.average = copy.deepcopy(self.net).requires_grad_(False), copy.deepcopy(self.net)

    def forward(self, x: Tensor) -> Any:
        return self.net(x) + self.teacher(x) + self.average(x)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.net.parameters(), lr=LR)


WAYS = {
    name: Case(name, lambda _, cls=cls: cls())  # type: ignore[misc]
    for name, cls in {
        "a closure called twice": _Sharp,
        "loss.backward()": _Manual,
        "the optimizer's own step": _Raw,
        "weights moved by hand": _ByHand,
        "batches fetched in the step": _Fetches,
        "a teacher and an average": _Distils,
    }.items()
}


def outcome(way: Case, variant: Variant) -> str:
    """Return what a method does on such a module.

    Returns:
        ``W`` where it acts, ``v`` where it does not and says so, ``R`` where it refuses the module.

    Raises:
        AssertionError: If it does nothing without a word, or changes what is not trained.
    """
    try:
        run = _fit(way, variant)
    except MisconfigurationException:
        return "R"
    except NoEffectWarning:
        return "v"
    without = plain(way, limit_train_batches=2)
    for name, value in run.state.items():
        if name.startswith(("teacher", "average")):
            assert torch.equal(value, without.state[name]), f"on a module with {way} it changes {name!r}"
    differs = not torch.allclose(run.trajectory[-1], without.trajectory[-1], rtol=1e-5, atol=1e-7)
    assert differs, f"on a module with {way} it does nothing, and does not say so"
    return "W"


def _fit(way: Case, variant: Variant) -> Run:
    return fit(way, [variant.make()], limit_train_batches=2)
