"""The specification: strict data that say what the page says, and no text of a run that becomes part of the page."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import draw_loss, draw_names, make_paper, make_rows, write_results
from parsed import Page, spaced

from lightning_regs.core.runs import Store
from lightning_regs.study.paper.claims import VERDICTS, Claim
from lightning_regs.study.paper.figure import Figure
from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.paper.paper import Scale
from lightning_regs.study.paper.rows import MissingRows
from lightning_regs.study.report.legible import legible, plain
from lightning_regs.study.report.plots import describe, note
from lightning_regs.study.report.report import render, write_report
from lightning_regs.study.report.specification import specify
from lightning_regs.study.store.ledger import default_results, table


@pytest.fixture
def paper(tmp_path):
    made = make_paper()
    write_results(made, tmp_path / "results")
    return made


def strict(data):
    """Write as JSON and read back, refusing what is not JSON."""

    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(json.dumps(data, allow_nan=False), parse_constant=refuse)


def test_it_is_strict_json_and_the_same_each_time(tmp_path, paper):
    first, second = (specify(paper, tmp_path / "results").as_dict() for _ in range(2))
    assert strict(first) == first == second


def test_the_file_beside_the_page_is_the_specification(tmp_path, paper):
    page = write_report(paper, tmp_path / "results", tmp_path / "site")
    data = json.loads((tmp_path / "site" / "smith2020.json").read_text(encoding="utf-8"))
    assert data == specify(paper, tmp_path / "results").as_dict()
    assert "smith2020.json" in [link["href"] for link in Page(page.read_text(encoding="utf-8")).all("a")]


def test_claims_have_numbers_and_words(tmp_path, paper):
    section = specify(paper, tmp_path / "results", scales=["quick"]).as_dict()["sections"][0]
    fits, true, noisy, slow, imagenet = section["claims"]
    assert fits["numbers"] == pytest.approx(
        {"ours": 99.91, "low": 99.885, "high": 99.935, "holds_low": 99, "holds_high": 100, "paper": 100}, abs=1e-3
    )
    assert (fits["ours"], fits["paper"], fits["n"]) == ("99.91\u202f%", "100.00\u202f%", 3)
    assert [true["recalled"], noisy["recalled"]] == [True, False]
    assert slow["numbers"] == {
        "ours": None,
        "low": None,
        "high": None,
        "holds_low": 1,
        "holds_high": None,
        "paper": None,
    }
    assert slow["paper"] == "1 to 4"
    assert imagenet["reason"] == "ImageNet is not here"
    assert section["counts"] == dict(zip(VERDICTS, (2, 1, 1, 1), strict=True))


def test_what_does_not_exist_is_no_number(tmp_path, paper):
    section = specify(paper, tmp_path / "results", scales=["quick"]).as_dict()["sections"][0]
    true, noisy = section["groups"][0]["cells"]
    assert [run["metrics"]["fit_epoch"] for run in true["runs"]] == [6, 7, 8]
    assert [run["metrics"]["fit_epoch"] for run in noisy["runs"]] == [None, None, None]
    assert noisy["command"] == "lightning-regs reproduce smith2020 --scale quick --cells net/random-labels"
    assert noisy["origin"]["commit"] == ["aafda98"]


def test_a_scale_without_results_is_empty_and_has_its_command(tmp_path, paper):
    full, quick = specify(paper, tmp_path / "results").sections
    assert (full.state, full.runs, full.expected, full.blank) == ("empty", 0, 6, True)
    assert full.command == "lightning-regs reproduce smith2020 --scale full"
    assert (quick.state, quick.runs, quick.blank) == ("complete", 6, False)
    assert quick.downloads == ("smith2020-quick.csv", "smith2020-quick.claims.json", "smith2020-quick.curves.csv")


def test_figures_can_be_named_without_being_drawn(tmp_path, paper):
    drawn = specify(paper, tmp_path / "results", scales=["quick"]).sections[0].figures
    named = specify(paper, tmp_path / "results", scales=["quick"], draw=False).sections[0].figures
    assert [(figure.id, figure.title, figure.caption) for figure in drawn] == [
        (figure.id, figure.title, figure.caption) for figure in named
    ]
    assert drawn[0].alt == "Loss over 290 steps."
    assert drawn[0].notes == ("Means over seeds.",)
    assert [bool(figure.svg) for figure in (*drawn, *named)] == [True, True, False, False]
    assert "svg" not in specify(paper, tmp_path / "results", scales=["quick"]).as_dict()["sections"][0]["figures"][0]


def check_page(specification):
    """Look up everything that the data say in what a browser would show."""
    page = Page(render(specification))
    data = strict(specification.as_dict())
    claims = [row for start in ("Claims", "claims") for row in page.rows(start)]
    entries = {(row[0], *row[1:3]) for row in claims if len(row) > 2} | {
        (row[0], row[1], "") for row in claims if row[1:]
    }
    runs = [tuple(row[:2]) for row in page.rows("Every run")]
    lines = {(row[0], *row[2:6]) for row in page.rows("") if len(row) > 5}
    cells = {line[:length] for line in lines for length in range(6)}
    expected_runs = []
    for section in data["sections"]:
        for claim in section["claims"]:
            measured = claim["verdict"] != "out of reach" and claim["n"] > 0
            sentence, value = spaced(claim["sentence"]), spaced(claim["paper"])
            ours = spaced(f"{claim['ours']} {claim['interval']}") if measured else ""
            found = [entry for entry in entries if entry[0].startswith(sentence) and entry[1].startswith(value)]
            assert ours in [said(entry[2]) for entry in found], claim
        for figure in section["figures"]:
            assert spaced(figure["title"]) in page.text
        for group in section["groups"]:
            for cell in group["cells"]:
                expected_runs += [(cell["name"], run["seed"]) for run in cell["runs"]]
                assert (spaced(cell["name"]), *map(spaced, cell["texts"])) in cells
        for problem in (*section["problems"], *section["mixed"], section["command"], section["description"]):
            assert spaced(problem).rstrip(".").lower() in page.text.lower()
        counts = [spaced(f"{count} {verdict}") for verdict, count in section["counts"].items()]
        assert not section["claims"] or all(count in page.text for count in counts)
        for name in section["downloads"]:
            assert {"href": name, "download": None} in page.all("a")
    assert runs == expected_runs
    number = sum(len(section["claims"]) for section in data["sections"])
    reasons = sum(len(row) == 1 for row in claims)
    assert len(claims) - reasons == number
    return page


def said(text):
    return text.replace("95 % interval ", " ").replace("  ", " ").strip()


def test_the_page_says_what_the_data_say(tmp_path, paper):
    rows = make_rows(paper)
    rows[2]["commit"] = "0000000"
    write_results(paper, tmp_path / "results", rows=rows[:5])
    specification = specify(paper, tmp_path / "results")
    page = check_page(specification)
    drawn = [figure for section in specification.sections for figure in section.figures if figure.svg]
    labels = [attrs["aria-label"] for attrs in page.all("svg") if attrs.get("role") == "img"]
    assert [
        label.startswith(f"{figure.title}. {figure.alt}".strip()) for label, figure in zip(labels, drawn, strict=True)
    ]


@pytest.mark.parametrize("paper_id", list(find_papers()))
def test_the_pages_of_the_papers_say_what_their_data_say(paper_id):
    paper = load_paper(paper_id)
    specification = specify(paper, default_results(paper), draw=False)
    check_page(specification)
    assert [problem for section in specification.sections for problem in section.problems] == []
    assert specification.as_dict() == specify(paper, default_results(paper), draw=False).as_dict()


def test_a_page_that_would_be_too_large_leaves_its_longest_tables_out(tmp_path, paper):
    write_results(paper, tmp_path / "results", "full", make_rows(paper, "full", 2))
    specification = specify(paper, tmp_path / "results", draw=False)
    whole = render(specification)
    smaller = render(specification, len(whole.encode()) - 1)
    smallest = render(specification, 1)
    assert len(whole) > len(smaller) > len(smallest)
    assert [len(Page(text).rows("Every run")) for text in (whole, smaller, smallest)] == [10, 4, 0]
    assert "would make this page too large" in smaller
    assert len(Page(smallest).rows("Training runs")) == 4


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "closing tags": "</style></svg></title></table><img src=x onerror=alert(1)>",
    "quotes": '"\' onmouseover="alert(1)" x=\'',
    "link": "javascript:alert(1)",
    "comment": "<!-- <b> -->",
    "template": "{{ 7 * 7 }}{% include 'base.html.j2' %}",
    "references": "&lt;b&gt;&#x3c;",
    "section": "]]><![CDATA[<b>",
    "control characters": "a\x07\x1b[31mb\x7f\x85c",
    "directions": "a\u202egnp.exe\u2066b\u200f",
    "long word": "W" * 6000,
    "markup of other kinds": "$x^2$ \\(x\\) **a** `b`",
}


def hostile_site(folder, text):
    """Write a page with a text in every field that is not ours."""

    def drawn(rows, curves):
        figure = draw_names(rows, curves)
        describe(figure, text)
        note(figure, text)
        return figure

    def missing(rows, curves):
        raise MissingRows(text)

    def failing(rows, curves):
        raise RuntimeError(text)

    cells = (f"net/{text}", f"net/b {text}", f"c {text}")
    paper = make_paper(
        cells=cells,
        title=f"T {text}",
        authors=text,
        arxiv=text,
        figures=tuple(
            Figure(str(number), f"{number} {text}", text, draw)
            for number, draw in enumerate((drawn, missing, failing, draw_loss))
        ),
    )
    sentences = [
        replace(claim, id=f"{claim.id}{text}", sentence=f"{claim.id}{text}", provenance=text, unit=text)
        for claim in paper.claims
    ]
    sentences.append(Claim("six", text, text, text, text, None, out_of_reach=text))
    scales = tuple(Scale(scale.name, f"d {text}", scale.cells) for scale in paper.scales)
    paper = replace(paper, claims=tuple(sentences), scales=scales)
    rows = make_rows(paper)
    for row in rows:
        row |= dict.fromkeys(("device", "precision", "commit", "versions", "config_hash", "wall_s", "epochs"), text)
        row[f"m {text}"] = 1.0
    for row in rows[6:]:
        row |= dict.fromkeys(("train_acc", "test_acc", "fit_epoch"))
    del rows[5]
    write_results(paper, folder / "results", rows=rows)
    (folder / "results" / "quick.csv").write_text(table(rows), encoding="utf-8", newline="")
    claims = folder / "results" / "quick.claims.json"
    entries = json.loads(claims.read_text(encoding="utf-8"))
    entries = [
        entry | {"reason": text, "verdict": text if entry["id"] == "six" else entry["verdict"]} for entry in entries
    ]
    claims.write_text(json.dumps(entries), encoding="utf-8")
    (folder / "results" / f"{text.replace('/', '')[:200]}.csv").write_text("", encoding="utf-8")
    run = Store(folder / "runs").run(paper.scales[0].cells[1].hash(2))
    run.folder.mkdir(parents=True)
    run.fail(f"Traceback ...\n  {text}\nValueError: {text}")
    return write_report(paper, folder / "results", folder / "site", Store(folder / "runs"))


def skeleton(page):
    """The tags of a page and the names of their attributes, without drawings and places to break a word."""
    tags, inside = [], False
    for tag, attrs in page.tags:
        inside = (tag == "svg" and attrs.get("role") == "img") or (inside and tag in DRAWN)
        if not inside and tag != "wbr":
            tags.append((tag, sorted(attrs)))
    return tags


DRAWN = {"g", "path", "defs", "use", "text", "tspan", "clippath", "rect", "line"}


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    page = hostile_site(tmp_path_factory.mktemp("harmless"), "x")
    return Page(page.read_text(encoding="utf-8")), Page((page.parent / "index.html").read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # matplotlib's, that its font lacks a character
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_text_of_a_run_becomes_part_of_the_page(tmp_path, harmless, kind):
    text = HOSTILE[kind]
    page = hostile_site(tmp_path, text)
    shown = spaced(legible(text))
    for file, same in zip((page, page.parent / "index.html"), harmless, strict=True):
        html = file.read_text(encoding="utf-8")
        parsed = Page(html)
        assert skeleton(parsed) == skeleton(same)
        assert not parsed.comments
        assert shown[:4000] in parsed.text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]", html)
        links = {attrs["href"] for tag, attrs in parsed.tags if tag == "a"}
        files = {link.split("#")[0] for link in links if not link.startswith(("#", "https://arxiv.org/abs/"))}
        assert all((page.parent / name).is_file() for name in files)
        assert {tag for tag, _ in parsed.tags} <= {tag for tag, _ in same.tags} | DRAWN
        assert not [name for _, attrs in parsed.tags for name in attrs if name.startswith("on")]
        assert len(html) < 2_000_000
    parsed = Page(page.read_text(encoding="utf-8"))
    for count, start in ((2, "T "), (1, "net/b "), (1, "m "), (2, "0 "), (1, "ValueError: "), (1, "RuntimeError: ")):
        assert parsed.text.lower().count(f"{start}{shown[:400]}".lower()) >= count, start
    strict(json.loads(page.with_suffix(".json").read_text(encoding="utf-8")))


def test_half_characters_of_a_claims_file_can_be_written(tmp_path, paper):
    claims = tmp_path / "results" / "quick.claims.json"
    entries = json.loads(claims.read_text(encoding="utf-8"))
    claims.write_text(json.dumps([entry | {"reason": "\ud800"} for entry in entries]), encoding="ascii")
    page = write_report(paper, tmp_path / "results", tmp_path / "site")
    assert "\\ud800" in page.read_text(encoding="utf-8")


@given(st.text())
def test_legible_texts_can_be_written_and_say_what_was_there(text):
    shown = legible(text)
    assert legible(shown) == shown
    shown.encode("utf-8")
    back = re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), shown)
    assert back == re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), text)


def test_texts_that_people_write_are_left_alone():
    text = "Größe: 3 ± 1 %,\tπ ≈ 3\u202f%\n«日本語» עברית \U0001f600"
    assert legible(text) == text
    assert legible({"a": (text, 1.5, None), "b\x00": [True]}) == {"a": (text, 1.5, None), "b\\u0000": [True]}


@given(st.lists(st.floats()))
def test_numbers_are_what_json_has(values):
    for value, data in zip(values, strict(plain({"v": tuple(values)}))["v"], strict=True):
        if math.isfinite(value):
            assert data == value
        else:
            assert data is None if math.isnan(value) else float(data) == value
