"""What a result depends on, as one text and its hash: plain data, tensors, and the code that the user wrote."""

from __future__ import annotations

import contextlib
import dis
import functools
import hashlib
import inspect
import json
import math
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

_INSTALLED = (Path(__file__).parents[1], Path(sysconfig.get_path("stdlib")))
_SITES = {"site-packages", "dist-packages"}
_CONSTANTS = (bool, int, float, str)
_LONG = 1000  # entries of a collection that are still looked at
_ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")
_HAS_DOCSTRING = 0x4000000
_FILLING = {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}


def plain(value: Any, where: str = "config") -> Any:
    """Return a copy as plain data: dict with text keys, list, str, bool, int, finite float, None.

    Tuples become lists and -0.0 becomes 0.0, so that equal settings are equal text; JSON carries it without loss.
    ``where`` is what the value is, for the message.
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


def sources(*things: Any, attributes: bool = True) -> dict[str, str]:
    """Return name -> hash of the code of functions that the user wrote, in classes too, and of all that they name.

    The user wrote what is neither installed nor Python's nor this package's. What counts is compiled code, with the
    functions and classes that it names in its module and around it; of numbers, texts, arrays and short collections
    there and in classes, and of those attributes of objects that it names, it is ``"= 0.1"``. Collections that the
    code fills itself do not count, unless they are named in capitals, nor do comments, layout and docstrings. A session
    without files can be looked into. The key ``"python"`` has the version that compiled it, since only code of one
    version can be compared.

    Args:
        *things: Functions, classes, objects, collections of them.
        attributes: Whether the numbers and the like in classes count.
    """
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    filled: set[str] = set()
    seen: dict[int, Any] = {}  # which keeps them, so that no other gets their number
    todo = [("", thing) for thing in things]
    while todo:
        name, thing = todo.pop()
        thing = inspect.unwrap(getattr(thing, "__func__", thing))
        text = constant(thing)
        if text is not None:
            counts = thing is not None or name.rpartition(".")[2].isupper()  # else it may be filled later
            found |= {name: f"= {text}"} if counts and "." in name and "__" not in name else {}
        elif id(thing) in seen or isinstance(thing, (ModuleType, BuiltinFunctionType)):
            continue
        elif isinstance(thing, (list, tuple, set, frozenset, dict)):
            seen[id(thing)] = thing
            if len(thing) <= _LONG:
                entries = thing.items() if isinstance(thing, dict) else enumerate(_ordered(thing))
                todo += [(name, len(thing)), *((f"{name}[{key!r}]", part) for key, part in entries)]
        elif isinstance(thing, functools.partial):
            todo += [("", part) for part in (thing.func, *thing.args, *thing.keywords.values())]
        elif isinstance(thing, property):
            todo += [("", part) for part in (thing.fget, thing.fset) if part is not None]
        elif isinstance(thing, FunctionType):
            if id(thing.__code__) not in seen and written(thing.__code__.co_filename):
                seen[id(thing.__code__)] = thing
                defaults = (_ADDRESS.sub("", repr(value)) for value in (thing.__defaults__, thing.__kwdefaults__))
                before = found.get(thing.__qualname__, "")  # of another lambda in the same function
                parts = "\n".join([before, *_content(thing.__code__), *defaults])
                found[thing.__qualname__] = hashlib.sha256(parts.encode()).hexdigest()
                named = list(_named(thing))
                if _fills(thing.__code__):
                    filled |= {key for key, value in named if isinstance(value, (list, dict, set))}
                todo += named
        elif isinstance(thing, type):
            for cls in thing.__mro__:
                file = getattr(sys.modules.get(cls.__module__), "__file__", None)
                if id(cls) not in seen and cls.__module__ != "builtins" and written(file):
                    seen[id(cls)] = cls
                    inside = [(f"{cls.__qualname__}.{key}", part) for key, part in sorted(vars(cls).items())]
                    todo += [(key, part) for key, part in inside if attributes or hasattr(part, "__get__")]
        else:
            todo.append(("", type(thing)))
    filled = {name for name in filled if not name.rpartition(".")[2].isupper()}
    return {name: found[name] for name in sorted(found) if name.partition("[")[0] not in filled}


def constant(thing: Any) -> str | None:
    """Return a number or text as a text, of an array or tensor the hash; None for what is none of them."""
    if thing is None or isinstance(thing, (*_CONSTANTS, bytes)):
        return repr(thing)
    if hasattr(thing, "__array_interface__"):
        import numpy as np

        thing = np.asarray(thing)
        content = repr(thing.tolist()).encode() if thing.dtype.hasobject else thing.tobytes()
        return hashlib.sha256(f"{thing.dtype}:{thing.shape}:".encode() + content).hexdigest()
    if (torch := sys.modules.get("torch")) is not None and isinstance(thing, torch.Tensor):
        return digest({"": thing})
    return None


def _ordered(collection: Any) -> list[Any]:
    return sorted(collection, key=repr) if isinstance(collection, (set, frozenset)) else list(collection)


def written(file: str | None) -> bool:
    """Tell whether the user wrote a file: neither Python, nor what is installed, nor this package has it."""
    path = Path(file or "")
    return (
        not (file or "").startswith("<frozen")
        and not any(path.is_relative_to(folder) for folder in _INSTALLED)
        and not _SITES & set(path.parts)
    )


def _within(code: CodeType) -> list[CodeType]:
    """Return compiled code, and that of the functions and classes within it."""
    codes = [code]
    for one in codes:
        codes += [constant for constant in one.co_consts if isinstance(constant, CodeType)]
    return codes


def _content(code: CodeType) -> Iterator[str]:
    for one in _within(code):
        yield f"{one.co_code.hex()} {one.co_names}"
        # The first constant of a function is its docstring, if it has one: before Python 3.13 it is None otherwise.
        has_doc = sys.version_info < (3, 13) or one.co_flags & _HAS_DOCSTRING
        first = int(not one.co_name.startswith("<") and bool(has_doc))
        for constant in one.co_consts[first:]:
            if not isinstance(constant, CodeType):
                yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _fills(code: CodeType) -> bool:
    """Tell whether a function changes collections."""
    codes = _within(code)
    if _FILLING & {name for one in codes for name in one.co_names}:
        return True
    return any(step.opname in ("STORE_SUBSCR", "DELETE_SUBSCR") for one in codes for step in dis.get_instructions(one))


def _named(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function names that is neither an argument nor a local variable of its own."""
    names = sorted({name for code in _within(function.__code__) for name in code.co_names})
    theirs = function.__globals__
    found = {f"{function.__module__}.{name}": theirs[name] for name in names if name in theirs}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not filled yet
            found[f"{function.__qualname__}.{name}"] = cell.cell_contents
    for name, value in found.items():
        yield name, value
        if isinstance(value, ModuleType):
            if written(value.__file__):
                yield from ((f"{value.__name__}.{n}", getattr(value, n)) for n in names if hasattr(value, n))
        elif not isinstance(value, type) and hasattr(value, "__dict__") and not callable(value):
            yield from ((f"{name}.{n}", vars(value)[n]) for n in names if n in vars(value))
