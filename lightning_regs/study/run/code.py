"""The code outside the package that a cell's runs are made by, read as text: nothing of it is run to compare it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from lightning_regs.core.identity import written
from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.tasks import MOVED

_ALL = "*"


def code_of(cells: Iterable[Cell]) -> dict[str, str]:
    """Return ``module:name`` -> hash of what tasks and class paths of cells consist of, outside installed packages.

    A definition counts with all that it names, in its module and in others of the user, and each module with what it
    does beside its definitions. Comments, layout and docstrings do not count. Names that are put together while the
    code runs are not seen, nor are files that it reads. The cells are one and those that it needs.
    """
    todo = [path for cell in cells for path in (_task(cell), *_class_paths(cell.config))]
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while todo:
        at = name, wanted = todo.pop()
        module = None if at in seen else _module(name)
        seen.add(at)
        if module is None:
            continue
        nodes = module.defined.get(wanted, [] if wanted else module.others)
        if wanted and not nodes:  # all of it, or a module within it, or what it has from a place that nobody sees
            nodes = [node for own in module.defined.values() for node in own]
            todo += [(f"{name}.{wanted}", _ALL)] if wanted != _ALL else []
        if nodes:
            text = "\n".join(map(_text, nodes))
            found[f"{name}:{wanted}" if wanted else name] = hashlib.sha256(text.encode()).hexdigest()[:16]
        todo += [(name, ""), *(path for node in nodes for path in module.named(node))]
    return dict(sorted(found.items()))


def changed(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str | None:
    """Name what differs between the code of a run and that of now; None where nothing does."""
    return next((name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)), None)


def _task(cell: Cell) -> tuple[str, str]:
    module, _, name = MOVED.get(cell.task, cell.task).partition(":")
    return module, name


def _class_paths(config: Any) -> Iterator[tuple[str, str]]:
    if isinstance(config, Mapping):
        if isinstance(path := config.get("class_path"), str) and "." in path:
            module, _, name = path.rpartition(".")
            yield module, name
        config = list(config.values())
    for part in config if isinstance(config, list) else ():
        yield from _class_paths(part)


class _Module:
    """What the text of a module says: its definitions by name, and its other statements."""

    def __init__(self, name: str, package: str, tree: ast.Module) -> None:
        self.name, self.package = name, package
        self.defined: dict[str, list[ast.stmt]] = {}
        self.others: list[ast.stmt] = []
        for node in tree.body:
            names = set(_bound(node))
            for bound in names:
                self.defined.setdefault(bound, []).append(node)
            if (not names and not _is_text(node) and not _is_main(node)) or _ALL in names:
                self.others.append(node)

    def named(self, node: ast.stmt) -> Iterator[tuple[str, str]]:
        """Yield what a statement names: of its own module, and of those that it imports."""
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in self.defined:
                yield self.name, part.id
            elif isinstance(part, ast.Import):
                yield from ((alias.name, _ALL) for alias in part.names)
            elif isinstance(part, ast.ImportFrom):
                above = self.package.split(".")
                above = above[: len(above) - part.level + 1] if part.level else []
                origin = ".".join([*above, *([part.module] if part.module else [])])
                yield from ((origin, alias.name) for alias in part.names)


def _module(name: str) -> _Module | None:
    """Read a module of the user's, without importing it or what it is in; None for another, or for none."""
    root, *within = name.split(".")
    try:
        found = importlib.util.find_spec(root)
        for number, _ in enumerate(within, 2):
            places = None if found is None else found.submodule_search_locations
            found = PathFinder.find_spec(".".join(name.split(".")[:number]), places) if places else None
        if found is None:
            return None
        file = found.origin if found.has_location else None
        if file is None:  # a folder of modules, if it is one at all
            return _Module(name, name, ast.Module([], [])) if found.submodule_search_locations else None
        return _read(name, found.parent or "", file, Path(file).stat().st_mtime_ns) if written(file) else None
    except (ImportError, AttributeError, ValueError, SyntaxError, OSError, RecursionError):  # what runs it will say
        return None


@functools.lru_cache(maxsize=1000)
def _read(name: str, package: str, file: str, _modified: int) -> _Module:
    return _Module(name, package, ast.parse(Path(file).read_bytes()))


def _bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement gives to its module."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    for part in ast.walk(node):
        if isinstance(part, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in part.names)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield part.name


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_main(node: ast.stmt) -> bool:
    """Tell whether a statement is what a module does when it is run as a program."""
    return isinstance(node, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
    )


def _text(node: Any) -> str:
    """Write a syntax tree, without texts that are no values, as every version of Python does."""
    if isinstance(node, list):
        return f"[{', '.join(_text(part) for part in node if not _is_text(part))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    # Fields that are empty come and go from version to version.
    fields = [(name, part) for name, part in ast.iter_fields(node) if part is not None and part != []]
    return f"{type(node).__name__}({', '.join(f'{name}={_text(part)}' for name, part in fields)})"
