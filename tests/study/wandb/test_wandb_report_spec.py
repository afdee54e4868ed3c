from __future__ import annotations

import json
import os
import re
import string
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import NASTY, make_paper, make_rows, write_results
from markdown_it import MarkdownIt

from lightning_regs.study.paper.claims import VERDICTS
from lightning_regs.study.paper.figure import Panel
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.report.specification import FailureEntry, specify
from lightning_regs.study.store.ledger import default_results
from lightning_regs.study.wandb import report as wandb_report
from lightning_regs.study.wandb.blocks import MAX_TITLE, blocks, code, escape
from lightning_regs.study.wandb.record import AXIS, results_entry
from lightning_regs.study.wandb.report import Target, build, filter_text, publish, write_json

# The library's own, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")

TARGET = Target("me", "nets")
PANELS = (Panel("curve", ("train_loss",)), Panel("bar", ("train_acc", "test_acc"), ("net/*",)))
HOSTILE = '\'; <b>x</b> [y](http://z.de) `c|d` $1$ _e_ a=b<=c>d \\ www.f.org me@g.com & "h" #1 {} ~~i~~ ü'


def specification(tmp_path, *, cells=("net/true-labels", "net/random-labels"), seeds=3, **changes):
    paper = make_paper(cells=cells, **changes)
    figures = tuple(replace(figure, panels=PANELS) for figure in paper.figures)
    paper = replace(paper, figures=figures)
    write_results(paper, tmp_path / "results", rows=make_rows(paper, seeds=seeds))
    return specify(paper, tmp_path / "results", draw=False)


def every(made):
    for block in made:
        yield block
        yield from every(block.get("collapsed", ()))


def of(made, kind):
    return [block for block in every(made["blocks"]) if block["kind"] == kind]


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
def test_the_file_holds_every_claim_and_figure(name, tmp_path):
    paper = load_paper(name)
    spec = specify(paper, default_results(paper), draw=False)
    made = strict(write_json(spec, TARGET, tmp_path / "report.json").read_text(encoding="utf-8"))
    lines = [{*map(plain, line)} for block in of(made, "markdown") for line in parsed(block["text"])[0]]
    headings = [block["text"] for block in of(made, "heading")]
    pictures = [panel["media"] for grid in of(made, "grid") for panel in grid["panels"] if panel["kind"] == "image"]
    for section in spec.sections:
        if section.blank:
            continue
        assert f"Scale {section.scale}" in headings
        for claim in section.claims:
            found = [line for line in lines if plain(claim.sentence) in line]
            shown = [claim.reason] if claim.verdict == "out of reach" else [claim.ours, claim.interval, str(claim.n)]
            assert any({plain(text) for text in shown} <= line for line in found), claim.id
            if claim.recalled:
                assert any(cell.endswith("(recalled)") for line in found for cell in line), claim.id
        for figure in section.figures:
            assert figure.title in headings
            assert [f"figure/{figure.id}"] in pictures
    assert made["specification"] == spec.as_dict()
    assert sum(len(section["claims"]) for section in made["specification"]["sections"]) >= 50


def test_counts_origin_and_commands_are_said(tmp_path):
    spec = specification(tmp_path)
    made = blocks(spec, TARGET)
    said = json.dumps(made["blocks"], ensure_ascii=False)
    verdicts = [claim["verdict"] for claim in json.loads((tmp_path / "results" / "quick.claims.json").read_text())]
    for symbol, verdict in zip("✓✗?\u2013", VERDICTS, strict=True):
        assert f"{symbol} {verdicts.count(verdict)} {verdict}" in said
    assert "6 of 6 runs, complete" in said
    for word in ("aafda98", "torch 2.15.0", "cpu (1 thread)", "32-true"):
        assert {"code": word} in [span for block in of(made, "list") for item in block["items"] for span in item]
    assert [block["text"] for block in of(made, "code")] == [
        "lightning-regs reproduce smith2020 --scale quick",
        "lightning-regs reproduce smith2020 --scale quick --cells net/true-labels",
    ]
    assert {"link": "https://arxiv.org/abs/2001.00001", "text": "arXiv:2001.00001"} in made["blocks"][0]["spans"]
    assert "lightning-regs reproduce smith2020 --scale full" in said  # not measured: how to do it
    assert made["title"] == "smith2020: Nets & labels"
    assert (made["entity"], made["project"]) == ("me", "nets")


def test_mixed_rows_problems_and_failures_are_said(tmp_path):
    spec = specification(tmp_path)
    failure = FailureEntry(NASTY, 1, "RuntimeError: [x](javascript:alert)", "...")
    quick = replace(spec.sections[1], mixed=("2 commits",), problems=("A line is cut.",), failures=(failure,))
    made = blocks(replace(spec, sections=(quick,)), None)
    callouts = [block["text"] for block in of(made, "callout")]
    assert callouts == ["A line is cut.", "The runs come from 2 commits: they are not one experiment."]
    spans = [span for block in of(made, "list") for item in block["items"] for span in item]
    assert {"code": f"{NASTY} seed 1"} in spans
    assert {"code": failure.reason} in spans


def test_a_figure_that_is_not_drawn_says_why_and_shows_nothing(tmp_path):
    spec = specification(tmp_path)
    quick = spec.sections[1]
    figures = (replace(quick.figures[0], missing="nobody ran it"), quick.figures[1])
    made = blocks(replace(spec, sections=(replace(quick, figures=figures),)), TARGET)
    assert {grid["figure"] for grid in of(made, "grid")} == {"names"}
    assert "Not drawn at this scale: nobody ran it." in [block["spans"][0] for block in of(made, "paragraph")]


def test_grids_show_the_runs_that_the_figure_is_about(tmp_path):
    made = blocks(specification(tmp_path, cells=("net/true-labels", "net/random-labels", "theory/x")), TARGET)
    image, curve, bar = [grid for grid in of(made, "grid") if grid["figure"] == "loss"]
    here = [
        {"section": "config", "name": "paper", "op": "==", "value": "smith2020"},
        {"section": "config", "name": "scale", "op": "==", "value": "quick"},
    ]
    assert image["runsets"][0]["filters"] == [
        {"section": "run", "name": "JobType", "op": "==", "value": "results"},
        *here,
    ]
    nets = ["net/true-labels", "net/random-labels"]
    for grid, cells in ((curve, [*nets, "theory/x"]), (bar, nets)):
        assert grid["runsets"][0]["filters"] == [
            *here,
            {"section": "config", "name": "cell", "op": "in", "value": cells},
        ]
        assert {key: grid["runsets"][0][key] for key in ("entity", "project")} == {"entity": "me", "project": "nets"}
    assert [panel["metrics"] for panel in curve["panels"]] == [["train_loss"]]
    assert curve["panels"][0]["x"] == AXIS
    assert bar["panels"][0]["metrics"] == ["train_acc", "test_acc"]
    assert bar["panels"][0]["title"] == "Train accuracy, Test accuracy (net)"


def test_a_panel_without_anything_to_compare_is_left_out(tmp_path):
    spec = specification(tmp_path)
    one = Panel("bar", ("test_acc",), ("net/true-labels",))
    rest = (Panel("bar", ("test_acc",), ("net/true-*", "other/*")), Panel("bar", ("test_acc",), ("other/*",)))
    figure = replace(spec.sections[1].figures[0], panels=(one, *rest))
    made = blocks(replace(spec, sections=(replace(spec.sections[1], figures=(figure,)),)), TARGET)
    assert [grid["runsets"][0]["filters"][-1]["value"] for grid in of(made, "grid")] == ["quick", ["net/true-labels"]]
    assert len(of(made, "grid")[1]["panels"]) == 1


def test_filters_find_what_was_logged():
    entry = results_entry("smith2020", "quick", Path())
    assert entry.job_type == "results"
    assert {key: entry.config[key] for key in ("paper", "scale")} == {"paper": "smith2020", "scale": "quick"}


def test_panels_of_a_grid_do_not_overlap(tmp_path):
    paper = load_paper("smith2021")
    made = blocks(specify(paper, default_results(paper), draw=False), TARGET)
    assert any(len(grid["panels"]) > 1 for grid in of(made, "grid"))
    for grid in of(made, "grid"):
        places = [panel["layout"] for panel in grid["panels"]]
        taken = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
        assert len(taken) == len(set(taken))
        assert all(p["x"] + p["w"] <= 24 for p in places)


def test_titles_are_short_enough_and_tell_papers_apart(tmp_path):
    spec = specification(tmp_path, title="On nets " * 40)
    assert len(blocks(spec, None)["title"]) == MAX_TITLE
    assert blocks(spec, None)["title"] != blocks(replace(spec, paper="jones2020"), None)["title"]


# -- texts that are not ours -----------------------------------------------------------------------------------------


def test_hostile_names_do_not_break_tables(tmp_path):
    spec = specification(tmp_path, cells=("net/true-labels", NASTY, HOSTILE))
    claims = (replace(spec.sections[1].claims[0], sentence=HOSTILE, reason=NASTY, verdict="not decided"),)
    made = blocks(replace(spec, sections=(replace(spec.sections[1], claims=claims),)), TARGET)
    shown = set()
    for block in of(made, "markdown"):
        lines, kinds = parsed(block["text"])
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


@pytest.mark.parametrize(
    "text", ["see http://a.de", "HTTPS://a.de", "www.a.de", "me@a.de", "mailto:me@a.de", "ftp://a"]
)
def test_addresses_do_not_become_links(text):
    # What GitHub's flavour of Markdown makes a link of, in text whose escapes have been resolved.
    link = r"(?i)(https?|ftp)://|www\.|(mailto|xmpp):|[\w.+-]+@[\w-]"
    assert re.search(link, text)
    shown = parsed(f"| {escape(text)} |\n| --- |")[0][0][0]
    assert not re.search(link, shown)
    assert plain(shown) == text


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=20), st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_the_librarys_parser_reads_any_name_out_of_a_filter(one, several):
    from wandb_workspaces.expr import expr_to_filters

    conditions = [("config", "paper", "==", one), ("run", "JobType", "==", one), ("config", "cell", "in", several)]
    filters = [dict(zip(("section", "name", "op", "value"), each, strict=True)) for each in conditions]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = expr_to_filters(filter_text(filters))
    assert tree.op == "AND"
    assert [(leaf.key.section, leaf.key.name, leaf.op, leaf.value) for leaf in tree.filters] == [
        ("config", "paper", "=", one),
        ("run", "jobType", "=", one),
        ("config", "cell", "IN", several),
    ]


def test_the_librarys_parser_reads_hostile_names():
    from wandb_workspaces.expr import expr_to_filters

    for name in (NASTY, HOSTILE, "Metric('CreatedTimestamp') within_last 5 days", "a == b", "\u202e\n"):
        condition = {"section": "config", "name": "cell", "op": "in", "value": [name]}
        assert expr_to_filters(filter_text([condition])).value == [name]


# -- with the library ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_server(monkeypatch):
    from wandb_workspaces.reports.v2 import interface

    monkeypatch.setattr(interface, "_get_api", lambda: None)
    monkeypatch.setattr(interface, "execute_graphql", lambda *_: {"project": {"id": "x", "internalId": "7"}})


def test_the_report_is_built_block_by_block(tmp_path, no_server):
    import wandb_workspaces.reports.v2 as wr

    kinds = {
        "paragraph": wr.P,
        "list": wr.UnorderedList,
        "callout": wr.CalloutBlock,
        "code": wr.CodeBlock,
        "markdown": wr.MarkdownBlock,
        "contents": wr.TableOfContents,
        "grid": wr.PanelGrid,
    }
    spec = specification(tmp_path, cells=("net/true-labels", NASTY))
    spec = replace(spec, sections=tuple(replace(section, problems=("cut",)) for section in spec.sections))
    made, report = blocks(spec, TARGET), build(spec, TARGET)
    levels = {1: wr.H1, 2: wr.H2, 3: wr.H3}
    assert {block["kind"] for block in made["blocks"]} == {*kinds, "heading"}
    assert [type(block) for block in report.blocks] == [
        levels[block["level"]] if block["kind"] == "heading" else kinds[block["kind"]] for block in made["blocks"]
    ]
    assert (report.title, report.entity, report.project) == (made["title"], "me", "nets")
    sent = strict(report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    assert len(sent["blocks"]) == len(made["blocks"]) + 2  # the library adds an empty paragraph at each end
    tables = [block["text"] for block in of(made, "markdown")]
    nested = [child for block in sent["blocks"] for child in block.get("collapsedChildren") or ()]
    assert [block["content"] for block in [*sent["blocks"], *nested] if block["type"] == "markdown-block"] == tables


def test_panels_reach_the_server_with_metrics_groups_and_filters(tmp_path, no_server):
    cells = ("net/true-labels", NASTY)
    report = build(specification(tmp_path, cells=cells), TARGET)
    sent = strict(json.dumps(report._to_model().spec.model_dump(by_alias=True)))
    grids = [block["metadata"] for block in sent["blocks"] if block["type"] == "panel-grid"]
    image, both = grids[:2]
    panel = image["panelBankSectionConfig"]["panels"][0]
    assert (panel["viewType"], panel["config"]["mediaKeys"]) == ("Media Browser", ["figure/loss"])
    curve, bar = both["panelBankSectionConfig"]["panels"]
    assert curve["viewType"] == "Run History Line Plot"
    assert curve["config"]["xAxis"] == AXIS
    assert curve["config"]["metrics"] == ["train_loss"]
    assert bar["viewType"] == "Bar Chart"
    assert bar["config"]["metrics"] == ["train_acc", "test_acc"]
    for config in (curve["config"], bar["config"]):
        assert config["aggregate"] is True
        assert (config["groupBy"], config["groupAgg"], config["groupArea"]) == ("cell.value", "mean", "minmax")
        assert config["limit"] == 10
    runs = both["runSets"][0]
    assert (runs["project"]["entityName"], runs["project"]["name"]) == ("me", "nets")
    assert [(f["key"]["section"], f["key"]["name"], f["op"], f["value"]) for f in runs["filters"]["filters"]] == [
        ("config", "paper", "=", "smith2020"),
        ("config", "scale", "=", "quick"),
        ("config", "cell", "IN", list(cells)),
    ]
    assert image["runSets"][0]["filters"]["filters"][0]["key"] == {"section": "run", "name": "jobType"}


# -- refusals --------------------------------------------------------------------------------------------------------


def test_without_the_extra_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    spec = specification(tmp_path)
    for ask in (build, publish):
        with pytest.raises(ValueError, match=r'pip install "lightning-regs\[reports\]".*--dry-run') as refused:
            ask(spec, TARGET)
        assert "\n" not in str(refused.value)
    assert write_json(spec, None, tmp_path / "x.json").exists()


def test_without_a_login_the_remedy_is_named(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "NETRC", "WANDB_CONFIG_DIR", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"wandb login.*--dry-run") as refused:
        publish(specification(tmp_path), TARGET)
    assert "\n" not in str(refused.value)


def test_a_server_that_cannot_be_reached_is_said_at_once(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb, "Api", lambda: pytest.fail("it is not to be tried"))
    with pytest.raises(ValueError, match=r"^http://127\.0\.0\.1:9 cannot be reached \(.*\); repeat .* --dry-run\.$"):
        publish(specification(tmp_path), TARGET)


def test_a_server_that_fails_is_one_sentence(tmp_path, monkeypatch, capfd):
    import wandb

    def fail():
        print("wandb: retrying", file=sys.stderr)
        os.write(2, b"the service: retrying\n")
        raise ConnectionError("no route\nto host.")

    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb_report, "unreachable", lambda: None)
    monkeypatch.setattr(wandb, "Api", fail)
    with pytest.raises(ValueError, match=r"\(ConnectionError: no route to host\); check the network.*--dry-run\.$"):
        publish(specification(tmp_path), TARGET)
    assert capfd.readouterr().err == ""
    print("ours", file=sys.stderr)
    os.write(2, b"too\n")
    assert capfd.readouterr().err == "ours\ntoo\n"


@pytest.mark.parametrize("text", ["", "nets", "me/", "/nets", "me/nets/x", "https://wandb.ai/me/nets", "me nets"])
def test_what_is_no_target_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(f"{text!r} does not name a project") + ".*ENTITY/PROJECT"):
        Target.parse(text)


@pytest.mark.parametrize("text", ["m e/nets", "-/nets", "mé/nets", "me/a?b", "me/a:b", "me/ a", "me/" + "a" * 129])
def test_illegal_characters_are_refused(text):
    with pytest.raises(ValueError, match=r"is not (an entity|a project) of Weights & Biases; give"):
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
from lightning_regs.study.paper.figure import Figure, Panel
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.report.specification import Specification
from lightning_regs.study.wandb.report import Target, publish

spec = Specification("smith2020", "Nets? & #labels", "Smith", 2020, "", "0.1", ())
for project in sys.argv[1:]:
    try:
        said = publish(spec, Target("me", project))
    except ValueError as error:
        said = f"refused: {error}"
    print(json.dumps(said))
"""


class Server(ThreadingHTTPServer):
    """As much of W&B's GraphQL as publishing asks for; it keeps the reports that it is sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.views = {}
        self.sent = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, query, variables):
        project = variables.get("project") or variables.get("projectName")
        if "viewer" in query:
            person = {"id": "1", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}
            return {"viewer": person}
        if "ProjectViews" in query:
            edges = [{"node": view, "cursor": "x"} for view in self.views.values()]
            page = {"hasNextPage": False, "endCursor": None}
            return {"project": None if project == "hidden" else {"allViews": {"edges": edges, "pageInfo": page}}}
        if "GetProjects" in query:
            node = {"id": "1", "name": "nets", "entityName": "me", "createdAt": "2026-01-01T00:00:00Z"}
            node |= {"isBenchmark": False, "user": None}
            page = {"endCursor": None, "hasNextPage": False}
            return {"models": {"pageInfo": page, "edges": [{"cursor": "x", "node": node}]}}
        assert "upsertView" in query, query
        self.sent.append(variables)
        view = {key: variables[key] for key in ("name", "displayName", "description", "spec")}
        view |= {"id": variables.get("id") or "VmlldzoxMg==", "type": "runs", "updatedAt": "2026-01-01T00:00:00Z"}
        self.views[view["id"]] = view
        return {"upsertView": {"view": view | {"project": {"id": "1", "name": project, "entityName": "me"}}}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = {}
        if self.path == "/graphql":
            asked = json.loads(body)
            answer = {"data": self.server.answer(asked["query"], asked.get("variables") or {})}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def test_publishing_again_updates_the_report(tmp_path):
    server = Server()
    environment = {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "OMP_NUM_THREADS": "1",
        "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "WANDB_API_KEY": "0" * 40,
        "WANDB_ERROR_REPORTING": "false",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", PUBLISH, "nets", "nets", "hidden"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr
    first, second, hidden = map(json.loads, done.stdout.splitlines())
    # The id is how the address finds the report; what stands before it is for people.
    assert first == second == f"http://127.0.0.1:{server.server_port}/me/nets/reports/smith2020-Nets-labels--VmlldzoxMg"
    assert [sent.get("id") for sent in server.sent] == [None, "VmlldzoxMg=="]
    assert [view["displayName"] for view in server.views.values()] == ["smith2020: Nets? & #labels"]
    assert hidden.startswith("refused: Weights & Biases did not take the report for me/hidden (")
    assert "lightning-regs sync" in hidden
    assert "\n" not in hidden
