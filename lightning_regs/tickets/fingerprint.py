"""What determines a level, as plain types: equal for equal trainings, and readable where two differ."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_regs._lightning import pl

# Options of a Trainer that change what is shown or kept, not what is trained.
_SHOW = {
    "barebones",
    "default_root_dir",
    "detect_anomaly",
    "enable_autolog_hparams",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "log_every_n_steps",
    "num_sanity_val_steps",
    "profiler",
}


def of_module(factory: Callable[..., Any], module: pl.LightningModule) -> dict[str, Any]:
    """Describe a module as its factory made it: layers, initial weights, hyper-parameters, numbers among attributes.

    Layers and weights that a module makes only when the Trainer starts are not seen; its hyper-parameters are.
    """
    return {
        "factory": name_of(factory),
        "layers": re.sub(r" at 0x[0-9a-f]+", "", str(module)),
        "initial weights": digest(module.state_dict()),
        "hyper-parameters": plain(dict(module.hparams)),
        "attributes": _attributes(module),
    }


def of_data(data: Any) -> dict[str, Any]:
    """Describe a DataModule or loaders: class, hyper-parameters, other arguments, lengths."""
    if isinstance(data, pl.LightningDataModule):
        return {
            "class": name_of(type(data)),
            "hyper-parameters": plain(dict(data.hparams)),
            "attributes": _attributes(data),
        }
    if isinstance(data, (list, tuple)):
        return {f"loader {number}": of_data(loader) for number, loader in enumerate(data)}
    if isinstance(data, Mapping):
        return {f"loader {name}": of_data(loader) for name, loader in data.items()}
    described: dict[str, Any] = {"class": name_of(type(data)), "batch_size": plain(getattr(data, "batch_size", None))}
    try:
        described["batches"] = len(data)
    except (TypeError, NotImplementedError):
        described["batches"] = None
    return described


def of_trainer(options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the options of a Trainer that determine the training."""
    return {name: plain(value) for name, value in sorted(options.items()) if name not in _SHOW}


def name_of(thing: Any) -> str:
    """Name a function or class, with the arguments that a ``functools.partial`` adds."""
    if isinstance(thing, functools.partial):
        arguments = [*map(plain, thing.args), *(f"{k}={plain(v)!r}" for k, v in thing.keywords.items())]
        return f"{name_of(thing.func)}({', '.join(map(str, arguments))})"
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))


def digest(state: Mapping[str, Any]) -> str:
    """Return the SHA-256 of names, types, shapes and values of tensors."""
    total = hashlib.sha256()
    for name, value in state.items():
        if isinstance(value, Tensor):
            value = value.detach().cpu().contiguous()
            total.update(f"{name}:{value.dtype}:{tuple(value.shape)}:".encode())
            total.update(bytes(value.view(-1).untyped_storage()) if value.numel() else b"")
    return total.hexdigest()


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: numbers, texts and collections as they are, the rest by name."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, Tensor):
        return digest({"": value})
    return str(value) if isinstance(value, Path) else name_of(value)


def _attributes(thing: Any) -> dict[str, Any]:
    """Return the constructor's arguments that are kept as attributes, such as a learning rate."""
    # Others come and go: a DataModule that has been used has more than one that has not.
    names = [name for name in inspect.signature(type(thing).__init__).parameters if name in vars(thing)]
    return {name: plain(vars(thing)[name]) for name in names}
