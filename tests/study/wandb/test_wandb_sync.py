from __future__ import annotations

import contextlib
import json
import os
import textwrap
from pathlib import Path

import pytest
import wandb_server
from wandb_made import forget_login, logs, make_paper, read_csv

from lightning_regs.study.run.runner import reproduce
from lightning_regs.study.wandb import sync as wandb_sync
from lightning_regs.study.wandb.log import Writer
from lightning_regs.study.wandb.mark import Mark, holding
from lightning_regs.study.wandb.record import results_entry, run_entry
from lightning_regs.study.wandb.sync import sync

# Stands in for wandb: notes how it was called, and marks runs as `wandb sync` does, until it meets the one called STOP.
FAKE = """
import json, os, pathlib, sys

with open(os.environ["NOTES"], "a") as notes:
    variables = {name: value for name, value in os.environ.items() if name.startswith("WANDB")}
    notes.write(json.dumps([sys.argv[1:], variables, os.getcwd()]) + "\\n")
for path in map(pathlib.Path, sys.argv[2:]):
    for log in path.glob("*.wandb"):
        if log.read_text() == "STOP" and "GO" not in os.environ:
            print("wandb: ERROR the server is on fire", file=sys.stderr)
            raise SystemExit(int(os.environ.get("STATUS", "1")))
        log.with_suffix(".wandb.synced").touch()
        print(f"wandb: [p/x] View run name at https://wandb.ai/team/p/runs/{log.stem}")
"""


class Store:
    """A store with runs that were logged offline, made without wandb."""

    def __init__(self, root: Path) -> None:
        self.root, self.notes = root, root.parent / "notes"
        self.said: list[str] = []

    def add(self, number: int, paper: str = "one", content: str = "log", uploaded: bool = False) -> Path:
        entry = run_entry(paper, "quick", f"cell {number}", 0, {}, self.root / f"{number:016x}")
        return self._add(entry, content, uploaded)

    def add_results(self, paper: str = "one") -> Path:
        return self._add(results_entry(paper, "quick", self.root), "log", uploaded=False)

    def _add(self, entry, content, uploaded):
        mark = Mark(entry)
        folder = mark.folder / f"offline-run-20200101_000000-{entry.id}"
        folder.mkdir(parents=True)
        (folder / f"run-{entry.id}.wandb").write_text(content)
        mark.write(entry, "digest", folder, uploaded)
        return folder

    def calls(self) -> list[tuple[list[str], dict[str, str], str]]:
        return [tuple(json.loads(line)) for line in self.notes.read_text().splitlines()] if self.notes.exists() else []

    def sync(self, **options) -> int:
        self.said.clear()
        return sync(self.root, say=self.said.append, **options)


@pytest.fixture
def server(monkeypatch, tmp_path):
    forget_login(monkeypatch, tmp_path)
    server = wandb_server.start()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", wandb_server.KEY)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(tmp_path, monkeypatch, server) -> Store:
    (tmp_path / "path" / "wandb").mkdir(parents=True)
    (tmp_path / "path" / "wandb" / "__main__.py").write_text(textwrap.dedent(FAKE))
    (tmp_path / "path" / "wandb" / "__init__.py").touch()
    store = Store(tmp_path / "runs")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("NOTES", str(store.notes))
    return store


def test_the_command_that_is_run(store, server, monkeypatch):
    for name, value in {"RUN_ID": "theirs", "MODE": "disabled", "SERVICE": "theirs"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    results, one = store.add_results(), store.add(1)
    before = dict(os.environ)
    assert store.sync(entity="team", project="p") == 0
    assert dict(os.environ) == before
    [(words, variables, folder)] = store.calls()
    assert words == ["sync", "--entity", "team", "--project", "p", str(one), str(results)]
    assert variables["WANDB_API_KEY"] == wandb_server.KEY
    assert variables["WANDB_BASE_URL"] == server.url
    assert variables["WANDB_MODE"] == "online"
    assert all(variables[f"WANDB_{name}"].startswith(str(store.root)) for name in ("DIR", "DATA_DIR", "CACHE_DIR"))
    assert not {"WANDB_RUN_ID", "WANDB_SERVICE"} & set(variables)
    assert folder == str(store.root / "wandb")  # Python may look for modules where it starts
    assert store.said == ["2 of 2 uploaded, see https://wandb.ai/team/p"]
    # The ids are those in the logs: none is given.
    assert "--id" not in words


def test_what_was_uploaded_is_not_uploaded_again(store):
    folders = [store.add(1), store.add(2, uploaded=True), store.add(3)]
    assert store.sync() == 0
    assert store.calls()[0][0] == ["sync", str(folders[0]), str(folders[2])]
    # `wandb clean` deletes the folders.
    for folder in folders:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert store.sync() == 0
    assert store.said == [
        f"Nothing to upload: {store.root} has no runs that were logged offline and are not on the W&B server."
    ]
    assert len(store.calls()) == 1


@pytest.mark.parametrize("status", ["1", "0"])  # wandb ends with 0 when the server refuses a run
def test_it_goes_on_where_it_stopped(store, monkeypatch, status):
    monkeypatch.setattr(wandb_sync, "_BATCH", 2)
    monkeypatch.setenv("STATUS", status)
    folders = [store.add(number, content="STOP" if number == 3 else "log") for number in range(6)]
    assert store.sync() == 1
    assert store.said == [
        "2 of 6 uploaded",
        "3 runs are not uploaded: `wandb sync` says 'the server is on fire'; see to it and repeat the command, it goes "
        "on where it stopped.",
    ]
    monkeypatch.setenv("GO", "yes")
    assert store.sync() == 0
    assert [call[0][1:] for call in store.calls()[2:]] == [[str(f) for f in folders[3:5]], [str(folders[5])]]
    assert store.said == ["2 of 3 uploaded", "3 of 3 uploaded, see https://wandb.ai/team/p"]


def test_papers_choose_runs(store):
    one, two, results = store.add(1, "one"), store.add(2, "two"), store.add_results("two")
    assert store.sync(papers=["two"]) == 0
    assert store.sync(papers=["three"]) == 0
    assert store.sync() == 0
    assert [call[0][1:] for call in store.calls()] == [[str(two), str(results)], [str(one)]]


def test_what_is_incomplete_is_left_out_with_a_word(store):
    whole, cut = store.add(1), store.add(2)
    next(cut.glob("*.wandb")).write_text("lo")
    started = store.root / "0123456789abcdef" / "wandb"
    started.mkdir(parents=True)
    (started / "0123456789abcdef.json").write_text("")
    (started / "another.json").write_text("[3]")
    (started / "settings.json").write_text('{"digest": 3}')
    assert store.sync() == 0
    assert store.calls()[0][0] == ["sync", str(whole)]
    assert store.said[0].startswith("1 run is incomplete in ")


NO_NAMES = ("a\0b", "../y", "../../..", "..", ".", "", "\ud800", "x" * 300)


@pytest.mark.parametrize(("run", "log"), [pair for name in NO_NAMES for pair in ((name, "x"), ("x", name))])
def test_a_mark_that_names_no_files_beside_it_stops_nothing(store, run, log):
    whole, bad = store.add(1), store.add(2)
    [path] = bad.parent.glob("*.json")
    said = json.loads(path.read_text()) | {"run": run, "log": log}
    path.write_text(json.dumps(said))
    with contextlib.suppress(OSError, ValueError):  # where the mark points to, there may be a log that fits
        (bad.parent / run).mkdir(exist_ok=True)
        (bad.parent / run / log).write_text("log")
        (bad.parent / run / f"{log}.synced").touch()
    assert store.sync() == 0
    assert store.calls()[0][0] == ["sync", str(whole)]
    assert store.said[0].startswith("1 run is incomplete in ")
    assert json.loads(path.read_text()) == said


def test_a_log_that_is_as_long_as_it_was_but_another_is_incomplete(store):
    whole, zeros = store.add(1), store.add(2)
    [log] = zeros.glob("*.wandb")
    log.write_bytes(bytes(log.stat().st_size))
    assert store.sync() == 0
    assert store.calls()[0][0] == ["sync", str(whole)]
    assert store.said[0].startswith("1 run is incomplete in ")


def test_what_another_command_has_changed_meanwhile_is_left_as_it_is(store, monkeypatch):
    anew, done, free = store.add(1), store.add(2), store.add(3)
    marks = {folder: next(folder.parent.glob("*.json")) for folder in (anew, done)}

    def meanwhile():
        for folder, change in ((anew, {"digest": "another"}), (done, {"uploaded": True})):
            marks[folder].write_text(json.dumps(json.loads(marks[folder].read_text()) | change))

    monkeypatch.setattr(wandb_sync, "unreachable", meanwhile)
    assert store.sync() == 1
    assert [call[0][1:] for call in store.calls()] == [[str(free)]]
    assert json.loads(marks[anew].read_text())["digest"] == "another"
    assert json.loads(marks[anew].read_text())["uploaded"] is False
    assert store.said == [
        "2 of 3 uploaded",
        "1 run is not uploaded: another command is writing; repeat this one when it has ended.",
    ]


def test_a_file_in_place_of_the_folder_of_the_store_is_named(store):
    store.add(1)
    (store.root / "wandb").write_text("")
    assert store.sync() == 1
    assert f"not uploaded: {store.root / 'wandb'} is in the way; see to it and repeat" in store.said[0]


def test_a_mark_is_settled_only_by_who_holds_it(store):
    folder = store.add(1)
    [log], [mark] = folder.glob("*.wandb"), folder.parent.glob("*.json")
    log.with_suffix(".wandb.synced").touch()
    before = mark.read_text()
    with holding(mark):
        assert store.sync() == 0
        assert mark.read_text() == before
    assert store.sync() == 0
    assert json.loads(mark.read_text())["uploaded"] is True
    assert store.calls() == []


def test_results_are_not_uploaded_from_a_store_that_was_moved(store, tmp_path):
    one, results = store.add(1), store.add_results()
    moved = tmp_path / "moved"
    store.root.rename(moved)
    store.root = moved
    assert store.sync() == 0
    assert store.calls()[0][0] == ["sync", str(moved / one.relative_to(tmp_path / "runs"))]
    assert store.said[0].startswith("1 run is incomplete in ")
    assert results.name in {path.name for path in (moved / "wandb").iterdir()}


def test_a_run_that_another_command_writes_is_left_alone(store):
    busy, free = store.add(1), store.add(2)
    entry = run_entry("one", "quick", "cell 1", 0, {}, store.root / f"{1:016x}")
    with Mark(entry).held() as held:
        assert held
        assert store.sync() == 1
    assert store.said == [
        "1 of 2 uploaded",
        "1 run is not uploaded: another command is writing; repeat this one when it has ended.",
    ]
    assert store.sync() == 0
    assert [call[0][1:] for call in store.calls()] == [[str(free)], [str(busy)]]


def test_without_a_login_or_a_server_one_sentence_says_what_to_do(store, monkeypatch):
    store.add(1)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert store.sync() == 1
    [said] = store.said
    assert said.startswith("1 run is not uploaded: http://127.0.0.1:9 cannot be reached (")
    assert said.endswith("repeat the command later.")
    monkeypatch.delenv("WANDB_API_KEY")
    assert store.sync() == 1
    assert store.said == [
        "1 run is not uploaded: there is no W&B login; log in with `wandb login`, or set WANDB_API_KEY, and repeat the "
        "command."
    ]
    assert store.calls() == []
    with pytest.raises(ValueError, match="'a/b', from the argument, is not a project"):
        store.sync(project="a/b")
    assert sync(store.root / "nowhere", say=store.said.append) == 0


def test_wandb_uploads_our_logs_as_they_are(tmp_path, server, monkeypatch):
    paper, runs, said = make_paper(seeds=1), tmp_path / "runs", []
    with Writer("offline", runs, paper, "quick", say=said.append) as log:
        outcome = reproduce(paper, jobs=0, runs_dir=runs, results_dir=tmp_path / "results", on_event=log)
        log.results(outcome)
    assert server.asked == []
    server.refuse = True
    assert sync(runs, say=said.append) == 1
    assert said == [
        "5 runs are not uploaded: `wandb sync` says 'permission denied'; see to it and repeat the command, it goes on "
        "where it stopped."
    ]
    server.refuse = False
    assert sync(runs, say=said.append) == 0
    assert said[1:] == [f"5 of 5 uploaded, see {server.url}/team/lightning-regs"]
    assert {run["id"] for run in server.runs.values()} >= {folder.name.split("-")[-1] for folder in logs(runs)}
    row = read_csv(outcome.csv)[0]
    one = next(run for run in server.runs.values() if run["about"]["displayName"] == "net/plain seed 0")
    assert one["summary"]["train_acc"] == float(row["train_acc"])
    assert [line["trainer/global_step"] for _, line in sorted(one["history"].items())] == [24, 48, 72]
    assert one["exits"] == [0]
    assert one["about"]["groupName"] == "made/quick/net/plain"
    results = next(run for run in server.runs.values() if run["about"]["displayName"] == "made quick results")
    assert any(name.startswith("media/images/figure/loss") for name in results["files"])
    assert {artifact["artifactTypeName"] for artifact in server.artifacts} == {"run_table", "results"}
    assert server.unknown == []
