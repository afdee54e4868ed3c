"""Any value as plain types: equal for what trains equally, and readable where two differ."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_TEXTS = (Path, torch.dtype, torch.device, datetime.timedelta, enum.Enum)
_NAMED = (type, FunctionType, BuiltinFunctionType, MethodType, torch.Generator)
_DEPTH = 5  # of objects within objects
_LONG = 100  # entries of a collection that are still shown
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def plain(value: Any, leave_out: Sequence[str] = ()) -> Any:
    """Return a value as JSON holds it.

    Numbers, texts and collections are what they are; tensors, arrays and long collections are their digest; functions
    and classes are their name. Another object is its class with the arguments of its constructor, where it keeps each
    under its name, or under that with an underscore before it; else with all its attributes that are numbers, texts,
    tensors or collections of them. What an object counts or stores while it is used so does not change what it is.

    Args:
        value: Anything.
        leave_out: Arguments and attributes of objects that do not count.
    """
    return _plain(value, frozenset(leave_out), ())


def name_of(thing: Any) -> str:
    """Name a function or class, with the arguments that a ``functools.partial`` adds."""
    if isinstance(thing, functools.partial):
        arguments = [*map(plain, thing.args), *(f"{k}={plain(v)!r}" for k, v in thing.keywords.items())]
        return f"{name_of(thing.func)}({', '.join(map(str, arguments))})"
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))


def layers_of(module: nn.Module) -> str:
    """Return what a module prints as, without addresses."""
    return _ADDRESS.sub("", str(module))


def digest(state: Mapping[str, Any]) -> str:
    """Return the SHA-256 of names, types, shapes and values of tensors; those without values yet count by name."""
    total = hashlib.sha256()
    for name, value in state.items():
        if isinstance(value, Tensor) and is_lazy(value):
            total.update(f"{name}:{type(value).__name__}:".encode())
        elif isinstance(value, Tensor):
            value = value.detach().cpu()
            total.update(f"{name}:{value.dtype}:{tuple(value.shape)}:".encode())
            value = (value.to_dense() if value.layout != torch.strided else value).resolve_conj().resolve_neg()
            total.update(value.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return total.hexdigest()


def arguments_of(thing: Any) -> dict[str, Any] | None:
    """Return the constructor's arguments, where an object keeps each as an attribute; None where it does not."""
    if dataclasses.is_dataclass(thing):
        return {part.name: getattr(thing, part.name, None) for part in dataclasses.fields(thing) if part.init}
    try:
        names = list(inspect.signature(type(thing).__init__).parameters)[1:]
    except (TypeError, ValueError):
        return None
    kept = vars(thing)
    found = {name: kept[key] for name in names for key in (name, f"_{name}") if key in kept}
    return found if names and len(found) == len(names) else None


def _plain(value: Any, leave_out: frozenset[str], within: tuple[Any, ...]) -> Any:
    if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), leave_out, within)
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, Tensor):
        return digest({"": value})
    if isinstance(value, (*_NAMED, functools.partial)):
        return name_of(value)
    if hasattr(value, "__array_interface__"):  # images too
        return _of_array(np.asarray(value))
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if len(within) > _DEPTH or any(value is outer for outer in within):
        return name_of(type(value))
    go_on: Callable[[Any], Any] = functools.partial(_plain, leave_out=leave_out, within=(*within, value))
    if isinstance(value, Mapping):
        return _short({str(key): go_on(part) for key, part in value.items()})
    if isinstance(value, Set):
        return _short(sorted((go_on(part) for part in value), key=str))
    if isinstance(value, (list, tuple, range)):
        return _short([go_on(part) for part in value])
    if not hasattr(value, "__dict__"):
        text = str(value)
        return name_of(type(value)) if _ADDRESS.search(text) else text
    attributes = None if isinstance(value, nn.Module) else arguments_of(value)
    if isinstance(value, nn.Module):
        settings = {name: part for name, part in vars(value).items() if name[:1] != "_" and _shows(part)}
        attributes = {"layers": layers_of(value), "state": digest(value.state_dict()), **settings}
    elif attributes is None:
        attributes = {name: part for name, part in vars(value).items() if _shows(part)}
    parts = {name: go_on(part) for name, part in sorted(attributes.items()) if name not in leave_out}
    return {"class": name_of(type(value)), **parts} if parts else name_of(type(value))


def _shows(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_shows, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_shows, value))
    return isinstance(value, (bool, int, float, str, np.generic, np.ndarray, Tensor, *_TEXTS))


def _of_array(value: np.ndarray[Any, Any]) -> str:
    if value.dtype.hasobject:
        return hashlib.sha256(repr(value.tolist()).encode()).hexdigest()
    total = hashlib.sha256(f"{value.dtype}:{value.shape}:".encode())
    total.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _short(collection: Any) -> Any:
    if len(collection) <= _LONG:
        return collection
    content = hashlib.sha256(json.dumps(collection).encode()).hexdigest()
    return f"{len(collection)} entries {content}"
