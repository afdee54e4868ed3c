"""Whether there is a login, judged by wandb itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from wandb_made import forget_login

from lightning_regs.study.wandb import login as wandb_login

FORGE, DIRECT, OWN = "https://api.forge.coreweave.com", "https://api.wandb.ai", "http://mine:80"
HOSTS = ("api.forge.coreweave.com", "api.wandb.ai", "mine:80", "elsewhere.org")
# For each server and each host with a login: what wandb says, and what we say before it is imported.
ASK = """
import json, os, sys
from lightning_regs.study.wandb.login import has_login, server

cases = [(url, host) for url in json.loads(sys.argv[1]) for host in json.loads(sys.argv[2])]

def prepare(url, host):
    os.environ.pop("WANDB_BASE_URL", None)
    if url:
        os.environ["WANDB_BASE_URL"] = url
    with open(os.environ["NETRC"], "w") as netrc:
        netrc.write(f"machine {host} login user password {'k' * 40}")

ours = []
for case in cases:
    prepare(*case)
    ours.append([server(), has_login()])
assert "wandb" not in sys.modules
import wandb
from wandb.sdk.lib.wbauth.wbnetrc import read_netrc_auth

theirs = []
for case in cases:
    prepare(*case)
    url = wandb.Settings().base_url if not case[0] else wandb.Settings(base_url=case[0]).base_url
    theirs.append([url, read_netrc_auth(host=url) is not None])
print(json.dumps([ours, theirs]))
"""


def test_server_and_login_are_those_that_wandb_finds(tmp_path):
    variables = {
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / "netrc"),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    words = [json.dumps(["", FORGE, DIRECT, OWN]), json.dumps(HOSTS)]
    command = [sys.executable, "-c", ASK, *words]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, check=True, text=True)
    ours, theirs = json.loads(done.stdout)
    assert ours == theirs
    assert {login for _, login in ours} == {True, False}


@pytest.mark.parametrize("text", [None, "nonsense(", "\0", "SOMETHING = else_where()", 'OTHER = "x"'])
def test_a_wandb_that_does_not_say_its_server_has_the_old_one(tmp_path, monkeypatch, text):
    forget_login(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "wandb" / "sdk" / "lib"
    folder.mkdir(parents=True)
    (tmp_path / "wandb" / "__init__.py").write_text("raise ImportError")
    if text is not None:
        (folder / "urls.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(wandb_login, "_constants", wandb_login._constants.__wrapped__)
    assert wandb_login.server() == DIRECT
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password k")
    assert wandb_login.has_login()
    (folder / "urls.py").write_text('DEFAULT_BASE_URL = "https://new.org"')
    assert wandb_login.server() == "https://new.org"


def test_paths_hold_in_another_working_directory(tmp_path, monkeypatch):
    forget_login(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETRC", "here/netrc")
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", "~/token")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "one", "/two"]))
    made = wandb_login.environment(tmp_path / "runs", online=True)
    assert made["NETRC"] == str(tmp_path / "here" / "netrc")
    assert made["WANDB_IDENTITY_TOKEN_FILE"] == str(tmp_path / "home" / "token")
    assert made["PYTHONPATH"].split(os.pathsep)[:2] == [str(tmp_path / "one"), "/two"]
