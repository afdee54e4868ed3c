from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from wandb_made import forget_login, make_paper

from lightning_regs.study.run.events import Event
from lightning_regs.study.run.runner import Outcome
from lightning_regs.study.wandb.log import Writer, default_mode
from lightning_regs.study.wandb.record import Entry, label, results_entry, run_entry
from lightning_regs.study.wandb.report import Target
from lightning_regs.study.wandb.sync import sync


@pytest.fixture(autouse=True)
def _no_login(monkeypatch, tmp_path):
    forget_login(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("variables", "settings", "netrc", "mode"),
    [
        ({}, "", "", "offline"),
        ({"API_KEY": "k"}, "", "", "online"),
        ({"API_KEY": ""}, "", "", "offline"),
        ({"IDENTITY_TOKEN_FILE": "/t"}, "", "", "online"),
        ({"API_KEY": "k", "MODE": "offline"}, "", "", "offline"),
        ({"API_KEY": "k", "MODE": "dryrun"}, "", "", "offline"),
        ({"API_KEY": "k", "MODE": "disabled"}, "", "", "off"),
        ({"MODE": "online"}, "", "", "offline"),
        ({}, "", "machine api.wandb.ai login user password k", "online"),
        ({}, "", "machine api.forge.coreweave.com login user password k", "online"),
        ({}, "", "machine elsewhere.org login user password k", "offline"),
        ({}, "", "machine api.wandb.ai login", "offline"),
        ({}, "base_url = http://mine:80", "machine mine:80 login user password k", "online"),
        ({"BASE_URL": "http://yours"}, "base_url = http://mine", "machine mine login u password k", "offline"),
        ({"API_KEY": "k"}, "mode = disabled", "", "off"),
        ({"API_KEY": "k"}, "mode = offline", "", "offline"),
        ({"API_KEY": "k", "MODE": "online"}, "mode = offline", "", "online"),
        ({}, "api_key = k", "", "online"),
        ({"API_KEY": "k"}, "]nonsense%(", "", "online"),
    ],
)
def test_the_default_mode_follows_the_login(monkeypatch, tmp_path, variables, settings, netrc, mode):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings").write_text(f"[default]\n{settings}\n")
    (tmp_path / "netrc").write_text(netrc)
    for name, value in variables.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert default_mode() == mode


def test_names_are_what_w_and_b_takes():
    assert label(" a\n\tb\0 ") == "a b"
    assert label("") == label("\udc80\n"[1:]) == "-"
    assert label("\udc80") == "?"
    assert label("x" * 128) == "x" * 128
    long = [label("x" * 300 + end) for end in "ab"]
    assert len(long[0]) == len(long[1]) == 128
    assert long[0] != long[1]


def test_ids_are_the_same_again_and_differ_between_runs(tmp_path):
    def entry(paper="p", scale="quick", cell="c", seed=0, run="a" * 16) -> Entry:
        return run_entry(paper, scale, cell, seed, {}, tmp_path / run)

    others = [entry("q"), entry(scale="full"), entry(cell="d"), entry(seed=1), entry(run="b" * 16)]
    others += [results_entry("p", "quick", tmp_path), results_entry("p", "full", tmp_path)]
    assert len({entry().id, *(other.id for other in others)}) == 1 + len(others)
    assert entry() == entry()
    assert entry().digest(b"a") != entry().digest(b"b")
    assert entry().digest(b"a", b"b") != entry().digest(b"ab", b"")
    assert entry().digest() != replace(entry(), project="another").digest()


def test_what_makes_no_sense_is_refused(tmp_path):
    paper = make_paper()
    with pytest.raises(ValueError, match=r"unknown W&B mode 'onlin'. Did you mean 'online'"):
        Writer("onlin", tmp_path, paper, "quick")
    with pytest.raises(ValueError, match=r"'a/b', from the argument, is not a project of Weights & Biases; give"):
        Writer("offline", tmp_path, paper, "quick", project="a/b")
    with pytest.raises(ValueError, match="unknown scale"):
        Writer("offline", tmp_path, paper, "quik")


def test_neither_process_imports_what_it_does_not_need():
    heavy = "torch pytorch_lightning lightning wandb matplotlib numpy pandas scipy jinja2 rich"
    for module in ("wandb_log", "wandb_sync", "wandb_writer"):
        code = f"import lightning_regs.study.{module}, sys; print(*{set(heavy.split())!r} & sys.modules.keys())"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"\n"


@pytest.mark.parametrize("name", ["a/b", " a", "a ", "a\x7fb", "a" * 129])
def test_names_are_judged_alike_wherever_they_come_from(tmp_path, monkeypatch, name):
    refusal = "is not a project of Weights & Biases; give"
    with pytest.raises(ValueError, match=refusal):
        sync(tmp_path, project=name)
    with pytest.raises(ValueError, match=refusal):
        Target("team", name)
    monkeypatch.setenv("WANDB_PROJECT", name)
    with pytest.raises(ValueError, match=f"from WANDB_PROJECT, {refusal}"):
        Writer("offline", tmp_path, make_paper(), "quick")
    assert Writer("off", tmp_path, make_paper(), "quick").mode == "off"


def test_an_entity_is_judged_wherever_it_comes_from(tmp_path, monkeypatch):
    refusal = "is not an entity of Weights & Biases; give"
    for refused in (lambda: sync(tmp_path, entity="a b"), lambda: Target("a b", "p")):
        with pytest.raises(ValueError, match=f"'a b', from the argument, {refusal}"):
            refused()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings").write_text("[default]\nentity = a b\n")
    with pytest.raises(ValueError, match=f"'a b', from wandb's settings, {refusal}"):
        Writer("offline", tmp_path, make_paper(), "quick")
    monkeypatch.setenv("WANDB_ENTITY", "a/b")
    with pytest.raises(ValueError, match=f"'a/b', from WANDB_ENTITY, {refusal}"):
        Writer("offline", tmp_path, make_paper(), "quick")
    assert Writer("offline", tmp_path, make_paper(), "quick", entity="team").entity == "team"


def test_a_writer_is_used_inside_of_with_and_for_its_own_results(tmp_path):
    writer = Writer("offline", tmp_path, make_paper(), "quick")
    files = [tmp_path / name for name in ("quick.csv", "quick.claims.json", "quick.curves.csv")]
    outcome = Outcome(make_paper(), "quick", *files)

    def refuse():
        for call, argument in ((writer, Event("finished", run="r")), (writer.results, outcome)):
            with pytest.raises(RuntimeError, match="`with` statement"):
                call(argument)

    refuse()
    with writer:
        for other in (Outcome(make_paper("other"), "quick", *files), Outcome(make_paper(), "full", *files)):
            with pytest.raises(ValueError, match=f"the results are of {other.paper.id} {other.scale}, but"):
                writer.results(other)
        writer.results(outcome)
    refuse()
