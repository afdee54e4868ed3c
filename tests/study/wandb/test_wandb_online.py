from __future__ import annotations

import pytest
import wandb_server
from wandb_made import Made, forget_login, inspect, logs, make_paper

from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.run.events import Event
from lightning_regs.study.wandb import log as wandb_log
from lightning_regs.study.wandb.log import Writer


@pytest.fixture(autouse=True)
def _no_login(monkeypatch, tmp_path):
    forget_login(monkeypatch, tmp_path)


@pytest.fixture
def made(tmp_path) -> Made:
    return Made(tmp_path)


@pytest.fixture
def server(monkeypatch):
    server = wandb_server.start()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", wandb_server.KEY)
    yield server
    server.shutdown()
    server.server_close()


def test_online_runs_are_fed_while_they_train_and_resumed(made, server, eventually, monkeypatch):
    monkeypatch.setattr(wandb_log, "_FEED_EVERY", 0.0)
    cells = [
        Cell("one", "wandb_made:measure", {"rows": 4, "trouble": "interrupt", "sleep": 0.1}),
        Cell("two", "wandb_made:measure", {"rows": 2, "trouble": "fail"}),
    ]
    paper = make_paper(cells=cells, seeds=1)
    made.trouble("interrupt")

    def live(event):
        if event.kind == "progress" and event.cell == "one" and event.done == 2:
            eventually(lambda: [run for run in server.runs.values() if run["about"].get("tags")], "it is opened")

    assert made.reproduce("online", paper, live).interrupted
    assert made.said == [f"W&B: {server.url}/team/lightning-regs"]
    [one] = server.runs.values()
    assert one["about"]["displayName"] == "one seed 0"
    assert one["exits"] == [1]
    assert [line["epoch"] for _, line in sorted(one["history"].items())] == [1, 2]
    assert not list(made.store.rglob("*run-*"))
    made.trouble("interrupt", there=False)
    made.trouble("fail")
    outcome = made.reproduce("online", paper)
    assert outcome.exit_code == 1
    two = next(run for run in server.runs.values() if run["about"]["displayName"] == "two seed 0")
    assert one["exits"] == [1, 0]
    assert two["exits"] == [1]
    row = outcome.rows[0]
    assert [line["epoch"] for _, line in sorted(one["history"].items())] == [1, 2, 3, 4]
    assert [line["_step"] for _, line in sorted(one["history"].items())] == [0, 1, 2, 3]
    assert one["summary"]["train_acc"] == row["train_acc"]
    assert one["config"]["commit"] == row["commit"]
    assert one["config"]["rows"] == 4
    results = next(run for run in server.runs.values() if run["about"]["displayName"] == "made quick results")
    assert results["exits"] == [0]
    assert {artifact["artifactTypeName"] for artifact in server.artifacts} == {"run_table", "results"}
    assert server.unknown == []
    # What is on the server stays as it is, whatever the mode.
    sent = []
    monkeypatch.setattr(wandb_log.Child, "send", lambda self, message: sent.append(message))
    made.trouble("fail", there=False)
    made.reproduce("offline", paper, results=False)
    assert [(message["do"], message["entry"]["name"]) for message in sent] == [("write", "two seed 0")]


def test_every_run_of_a_stack_is_opened(made, server):
    paper = make_paper(seeds=3)
    cell = paper.scale("quick").cells[0]
    with Writer("online", made.store, paper, "quick", say=made.said.append) as log:
        others = tuple((cell.name, seed, cell.hash(seed)) for seed in (1, 2))
        started = Event("started", run=cell.hash(0), cell=cell.name, seed=0, stacked=3)
        object.__setattr__(started, "others", others)
        log(started)
    assert sorted(run["config"]["seed"] for run in server.runs.values()) == [0, 1, 2]
    assert [run["exits"] for run in server.runs.values()] == [[1]] * 3


@pytest.mark.parametrize("broken", ["nobody listens", "refused"])
def test_without_a_server_runs_are_logged_offline(made, server, monkeypatch, broken):
    if broken == "nobody listens":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    server.refuse = True
    outcome = made.reproduce("online", make_paper(cells=[Cell("one", "wandb_made:nothing")]), results=False)
    assert outcome.exit_code == 0
    [warning] = made.said
    assert "the runs are logged offline" in warning
    assert "`lightning-regs sync`" in warning
    assert [inspect(folder)[1]["summary"]["norm"] for folder in logs(made.store, "offline-run-*")] == [2.5, 2.5]


def test_online_without_a_login_is_offline_with_a_word(made, monkeypatch):
    sent = []
    monkeypatch.setattr(wandb_log.Child, "send", lambda self, message: sent.append((self.online, message["do"])))
    made.reproduce("online", results=False)
    assert set(sent) == {(False, "write")}
    assert made.said == [
        "W&B logging: there is no W&B login; the runs are logged offline: log in with `wandb login`, or set "
        "WANDB_API_KEY, then `lightning-regs sync`."
    ]
