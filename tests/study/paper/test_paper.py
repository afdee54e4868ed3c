from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lightning_regs.study import Cell, Claim, Figure, MissingRows, Paper, Rows, Scale, find_papers, load_paper
from lightning_regs.study.paper import tasks as tasks_module
from lightning_regs.study.paper.tasks import add_to_path, check_tasks, import_task
from lightning_regs.study.store.curves import Curves


def paper(**changes):
    about = {"id": "p", "title": "T", "authors": "A", "year": 2017, "arxiv": "1", "scales": (Scale("quick", "", ()),)}
    return Paper(**(about | changes))


def test_papers_are_found_without_being_imported(toy):
    toy.write(toy.cell("one"))
    (toy.root / "reproductions" / "broken").mkdir()
    (toy.root / "reproductions" / "broken" / "paper.py").write_text("1 / 0")
    (toy.root / "reproductions" / "no-paper").mkdir()
    found = find_papers()
    assert found["toy"] == toy.folder
    assert "broken" in found
    assert "no-paper" not in found
    assert "toy.paper" not in sys.modules


def test_a_loaded_paper_knows_its_folder_and_its_tasks(toy):
    toy.write(toy.cell("one"))
    loaded = load_paper("toy")
    assert loaded.folder == toy.folder
    assert loaded.scale("quick").cells[0].config == {"name": "one"}
    assert "toy.tasks" not in sys.modules
    assert import_task("toy.tasks:count").__name__ == "count"
    with pytest.raises(ValueError, match=r"unknown task in module toy.tasks 'coun'. Did you mean 'count'"):
        import_task("toy.tasks:coun")


def test_the_folder_that_is_asked_for_wins(toy, tmp_path, monkeypatch):
    toy.write(toy.cell("one"))
    assert load_paper("toy").title == "A toy"
    other = tmp_path / "other" / "reproductions" / "toy"
    other.mkdir(parents=True)
    (other / "paper.py").write_text((toy.folder / "paper.py").read_text().replace("A toy", "Another"))
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(tmp_path / "other"))
    assert load_paper("toy").title == "Another"
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(tmp_path))
    assert load_paper("toy").title == "A toy"


def test_papers_never_hide_installed_modules(toy, monkeypatch):
    monkeypatch.setattr(tasks_module, "_on_path", [])
    before = list(sys.path)
    for name in ("one", "two", "one"):
        add_to_path(toy.root / name)
    assert sys.path == [*before, str(toy.root / "one"), str(toy.root / "two")]
    add_to_path(before[0])
    assert sys.path[0] == before[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os\n\nnothing\n", r"paper.py:3: NameError: name 'nothing' is not defined"),
        ("def f(:\n", r"paper.py:1: SyntaxError"),
        ("import not_there\n", r"paper.py:1: ModuleNotFoundError: No module named 'not_there'"),
        ("raise ValueError('two\\nlines.')\n", r"paper.py:1: ValueError: two lines\.$"),
        ("from toy.helper import f\n", r"helper.py:2: ZeroDivisionError"),
        ("PAPER = 3\n", "defines no PAPER"),
    ],
)
def test_a_broken_paper_is_named_in_one_sentence(toy, text, message):
    toy.write(toy.cell("one"))
    (toy.folder / "helper.py").write_text("\n1 / 0\n")
    (toy.folder / "paper.py").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_paper("toy")
    assert str(toy.folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    toy.write(toy.cell("one"))
    assert load_paper("toy").id == "toy"


def test_a_paper_must_be_called_as_its_folder(toy):
    toy.write(toy.cell("one"))
    toy.folder.rename(toy.root / "reproductions" / "game")
    with pytest.raises(ValueError, match="calls itself 'toy'"):
        load_paper("game")


def test_a_paper_called_as_an_installed_package(toy):
    toy.write(toy.cell("one"))
    toy.folder.rename(toy.root / "reproductions" / "hypothesis")
    with pytest.raises(ValueError, match="Python already has a module of that name"):
        load_paper("hypothesis")
    assert import_task("hypothesis:given")


def test_no_papers_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_regs.study.paper.paper.search_folders", lambda kind: [])
    with pytest.raises(ValueError, match="there is no folder with papers"):
        load_paper("zhang2017")


def test_cells_are_checked():
    with pytest.raises(ValueError, match="write it as 'module:function'"):
        Cell("a", "module.function")
    with pytest.raises(ValueError, match="0 seeds"):
        Cell("a", "m:f", seeds=0)
    with pytest.raises(ValueError, match="needs a name"):
        Cell(" ", "m:f")
    with pytest.raises(TypeError, match=r"config of cell 'a'\.x is a PosixPath"):
        Cell("a", "m:f", {"x": Path("/")})
    assert Cell("a", "m:f", {"x": (1, 2)}).config == {"x": [1, 2]}
    assert Cell("a", "m:f", {"x": (1, 2)}).hash(1) == Cell("b", "m:f", {"x": [1, 2]}, seeds=4).hash(1)


def test_names_are_unique_and_known():
    cell = Cell("a", "m:f")
    with pytest.raises(ValueError, match="more than one cell named 'a'"):
        Scale("quick", "", (cell, cell))
    with pytest.raises(ValueError, match="each is at least 1"):
        Scale("quick", "", (), jobs=0)
    with pytest.raises(ValueError, match="more than one scale named 'quick'"):
        paper(scales=(Scale("quick", "", ()), Scale("quick", "", ())))
    with pytest.raises(ValueError, match=r"unknown scale 'quik'. Did you mean 'quick'"):
        paper(claims=(Claim("c", "S.", 1, "seen", measure=lambda r: [], scales=("quik",)),))


def test_globs_select_cells_in_their_order():
    scale = Scale("quick", "", tuple(Cell(name, "m:f") for name in ("b/1", "a[1]", "b/2", "c")))
    assert [c.name for c in scale.select("b/*")] == ["b/1", "b/2"]
    assert [c.name for c in scale.select(["c", "a[1]", "b/1"])] == ["b/1", "a[1]", "c"]
    assert [c.name for c in scale.select(None)] == ["b/1", "a[1]", "b/2", "c"]
    with pytest.raises(ValueError, match="unknown cell 'd'"):
        scale.select(["c", "d"])


def test_a_task_without_a_module_is_refused():
    check_tasks([Cell("a", "json:dumps")])
    with pytest.raises(ValueError, match=r"cell 'a' has the task 'json.nothing:f', but there is no module"):
        check_tasks([Cell("a", "json.nothing:f")])
    with pytest.raises(ValueError, match=r"no module 'nothing.at.all'"):
        check_tasks([Cell("a", "nothing.at.all:f")])


def test_figures_are_drawn_by_function_or_path():
    rows, curves = Rows([]), Curves()
    assert Figure("f", "F", "", lambda r, c: (r, c)).render(rows, curves) == (rows, curves)
    assert Figure("f", "F", "", "operator:is_").render(rows, curves) is False
    with pytest.raises(MissingRows):
        Figure("f", "F", "", lambda r, c: r.metric("a", "acc")).render(rows, curves)
