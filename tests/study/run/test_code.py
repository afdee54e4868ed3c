"""Runs that were made by other code of the user's are told of, and measured anew where that is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lightning_regs.study import load_paper, reproduce
from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.tasks import TRAIN
from lightning_regs.study.run.code import changed, code_of

FILES = {
    "used/__init__.py": "from .tasks import count\nTABLE = {}\n",
    "used/tasks.py": '''
"""A paper's tasks."""
import math
import torch
from used import helpers
from used.rates import RATE as rate, unused
from .starred import *

SCALE = 2  # of all

class Net(helpers.Base):
    """A net."""
    width = 3

def count(config, run):
    """Count."""
    from used.late import late
    return {"a": RATE_OF[0] * SCALE * Net.width * rate * late() * shine()}

def other(config, run):
    return {"a": 2}

RATE_OF = [1]
RATE_OF[0] = math.pi
if __name__ == "__main__":
    print(1)
''',
    "used/helpers.py": "class Base:\n    depth = 2\n\ndef idle():\n    return 1\n",
    "used/rates.py": "RATE = 0.1\nunused = 3\nnever = 4\n",
    "used/late.py": "def late():\n    return f'{1 + 1}'\n",
    "used/starred.py": "def shine():\n    return 5\n",
    "used/methods.py": "class Mine:\n    strength = 1\n",
}


@pytest.fixture
def used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "name"),
    [
        ("tasks.py", "Net.width * rate", "Net.width + rate", "used.tasks:count"),
        ("tasks.py", "SCALE = 2", "SCALE = 3", "used.tasks:SCALE"),
        ("tasks.py", "width = 3", "width = 4", "used.tasks:Net"),
        ("tasks.py", "math.pi", "math.e", "used.tasks"),
        ("helpers.py", "depth = 2", "depth = 3", "used.helpers:*"),
        ("rates.py", "0.1", "0.2", "used.rates:RATE"),
        ("late.py", "1 + 1", "1 + 2", "used.late:late"),
        ("starred.py", "5", "6", "used.starred:*"),
        ("methods.py", "strength = 1", "strength = 2", "used.methods:Mine"),
        ("tasks.py", "  # of all", "", None),
        ("tasks.py", '"""Count."""', '"""Counts."""', None),
        ("tasks.py", "SCALE * Net", "SCALE  *  Net", None),
        ("tasks.py", "print(1)", "print(2)", None),
        ("tasks.py", 'return {"a": 2}', 'return {"a": 3}', None),
        ("rates.py", "never = 4", "never = 5", None),
    ],
)
def test_an_edit_of_what_a_cell_uses_is_seen_by_name(used: Path, file: str, old: str, new: str, name: str) -> None:
    method = {"class_path": "used.methods.Mine", "init_args": {"strength": 1}}
    cell = Cell("one", "used.tasks:count", {"regularizers": [method]})
    before = code_of([cell])
    path = used / "used" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new + " " * 20))  # another size and time
    after = code_of([cell])
    assert changed(before, after) == name
    assert not {module for module in sys.modules if module.partition(".")[0] == "used"}  # nothing of it was run


def test_what_is_installed_and_of_the_package_is_not_looked_into() -> None:
    method = {"class_path": "torch.optim.SGD"}
    assert code_of([Cell("one", TRAIN, {"method": method}), Cell("two", "scipy.special:expit")]) == {}


def edit(toy, old, new):
    tasks = toy.folder / "tasks.py"
    tasks.write_text(tasks.read_text().replace(old, new))
    sys.modules.pop("toy.tasks", None)


def test_complete_runs_of_other_code_are_kept_and_told_of_and_forced_ones_measured_anew(toy):
    toy.write(toy.cell("one"), toy.cell("two"))
    assert reproduce("toy", jobs=0).changed is None
    assert reproduce("toy", jobs=0).changed is None
    edit(toy, "run.seed / 10", "run.seed / 5")
    events = []
    kept = reproduce("toy", jobs=0, on_event=events.append)
    assert "4 complete runs, of cell 'one' for example, began before toy.tasks:count changed" in kept.changed
    assert [event.text for event in events if event.kind == "noted"] == [kept.changed]
    assert [row.metrics["value"] for row in kept.rows] == [0.0, 0.1, 0.0, 0.1]
    forced = reproduce("toy", jobs=0, cells="two", force=True)
    assert (forced.changed, forced.finished, forced.skipped) == (None, 2, 0)
    assert [row.metrics["value"] for row in forced.rows] == [0.0, 0.1, 0.0, 0.2]
    assert "2 complete runs, of cell 'one'" in reproduce("toy", jobs=0).changed
    (toy.runs / load_paper("toy").scale("quick").cells[0].hash(0) / "config.json").unlink()
    assert "do not say what code" in reproduce("toy", jobs=0, cells="one", seeds=1).changed


def test_a_forced_run_keeps_what_it_needs_and_starts_over(toy):
    toy.write(toy.cell("one"), "Cell('two', 'toy.tasks:count', {'name': 'two', 'resumes': True}, needs=('one',))")
    first = reproduce("toy", jobs=0, seeds=1)
    run = toy.runs / first.rows[1].run
    (run / "mine.ckpt").write_text("of the run before")
    (run / "nets").mkdir()
    ran = toy.ran()
    forced = reproduce("toy", jobs=0, seeds=1, cells="two", force=True)
    assert (forced.finished, forced.skipped, forced.failed) == (1, 1, [])
    assert toy.ran() == sorted([*ran, ("two", 0)])
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "curves.csv", "elapsed", "lock", "row.json"]


def test_a_run_that_goes_on_with_other_code_says_so_and_is_known_by_the_code_it_began_with(toy):
    toy.write(toy.cell("one", fail=True), seeds=1)
    failed = Path(reproduce("toy", jobs=0).failed[0].folder)
    edit(toy, 'config.get("fail")', "False")
    events = []
    (failed / "last.ckpt").write_text("half of it")
    kept = reproduce("toy", jobs=0, on_event=events.append)
    assert kept.finished == 1
    [said] = [event.text for event in events if event.kind == "noted"]
    assert "goes on where it was, though toy.tasks:count has changed since it began" in said
    assert "began before toy.tasks:count changed" in reproduce("toy", jobs=0).changed
