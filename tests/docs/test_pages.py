"""What README and documentation show is so: code runs, commands parse, links resolve, public names have a place."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import pytest
import pytorch_lightning as pl
from generated import methods
from load_file import load_file

from lightning_regs.cli import parser
from lightning_regs.optim import build
from lightning_regs.study.report.specification import slug

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = sorted([ROOT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("howto/*.md")])
TEXTS = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in WRITTEN}
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return load_file(DOCS / "pages.py")


@pytest.fixture(scope="module")
def made(pages: ModuleType) -> dict[str, str]:
    return pages.made()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", [page for page in TEXTS if page != "README.md" and blocks(TEXTS[page], "python")])
@pytest.mark.slow
def test_code_runs(page: str) -> None:
    namespace: dict[str, Any] = {}  # a reader goes on from one block to the next
    for code in blocks(TEXTS[page], "python"):
        exec(code, namespace)
        if "trainer.fit(" not in code:
            continue
        trainer = namespace["trainer"]
        assert isinstance(trainer, pl.Trainer)
        assert trainer.state.finished
        assert trainer.global_step > 0
        assert all(value.isfinite() for value in trainer.callback_metrics.values())
        if "trainer.test(" in code:
            assert trainer.callback_metrics["test/acc"] > 50
        if "replica_results" in code:
            assert len({own["loss"] for own in namespace["model"].replica_results["train"]}) == 5


def test_the_readme_has_code_that_runs_on_another_page() -> None:
    shown = blocks(TEXTS["README.md"], "python")
    assert shown
    assert set(shown) <= set(blocks(TEXTS["docs/howto/own-project.md"], "python"))


def test_the_readme_is_short() -> None:
    lines = TEXTS["README.md"].splitlines()
    assert len([line for line in lines if not line.startswith("|")]) <= 80  # the tables grow with papers and how-tos


def test_every_how_to_is_on_the_first_page() -> None:
    table = TEXTS["README.md"].partition("<!-- begin:ways -->")[2]  # which the site's first page shows
    assert not [file.name for file in DOCS.glob("howto/*.md") if f"(docs/howto/{file.name})" not in table]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
@pytest.mark.slow
def test_a_notebook_runs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code), "clear the outputs: make docs runs it"
    namespace: dict[str, Any] = {}
    with mpl.rc_context({"backend": "agg"}):
        for cell in code:
            exec("".join(cell["source"]), namespace)


def test_commands_are_ones() -> None:
    known = parser._parser()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page, text in TEXTS.items():
        for line in re.findall(r"^\$ (?:\w+=\S+ )?lightning-regs (.*)$", text.replace("\\\n", " "), flags=re.M):
            words = shlex.split(line, comments=True)
            if words[0] not in ("fit", "validate", "test", "predict"):  # which are Lightning's
                assert known.parse_args(words).run, f"{page}: {line}"
        for target in re.findall(r"(?:^\$ |`)make ([a-z]+)", text, flags=re.M):
            assert re.search(rf"^{target}:", makefile, flags=re.M), f"{page}: {target}"


@pytest.mark.slow
def test_links_resolve(pages: ModuleType, made: dict[str, str]) -> None:
    generated = {DOCS / f"{page}.md" for page in made} | {DOCS / f"methods/{cls.__name__}.svg" for cls in methods()}
    cards = [
        *WRITTEN,
        *(ROOT / "reproductions").glob("*/README.md"),
        ROOT / "CONTRIBUTING.md",
        ROOT / "ARCHITECTURE.md",
    ]
    for card in cards:
        for target in re.findall(r"\]\(([^)#\s]+)\)|<!-- show (\S+)", card.read_text(encoding="utf-8")):
            link = target[0] or f"../{target[1]}"
            file = (card.parent / link).resolve()
            assert "://" in link or file.exists() or file in generated, f"{card.name} links to {link}"
    for page in (*made, "tour"):
        text = made.get(page) or TEXTS[f"docs/{page}.md"]
        for link in re.findall(r"\]\(([^)#\s]+)\)", pages.linked(text, page)):
            file = (DOCS / page).parent.joinpath(link).resolve()
            assert "://" in link or file.exists() or file in generated, f"{page} links to {link}"
    shown = re.findall(r'href="\.\./results/(\S+)\.html"', "\n".join(made.values()))  # as `report` names its pages
    assert shown == [slug(paper) for paper in pages.PAPERS]


def test_terms_are_in_the_glossary() -> None:
    known = re.findall(r"^## (.+)\n\n\S", TEXTS["docs/glossary.md"], flags=re.M)
    assert known == sorted(known, key=str.lower)
    anchors = {term.lower().replace(" ", "-") for term in known}
    links = {(page, anchor) for page, text in TEXTS.items() for anchor in re.findall(r"glossary\.md#([\w-]+)", text)}
    own = {("docs/glossary.md", anchor) for anchor in re.findall(r"\(#([\w-]+)\)", TEXTS["docs/glossary.md"])}
    assert links
    assert not [link for link in links | own if link[1] not in anchors]


def test_pages_read_well_on_github() -> None:
    for page, text in TEXTS.items():  # which shows roles as they are written; the index is the site's alone
        assert page == "docs/index.md" or not re.findall(r"\{[\w:]+\}`[^`]", text), page


def test_the_tour_says_of_claims_what_their_rows_say() -> None:
    """Each sentence of the tour's own about a claim names its verdict, and each paper's section has one."""
    _, *sections = TEXTS["docs/tour.md"].split("\n## ")
    for section in sections[:-1]:
        prose = " ".join(re.sub(r"<!-- begin.*<!-- end\S* -->", "", section, flags=re.S).split())
        (paper,) = re.findall(r"<!-- begin:(\w+)/headline -->\n.", section)
        told = re.findall(r"claim `([\w-]+)`[^`.]*? is ([a-z ]+) at `(\w+)`", prose, flags=re.I)
        assert len(told) == len(re.findall(r"claim `", prose, flags=re.I)) > 0, prose
        for claim, verdict, scale in told:
            file = ROOT / "reproductions" / paper / "results" / f"{scale}.claims.json"
            found = {row["id"]: row["verdict"] for row in json.loads(file.read_text(encoding="utf-8"))}
            assert found[claim] == verdict, f"{paper}, {scale}, claim {claim}"


def test_every_public_name_is_on_one_page(made: dict[str, str]) -> None:
    text = "\n".join(made.values())
    shown = Counter(re.findall(r"^\.\. (?:auto\w+|py:data):: (\S+)", text, flags=re.M))
    assert not [name for name, times in shown.items() if times > 1]
    rooms = [page.removeprefix("api/") for page in made if page.startswith("api/lightning_regs")]
    assert len(rooms) > 10
    places = [(name, getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2]))
              for name in shown if name not in rooms]  # fmt: skip
    for room in rooms:
        module = importlib.import_module(room)
        for name in getattr(module, "__all__", ()):
            found = getattr(module, name)
            assert name == "__version__" or any(place is found for _, place in places), f"{room}.{name}"
    for name, cls in {**build.optimizers(), **build.schedules()}.items():
        ours = cls.__module__.startswith("lightning_regs.")
        assert ours is any(place is cls for _, place in places), name


@pytest.mark.parametrize("cls", methods(), ids=lambda cls: cls.__name__)
def test_a_method_has_its_page(cls: type[Any], pages: ModuleType, made: dict[str, str]) -> None:
    text = made[f"methods/{cls.__name__}"]
    assert f"autoclass:: lightning_regs.{cls.__name__}\n" in text
    assert re.search(r"^ *(Does not help: |It does not help )", str(cls.__doc__), flags=re.M), (
        "say when it does not help"
    )
    namespace: dict[str, Any] = {}
    exec(pages.example(cls).replace("max_epochs=5", "max_epochs=1"), namespace)
    assert namespace["trainer"].state.finished
