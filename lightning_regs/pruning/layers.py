"""Which weights of a network can be pruned, and how a few of them are named."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lightning_regs.core.checks import checked
from lightning_regs.core.names import GRADIENT_MODEL, check_glob, uncompiled


def _as_list(name: str, globs: str | Sequence[str]) -> list[str]:
    if not globs:
        raise ValueError(f"{name} is empty, which selects nothing; leave it out to select all weights.")
    return [globs] if isinstance(globs, str) else list(globs)


Globs = Annotated[str | Sequence[str], "a glob of names or a list of globs", _as_list]
NORMALISATION = (
    nn.modules.batchnorm._NormBase,  # batch and instance norms, the synchronised and lazy ones among them
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@checked
def prunable(module: nn.Module, layers: Globs | None = None) -> dict[str, Tensor]:
    """Return the weights that pruning is about: those of linear and convolutional layers, no biases, norms, embeddings.

    Args:
        module: A network, or the LightningModule around it.
        layers: A glob or a list of globs of parameter names (``"*.conv1.weight"``) or module names (``"*.conv1"``);
            default: all.

    Returns:
        The name in the ``state_dict``, without what ``torch.compile`` puts into it -> the parameter itself, in the
        order of the modules. A shared parameter comes once, and not at all if an embedding has it or it is empty.

    Raises:
        TypeError: If ``layers`` is of another type.
        ValueError: If there is no such weight, a glob matches none, or a weight is computed from others
            (``torch.nn.utils.parametrize``) or not there yet (lazy layers).
    """
    owners = _owners(module)
    names = list(owners)
    if not names:
        raise ValueError(
            f"{type(module).__name__} has nothing to prune: weights of nn.Linear and nn.Conv layers are what is "
            "pruned, and it has none; masks of other tensors can be given as a Mask."
        )
    if layers is not None:
        for glob in layers:
            check_glob(glob, names, "prunable weights", matches)
        names = [name for name in names if any(matches(name, glob) for glob in layers)]
    found: dict[int, tuple[str, Tensor]] = {}
    for name in names:
        weight = owners[name]._parameters.get("weight")
        if weight is None:
            raise ValueError(
                f"{name!r} is no parameter, but computed from others; remove its parametrization before pruning, or "
                "leave it out with `layers`."
            )
        if is_lazy(weight):
            raise ValueError(f"{name!r} has no shape yet; let the network see a batch before pruning.")
        found.setdefault(id(weight), (name, weight))
    return dict(found.values())


def trained(weights: Mapping[str, Tensor], optimizers: Iterable[Optimizer] = ()) -> dict[str, Tensor]:
    """Return the weights that are trained, which those of teachers and averages are not; all of them where none is.

    Such a weight wants a gradient, and where optimizers have any parameters it is among these.
    """
    held = {id(w) for optimizer in optimizers for group in optimizer.param_groups for w in group["params"]}
    found = {name: w for name, w in weights.items() if w.requires_grad and (not held or id(w) in held)}
    return found or dict(weights)


def left_alone(module: nn.Module, pruned: Mapping[str, object], optimizers: Iterable[Optimizer] = ()) -> str:
    """Say which weights are not among the pruned, beside those of embeddings and norms; empty where there are none."""
    # Biases of stacked networks have two dimensions.
    named = own_parameters(module)
    weights = {name: w for name, w in named if not is_lazy(w) and w.ndim > 1 and not name.endswith("bias")}
    silent_layers = (nn.Embedding, nn.EmbeddingBag, *NORMALISATION)
    silent = {id(w) for m in module.modules() if isinstance(m, silent_layers) for w in m.parameters(recurse=False)}
    others = {name: w for name, w in weights.items() if name not in pruned and id(w) not in silent}
    dense = {name: w for name, w in trained(weights, optimizers).items() if name in others}
    reasons: dict[str, dict[str, Tensor]] = {
        "no optimizer trains": {name: w for name, w in others.items() if name not in dense},
        "no linear or convolutional layer has": dense,
    }
    said = []
    for reason, left in reasons.items():
        names, size = list(left), sum(w.numel() for w in left.values())
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        said += [f"{reason} {names[0]!r}{more} ({size:,})"] if names else []
    number, total = (sum(w.numel() for n, w in weights.items() if n in some) for some in (pruned, weights))
    return f"{number:,} of the module's {total:,} weights: {', and '.join(said)}" if said else ""


def output_of(module: nn.Module) -> str:
    """Return the name of the output layer's weight, the last that is :func:`prunable`, or raise a ``ValueError``.

    Where some are frozen, as a teacher's are, it is the last of the others.
    """
    found: dict[int, tuple[str, bool]] = {}
    for name, owner in _owners(module).items():
        weight = owner._parameters.get("weight")
        # One that is computed is no parameter, so that no other layer has it.
        found.setdefault(id(owner if weight is None else weight), (name, weight is None or weight.requires_grad))
    if not found:
        raise ValueError(f"{type(module).__name__} has no linear or convolutional layer, so no output layer.")
    return [name for name, trains in found.values() if trains or not any(t for _, t in found.values())][-1]


def own_parameters(module: nn.Module, remove_duplicate: bool = True) -> list[tuple[str, Tensor]]:
    """Return the net's own parameters by their names, without what ``torch.compile`` puts into these."""
    named = module.named_parameters(remove_duplicate=remove_duplicate)
    return [(uncompiled(n), w) for n, w in named if GRADIENT_MODEL not in n.split(".")]


def matches(name: str, glob: str) -> bool:
    """Whether a glob names this parameter, or the module that it belongs to."""
    return fnmatch.fnmatchcase(name, glob) or fnmatch.fnmatchcase(name.rpartition(".")[0], glob)


def _owners(module: nn.Module) -> dict[str, nn.Module]:
    """Return the names of weights that can be pruned -> their layers; a shared weight under each of its names."""
    embedded = {id(m.weight) for m in module.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    found: dict[str, nn.Module] = {}
    for name, owner in module.named_modules():
        if isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd)) and GRADIENT_MODEL not in name.split("."):
            weight = owner._parameters.get("weight")
            empty = weight is not None and not is_lazy(weight) and not weight.numel()
            if not empty and id(weight) not in embedded:
                found[uncompiled(f"{name}.weight".lstrip("."))] = owner
    return found
