"""Uploading, to a server that the tests bring."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from wandb_lab import read_csv

from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.wandb.process import Exporter, sync
from lightning_regs.study.wandb.target import Target


def upload(lab, papers=("made", "other"), target=None):
    lab.said.clear()
    return sync(map(load_paper, papers), lab.store, target, say=lab.say)


def named(server, name):
    return next(run for run in server.runs.values() if run["about"]["displayName"] == name)


def whole(lab, server):
    """Check that the server has every run once, with the numbers of the table."""
    assert server.unknown == []
    for row in read_csv(lab.results / "made" / "quick.csv"):
        if row["cell"].startswith("net/"):
            run = named(server, f"{row['cell']} seed {row['seed']}")
            assert run["summary"]["train_acc"] == float(row["train_acc"])
            assert run["config"]["commit"] == row["commit"]
            assert [line["trainer/global_step"] for _, line in sorted(run["history"].items())] == [24, 48, 72]
            assert [line["_step"] for _, line in sorted(run["history"].items())] == [0, 1, 2]
            assert run["exits"][-1] == 0
    assert {run.id for run in lab.runs()} <= server.runs.keys()


@pytest.mark.slow
def test_runs_are_uploaded_when_they_finish_and_not_again(lab, server):
    outcome = lab.reproduce("online")
    assert outcome.exit_code == 0
    assert lab.said == [f"W&B: {server.url}/team/lightning-regs"]
    whole(lab, server)
    assert len(server.runs) == 9
    assert not lab.logs()
    results = named(server, "made quick results")
    assert any(name.startswith("media/images/figure/loss") for name in results["files"])
    assert {artifact["artifactTypeName"] for artifact in server.artifacts} == {"run_table", "results"}
    # What is on the server stays as it is, whatever the mode.
    upserts = server.asked.count("UpsertBucket")
    lab.reproduce("online")
    lab.reproduce("offline")
    assert server.asked.count("UpsertBucket") == upserts
    assert not lab.logs()
    # Another project has none of it.
    assert upload(lab, ["made"], Target("team", "mine")) == 0
    assert server.asked.count("UpsertBucket") > upserts


@pytest.mark.slow
def test_sync_uploads_what_the_store_holds_and_goes_on_after_a_kill(lab, server, monkeypatch, eventually):
    lab.reproduce("offline")
    assert upload(lab, ["other"]) == 0  # its cell has the same run, but its table is elsewhere
    monkeypatch.setattr("lightning_regs.study.wandb.process.default_results", lambda paper: lab.results / paper.id)
    with Exporter("online", lab.store, say=lab.say) as exporter:
        for run in lab.runs():
            exporter.add(run)
        eventually(lambda: server.runs, "it has begun")
        os.kill(lab.process().pid, signal.SIGKILL)
    assert not exporter.complete
    assert upload(lab, ["made"]) == 0
    assert lab.said[-1] == f"9 runs of {lab.store.root} are in W&B."
    whole(lab, server)
    assert not lab.logs()


@pytest.mark.parametrize("broken", ["nobody listens", "refused"])
@pytest.mark.slow
def test_without_a_server_the_command_goes_on_and_sync_does_the_rest(lab, server, monkeypatch, broken):
    if broken == "nobody listens":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    server.refuse = True
    outcome = lab.reproduce("online")
    assert outcome.exit_code == 0
    why, lost = lab.said
    assert why.startswith("W&B logging: ")
    assert why.endswith("; the results are not affected.")
    assert lost == "W&B: 9 runs not logged; `lightning-regs sync` uploads what is missing."


@pytest.mark.slow
def test_what_does_not_reach_the_server_is_not_taken_for_uploaded(lab, server):
    """wandb's service finishes such a run without an error."""
    lab.reproduce("off")
    server.refuse = "stream"
    code = f"""
from pathlib import Path
from lightning_regs.study.wandb import export
export._ARRIVED = 0.2
run = export.CellRun("made", "quick", "net/plain", 0, Path({str(lab.runs()[0].home)!r}))
try:
    export.export(run, export.Target("team", "nets", {server.url!r}))
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "did not arrive as a whole" in done.stdout
    assert not list(lab.store.root.rglob("wandb/*.json"))


def test_without_a_login_nothing_runs(lab, monkeypatch):
    with pytest.raises(ValueError, match="no login here; log in with `wandb login`, or set WANDB_API_KEY"):
        lab.reproduce("online")
    assert not lab.results.exists()
    assert upload(lab) == 0
    assert lab.said == [f"{lab.store.root} has nothing to upload."]
    monkeypatch.setenv("WANDB_API_KEY", "nonsense")
    with pytest.raises(ValueError, match="cannot be used"):
        lab.reproduce("online")
