"""What a result depends on, as one text and its hash: plain data, tensors, and the code that the user wrote."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import math
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

_INSTALLED = (Path(__file__).parents[1], Path(sysconfig.get_path("stdlib")))
_SITES = {"site-packages", "dist-packages"}
_CONSTANTS = (bool, int, float, str)


def plain(value: Any, where: str = "config") -> Any:
    """Return the value as plain data: dict with text keys, list, str, bool, int, finite float, None.

    Args:
        value: The value; tuples become lists and -0.0 becomes 0.0, so that equal settings are equal text.
        where: What the value is, for the message.

    Returns:
        A copy that JSON can carry without loss.

    Raises:
        TypeError: If it holds something else.
        ValueError: If it holds a float that is infinite or not a number.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: a config cannot carry it; give a finite number or leave it out.")
        return value + 0.0
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}: the keys of a config are text; write it in quotes.")
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(
        f"{where} is a {type(value).__name__}: a config holds plain data only (text, numbers, lists, mappings)."
    )


def canonical(value: Any) -> str:
    """Write plain data as the one JSON text that all equal data share: sorted keys, shortest exact floats."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def identity(text: str) -> str:
    """Name what a :func:`canonical` text determines: 16 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(state: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the tensors in a mapping: names, types, shapes, values; of lazy ones the names alone."""
    import torch
    from torch.nn.parameter import is_lazy

    total = hashlib.sha256()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            continue
        if is_lazy(value):
            total.update(f"{name}:{type(value).__name__}:".encode())
            continue
        total.update(f"{name}:{value.dtype}:{tuple(value.shape)}:".encode())
        value = value.detach().cpu()
        value = (value.to_dense() if value.layout != torch.strided else value).resolve_conj().resolve_neg()
        total.update(value.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return total.hexdigest()


def sources(*things: Any) -> dict[str, str]:
    """Return name -> hash of the code of functions that the user wrote, in classes too, and of all that they name.

    The user wrote what is neither installed nor Python's nor this package's. What counts is compiled code, with the
    functions and classes that it names in its module and around it; of numbers and texts there, and in classes, it is
    ``"= 0.1"``. Comments, layout and docstrings do not count, and a session without files can be looked into. The key
    ``"python"`` has the version that compiled it, since only code of one version can be compared.

    Args:
        *things: Functions, classes, objects that are called.
    """
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    seen: set[int] = set()
    todo = [("", thing) for thing in things]
    while todo:
        name, thing = todo.pop()
        thing = inspect.unwrap(getattr(thing, "__func__", thing))
        if isinstance(thing, _CONSTANTS):
            found |= {name: f"= {thing!r}"} if "." in name and "__" not in name else {}
        elif isinstance(thing, functools.partial):
            todo += [("", part) for part in (thing.func, *thing.args, *thing.keywords.values()) if callable(part)]
        elif isinstance(thing, property):
            todo += [("", part) for part in (thing.fget, thing.fset) if part is not None]
        elif isinstance(thing, FunctionType):
            if id(thing.__code__) not in seen and written(thing.__code__.co_filename):
                seen.add(id(thing.__code__))
                parts = [*_content(thing.__code__, thing.__doc__), repr(thing.__defaults__), repr(thing.__kwdefaults__)]
                before = found.get(thing.__qualname__, "")  # of another lambda in the same function
                found[thing.__qualname__] = hashlib.sha256("\n".join([before, *parts]).encode()).hexdigest()
                todo += _named(thing)
        elif isinstance(thing, type):
            for cls in thing.__mro__:
                file = getattr(sys.modules.get(cls.__module__), "__file__", None)
                if id(cls) not in seen and cls.__module__ != "builtins" and written(file):
                    seen.add(id(cls))
                    todo += [(f"{cls.__qualname__}.{key}", part) for key, part in sorted(vars(cls).items())]
        elif callable(thing) and not isinstance(thing, (ModuleType, BuiltinFunctionType)):
            todo.append(("", type(thing)))
    return dict(sorted(found.items()))


def written(file: str | None) -> bool:
    """Tell whether the user wrote a file: neither Python, nor what is installed, nor this package has it."""
    path = Path(file or "")
    return (
        not (file or "").startswith("<frozen")
        and not any(path.is_relative_to(folder) for folder in _INSTALLED)
        and not _SITES & set(path.parts)
    )


def _content(code: CodeType, doc: str | None = None) -> Iterator[str]:
    yield f"{code.co_code.hex()} {code.co_names}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _content(constant)
        elif constant != doc:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _named(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function names that is neither an argument nor a local variable of its own."""
    codes = [function.__code__]
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    names = sorted({name for code in codes for name in code.co_names})
    found = {f"{function.__module__}.{name}": function.__globals__.get(name) for name in names}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not filled yet
            found[f"{function.__qualname__}.{name}"] = cell.cell_contents
    for name, value in found.items():
        yield name, value
        if isinstance(value, ModuleType) and written(value.__file__):
            yield from ((f"{value.__name__}.{part}", getattr(value, part)) for part in names if hasattr(value, part))
