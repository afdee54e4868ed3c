"""Tasks by their import path, ``"module:function"``, and the module path on which those of the papers are found."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_regs.core.names import unknown_name

if TYPE_CHECKING:
    from lightning_regs.study.paper.cells import Cell

# A task's name is part of its runs' hash, and stays when the code moves: name -> where the code is.
MOVED = {
    "lightning_regs.study.train:train": "lightning_regs.training.fit:train",
    "frankle2019.training:level": "lightning_regs.procedures.cells:level",
    "frankle2019.deep:search": "lightning_regs.procedures.cells:search",
    "frankle2019.supermasks:learned": "lightning_regs.procedures.supermasks:learned",
    "frankle2019.supermasks:untrained": "lightning_regs.procedures.supermasks:untrained",
}

_on_path: list[str] = []


def add_to_path(papers: Path | str) -> None:
    """Make the modules of the papers in a folder importable; the folder given last wins over those given before."""
    entry = str(papers)
    if entry in sys.path and entry not in _on_path:
        return
    _on_path[:] = [other for other in _on_path if other != entry and other in sys.path]
    sys.path[:] = [other for other in sys.path if other != entry]
    # After everything else, so that a paper never hides an installed package.
    at = min(map(sys.path.index, _on_path), default=len(sys.path))
    sys.path.insert(at, entry)
    _on_path.append(entry)
    importlib.invalidate_caches()


def import_task(path: str) -> Callable[..., Any]:
    """Import a function from its path, ``"module:function"``.

    Raises:
        ValueError: If the module has no such function.
    """
    name, _, attribute = MOVED.get(path, path).partition(":")
    module = importlib.import_module(name)
    function = getattr(module, attribute, None)
    if not callable(function):
        raise unknown_name(f"task in module {name}", attribute, [n for n, v in vars(module).items() if callable(v)])
    return function  # type: ignore[no-any-return]


def check_tasks(cells: Iterable[Cell]) -> None:
    """Refuse cells whose task module does not exist, without importing it.

    Raises:
        ValueError: For the first such cell.
    """
    for task, name in {cell.task: cell.name for cell in cells}.items():
        module = MOVED.get(task, task).partition(":")[0]
        try:
            known = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            known = False
        if not known:
            raise ValueError(f"cell {name!r} has the task {task!r}, but there is no module {module!r}.")
