"""The architectures of the papers, by name: each class says its own, ``architecture = "vgg19"``.

Every constructor takes ``input_shape`` ((C, H, W), or (L,) where a net takes vectors), ``num_classes`` and keyword
options, and every net maps a batch ``(N, *input_shape)`` to logits ``(N, num_classes)``; a value of another type is a
``TypeError``, a name or number that it cannot take a ``ValueError``. Initial weights come from torch's global
generator, as in any torch module: seed it before building.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning_regs.core import registry
from lightning_regs.core.checks import check, check_arguments, checked
from lightning_regs.core.names import unknown_name

if TYPE_CHECKING:
    from torch import nn

MODELS = registry.declared(__name__, "architecture")
"""Name of each architecture and the class that is it, as ``module:Class``, imported when it is built."""

__all__ = ["MODELS", "build", "check_options", "model_options", "num_parameters"]


@checked
def build(name: str, input_shape: Sequence[int], num_classes: int, **options: Any) -> nn.Module:
    """Build an architecture by name.

    Args:
        name: A key of :data:`MODELS`.
        input_shape: Shape of one sample: (C, H, W), or (L,) for vectors.
        num_classes: Number of logits.
        **options: Keyword options of the architecture; :func:`model_options` lists them.

    Returns:
        The net, with fresh weights on the CPU.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If the name or an option is unknown, or the net cannot take a value or the input shape.
    """
    check_options(name, options)
    net: nn.Module = _model_class(name)(input_shape, num_classes, **options)
    return net


@checked
def check_options(name: str, options: Mapping[str, Any] | Iterable[str]) -> None:
    """Refuse the name of an architecture or of an option that there is not, before anything is built.

    Of a mapping, values that the options cannot have are refused too.
    """
    known = model_options(name)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of model {name!r}:", option, known)
    if isinstance(options, Mapping):
        check_arguments(_model_class(name).__init__, options)


@checked
def model_options(name: str) -> dict[str, Any]:
    """Return the options of an architecture with their defaults, in the order of the constructor."""
    parameters = inspect.signature(_model_class(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in ("input_shape", "num_classes")}


def num_parameters(module: nn.Module) -> int:
    """Count the trainable parameters of a module."""
    from torch import nn

    check("module", module, nn.Module)
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _model_class(name: str) -> type[nn.Module]:
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    cls: type[nn.Module] = registry.resolve(MODELS[name])
    return cls
