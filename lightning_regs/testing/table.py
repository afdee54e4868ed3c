"""What a method does on a kind of odd module: it works, says that it does not, or refuses the module."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_regs.core.checks import NoEffectWarning
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.functional import gradient_penalty, norm_penalty
from lightning_regs.regularizers import GradientPenalty, NormPenalty, Regularizer, WeightMask
from lightning_regs.regularizers.base import Acts
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.testing.odd import ODD, Odd
from lightning_regs.testing.odd.base import LR
from lightning_regs.testing.odd.steps import RHO
from lightning_regs.testing.runs import TRAINER, own_parameters, quiet
from lightning_regs.testing.variants import Variant


class Row(NamedTuple):
    """What a method does on a kind of module."""

    method: str  # its name
    module: str  # the kind, see `lightning_regs.testing.odd`
    outcome: str  # `W`: it trains as a loop by hand in float64 does; `v`: it says that it does not; `R`: it refuses
    sentence: str  # what it says; empty where it works


def outcome(name: str, variant: Variant) -> Row:
    """Train a kind of module with a method, and return what it does."""
    kind, method = ODD[name], variant.make()
    if isinstance(method, Regularizer) and method.acts is Acts.BATCH:
        method.batch = kind.keys
    module, row = kind(), Row(variant.cls.__name__, name, "W", "")
    before = copy.deepcopy(module.state_dict())
    with quiet(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = pl.Trainer(**(TRAINER | {"callbacks": [method]}))
        try:
            trainer.fit(module, module.loader())
        except MisconfigurationException as error:
            return row._replace(outcome="R", sentence=str(error))
    where = f"on a module with {name} it "
    for key, value in module.state_dict().items():
        if key.startswith(("teacher", "average")):
            assert torch.equal(value, before[key]), f"{where}changes {key!r}"
    said = [str(w.message) for w in caught if issubclass(w.category, NoEffectWarning)]
    assert len(said) < 2, f"{where}says: {said}"
    if said:
        return row._replace(outcome="v", sentence=said[0])
    ended = own_parameters(module.net)
    assert not _equal(ended, _by_hand(kind, module, None, False)), f"{where}does nothing, and does not say so"
    if _is_known(method):
        differ = f"{where}trains otherwise than a loop by hand, and does not say so"
        assert _equal(ended, _by_hand(kind, module, method, True)), differ
    return row


def _equal(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-11) for a, b in zip(ours, theirs, strict=True))


# What the methods add to the loss that act by hooks of Lightning's: a function of method, loss, parameters and weights.
_Added = Callable[[Any, Tensor, list[nn.Parameter], list[Any]], Tensor]
_ADDED: dict[type[Regularizer], _Added] = {
    GradientPenalty: lambda method, loss, parameters, _: gradient_penalty(loss, parameters, method.coefficient)[0],
    NormPenalty: lambda method, _, __, weights: (
        method.coefficient * norm_penalty(weights, method.p) * (not method.decoupled)
    ),
    WeightMask: lambda _, loss, *__: loss.new_zeros(()),
}


def _is_known(method: Regularizer) -> bool:
    """Whether it is known how to do by hand what a method does."""
    hooks = {name for name in dir(pl.Callback) if name.startswith("on_")} - {"on_train_start", "on_fit_start"}
    own = [name for name in hooks if getattr(type(method), name) is not getattr(Regularizer, name)]
    return type(method) in _ADDED or method.acts is Acts.BATCH or not own


def _by_hand(kind: type[Odd], trained: Odd, method: Any, changed: bool) -> list[nn.Parameter]:
    """Train a module of a kind by a loop of plain torch, on the batches that the training step of ``trained`` has seen.

    They are as the method has ``changed`` them or as they were; the method acts on losses, gradients and weights.
    """
    device = next(iter(trained.seen.values()))[0].device
    module = kind().to(device)
    parameters, dense = list(module.net.parameters()), dict(module.named_parameters())
    weights: list[Any] = [w for w in parameters if w.ndim > 1]
    known = method.mask.items() if isinstance(method, WeightMask) else ()
    mask = {dense[key]: kept.to(device) for key, kept in known}
    plain = [module.unpacked(module.transfer_batch_to_device(batch, device, 0)) for batch in module.loader()]

    def gradients(x: Tensor, y: Tensor, moment: Callable[[], Moment]) -> list[Tensor]:
        loss = module.whole(module(x), y).sum()
        if type(method) in _ADDED:
            loss = loss + _ADDED[type(method)](method, loss, parameters, weights)
        found = [g * mask.get(w, 1) for w, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True)]
        if method is not None:
            method.on_gradients(found, moment())  # of its own, as draws are the same at each call of a closure
        return found

    @torch.no_grad()
    def move(by: Sequence[Tensor], how_far: float) -> None:
        for w, g in zip(parameters, by, strict=True):
            w.add_(g, alpha=how_far)

    for w, kept in mask.items():
        w.data.mul_(kept)
    for i, (x, y, step) in trained.seen.items():
        trainer: Any = SimpleNamespace(global_step=step)
        where = (trainer, module, 0, i, 0, method.seed if method else 0, type(method).__name__)
        at = partial(Moment, *where)
        x, y = (x, y) if changed else plain[i]
        before = [w.detach().clone() for w in weights]
        found = gradients(x, y, at)
        if kind.sharp:
            move(found, RHO)
            first, found = found, gradients(x, y, at)
            move(first, -RHO)
        move(found, -LR)
        if isinstance(method, NormPenalty) and method.decoupled:
            far = LR * method.coefficient
            for w, old in zip(weights, before, strict=True):
                w.data = w.data - far * old if method.p == 2 else nn.functional.softshrink(w.data, far)
        if method is not None:
            method.on_weights([w.data for w in weights], at())
    return list(module.cpu().net.parameters())
