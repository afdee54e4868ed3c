"""Which parameters of a module a method acts on."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_regs.core.lightning import MisconfigurationException, pl, replicas_of
from lightning_regs.core.names import check_glob
from lightning_regs.pruning import layers
from lightning_regs.pruning.layers import NORMALISATION, own_parameters

Selection = str | Sequence[str] | Callable[[str, Tensor], bool] | None


def _as_list(name: str, parameters: Selection) -> Selection:
    if parameters is None or callable(parameters):
        return parameters
    if not parameters:
        raise ValueError(f"{name} is empty, which selects nothing; leave it out to select the weights.")
    return parameters if isinstance(parameters, str) else list(parameters)


Parameters = Annotated[
    Selection,
    "None, 'all', a glob of parameter names, a list of globs or a function (name, parameter) -> bool",
    _as_list,
]


def select(module: nn.Module, parameters: Selection) -> list[tuple[str, Tensor]]:
    """Return the (name, parameter) pairs that a selection stands for; a shared parameter comes once.

    None stands for weights, of no normalisation layer and of two dimensions or more; those of stacked nets have three.
    """
    named = own_parameters(module, remove_duplicate=False)
    if parameters is None:
        in_norms = {
            id(w) for m in module.modules() if isinstance(m, NORMALISATION) for w in m.parameters(recurse=False)
        }
        least = 3 if replicas_of(module) else 2
        chosen = [(n, w) for n, w in named if (is_lazy(w) or w.ndim >= least) and id(w) not in in_norms]
    elif parameters == "all":
        chosen = named
    elif callable(parameters):
        chosen = [(n, w) for n, w in named if parameters(n, w)]
    else:
        globs = [parameters] if isinstance(parameters, str) else parameters
        for glob in globs:
            try:
                check_glob(glob, [n for n, _ in named], "parameters")
            except ValueError as error:
                raise MisconfigurationException(str(error)) from None
        chosen = [(n, w) for n, w in named if any(fnmatch.fnmatchcase(n, glob) for glob in globs)]
    for name, w in chosen:
        if is_lazy(w):
            raise MisconfigurationException(f"{name!r} has no shape yet; let the network see a batch before training.")
    return list({id(w): (n, w) for n, w in reversed(chosen)}.values())[::-1]


def trained(trainer: pl.Trainer, module: nn.Module) -> list[Any]:
    """Return the parameters that an optimizer trains; all that want a gradient where the module keeps its optimizers.

    Teachers, averages and other parameters of no optimizer are none, frozen or not.
    """
    wanted = {name: w for name, w in module.named_parameters() if w.requires_grad}
    return list(layers.trained(wanted, trainer.optimizers).values())
