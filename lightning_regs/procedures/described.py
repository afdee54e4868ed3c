"""What modules, data and Trainers are, as plain data: equal for what trains equally, and readable where two differ."""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Set
from enum import Enum
from types import FunctionType, MethodType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from lightning_regs.core.identity import canonical, digest
from lightning_regs.core.lightning import pl
from lightning_regs.procedures.randomness import isolated, seed_all

# Options of a Trainer that change what is shown or kept, not what is trained.
_SHOW = {
    *("barebones", "default_root_dir", "detect_anomaly", "enable_autolog_hparams", "enable_checkpointing"),
    *("enable_model_summary", "enable_progress_bar", "log_every_n_steps", "num_sanity_val_steps", "profiler"),
}
# What a sampler has of other things: the data, its process, and how far it is.
_NOT_THE_SAMPLERS = ("data_source", "dataset", "sampler", "rank", "epoch", "generator")
_SAMPLES = 16
_DEPTH = 5  # of objects within objects
_LONG = 100  # entries of a collection that are still shown


def name_of(thing: Any) -> str:
    """Name a function or class, with the arguments that a ``functools.partial`` adds."""
    if isinstance(thing, functools.partial):
        arguments = [*map(describe, thing.args), *(f"{k}={describe(v)!r}" for k, v in thing.keywords.items())]
        return f"{name_of(thing.func)}({', '.join(map(str, arguments))})"
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))


def describe(value: Any, leave_out: tuple[str, ...] = (), within: tuple[Any, ...] = ()) -> Any:
    """Return a thing as plain data.

    Tensors, arrays and long collections are their hash; functions and classes their name. Another object is its class
    with the arguments of its constructor, where it keeps them all, so that what it counts or stores while it is used
    does not change what it is; else with its attributes that are numbers, texts, tensors or collections of them.

    Args:
        value: Anything.
        leave_out: Attributes of objects that do not count.
        within: The objects that it is part of.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    if isinstance(value, Tensor):
        return digest({"": value})
    if isinstance(value, (type, FunctionType, MethodType, functools.partial)):
        return name_of(value)
    if hasattr(value, "__array_interface__"):  # images too
        array = np.asarray(value)
        content = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
        value = f"{array.dtype}:{array.shape}:".encode() + content
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if len(within) > _DEPTH or any(value is outer for outer in within):
        return name_of(type(value))
    go_on: Callable[[Any], Any] = functools.partial(describe, leave_out=leave_out, within=(*within, value))
    if isinstance(value, Mapping):
        return _short({str(key): go_on(part) for key, part in value.items()})
    if isinstance(value, (Set, list, tuple, range)):
        parts = [go_on(part) for part in value]
        return _short(sorted(parts, key=str) if isinstance(value, Set) else parts)
    if not hasattr(value, "__dict__") or isinstance(value, Enum):
        text = str(value)
        return name_of(type(value)) if " at 0x" in text else text
    kept = arguments(value, ("", "_"))
    if isinstance(value, nn.Module):
        kept = {name: part for name, part in vars(value).items() if name[:1] != "_" and _shows(part)}
        kept |= {"layers": layers_of(value), "state": digest(value.state_dict())}
    elif not kept or len(kept) < len(inspect.signature(type(value).__init__).parameters) - 1:
        kept = {name: part for name, part in vars(value).items() if _shows(part)}
    return {"class": name_of(type(value))} | {n: go_on(kept[n]) for n in sorted(kept) if n not in leave_out}


def arguments(thing: Any, prefixes: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """Return those of its constructor's arguments that an object keeps, under their name with one of the prefixes."""
    try:
        names = [*inspect.signature(type(thing).__init__).parameters][1:]
    except (TypeError, ValueError):
        return {}
    return {name: vars(thing)[key] for name in names for key in (p + name for p in prefixes) if key in vars(thing)}


def layers_of(module: nn.Module) -> str:
    """Return what a module prints as, without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(module))


def describe_module(factory: Callable[..., Any], module: pl.LightningModule) -> dict[str, Any]:
    """Describe a module as its factory made it: layers, initial weights, hyper-parameters, arguments it keeps.

    Layers and weights that a module makes only when the Trainer starts are not seen; its hyper-parameters are.
    """
    return {
        "factory": name_of(factory),
        "layers": layers_of(module),
        "initial weights": digest(module.state_dict()),
        "hyper-parameters": describe(dict(module.hparams)),
        "attributes": describe(arguments(module)),
    }


def describe_data(data: Any) -> dict[str, Any]:
    """Describe a DataModule or loaders: class, hyper-parameters, arguments it keeps; of loaders the data as well."""
    if isinstance(data, pl.LightningDataModule):
        # Other attributes come and go: one that has been used has more than one that has not.
        kept = {"hyper-parameters": describe(dict(data.hparams)), "attributes": describe(arguments(data))}
        return {"class": name_of(type(data)), **kept}
    if isinstance(data, (list, tuple, Mapping)):
        parts = data.items() if isinstance(data, Mapping) else enumerate(data)
        return {f"loader {name}": describe_data(loader) for name, loader in parts}
    described: dict[str, Any] = {"class": name_of(type(data))}
    for name in ("batch_size", "drop_last", "sampler", "batch_sampler"):
        described[name] = describe(getattr(data, name, None), _NOT_THE_SAMPLERS)
    described["batches"] = _length(data)
    if isinstance(dataset := getattr(data, "dataset", None), Dataset):
        described["dataset"] = _describe_dataset(dataset)
    return described


def describe_trainer(options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the options of a Trainer that determine the training."""
    return {name: describe(value) for name, value in sorted(options.items()) if name not in _SHOW}


def _describe_dataset(dataset: Dataset[Any], depth: int = 0) -> dict[str, Any]:
    """Describe data by the tensors and arrays they hold, and by some samples; no loader is started."""
    described: dict[str, Any] = {"class": name_of(type(dataset))}
    size = _length(dataset)
    for name, value in vars(dataset).items():
        if isinstance(value, Dataset):
            described[name] = _describe_dataset(value, depth + 1) if depth < _DEPTH else name_of(type(value))
        elif _holds_samples(value, size):
            described[name] = describe(value)
    if size:
        described["samples"] = _samples(dataset, size)
    return described


def _length(thing: Any) -> int | None:
    try:
        return len(thing)
    except (TypeError, NotImplementedError):
        return None


def _holds_samples(value: Any, size: int | None) -> bool:
    """Whether these are data: what else a data set has, such as a cache, may change while it is used."""
    if isinstance(value, (list, range)):
        return len(value) == size and all(isinstance(part, (int, float)) for part in value)
    parts = value if isinstance(value, tuple) else (value,)
    return bool(parts) and all(isinstance(part, (Tensor, np.ndarray)) for part in parts)


def _samples(dataset: Dataset[Any], size: int) -> Any:
    """Return the hash of samples throughout the data; None where they are another each time, or not to be had."""
    number = min(size, _SAMPLES)
    found = []
    with isolated():
        for _ in range(2):
            seed_all(0)
            try:
                samples = [dataset[i * (size - 1) // max(number - 1, 1)] for i in range(number)]
                found.append(describe(samples))
            except Exception:  # keys of another kind, a sampler that leaves broken samples out: any data set's own
                return None
    return found[0] if found[0] == found[1] else None


def _shows(value: Any) -> bool:
    if isinstance(value, (Mapping, list, tuple)):
        return all(map(_shows, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, (bool, int, float, str, Enum)) or hasattr(value, "dtype")


def _short(found: Any) -> Any:
    if len(found) <= _LONG:
        return found
    return f"{len(found)} entries {hashlib.sha256(canonical(found).encode()).hexdigest()}"
