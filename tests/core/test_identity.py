"""One identity: plain data have one text, and code that the user wrote one hash."""

from __future__ import annotations

import csv
import functools
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_regs.core.identity import digest, sources
from lightning_regs.study.paper.config import search_folders
from lightning_regs.study.paper.loading import load_paper

PAPERS = ("frankle2019", "smith2021", "zhang2017")


@pytest.mark.parametrize("paper", PAPERS)
def test_committed_rows_have_the_hashes_of_their_cells(paper: str) -> None:
    checked = 0
    for scale in load_paper(paper).scales:
        cells = {cell.name: cell for cell in scale.cells}
        file = search_folders("reproductions")[0] / paper / "results" / f"{scale.name}.csv"
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        for row in csv.DictReader(io.StringIO(text)):
            assert row["config_hash"] == cells[row["cell"]].hash(int(row["seed"])), row["cell"]
            checked += 1
    assert checked > 50


def test_digest_is_of_the_values_and_not_of_the_memory_they_lie_in() -> None:
    whole = torch.arange(12.0)
    part = whole[3:6]
    before = digest({"w": part})
    whole[0] = 5.0
    assert digest({"w": part}) == digest({"w": part.clone()}) == before
    whole[4] = 5.0
    assert digest({"w": part}) != before
    assert digest({"w": part.to(torch.bfloat16)}) != digest({"w": part.to(torch.float16)})


# -- code --------------------------------------------------------------------------------------------------------------

SCRIPT = '''
import functools
RATE = 0.1
def loss(x):
    """Say something."""
    return x.sum()  # of all
class Base:
    momentum = 0.9
    def step(self):
        return RATE
class Net(Base):
    def __init__(self, width=3):
        self.width = width
    @property
    def wide(self):
        return self.width > 2
    @staticmethod
    def scale(x):
        return [2 * y for y in x]
    def training_step(self, x):
        return loss(x)
def make():
    return Net()
'''


def of(script: str) -> dict[str, str]:
    namespace: dict[str, Any] = {"__name__": "a_script"}
    exec(script, namespace)
    return sources(functools.partial(namespace["make"]))


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("RATE = 0.1", "RATE = 0.2", "a_script.RATE"),
        ("momentum = 0.9", "momentum = 0.8", "Base.momentum"),
        ("x.sum()", "x.mean()", "loss"),
        ("return RATE", "return 2 * RATE", "Base.step"),
        ("width=3", "width=4", "Net.__init__"),
        ("width > 2", "width > 1", "Net.wide"),
        ("2 * y for", "3 * y for", "Net.scale"),
        ("return Net()", "return Net(5)", "make"),
    ],
)
def test_an_edit_changes_the_hash_of_what_was_edited(old: str, new: str, name: str) -> None:
    before, after = of(SCRIPT), of(SCRIPT.replace(old, new))
    assert before == of(SCRIPT)
    assert [changed for changed in before if before[changed] != after[changed]] == [name]


@pytest.mark.parametrize(
    ("old", "new"),
    [("  # of all", ""), ("import functools", "import functools\n\n\n"), ("Say something.", "Say it otherwise.")],
)
def test_comments_layout_and_docstrings_do_not_count(old: str, new: str) -> None:
    assert of(SCRIPT.replace(old, new)) == of(SCRIPT)


SETTINGS = '''
import types, torch
CONFIG = {"lr": 0.1, "deep": {"betas": [1, 2]}}
config = {"lr": 0.1}
arguments = types.SimpleNamespace(lr=0.1, other=3)
weights = torch.tensor([1.0, 2.0])
sizes = (1, "a")
LIMIT = None
history, METHODS = [], [print]
class Helper:
    def go(self):
        return 1
helper = Helper()
def call(x, f=torch.relu):
    return f(x)
class Net:
    rates = (0.1, 0.2)
    table = {"a": 1}
    best = None
    def step(self):
        def inner():
            """Say something."""
            return config["lr"]
        return CONFIG["lr"] * arguments.lr * weights.sum() * sizes[0] * helper.go() + inner() + call(1) + LIMIT
    def log(self):
        history.append(METHODS)
def make():
    return Net()
'''


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('{"lr": 0.1, ', '{"lr": 0.2, ', ["a_script.CONFIG['lr']"]),
        ("[1, 2]", "[1, 3]", ["a_script.CONFIG['deep']['betas'][1]"]),
        ("[1, 2]", "[1]", ["a_script.CONFIG['deep']['betas']"]),
        ('config = {"lr": 0.1', 'config = {"lr": 0.3', ["a_script.config['lr']"]),
        ("(lr=0.1", "(lr=0.3", ["a_script.arguments.lr"]),
        ("2.0])", "3.0])", ["a_script.weights"]),
        ('"a")', '"b")', ["a_script.sizes[1]"]),
        ("LIMIT = None", "LIMIT = 3", ["a_script.LIMIT"]),
        ("return 1", "return 2", ["Helper.go"]),
        ("(0.1, 0.2)", "(0.1, 0.3)", ["Net.rates[1]"]),
        ('{"a": 1}', '{"a": 2}', ["Net.table['a']"]),
        ("history, METHODS = []", "history, METHODS = [3]", []),
        ("other=3", "other=4", []),
        ("Say something", "Say nothing", []),
        ("best = None", "best = 3", []),
    ],
)
def test_settings_count_that_the_code_names_and_what_it_fills_does_not(old: str, new: str, names: list[str]) -> None:
    assert old in SETTINGS
    before, after = of(SETTINGS), of(SETTINGS.replace(old, new))
    assert [name for name in before if name in after and before[name] != after[name]] == names
    assert before == of(SETTINGS)


def test_installed_code_and_that_of_this_package_do_not_count() -> None:
    from lightning_regs import Classifier, ImageDataModule

    assert list(sources(Classifier, ImageDataModule, torch.nn.Linear, pytest.fixture, functools.wraps)) == ["python"]


def test_what_is_closed_over_and_helpers_in_modules_of_the_user_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "users_helpers.py").write_text("def loss(x):\n    return x\n")
    import users_helpers  # type: ignore[import-not-found]

    def make(rate: float, helper: Any) -> Any:
        return lambda: helper() * rate * users_helpers.loss(3)

    def other() -> int:
        return 3

    found = sources(make(0.5, other))
    name = "test_what_is_closed_over_and_helpers_in_modules_of_the_user_count.<locals>"
    assert {"loss", f"{name}.other", f"{name}.make.<locals>.<lambda>.rate"} < set(found)
    assert found != sources(make(0.25, other))


def test_the_hashes_are_the_same_in_another_process() -> None:
    script = SCRIPT + "from lightning_regs.core.identity import sources; print(sources(make))"
    found = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    assert "Net.training_step" in found[0]
