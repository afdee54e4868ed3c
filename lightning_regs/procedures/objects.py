"""The module and the data of a level: made anew for each, and described as plain data that equal ones share."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from enum import Enum
from types import FunctionType, MethodType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from lightning_regs.core.global_rng import isolated, remember, seed_all
from lightning_regs.core.identity import canonical, constant, digest
from lightning_regs.core.lightning import pl
from lightning_regs.core.rng import derive_seed
from lightning_regs.procedures.replay import ReplayedLoader, RewindPoint, length, replaying

is_overridden = pl.utilities.model_helpers.is_overridden
# What a sampler has of other things: the data, its process, and how far it is.
_NOT_THE_SAMPLERS = ("data_source", "dataset", "sampler", "rank", "epoch", "generator")
_SAMPLES = 16
_DEPTH = 5  # of objects within objects
_LONG = 100  # entries of a collection that are still shown


@dataclass(frozen=True)
class Data:
    """What one level trains, validates and tests on: a DataModule, or three loaders, or what the module itself has.

    Loaders are for training, validation and test, None where there are none.
    """

    datamodule: pl.LightningDataModule | None = None
    loaders: tuple[Any, Any, Any] | None = None

    @classmethod
    def make(cls, source: Any) -> Data:
        """Make the data of a level out of the argument of ``find_ticket``; or raise a Type- or ValueError."""
        made = source() if callable(source) and not isinstance(source, pl.LightningDataModule) else source
        if made is None and source is None:
            return cls()
        if isinstance(made, pl.LightningDataModule):
            return cls(made)
        loaders = list(made) if isinstance(made, tuple) else [made]
        if not 1 <= len(loaders) <= 3:
            raise ValueError(f"data are (training, validation, test) loaders or fewer, got {len(loaders)}.")
        for loader in (loaders[0], *(each for each in loaders[1:] if each is not None)):
            if isinstance(loader, (Dataset, type)) or not hasattr(loader, "__iter__"):
                raise TypeError(
                    "data must be a LightningDataModule, a function that makes one, or one that returns loaders, got "
                    f"{type(loader).__name__}; put a data set into a DataLoader."
                )
        return cls(None, (*loaders, *[None] * (3 - len(loaders))))

    def fit(self, trainer: pl.Trainer, module: pl.LightningModule, point: RewindPoint, ckpt_path: str | None) -> None:
        """Train, with an order that is a function of the epoch."""
        if self.loaders is not None:
            train, val, _ = self.loaders
            trainer.fit(module, ReplayedLoader(train, point), val, ckpt_path=ckpt_path, weights_only=True)
            return
        with replaying(self.datamodule or module, point):
            trainer.fit(module, datamodule=self.datamodule, ckpt_path=ckpt_path, weights_only=True)

    def test(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, float]:
        """Return what the module's test gives, nothing if it has none."""
        has_loader = any(is_overridden("test_dataloader", owner) for owner in (self.datamodule, module))
        loader = None if self.loaders is None else self.loaders[2]
        if not is_overridden("test_step", module) or (loader is None and (self.loaders is not None or not has_loader)):
            return {}
        results = trainer.test(module, loader, datamodule=self.datamodule, verbose=False)
        return {name: float(value) for result in results for name, value in result.items()}


def make(factory: Callable[..., pl.LightningModule], data: Any, seed: int, own: int) -> tuple[Data, pl.LightningModule]:
    """Make the data of all levels, by ``seed``, and a module by a seed of its own; no draw depends on the other."""
    if isinstance(factory, pl.LightningModule):
        raise TypeError(
            "each level has a module of its own: give the class or a function that makes the module, not the object."
        )
    remember(seed)
    seed_all(derive_seed(seed, "ticket data"))
    made = Data.make(data)
    remember(own)
    seed_all(derive_seed(own, "ticket module"))
    asked: Mapping[str, inspect.Parameter] = {}
    with contextlib.suppress(TypeError, ValueError):
        asked = inspect.signature(factory).parameters
    if more := [name for name, one in asked.items() if name != "seed" and one.default is one.empty and one.kind < 2]:
        raise TypeError(
            f"the module's factory is called without arguments, or with seed=..., and it asks for {', '.join(more)}; "
            "give a function of none, or of seed."
        )
    module = factory(seed=own) if "seed" in asked else factory()
    if not isinstance(module, pl.LightningModule):
        raise TypeError(f"the module's factory must return a LightningModule, got {type(module).__name__}.")
    remember(seed)
    seed_all(derive_seed(seed, "ticket data"))  # for setup(), where data are split
    return made, module


# -- as plain data -----------------------------------------------------------------------------------------------------


def describe_module(factory: Callable[..., Any], module: pl.LightningModule) -> dict[str, Any]:
    """Describe a module as its factory made it: layers, initial weights, hyper-parameters, arguments it keeps.

    Layers and weights that a module makes only when the Trainer starts are not seen; its hyper-parameters are.
    """
    made = {"factory": name_of(factory), "layers": _layers(module), "initial weights": digest(module.state_dict())}
    return made | _kept(module)


def describe_data(data: Any) -> dict[str, Any]:
    """Describe a DataModule or loaders: class, hyper-parameters, arguments it keeps; of loaders the data as well."""
    if isinstance(data, pl.LightningDataModule):
        return {"class": name_of(type(data))} | _kept(data)
    if isinstance(data, (list, tuple, Mapping)):
        parts = data.items() if isinstance(data, Mapping) else enumerate(data)
        return {f"loader {name}": describe_data(loader) for name, loader in parts}
    described: dict[str, Any] = {"class": name_of(type(data))}
    for name in ("batch_size", "drop_last", "sampler", "batch_sampler"):
        described[name] = describe(getattr(data, name, None), _NOT_THE_SAMPLERS)
    described["batches"] = length(data)
    if isinstance(dataset := getattr(data, "dataset", None), Dataset):
        described["dataset"] = _describe_dataset(dataset)
    return described


def _kept(thing: pl.LightningModule | pl.LightningDataModule) -> dict[str, Any]:
    # Other attributes come and go: one that has been used has more than one that has not.
    return {"hyper-parameters": describe(dict(thing.hparams)), "attributes": describe(_arguments(thing))}


def _describe_dataset(dataset: Dataset[Any], depth: int = 0) -> dict[str, Any]:
    """Describe data by the tensors and arrays they hold, and by some samples; no loader is started."""
    described: dict[str, Any] = {"class": name_of(type(dataset))}
    size = length(dataset)
    for name, value in vars(dataset).items():
        if isinstance(value, Dataset):
            described[name] = _describe_dataset(value, depth + 1) if depth < _DEPTH else name_of(type(value))
        elif _holds_samples(value, size):
            described[name] = describe(value)
    if size:
        described["samples"] = _samples(dataset, size)
    return described


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
                found.append(describe([dataset[i * (size - 1) // max(number - 1, 1)] for i in range(number)]))
            except Exception:  # keys of another kind, a sampler that leaves broken samples out: any data set's own
                return None
    return found[0] if found[0] == found[1] else None


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
    does not change what it is; else with its attributes that are numbers, texts, tensors or collections of them, but
    for those that are to be left out. What it is within is not described again.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    if isinstance(value, Tensor) or hasattr(value, "__array_interface__"):  # images too
        return constant(value)
    if isinstance(value, (type, FunctionType, MethodType, functools.partial)):
        return name_of(value)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if len(within) > _DEPTH or any(value is outer for outer in within):
        return name_of(type(value))
    go_on: Callable[[Any], Any] = functools.partial(describe, leave_out=leave_out, within=(*within, value))
    if isinstance(value, (Mapping, Set, list, tuple, range)):
        if isinstance(value, Mapping):
            found: Any = {str(key): go_on(part) for key, part in value.items()}
        else:
            found = sorted(map(go_on, value), key=str) if isinstance(value, Set) else list(map(go_on, value))
        text = f"{len(found)} entries " if len(found) > _LONG else ""
        return text + hashlib.sha256(canonical(found).encode()).hexdigest() if text else found
    if not hasattr(value, "__dict__") or isinstance(value, Enum):
        text = str(value)
        return name_of(type(value)) if " at 0x" in text else text
    kept = _arguments(value, ("", "_"))
    if isinstance(value, nn.Module):
        kept = {name: part for name, part in vars(value).items() if name[:1] != "_" and _shows(part)}
        kept |= {"layers": _layers(value), "state": digest(value.state_dict())}
    elif not kept or len(kept) < len(inspect.signature(type(value).__init__).parameters) - 1:
        kept = {name: part for name, part in vars(value).items() if _shows(part)}
    return {"class": name_of(type(value))} | {n: go_on(kept[n]) for n in sorted(kept) if n not in leave_out}


def _shows(value: Any) -> bool:
    if isinstance(value, (Mapping, list, tuple)):
        return all(map(_shows, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, (bool, int, float, str, Enum)) or hasattr(value, "dtype")


def _arguments(thing: Any, prefixes: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """Return those of its constructor's arguments that an object keeps, under their name with one of the prefixes."""
    try:
        names = [*inspect.signature(type(thing).__init__).parameters][1:]
    except (TypeError, ValueError):
        return {}
    return {name: vars(thing)[key] for name in names for key in (p + name for p in prefixes) if key in vars(thing)}


def _layers(module: nn.Module) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", str(module))
