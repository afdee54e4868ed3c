"""Tasks by their import path, ``"module:function"``, and the module path on which those of the papers are found."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning_regs.core.names import unknown_name

TRAIN = "lightning_regs.study.train:train"
"""The task of most cells: train as the configuration says, and return the metrics."""
AGREE = "lightning_regs.study.studies.agreement:agree"
"""The task that trains two nets and measures whether they are right on the same test samples."""
AGREEMENT = "study/agreement"
"""The cell of that task, by whose name it is known what intervals have to hold where test samples are drawn."""
COURSE = "lightning_regs.study.studies.course:course"
"""The task that measures the test error on the way of a training; its docstring says the configuration."""
FEATURES = "lightning_regs.study.studies.features:features"
"""The task of least squares on random Fourier features; its docstring says the configuration and the columns."""
GROWN = "lightning_regs.study.studies.sizes:grown"
"""The task that trains nets that grow, each from the one before it; its docstring says the configuration."""
INITIALIZED = "lightning_regs.study.studies.initialized:initialized"
"""The task that trains from weights that a rule sets; its docstring says the configuration."""
PADDED = "lightning_regs.study.studies.sizes:padded"
"""The task that trains nets of several widths in one stack; its docstring says the configuration."""
SNAPSHOTS = "lightning_regs.procedures.snapshots.cells:snapshots"
"""The task that averages snapshots of one training; its docstring says the configuration and the columns."""
ATTACKED = "lightning_regs.study.studies.robustness:attacked"
"""The task that measures a net on adversarial examples; its docstring says the configuration and the columns."""
SHARPNESS = "lightning_regs.study.studies.sharpness:sharpness"
"""The task that measures how sharp the minimum is that a training ends in; its docstring says how."""
SIGNALS = "lightning_regs.study.studies.signals:signals"
"""The task that measures how signals go through a net; its docstring says the columns."""
STOPPING = "lightning_regs.study.studies.stopping:stopping"
"""The task that trains once and asks many stopping criteria; its docstring says the configuration and the columns."""
TOY = "lightning_regs.study.studies.toys:wilson"
"""The task of an optimizer on Wilson's linear problem; a cell's config is what its docstring says, and no file's."""
WEIGHTS = "lightning_regs.study.studies.weights:weights"
"""The task that measures how weights grow, which are zero, and what L0 leaves; its docstring says the columns."""
# What a task reads of a configuration beside the sections that training has.
OWN: dict[str, tuple[str, ...]] = {
    TRAIN: (), AGREE: ("other",), SNAPSHOTS: ("snapshots",), ATTACKED: ("attack", "crafted_on"),
    SHARPNESS: ("sharpness",), STOPPING: ("stopping",), WEIGHTS: (), SIGNALS: (), INITIALIZED: ("initial",),
    COURSE: ("course",), FEATURES: ("features",), GROWN: ("grown",), PADDED: ("padded",),
}  # fmt: skip
_TRAINING = ("callbacks", "fitted", "seeds")
# A task's name is part of its runs' hash, and stays when the code moves: name -> where the code is.
MOVED = {TRAIN: "lightning_regs.training.fit:train"}

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


def check_tasks(tasks: Mapping[str, str]) -> None:
    """Refuse tasks, each with the name of a cell, whose module does not exist, without importing it.

    Raises:
        ValueError: For the first such task.
    """
    for task, name in tasks.items():
        module = MOVED.get(task, task).partition(":")[0]
        try:
            known = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            known = False
        if not known:
            raise ValueError(f"cell {name!r} has the task {task!r}, but there is no module {module!r}.")


def check_read(task: str, name: str, overrides: Mapping[str, Any]) -> None:
    """Refuse a single value beside the sections that a task of ours does not read."""
    for path, value in overrides.items() if task in OWN else ():
        if "." not in path and not isinstance(value, Mapping) and path not in (*_TRAINING, *OWN[task]):
            raise ValueError(
                f"the grid {name!r} overrides {path!r}, which its task does not read; write its section as well, such "
                f"as 'trainer.{path}', or name a task that reads it."
            )
