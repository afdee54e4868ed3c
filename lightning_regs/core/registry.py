"""What a room holds is found by its place: one file, named after the class or the function that it is about.

Nothing is registered by hand. Folders are read as text where importing them would take seconds: for the public
namespace, and for architectures by name.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")

_ROOT = Path(__file__).parents[1]
_DEFINITION = re.compile(r"^(class|def) ([A-Za-z]\w*)\b", re.MULTILINE)
_ALL = re.compile(r"^__all__ = \[(.*?)\]", re.MULTILINE | re.DOTALL)


@cache
def texts(package: str) -> dict[str, str]:
    """Return the public modules of one of our packages, by their full names, and their text; imports nothing."""
    folder = _ROOT.joinpath(*package.split(".")[1:])
    files = (file for file in sorted(folder.glob("*.py")) if not file.stem.startswith("_"))
    return {f"{package}.{file.stem}": file.read_text(encoding="utf-8") for file in files}


def plain(name: str) -> str:
    """Return a name as names are compared: ``CutMix``, ``cutmix`` and ``cut_mix`` are the same."""
    return name.replace("_", "").lower()


@cache
def classes(package: str) -> Mapping[str, str]:
    """Return the class that each file of a package is named after, and its module; reads text."""
    return {name: module for kind, name, module in _named_after_files(package) if kind == "class"}


@cache
def functions(package: str) -> Mapping[str, str]:
    """Return the function that each file of a package is named after, and what ``__all__`` adds to it; reads text.

    A file needs ``__all__`` only where it has more to offer than the class and the function of its name.
    """
    found = {name: module for kind, name, module in _named_after_files(package) if kind == "def"}
    for module, text in texts(package).items():
        for names in _ALL.findall(text):
            found |= {name: module for name in re.findall(r"\w+", names) if name not in classes(package)}
    return dict(sorted(found.items()))


def definitions(package: str) -> dict[str, str]:
    """Return every public class and function that a package's files define, and its module; reads text."""
    return {name: module for module, text in texts(package).items() for _, name in _DEFINITION.findall(text)}


def _named_after_files(package: str) -> list[tuple[str, str, str]]:
    return [
        (kind, name, module)
        for module, text in texts(package).items()
        for kind, name in _DEFINITION.findall(text)
        if plain(name) == plain(module.rpartition(".")[2])
    ]


def declared(package: str, attribute: str) -> dict[str, str]:
    """Return the classes of a package that give themselves a name, ``attribute = "name"``; reads text.

    The name leads to ``"module:Class"``, for :func:`resolve`.
    """
    of_class = re.compile(rf'^class (\w+)\b(?:(?!^class ).)*?^    {attribute} = "(\w+)"', re.MULTILINE | re.DOTALL)
    found = [
        (name, f"{module}:{cls}") for module, text in texts(package).items() for cls, name in of_class.findall(text)
    ]
    return dict(sorted(found))


def resolve(place: str) -> Any:
    """Import what ``"module:name"`` stands for."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def subclasses(package: str, base: type[T]) -> dict[str, type[T]]:
    """Return the public and concrete subclasses of a class that a package's modules define, by name; imports them."""
    found = {}
    for module in map(importlib.import_module, texts(package)):
        for name, cls in vars(module).items():
            ours = isinstance(cls, type) and cls.__module__ == module.__name__ and not name.startswith("_")
            if ours and issubclass(cls, base) and cls is not base and not getattr(cls, "__abstractmethods__", None):
                found[name] = cls
    return dict(sorted(found.items()))


def lazy(package: str, public: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package whose public names are imported on first use.

    A function keeps its name in the package where the module that it is in, and is named after, is imported later.
    """

    class Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            # As an import does, when the module has been run.
            if isinstance(value, ModuleType) and public.get(name) == value.__name__:
                value = getattr(value, name)
            super().__setattr__(name, value)

    sys.modules[package].__class__ = Package

    def getattr_(name: str) -> Any:
        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(public[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return getattr_, lambda: list(sys.modules[package].__all__)
