"""Many small nets trained at once: R networks of one architecture in a single module, with stacked parameters.

A small net spends its step in overhead: launching a few dozen kernels costs more than what they compute. Stacked, R of
them share each launch, and the optimizer takes R parameters in one pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lightning_regs.core.registry import plain
from lightning_regs.models.stacked import OneCallForAll, straight
from lightning_regs.optim.per_replica import replica_numbers
from lightning_regs.regularizers.base import Regularizer

# Of these a step of one parameter depends on the others in its tensor, so that stacked nets would mix.
COUPLING_OPTIMIZERS = ("Adafactor", "LBFGS", "Muon", "Ranger")
_PLAIN = (bool, int, float, str, tuple, type(None))


class Replicated(nn.Module):
    """R networks of one architecture as one module; each keeps its own parameters, buffers and gradients.

    Parameters and buffers have the names of a single net's and one dimension more, in front: ``(R, ...)``. The forward
    pass is ``torch.vmap`` over replicas, with batched matrix products for linear layers, or those alone where there is
    nothing else but batch norm and activations. Dropout and whatever else is random within the network draws anew for
    each replica, and otherwise than in a single net; with ``draws_apart=False`` as in a single net, once for all. What
    a network computes must be a function of its parameters, buffers and input, without data-dependent control flow.
    The settings of a layer, such as a dropout's ``p``, are those of all nets.

    Shapes: ``x`` ``(R, N, ...)``, one batch a replica, to ``(R, N, K)``; with ``shared=True`` ``(N, ...)``, one batch
    for all of them.

    Args:
        networks: At least one; they are copied.

    Raises:
        ValueError: If there is none, they differ in more than the values of their parameters and buffers, or have a
            layer that cannot be stacked: lazy, recurrent, or with torch's old weight or spectral norm.
    """

    template: nn.Module

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        _check_stackable(networks)
        _check_alike(networks)
        tensors = [dict([*network.named_parameters(), *network.named_buffers()]) for network in networks]
        code = _rebuilt(networks[0], lambda name, _: torch.stack([own[name].detach() for own in tensors]))
        # The code of a single net, which is not registered: its parts are this one's, and have its numbers in a call.
        self.__dict__["template"] = code
        self._parameters, self._buffers, self._modules = code._parameters, code._buffers, code._modules
        self._non_persistent_buffers_set = code._non_persistent_buffers_set
        self.replicas = len(networks)

    def forward(self, x: Tensor, shared: bool = False, draws_apart: bool = True) -> Tensor:
        """Map a batch a replica, or one for all, to logits; see the class for the shapes."""
        self.template.training = self.training
        whole = None if torch.compiler.is_compiling() else straight(self.template)
        if whole is not None:
            return whole(x.expand(self.replicas, *x.shape) if shared else x)
        tensors = dict(self.named_parameters()), dict(self.named_buffers())

        def single(tensors: Any, x: Tensor) -> Any:
            with OneCallForAll(draws_apart):
                return functional_call(self.template, tensors, (x,))

        randomness = "different" if draws_apart else "same"
        out: Tensor = torch.vmap(single, (0, None if shared else 0), randomness=randomness)(tensors, x)
        return out

    def state_of(self, replica: int) -> dict[str, Tensor]:
        """Return the state dict of one replica, as a single net has it; copies."""
        return {name: value[replica].clone() for name, value in self.state_dict().items()}

    def network_of(self, replica: int) -> nn.Module:
        """Return one replica as a single net; a copy."""
        self.template.training = self.training
        return _rebuilt(self.template, lambda _, stack: stack[replica].clone())


@torch.no_grad()
def clip_replica_norms(parameters: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale the gradients of each replica so that their norm is at most ``max_norm``, as for single nets.

    Of stacked parameters ``(R, ...)`` those without a gradient are left out; the norms ``(R,)`` before are returned.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(0)
    norms: Tensor = torch.linalg.vector_norm(torch.stack([g.flatten(1).norm(dim=1) for g in gradients]), dim=0)
    scale = (max_norm / (norms + 1e-6)).clamp(max=1.0)  # as in torch.nn.utils.clip_grad_norm_
    for g in gradients:
        g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))
    return norms


def mixes(method: Regularizer, optimizer: Mapping[str, Any]) -> str:
    """Say why a method does not go with replicas that this optimizer trains; empty where it does."""
    name, whole = type(method).__name__, "acts on a batch or a net as a whole, and would mix replicas"
    if method.acts_on_replicas and "lr" in replica_numbers(optimizer) and getattr(method, "decoupled", False):
        return f"{name}(decoupled=True) moves weights by one rate, and lr is a list; use decoupled=False."
    return "" if method.acts_on_replicas else f"{name} {whole}; train with it without replicas, one net at a time."


def check_replicas(
    replicas: tuple[int, ...] | None, architecture: str | nn.Module, optimizer: Mapping[str, Any],
    methods: Sequence[Regularizer],
) -> None:  # fmt: skip
    """Refuse an architecture that is not stacked, and an optimizer or a method that would mix replicas."""
    if replicas is None:
        return
    if isinstance(architecture, nn.Module):
        if not isinstance(architecture, Replicated):
            raise ValueError(
                f"an architecture that is an object and replicas={list(replicas)} do not go together: stack the "
                "networks first, Classifier(Replicated([net, other_net]), replicas=2)."
            )
        if architecture.replicas != len(replicas):
            raise ValueError(f"the architecture has {architecture.replicas} replicas, replicas names {len(replicas)}.")
    name = optimizer.get("base", optimizer)["name"]  # Lookahead's base
    if plain(name) in map(plain, COUPLING_OPTIMIZERS):
        raise ValueError(
            f"{name} takes the tensor of a parameter as a whole, and would mix replicas; use one that "
            "treats each number on its own, such as SGD or Adam."
        )
    for why in filter(None, (mixes(method, optimizer) for method in methods)):
        raise ValueError(why)


def _rebuilt(network: nn.Module, make: Callable[[str, Tensor], Tensor]) -> nn.Module:
    """Return a copy with other tensors; what was shared is shared in the copy."""
    made: dict[int, Tensor] = {id(b): make(name, b) for name, b in network.named_buffers()}
    for name, p in network.named_parameters():
        made[id(p)] = nn.Parameter(make(name, p.detach()), requires_grad=p.requires_grad)
    return copy.deepcopy(network, made)


def _check_stackable(networks: Sequence[nn.Module]) -> None:
    for part in (part for network in networks for part in network.modules()):
        why = ""
        if isinstance(part, nn.modules.lazy.LazyModuleMixin) and part.has_uninitialized_params():
            why = "has no shape yet; run the network on a batch first"
        elif isinstance(part, nn.RNNBase):
            why = "cannot run under torch.vmap; train recurrent nets one at a time"
        elif any(isinstance(hook, (WeightNorm, SpectralNorm)) for hook in part._forward_pre_hooks.values()):
            why = "has a weight that a hook computes; use torch.nn.utils.parametrizations instead"
        if why:
            raise ValueError(f"{type(part).__name__} cannot be stacked: it {why}.")


def _check_alike(networks: Sequence[nn.Module]) -> None:
    if not networks:
        raise ValueError("Replicated needs at least one network, got none.")

    def layout(network: nn.Module) -> dict[str, Any]:
        parameters = {n: (tuple(p.shape), p.dtype, p.requires_grad) for n, p in network.named_parameters()}
        return parameters | {n: (tuple(b.shape), b.dtype) for n, b in network.named_buffers()}

    def settings(network: nn.Module) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, part in network.named_modules():
            values = {"class": type(part)} | {k: v for k, v in vars(part).items() if not k.startswith("_")}
            found |= {f"{name}.{key}".lstrip("."): _setting(value) for key, value in values.items()}
        return found

    first = layout(networks[0]) | settings(networks[0])
    for i, network in enumerate(networks[1:], start=1):
        other = layout(network) | settings(network)
        for name in (*first, *other):
            if first.get(name) != other.get(name):
                raise ValueError(
                    f"networks 0 and {i} differ in {name!r} ({first.get(name)} and {other.get(name)}); stacked nets "
                    "need the same architecture."
                )


def _setting(value: Any) -> Any:
    """Return what two nets must have alike of a setting; functions may be made anew for each."""
    if isinstance(value, _PLAIN):
        return value
    return str(value) if isinstance(value, Tensor) else getattr(value, "__qualname__", None)
