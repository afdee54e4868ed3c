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
from lightning_regs.study.paper.claims import VERDICTS, Claim, Source
from lightning_regs.study.paper.figure import Figure
from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.paper.paper import Deviation
from lightning_regs.study.paper.rows import MissingRows
from lightning_regs.study.report.drawing import draw, name_figure
from lightning_regs.study.report.legible import legible, plain
from lightning_regs.study.report.plots import describe, note
from lightning_regs.study.report.report import render, write_report
from lightning_regs.study.report.specification import specify
from lightning_regs.study.report.tables import groups
from lightning_regs.study.report.telling import TITLES
from lightning_regs.study.store.results import default_results
from lightning_regs.study.store.tables import Row


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


@pytest.mark.slow
def test_it_is_strict_json_the_same_each_time_and_the_file_beside_the_page(tmp_path, paper):
    first, second = (specify(paper, tmp_path / "results").as_dict() for _ in range(2))
    assert strict(first) == first == second
    page = write_report(paper, tmp_path / "results", tmp_path / "site")
    assert json.loads((tmp_path / "site" / "smith2020.json").read_text(encoding="utf-8")) == first
    assert "smith2020.json" in [link["href"] for link in Page(page.read_text(encoding="utf-8")).all("a")]


@pytest.mark.slow
def test_claims_have_numbers_and_words(tmp_path, paper):
    with pytest.raises(ValueError, match="Did you mean 'quick'"):
        specify(paper, tmp_path / "results", scales=["quik"])
    (section,) = specify(paper, tmp_path / "results", scales=["quick"]).as_dict()["sections"]
    fits, true, noisy, slow, imagenet = section["claims"]
    names = ("ours", "low", "high", "holds_low", "holds_high", "paper")
    expected = dict(zip(names, (80.1, 79.852, 80.348, 79, 81, 80), strict=True))
    assert true["numbers"] == pytest.approx(expected, abs=1e-3)
    assert (true["ours"], true["paper"], true["n"], true["criterion"]) == (
        "80.10\u202f%",
        "80.00\u202f%",
        3,
        "79 to 81 %",
    )
    assert [claim["recalled"] for claim in (fits, true, noisy)] == [False, True, False]
    assert slow["numbers"] == dict.fromkeys(names) | {"holds_low": 1}
    assert (slow["paper"], slow["criterion"], imagenet["reason"]) == ("1 to 4", "above 1\u00d7", "ImageNet is not here")
    [tally] = section["tallies"]
    assert (tally["kind"], tally["waiting"]) == ("paper", 1)
    assert tally["counts"] == dict(zip(VERDICTS, (2, 1, 1, 0, 0, 1), strict=True))


@pytest.mark.slow
def test_what_does_not_exist_is_no_number(tmp_path, paper):
    quick, full = specify(paper, tmp_path / "results").as_dict()["sections"]
    true, noisy = quick["groups"][0]["cells"]
    assert [run["metrics"]["fit_epoch"] for run in (*true["runs"], *noisy["runs"])] == [6, 7, 8, None, None, None]
    assert noisy["command"] == "lightning-regs reproduce smith2020 --scale quick --cells net/random-labels"
    assert noisy["origin"]["commit"] == ["aafda98"]
    assert (full["state"], full["runs"], full["expected"], full["groups"]) == ("empty", 0, 6, [])
    assert full["command"] == "lightning-regs reproduce smith2020 --scale full"
    assert (quick["state"], quick["runs"]) == ("complete", 6)
    assert quick["downloads"] == [f"smith2020-quick.{ending}" for ending in ("csv", "claims.json", "curves.csv")]


@pytest.mark.slow
def test_figures_can_be_named_without_being_drawn(tmp_path, paper):
    drawn, named = (
        specify(paper, tmp_path / "results", scales=["quick"], show=show).sections[0].figures
        for show in (draw, name_figure)
    )
    assert [replace(f, alt="", notes=(), svg="", drawing=None, fingerprint="") for f in drawn] == list(named)
    assert (drawn[0].alt, drawn[0].notes, bool(drawn[0].svg)) == ("Loss over 290 steps.", ("Means over seeds.",), True)
    assert "svg" not in specify(paper, tmp_path / "results", scales=["quick"]).as_dict()["sections"][0]["figures"][0]


def check_page(specification):
    """Look up everything that the data say in what a browser would show."""
    page = Page(render(specification))
    data = strict(specification.as_dict())
    claims = [row for title in TITLES.values() for row in page.rows(title)]
    entries = [(row[0], row[1], re.sub("(95 % )?interval ", " ", row[2])) for row in claims]
    cells = {(row[0], *row[2 : 2 + length]) for row in page.rows("") for length in range(len(row) - 1)}
    runs = [tuple(row[:2]) for row in page.rows("Every run")]
    words, links = page.text.lower(), page.all("a")
    whole = "would make this page too large" not in page.text
    for section in data["sections"]:
        for claim in section["claims"]:
            ours = f"{claim['ours']} {claim['interval']}"
            start = spaced(claim["sentence"]), f"claim {spaced(claim['id'])}", spaced(claim["paper"]), spaced(ours)
            assert [
                text
                for text, value, number in entries
                if text.startswith(start[0])
                and start[1] in text
                and value.startswith(start[2])
                and spaced(number) == start[3]
            ], claim
        for group in section["groups"]:
            for cell in group["cells"]:
                assert (spaced(cell["name"]), *map(spaced, cell["texts"])) in cells
                for run in cell["runs"] if whole else ():
                    assert (cell["name"], str(run["seed"])) == runs.pop(0)
        said = [*section["problems"], *section["mixed"], section["command"], section["description"]]
        said += [figure["title"] for figure in section["figures"]]
        said += [f"{n} {verdict}" for tally in section["tallies"] for verdict, n in tally["counts"].items() if n]
        for text in said:
            assert spaced(text).rstrip(".").lower() in words
        for name in section["downloads"]:
            assert {"href": name, "download": None} in links
    deviations = [each[what] for each in data["deviations"] for what in ("theirs", "ours", "effect")]
    for text in (*deviations, *(source["title"] for source in data["sources"])):
        assert spaced(text).rstrip(".") in page.text
    assert not (whole and runs)
    assert len(claims) == sum(len(section["claims"]) for section in data["sections"])
    return page


@pytest.mark.slow
def test_the_page_says_what_the_data_say(tmp_path, paper):
    rows = make_rows(paper)
    rows[2]["commit"] = "0000000"
    write_results(paper, tmp_path / "results", rows=rows[:5])
    specification = specify(paper, tmp_path / "results")
    labels = [attrs["aria-label"] for attrs in check_page(specification).all("svg") if attrs.get("role") == "img"]
    drawn = [figure for section in specification.sections for figure in section.figures if figure.svg]
    drawn.insert(0, specification.picture)
    assert labels == [f"{figure.title}. {figure.alt}".strip() for figure in drawn]


@pytest.mark.parametrize("paper_id", list(find_papers()))
@pytest.mark.slow
def test_the_pages_of_the_papers_say_what_their_data_say(paper_id):
    paper = load_paper(paper_id)
    specification = specify(paper, default_results(paper), show=name_figure)
    check_page(specification)
    told = [{claim.id for claim in section.claims} for section in specification.sections if section.rows]
    assert all(ids == {claim.id for claim in paper.claims} for ids in told)
    assert [problem for section in specification.sections for problem in section.problems] == []


def test_tables_that_would_be_too_long_are_left_to_the_download(tmp_path, paper):
    specification = specify(paper, tmp_path / "results", show=name_figure)
    found = {most: Page(render(specification, most)) for most in (6, 5, 1)}
    assert [len(page.rows("Every run")) for page in found.values()] == [6, 0, 0]
    assert [len(page.rows("Training runs")) for page in found.values()] == [2, 2, 1]
    assert (
        "Every run is a line of smith2020-quick.csv ; a table of them would make this page too large" in found[5].text
    )
    assert "and so are the cells that are not listed here" in found[1].text


MARKUP = [
    "<script>alert(1)</script>",
    "</style></svg></title></table><img src=x onerror=alert(1)>",
    '"\' onmouseover="alert(1)" x=\'',
    "javascript:alert(1)",
    "<!-- <b> -->",
    "{{ 7 * 7 }}{% include 'base.html.j2' %}",
    "&lt;b&gt;&#x3c;",
    "]]><![CDATA[<b>",
    "$x^2$ \\(x\\) **a** `b`",
]
HOSTILE = {
    "markup": " ".join(MARKUP),
    "a link": MARKUP[3],
    "invisible characters": "a\x07\x1b[31mb\x7f\x85c a\u202egnp.exe\u2066b\u200f",
    "a long word": "W" * 6000,
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

    draws = (drawn, missing, failing, draw_loss)
    made = make_paper(cells=(f"net/{text}", f"net/b {text}", f"c {text}"))
    source = Source(text, f"s {text}", text, 2020, "a.org", text)
    name = "".join(filter(str.isprintable, text))  # all that an id can have
    claims = [
        replace(claim, id=f"{claim.id}{name}", sentence=f"{claim.id}{text}", source=source, where=text, unit=text)
        for claim in made.claims
        if claim.measure is not None
    ]
    paper = replace(
        made,
        title=f"T {text}",
        authors=text,
        arxiv=text,
        figures=tuple(Figure(str(number), f"{number} {text}", text, draw) for number, draw in enumerate(draws)),
        claims=(*claims, Claim("six", text, published=text, out_of_reach=text, kind="control")),
        scales=tuple(replace(scale, description=f"d {text}") for scale in made.scales),
        deviations=(Deviation("", f"u {text}", f"v {text}", f"w {text}"),),
    )
    rows = make_rows(paper)
    for row in rows:
        row |= dict.fromkeys(("device", "precision", "commit", "versions", "config_hash", "wall_s", "epochs"), text)
        row[f"m {text}"] = 1.0
    for row in rows[6:]:
        row |= dict.fromkeys(("train_acc", "test_acc", "fit_epoch"))
    del rows[5]
    write_results(paper, folder / "results", rows=rows)
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
@pytest.mark.slow
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
        files = {
            link.split("#")[0]
            for link in links
            if not link.startswith(("#", "https://arxiv.org/abs/", "https://a.org"))
        }
        assert all((page.parent / name).is_file() for name in files)
        assert {tag for tag, _ in parsed.tags} <= {tag for tag, _ in same.tags} | DRAWN
        assert not [name for _, attrs in parsed.tags for name in attrs if name.startswith("on")]
        assert len(html) < 2_000_000
    parsed = Page(page.read_text(encoding="utf-8"))
    for count, start in (
        (2, "T "),
        (1, "net/b "),
        (1, "m "),
        (2, "0 "),
        (1, "s "),
        (1, "v "),
        (1, "ValueError: "),
        (1, "RuntimeError: "),
    ):
        assert parsed.text.lower().count(f"{start}{shown[:400]}".lower()) >= count, start
    strict(json.loads(page.with_suffix(".json").read_text(encoding="utf-8")))


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
    assert legible({"b\\u0000": text, "b\x00": text}) == {"b\\u0000": text}
    rows = ({"a": [text]}, Source("a", text, "", 2020, "b", "c"))
    assert legible(rows) is rows


@given(st.lists(st.floats()))
def test_numbers_are_what_json_has(values):
    for value, data in zip(values, strict(plain({"v": tuple(values)}))["v"], strict=True):
        if math.isfinite(value):
            assert data == value
        else:
            assert data is None if math.isnan(value) else float(data) == value


@pytest.mark.parametrize(
    ("names", "title"),
    [
        (("train_error", "test_error"), "Wilson's linear problem"),
        (("train_error", "my_gap"), "net"),
        (("train_acc", "my_gap"), "Training runs"),
    ],
)
def test_a_table_has_the_name_of_a_study_only_where_it_holds_what_that_measures(names, title):
    rows = [Row.of({"cell": "net/a", "seed": seed} | dict.fromkeys(names, 1.0)) for seed in range(2)]
    assert [group.name for group in groups(rows)] == [title]
