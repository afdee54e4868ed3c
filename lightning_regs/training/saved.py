"""What a Classifier's checkpoint holds of its arguments: methods as plain types, and of a network its class's name."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from typing_extensions import Self

from lightning_regs.core import registry
from lightning_regs.core.files import DamagedFileError, check_saved
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.models import MODELS, check_options
from lightning_regs.pruning.gates import gates_missing, has_gates
from lightning_regs.regularizers import L0, Regularizer, WeightMask


class KeepsMethods(pl.LightningModule):
    """A module whose checkpoint says which methods it was trained with."""

    regularizers: list[Regularizer]
    network: nn.Module | None
    _methods_given: bool

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Make a module of a checkpoint, as Lightning's; refuse a file that is not as it was written.

        Raises:
            DamagedFileError: If it is cut off or damaged.
        """
        try:
            if isinstance(checkpoint_path, (str, os.PathLike)) and Path(checkpoint_path).is_file():
                check_saved(Path(checkpoint_path))
        except DamagedFileError as error:
            raise DamagedFileError(f"{error}; give a checkpoint that a Trainer wrote, as a whole") from error
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down the methods, as plain types."""
        checkpoint["regularizers"] = described(self.regularizers)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the methods again in ``load_from_checkpoint``, where none were given; warn of those that it cannot."""
        if self._trainer is None and not self._methods_given:
            self.regularizers = made_again(checkpoint.get("regularizers", []))
        if has_gates(checkpoint["state_dict"]) and self.network is not None:
            for method in self.regularizers:
                if isinstance(method, L0):
                    method.extend(self, checkpoint["state_dict"])
            if lacking := gates_missing(self, checkpoint["state_dict"]):
                raise MisconfigurationException(
                    f"the checkpoint is of a Classifier with L0, and this one has none.{lacking}"
                )


def check_architecture(architecture: str | nn.Module, options: Mapping[str, Any] | None) -> None:
    """Refuse unknown names of architectures and options, and options for a network that is an object."""
    if not isinstance(architecture, str):
        if options:
            raise ValueError(
                f"architecture_args {options!r} belong to an architecture given by name; "
                f"{type(architecture).__name__} is an object already, so build it with its options."
            )
        return
    try:
        check_options(architecture, options or {})
    except ValueError as error:
        if architecture in MODELS or not architecture[:1].isupper():
            raise
        raise ValueError(
            f"{error} If it is the class of a network that was given as an object: a checkpoint has its weights alone; "
            "build it again, and pass it to Classifier.load_from_checkpoint(path, architecture=network)."
        ) from None


def described(methods: Sequence[Regularizer]) -> list[dict[str, Any]]:
    """Return the class and the arguments of each method; None for arguments that are more than plain types."""
    return [{"method": _path(type(method)), "arguments": _arguments(method)} for method in methods]


def made_again(descriptions: Sequence[Mapping[str, Any]]) -> list[Regularizer]:
    """Make the methods that were described, without importing more than this package; warn of those that it cannot."""
    found: list[Regularizer] = []
    rooms = ("lightning_regs.regularizers", "lightning_regs.layers") if descriptions else ()
    ours = [cls for room in rooms for cls in registry.subclasses(room, Regularizer).values()]
    known = {_path(cls): cls for cls in [*ours, *_defined(Regularizer)]}
    for description in descriptions:
        cls, arguments = known.get(description["method"]), description["arguments"]
        if cls is None or arguments is None:
            warnings.warn(
                f"the checkpoint's Classifier was trained with {description['method'].rpartition('.')[2]}, which "
                f"{'is not defined here' if cls is None else 'was given what a checkpoint does not hold'}; give "
                "load_from_checkpoint(..., regularizers=[...]) all methods to train on with.",
                UserWarning,
                stacklevel=2,
            )
            continue
        found.append(cls(**arguments))
    return found


def _arguments(method: Regularizer) -> dict[str, Any] | None:
    names = (name for name in inspect.signature(type(method)).parameters if hasattr(method, name))
    values = {name: getattr(method, name) for name in names}
    if isinstance(method, WeightMask):
        # A mask that was found by density is found again, or comes with the training that is resumed.
        given = method.mask is not None and method.density is None
        values = {"mask": method.mask.state_dict()} if given and method.mask else values | {"mask": None}
    return values if _is_plain(values) else None


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return value is None or type(value) in (bool, int, float, str, Tensor)


def _path(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _defined(base: type[Regularizer]) -> Iterator[type[Regularizer]]:
    for cls in base.__subclasses__():
        yield cls
        yield from _defined(cls)
