"""The report: as data, as wandb-workspaces builds it, and on a server."""

from __future__ import annotations

import json
import re
import string
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import NASTY, make_paper, make_rows, write_results
from markdown_it import MarkdownIt

from lightning_regs.study.paper.claims import VERDICTS
from lightning_regs.study.paper.figure import AXIS, Panel
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.report.drawing import name_figure
from lightning_regs.study.report.rendering import code, escape
from lightning_regs.study.report.specification import FailureEntry, specify
from lightning_regs.study.store.results import default_results
from lightning_regs.study.wandb.blocks import MAX_TITLE, blocks, where
from lightning_regs.study.wandb.report import build, publish, write_json
from lightning_regs.study.wandb.target import Target

# The library's own, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")

TARGET = Target("team", "nets")
HOSTILE = '\'; <b>x</b> [y](http://z.de) `c|d` $1$ _e_ a=b<=c>d \\ www.f.org me@g.com & "h" #1 {} ~~i~~ ü'
WRONG = ["m e/nets", "-/nets", "mé/nets", "me/a?b", "me/a:b", "me/ a", "me/" + "a" * 129]
CELLS = ("net/true-labels", "net/random-labels")


def specification(tmp_path, *, cells=CELLS, panels=None, **changes):
    paper = make_paper(cells=cells, **changes)
    write_results(paper, tmp_path / "results", rows=make_rows(paper, seeds=3))
    shown = panels or (Panel("curve", ("train_loss",), cells), Panel("bar", ("train_acc", "test_acc"), cells[:2]))
    return specify(paper, tmp_path / "results", show=lambda figure, *_: replace(name_figure(figure), panels=shown))


def every(made):
    for block in made:
        yield block
        yield from every(block.get("collapsed_blocks", ()))


def of(made, kind):
    return [block for block in every(made["blocks"]) if re.fullmatch(kind, block["type"])]


def tables(made):
    return [block["text"] for block in of(made, "MarkdownBlock") if block["text"].startswith("|")]


def words(made):
    """Return the texts that are no tables, as they are read."""
    texts = [block["text"] for block in of(made, "MarkdownBlock") if not block["text"].startswith("|")]
    tokens = [token for text in texts for token in MarkdownIt("commonmark").parse(text)]
    spans = [child for token in tokens for child in token.children or ()]
    return texts, [plain(span.content) for span in spans if span.type == "code_inline"]


def parsed(text):
    """Read a Markdown table with a parser that is not ours: lines of texts, and the kinds of what they consist of."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    assert [token.type for token in tokens if token.level == 0] == ["table_open", "table_close"]
    lines, kinds = [], set()
    for token in tokens:
        if token.type == "tr_open":
            lines.append([])
        if token.type == "inline":
            kinds |= {child.type for child in token.children}
            lines[-1].append("".join(child.content for child in token.children))
    return lines, kinds


def plain(text):
    return " ".join(text.replace("\u2060", "").split())


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


# -- the report as data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zhang2017", "smith2021", "frankle2019"])
@pytest.mark.slow
def test_the_file_holds_every_claim_and_figure(name, tmp_path):
    paper = load_paper(name)
    spec = specify(paper, default_results(paper), show=name_figure)
    made = strict(write_json(spec, TARGET, tmp_path / "report.json").read_text(encoding="utf-8"))
    lines = [{*map(plain, line)} for text in tables(made) for line in parsed(text)[0]]
    headings = [block["text"] for block in of(made, "H.")]
    grids = of(made, "PanelGrid")
    pictures = [panel["media_keys"] for grid in grids for panel in grid["panels"] if panel["type"] == "MediaBrowser"]
    for section in spec.sections:
        if section.blank:
            continue
        assert f"Scale {section.scale}" in headings
        for claim in section.claims:
            found = [line for line in lines if plain(claim.sentence) in line]
            shown = [claim.ours, claim.interval, str(claim.n)] if claim.verdict in VERDICTS[:4] else []
            assert any({plain(text) for text in shown} <= line for line in found), claim.id
            for text in (claim.reason, claim.exploratory, *claim.facts):
                assert any(plain(text) in cell for line in found for cell in line), claim.id
            if claim.recalled:
                assert any(cell.endswith("(recalled)") for line in found for cell in line), claim.id
        for figure in section.figures:
            assert figure.title in headings
            assert [f"figure/{figure.id}"] in pictures
    assert made["specification"] == spec.as_dict()
    assert sum(len(section["claims"]) for section in made["specification"]["sections"]) >= 40
    for grid in grids:  # panels do not overlap
        places = [panel["layout"] for panel in grid["panels"]]
        taken = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
        assert len(taken) == len(set(taken))
        assert all(p["x"] + p["w"] <= 24 for p in places)


def test_counts_origin_and_commands_are_said(tmp_path):
    spec = specification(tmp_path)
    made = blocks(spec, TARGET)
    said = json.dumps(made["blocks"], ensure_ascii=False)
    verdicts = [claim.verdict for section in spec.sections for claim in section.claims]
    for symbol, verdict in zip("✓✗?!·\u2013", VERDICTS, strict=True):
        assert f"{symbol} {verdicts.count(verdict)} {verdict}" in made["description"]
    assert "Of 3 claims of the paper measured here 2 held and 1 did not hold." in said
    assert "6 of 6 runs, complete" in said
    texts, codes = words(made)
    assert {"aafda98", "torch 2.15.0", "cpu (1 thread)", "32-true"} <= set(codes)
    [commands] = [text for text in texts if "goes on where it was" in text]
    assert [token.content for token in MarkdownIt("commonmark").parse(commands) if token.type == "fence"] == [
        "lightning-regs reproduce smith2020 --scale quick\n",
        "lightning-regs reproduce smith2020 --scale quick --cells net/true-labels\n",
    ]
    assert "[arXiv:2001.00001](https://arxiv.org/abs/2001.00001)" in texts[0]
    assert "lightning-regs reproduce smith2020 --scale full" in said  # not measured: how to do it
    assert made["title"] == "smith2020: Nets & labels"
    assert (made["entity"], made["project"]) == ("team", "nets")


def test_what_is_wrong_is_said(tmp_path):
    spec = specification(tmp_path)
    failure = FailureEntry(NASTY, 1, "RuntimeError: [x](javascript:alert)", "...")
    figures = (replace(spec.sections[0].figures[0], missing="nobody ran it"), spec.sections[0].figures[1])
    claims = (replace(spec.sections[0].claims[0], recalled=True), *spec.sections[0].claims[1:])
    changes = {"mixed": ("2 commits",), "problems": ("A line is cut.",), "failures": (failure,), "figures": figures}
    made = blocks(replace(spec, sections=(replace(spec.sections[0], claims=claims, **changes),)), None)
    callouts = [block["text"] for block in of(made, "CalloutBlock")]
    assert callouts == ["A line is cut.", "The runs come from 2 commits: they are not one experiment."]
    [failed] = [text for text in words(made)[0] if "RuntimeError" in text]
    [item] = [token for token in MarkdownIt("commonmark").parse(failed) if token.type == "inline"]
    shown = "".join(child.content for child in item.children)
    assert plain(shown) == plain(f"{NASTY} seed 1: {failure.reason}")
    assert "Not drawn at this scale: nobody ran it." in [block["text"] for block in of(made, "P")]
    assert "figure/loss" not in json.dumps(of(made, "PanelGrid"))
    assert any("(recalled)" in text for text in tables(made))


def test_a_panel_without_anything_to_compare_is_left_out(tmp_path):
    cells = [("net/true-labels",), ("net/true-labels", "other"), ("other",)]
    made = blocks(specification(tmp_path, panels=tuple(Panel("bar", ("test_acc",), each) for each in cells)), TARGET)
    [_, _, grid, *_] = of(made, "PanelGrid")
    assert len(of(made, "PanelGrid")) == 5
    assert len(grid["panels"]) == 1
    assert grid["runsets"][0]["filters"].endswith("in ['net/true-labels']")


def test_titles_are_short_enough_and_tell_papers_apart(tmp_path):
    spec = specification(tmp_path, title="On nets " * 40)
    assert len(blocks(spec, None)["title"]) == MAX_TITLE
    assert blocks(spec, None)["title"] != blocks(replace(spec, paper="jones2020"), None)["title"]


# -- texts that are not ours -----------------------------------------------------------------------------------------


def test_hostile_names_do_not_break_tables(tmp_path):
    spec = specification(tmp_path, cells=("net/true-labels", NASTY, HOSTILE))
    claims = (replace(spec.sections[0].claims[0], sentence=HOSTILE, reason=NASTY, verdict="not decided"),)
    made = blocks(replace(spec, sections=(replace(spec.sections[0], claims=claims),)), TARGET)
    shown = set()
    for text in tables(made):
        lines, kinds = parsed(text)
        assert {len(line) for line in lines} == {len(lines[0])}
        assert kinds <= {"text", "text_special", "code_inline"}
        shown |= {plain(cell) for line in lines for cell in line}
    assert {"net/true-labels", plain(NASTY), plain(HOSTILE)} <= shown


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="\\`*_~$|[]()<>&#!-+=.:@/;'\" \n\twha1", max_size=30))
def test_any_text_stands_in_a_table_as_it_is(text):
    for write in (escape, code):
        lines, kinds = parsed(f"| a | b |\n| --- | --- |\n| {write(text)} | x |")
        assert [[plain(cell) for cell in line] for line in lines] == [["a", "b"], [plain(text), "x"]]
        assert kinds <= {"text", "text_special", "code_inline"}


@pytest.mark.parametrize("text", ["see http://a.de", "HTTPS://a.de", "www.a.de", "me@a.de", "mailto:me@a.de"])
def test_addresses_do_not_become_links(text):
    # What GitHub's flavour of Markdown makes a link of, in text whose escapes have been resolved.
    link = r"(?i)(https?|ftp)://|www\.|(mailto|xmpp):|[\w.+-]+@[\w-]"
    assert re.search(link, text)
    shown = parsed(f"| {escape(text)} |\n| --- |")[0][0][0]
    assert not re.search(link, shown)
    assert plain(shown) == text


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=20), st.lists(st.text(max_size=20), min_size=1, max_size=3))
@pytest.mark.slow
def test_the_librarys_parser_reads_any_name_out_of_a_filter(one, several):
    from wandb_workspaces.expr import expr_to_filters

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = expr_to_filters(where({"paper": one, "JobType": one, "cell": several}))
    assert tree.op == "AND"
    assert [(leaf.key.section, leaf.key.name, leaf.op, leaf.value) for leaf in tree.filters] == [
        ("config", "paper", "=", one),
        ("run", "jobType", "=", one),
        ("config", "cell", "IN", several),
    ]
    for name in (NASTY, HOSTILE, "Metric('CreatedTimestamp') within_last 5 days", "a == b", "\u202e\n"):
        assert expr_to_filters(where({"cell": [name]})).value == [name]


# -- with the library ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_server(monkeypatch):
    from wandb_workspaces.reports.v2 import interface

    monkeypatch.setattr(interface, "_get_api", lambda: None)
    monkeypatch.setattr(interface, "execute_graphql", lambda *_: {"project": {"id": "x", "internalId": "7"}})


def test_the_report_is_built_block_by_block(tmp_path, no_server):
    cells = ("net/true-labels", NASTY)
    spec = specification(tmp_path, cells=cells)
    spec = replace(spec, sections=tuple(replace(section, problems=("cut",)) for section in spec.sections))
    made, report = blocks(spec, TARGET), build(spec, TARGET)
    assert [type(block).__name__ for block in report.blocks] == [block["type"] for block in made["blocks"]]
    assert (report.title, report.entity, report.project) == (made["title"], "team", "nets")
    sent = strict(report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    assert len(sent["blocks"]) == len(made["blocks"]) + 2  # the library adds an empty paragraph at each end
    nested = [child for block in sent["blocks"] for child in block.get("collapsedChildren") or ()]
    shown = [block["content"] for block in [*sent["blocks"], *nested] if block["type"] == "markdown-block"]
    assert sorted(shown) == sorted(block["text"] for block in of(made, "MarkdownBlock"))
    image, both = [block["metadata"] for block in sent["blocks"] if block["type"] == "panel-grid"][1:3]
    panel = image["panelBankSectionConfig"]["panels"][0]
    assert (panel["viewType"], panel["config"]["mediaKeys"]) == ("Media Browser", ["figure/loss"])
    curve, bar = both["panelBankSectionConfig"]["panels"]
    assert curve["viewType"] == "Run History Line Plot"
    assert (curve["config"]["xAxis"], curve["config"]["metrics"]) == (AXIS, ["train_loss"])
    assert bar["viewType"] == "Bar Chart"
    assert "Train accuracy, Test accuracy (net)" in [panel["title"] for panel in of(made, "PanelGrid")[2]["panels"]]
    assert bar["config"]["metrics"] == ["train_acc", "test_acc"]
    for config in (curve["config"], bar["config"]):
        assert (config["groupBy"], config["groupAgg"], config["groupArea"]) == ("cell.value", "mean", "minmax")
        assert (config["aggregate"], config["limit"]) == (True, 10)
    assert image["runSets"][0]["filters"]["filters"][0]["key"] == {"section": "run", "name": "jobType"}
    runs = both["runSets"][0]
    assert (runs["project"]["entityName"], runs["project"]["name"]) == ("team", "nets")
    assert [(f["key"]["name"], f["op"], f["value"]) for f in runs["filters"]["filters"]] == [
        ("paper", "=", "smith2020"),
        ("scale", "=", "quick"),
        ("cell", "IN", list(cells)),
    ]


# -- refusals --------------------------------------------------------------------------------------------------------


def test_without_the_extra_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    spec = specification(tmp_path)
    for ask in (build, publish):
        with pytest.raises(ValueError, match=r'pip install "lightning-regs\[reports\]".*--dry-run') as refused:
            ask(spec, TARGET)
        assert "\n" not in str(refused.value)
    assert write_json(spec, None, tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    "text", ["", "nets", "me/", "/nets", "me/nets/x", "https://wandb.ai/me/nets", "me nets", *WRONG]
)
def test_what_is_no_target_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is no project of Weights & Biases; write it as")):
        Target.parse(text)


def test_projects_are_taken_as_wandb_takes_them():
    import wandb

    for character in string.printable[:95]:
        try:
            wandb.Settings(project=f"a{character}b")
            taken = True
        except wandb.errors.UsageError:
            taken = False
        try:
            assert str(Target.parse(f"my-team/a{character}b")) == f"my-team/a{character}b"
            assert taken, character
        except ValueError:
            assert not taken, character


@pytest.mark.slow
def test_the_file_is_written_where_it_can_be(tmp_path):
    spec = specification(tmp_path)
    path = write_json(spec, None, tmp_path / "new" / "folder" / "report.json")
    made = strict(path.read_text(encoding="utf-8"))
    assert (made["entity"], made["project"]) == (None, None)
    assert "Nets & labels" in path.read_text(encoding="utf-8")
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "new", tmp_path / "file" / "report.json"):
        with pytest.raises(ValueError, match=r"cannot be written to .*; choose another file\.") as refused:
            write_json(spec, None, wrong)
        assert "None" not in str(refused.value)


# -- a server --------------------------------------------------------------------------------------------------------

PUBLISH = """
import json, sys
from lightning_regs.study.report.specification import Specification
from lightning_regs.study.wandb.report import publish
from lightning_regs.study.wandb.target import Target

spec = Specification("smith2020", "Nets? & #labels", "Smith", 2020, "", "0.1", ())
for project in sys.argv[1:]:
    try:
        said = publish(spec, Target("team", project))
    except ValueError as error:
        said = f"refused: {error}"
    print(json.dumps(said))
"""


def ask(*projects):
    """Publish in a process of its own: wandb keeps its login for the whole process."""
    done = subprocess.run([sys.executable, "-c", PUBLISH, *projects], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_publishing_again_updates_the_report(server, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")  # of other programs
    first, second, hidden = ask("nets", "nets", "hidden")
    # The id is how the address finds the report; what stands before it is for people.
    assert first == second == f"{server.url}/team/nets/reports/smith2020-Nets-labels--VmlldzoxMg"
    assert [view["displayName"] for view in server.views.values()] == ["smith2020: Nets? & #labels"]
    assert hidden.startswith("refused: Weights & Biases did not take the report for team/hidden (")
    assert "lightning-regs sync" in hidden
    assert "\n" not in hidden


@pytest.mark.slow
def test_without_login_or_server_one_sentence_says_what_to_do(server, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    [said] = ask("nets")
    assert said.startswith("refused: Weights & Biases did not take the report for team/nets (")
    assert said.endswith("or write the report to a file with --dry-run.")
    monkeypatch.delenv("WANDB_API_KEY")
    assert ask("nets") == [
        "refused: Weights & Biases has no login here; log in with `wandb login`, or set WANDB_API_KEY, or write the "
        "report to a file with --dry-run."
    ]
