from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest

from lightning_regs.study import (
    Cell,
    Claim,
    Deviation,
    Figure,
    Metric,
    Paper,
    Scale,
    Source,
    across,
    difference,
    find_papers,
    load_paper,
    value,
)
from lightning_regs.study.paper import tasks as tasks_module
from lightning_regs.study.paper.tasks import add_to_path, import_task

READ, OTHER, OTHER_KEY = Source("k", "Read"), Source("k", "Another"), Source("l", "Another")


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
    monkeypatch.setattr("lightning_regs.study.paper.loading.search_folders", lambda kind: [])
    with pytest.raises(ValueError, match="there is no folder with papers"):
        load_paper("zhang2017")


def test_names_are_unique_and_known():
    cell, scale = Cell("a", "m:f"), Scale("quick", "", ())
    claims = [Claim("c", "S.", value("a"), above=0, source=source, on=("quick",)) for source in (READ, OTHER)]
    figures = [Figure(name, "F") for name in "ff"]
    for make, says in [
        (lambda: Scale("a\nb", "", ()), "scale 'a\\nb' has no name that fits into a line; give it one"),
        (lambda: Scale("quick", "", (cell, cell)), "scale 'quick' has more than one cell named 'a'; rename one"),
        (lambda: Scale("quick", "", (), jobs=0), "scale 'quick': jobs must be at least 1, got 0"),
        (lambda: paper(scales=(scale, scale)), "paper 'p' has more than one scale named 'quick'"),
        (lambda: paper(claims=claims), "paper 'p' has more than one claim named 'c'"),
        (lambda: paper(claims=(claims[0], replace(claims[1], id="d"))), "more than one source named 'k'"),
        (lambda: paper(figures=figures), "paper 'p' has more than one figure named 'f'"),
        (lambda: paper(claims=(replace(claims[0], on=("quik",)),)), "unknown scale 'quik'. Did you mean 'quick'"),
        (lambda: paper(figures=(replace(figures[0], on=("quik",)),)), "unknown scale 'quik'"),
        (lambda: paper(deviations=(Deviation("quik", "T.", "D."),)), "unknown scale 'quik'"),
        (lambda: paper(link="https://a.org"), "paper 'p' has the link 'https://a.org'; write it as"),
    ]:
        with pytest.raises(ValueError, match=re.escape(says)):
            make()


def test_overrides_that_make_two_cells_one_are_refused():
    cells = tuple(Cell(f"n/{n}", "m:f", {"data": {"train_size": n}, "trainer": {}}) for n in (1, 2))
    same = Scale("quick", "", (*cells, replace(cells[0], name="again")), overrides={"data.source": "digits"})
    assert same.cells[0].hash(0) == same.cells[2].hash(0) != same.cells[1].hash(0)
    with pytest.raises(ValueError, match="overrides of scale 'quick' make 'n/1' and 'n/2' one configuration"):
        Scale("quick", "", cells, overrides={"data.train_size": 3})


def test_a_paper_lists_the_sources_of_all_forms_of_its_claims_once():
    first, second = (Claim("c", "S.", value("a"), above=0, source=source) for source in (READ, (READ, OTHER_KEY)))
    claims = across(quick=[first], full=[second])
    assert paper(claims=claims, scales=(Scale("quick", "", ()), Scale("full", "", ()))).sources == (READ, OTHER_KEY)


def test_a_published_number_is_drawn_only_at_its_own_data():
    """A cell of one name may be of other data at another scale: there the claim's number says nothing."""
    scales = [Scale(n, "", tuple(Cell(c, "m:f") for c in cells)) for n, cells in (("quick", "ab"), ("full", "abcd"))]
    scales.append(Scale("other", "", (Cell("z", "m:f"),)))
    about = {"above": 0, "source": READ}
    claims = (
        Claim("1", "S.", value("a"), published=1, headline=True, **about),
        Claim("2", "S.", value("b"), published=2.0, on=("full",), **about),
        Claim("3", "S.", value("c"), published=3.0, on=("full",), **about),
        Claim("4", "S.", value("d"), published="three", **about),
        Claim("5", "S.", difference("a", "b"), published=5.0, **about),
        *across(quick=[Claim("6", "S.", value("a", "m"), published=6.0, **about)],
                full=[Claim("6", "S.", value("a", "m"), published=7.0, **about)]),
    )  # fmt: skip
    found = {scale.name: paper(claims=claims, scales=tuple(scales)).published(scale.name) for scale in scales}
    assert found["quick"] == {("a", "test_acc"): 1, ("c", "test_acc"): 3, ("a", "m"): 6}
    assert found["full"] == {("a", "test_acc"): 1, ("b", "test_acc"): 2, ("c", "test_acc"): 3, ("a", "m"): 7}
    assert set(found["other"]) == {("a", "test_acc"), ("b", "test_acc"), ("c", "test_acc"), ("a", "m")}


def claim(cell):
    return Claim("c", "S.", value(cell, "test_acc"), above=0, source=READ)


def test_a_claim_about_a_cell_that_no_scale_has_is_refused():
    scales = (Scale("quick", "", (Cell("digits/8", "m:f"),)), Scale("full", "", (Cell("mnist/8", "m:f"),)))
    assert paper(scales=scales, claims=(claim("mnist/8"),)).claims, "a scale without the cell does not measure it"
    with pytest.raises(ValueError, match=r"^unknown cell of claim 'c' 'digits/9'. Did you mean 'digits/8'"):
        paper(scales=scales, claims=(claim("digits/9"),))


def test_what_tasks_measure_comes_in_families():
    for given in (Metric("norm", "Norm"), "norm"):
        with pytest.raises(TypeError, match=r"^paper 'p': metrics must be families: \(Family\(.*norm"):
            paper(metrics=(given,))
