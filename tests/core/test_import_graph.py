"""How the package hangs together, from its source: no circles, rooms import downwards, files and folders stay small."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import lightning_regs

ROOT = Path(lightning_regs.__file__).parent

# What a room may import beside itself; "" is the package itself, whose names are looked up when they are used.
MAY_IMPORT = {
    "core": set(),
    "layers": {"core", "pruning", "regularizers"},
    "init": {"core"},
    "optim": {"core"},
    "models": {"core", "init", "layers"},
    "pruning": {"core"},
    "data": {"core"},
    "analysis": {"core", "models", "pruning", "regularizers"},
    "regularizers": {"core", "pruning"},
    "training": {"core", "layers", "init", "optim", "models", "pruning", "data", "regularizers"},
    "procedures": {"core", "pruning", "data", "analysis", "regularizers", "optim", "training"},
    "": {"core"},
    "testing": {"", "core", "pruning", "regularizers", "training"},
}
EVERYTHING_BELOW = set(MAY_IMPORT)
MAY_IMPORT["study"] = EVERYTHING_BELOW
MAY_IMPORT["cli"] = EVERYTHING_BELOW | {"study"}

MOST_LINES, MOST_FILES = 330, 14


@cache
def modules() -> dict[str, Path]:
    files = {f.relative_to(ROOT).with_suffix("").parts: f for f in sorted(ROOT.rglob("*.py"))}
    return {".".join((ROOT.name, *parts)).removesuffix(".__init__"): f for parts, f in files.items()}


def imports(nodes: list[ast.stmt], typing: bool = False) -> Iterator[tuple[str, bool]]:
    """What statements import of the package while their module is imported, and whether only a type checker does."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == ROOT.name:
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield (full if full in modules() else str(node.module)), typing
        elif isinstance(node, ast.Import):
            yield from ((name.name, typing) for name in node.names if name.name.split(".")[0] == ROOT.name)
        elif isinstance(node, ast.If):
            yield from imports(node.body, typing or "TYPE_CHECKING" in ast.unparse(node.test))
            yield from imports(node.orelse, typing)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "handlers", "orelse", "finalbody"):
                yield from imports(getattr(node, field, []), typing)


@cache
def read() -> dict[str, list[tuple[str, bool]]]:
    return {m: list(imports(ast.parse(f.read_text(encoding="utf-8")).body)) for m, f in modules().items()}


def graph(types: bool) -> dict[str, set[str]]:
    """Module -> the modules that it imports; with ``types`` also those that only type checkers follow."""
    return {m: {t for t, typing in targets if t != m and types >= typing} for m, targets in read().items()}


def circles(edges: dict[str, set[str]]) -> set[frozenset[str]]:
    """The sets of modules of which each leads to every other."""
    reached: dict[str, set[str]] = {}
    for module in edges:
        todo, reached[module] = list(edges[module]), set()
        while todo:
            if (target := todo.pop()) not in reached[module]:
                reached[module].add(target)
                todo += edges.get(target, ())
    return {frozenset(n for n in reached[m] if m in reached[n]) for m in edges if m in reached[m]}


def room(module: str) -> str:
    """The folder of the package that a module is in; the files beside the folders are the package itself."""
    parts = module.split(".")[1:]
    return parts[0] if parts and (ROOT / parts[0]).is_dir() else "cli" if parts == ["__main__"] else ""


def test_no_module_imports_itself_in_a_circle() -> None:
    assert circles(graph(types=False)) == set()


def test_no_circle_of_names_that_only_type_checkers_follow() -> None:
    assert circles(graph(types=True)) == set()


def test_rooms_import_downwards() -> None:
    upwards = sorted(
        f"{module} imports {target}"
        for module, targets in graph(types=True).items()
        for target in targets
        if room(target) not in MAY_IMPORT[room(module)] | {room(module)}
    )
    assert upwards == []


def test_the_rule_itself_has_no_circle() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()
    assert {room(module) for module in modules()} <= set(MAY_IMPORT)


def test_files_and_folders_stay_small() -> None:
    lines = {f.relative_to(ROOT).as_posix(): f.read_text(encoding="utf-8").count("\n") for f in modules().values()}
    folders = Counter(f.relative_to(ROOT).parent.as_posix() for f in modules().values())
    assert {name: number for name, number in lines.items() if number > MOST_LINES} == {}
    assert {name: number for name, number in folders.items() if number > MOST_FILES} == {}


def test_the_parts_of_a_module_that_are_run_later_do_not_count() -> None:
    source = """
from lightning_regs.core import rng
if TYPE_CHECKING:
    from lightning_regs.data import load
else:
    import lightning_regs.models
try:
    from lightning_regs import functional
except ImportError:
    import torch
def late():
    from lightning_regs.pruning import Mask
class Holder:
    from lightning_regs.core.names import unknown_name
"""
    assert list(imports(ast.parse(source).body)) == [
        ("lightning_regs.core.rng", False),
        ("lightning_regs.data", True),
        ("lightning_regs.models", False),
        ("lightning_regs.functional", False),
        ("lightning_regs.core.names", False),
    ]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {frozenset("abc")}
