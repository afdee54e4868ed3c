from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lightning_regs.core.files import DamagedFileError, _host, _swept, pack
from lightning_regs.core.runs import Run, RunContext, Store


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "0123456789abcdef"
    path.mkdir()
    return path


def test_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIGHTNING_REGS_RUNS", raising=False)
    assert Store().root == tmp_path / "runs"
    monkeypatch.setenv("LIGHTNING_REGS_RUNS", str(tmp_path / "env"))
    assert Store().root == tmp_path / "env"
    assert Store("given").run("abc").folder == tmp_path / "given" / "abc"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"config_hash": "another"}', "\0\0\0", "null", "[" * 100_000])
def test_a_damaged_row_counts_as_none(folder, text):
    (folder / "row.json").write_text(text)
    assert Run(folder).row() is None


def test_a_finished_run_has_its_row_and_no_error(folder):
    run = Run(folder)
    run.fail("Traceback")
    assert (run.row(), run.error()) == (None, "Traceback")
    (folder / ".last.ckpt.0123456789abcdef.part").write_text("of an attempt that was killed")
    (folder / "net1").mkdir()
    (folder / "net1" / "last.ckpt").write_text("of an epoch")
    (folder / "last-12.ckpt").write_text("of an epoch")
    _swept.discard(folder)  # as in another process
    run.finish({"acc": math.nan, "config_hash": run.hash})
    assert sorted(path.name for path in folder.rglob("*")) == ["net1", "row.json"]
    row = run.row()
    assert row is not None
    assert math.isnan(row["acc"])
    assert run.error() is None


@pytest.mark.parametrize(
    ("file", "old", "new"), [("row.json", "0.75", "0.76"), ("row.json", '"x"', '"y"'), ("curves.csv", "0.5", "0.6")]
)
def test_a_row_that_is_not_as_it_was_written_or_has_other_curves_counts_as_none(folder, file, old, new):
    run = Run(folder)
    RunContext(folder).log_curve({"epoch": 1, "acc": 0.5})
    run.finish({"acc": 0.75, "b": 1e-300, "device": "x", "config_hash": run.hash})
    assert run.row() == {"acc": 0.75, "b": 1e-300, "device": "x", "config_hash": run.hash}
    path = folder / file
    path.write_text(path.read_text().replace(old, new))
    assert run.row() is None


def test_a_row_of_an_earlier_version_counts(folder):
    (folder / "row.json").write_text(json.dumps({"acc": 0.75, "config_hash": folder.name}))
    assert Run(folder).row() == {"acc": 0.75, "config_hash": folder.name}


def test_curves_read_back(folder):
    run = RunContext(folder)
    run.log_curve({"step": 10, "epoch": 1, "acc": 0.1 + 0.2})
    run.log_curve({"epoch": 2, "step": 20, "loss": np.float64(1e-300)})
    run.log_curve({"step": 30, "epoch": 3, "acc": math.nan, "loss": math.inf})
    rows = run.curves
    assert rows[0] == {"step": 10, "epoch": 1, "acc": 0.1 + 0.2}
    assert rows[1] == {"step": 20, "epoch": 2, "loss": 1e-300}
    assert math.isnan(rows[2]["acc"])
    assert (folder / "curves.csv").read_text().splitlines()[0] == "step,epoch,acc,loss"


@pytest.mark.parametrize("axis", ["epoch", "step"])
def test_a_second_attempt_drops_what_it_repeats(folder, axis):
    first = RunContext(folder)
    for at in (1, 2, 3, 4):
        first.log_curve({axis: at, "acc": at})
    second = RunContext(folder)
    second.log_curve({axis: 3, "acc": 30})
    second.log_curve({axis: 4, "acc": 40})
    assert [(row[axis], row["acc"]) for row in second.curves] == [(1, 1), (2, 2), (3, 30), (4, 40)]


def test_a_line_cut_short_by_a_kill_is_dropped(folder):
    first = RunContext(folder)
    first.log_curve({"epoch": 1, "acc": 0.5})
    with (folder / "curves.csv").open("a") as file:
        file.write("2,0.")
    assert Run(folder).curves() == [{"epoch": 1, "acc": 0.5}]
    second = RunContext(folder)
    second.log_curve({"epoch": 2, "acc": 0.75})
    assert Run(folder).curves() == [{"epoch": 1, "acc": 0.5}, {"epoch": 2, "acc": 0.75}]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"epoch,acc\n1\n2,x\n3,4\n",
        b"garbage",
        b"epoch,acc\n\xff,1\n3,4\n",
        b"epoch\n" + b"1" * 200_000 + b"\n",
        b"epoch,acc\n\x003,4\n",
    ],
)
def test_damaged_curves_give_what_is_whole(folder, text):
    (folder / "curves.csv").write_bytes(text)
    assert Run(folder).curves() == ([{"epoch": 3, "acc": 4}] if b"3,4" in text else [])
    RunContext(folder).log_curve({"epoch": 4, "acc": 5})
    assert Run(folder).curves()[-1] == {"epoch": 4, "acc": 5}


def test_curves_of_a_checkpoint_replace_the_file(folder):
    run = RunContext(folder)
    for epoch in (1, 2, 3):
        run.log_curve({"epoch": epoch, "acc": 0})
    again = RunContext(folder)
    again.restore_curves([{"epoch": 1, "acc": 0.0, "loss": 2.0}])
    again.log_curve({"epoch": 2, "acc": 1})
    assert again.curves == [{"epoch": 1, "acc": 0, "loss": 2}, {"epoch": 2, "acc": 1}]
    fresh = RunContext(folder)
    fresh.restore_curves([])
    assert fresh.curves == []


def test_time_adds_up_over_attempts(folder):
    (folder / "elapsed").write_text("100.0")
    run = RunContext(folder)
    assert 100 <= run.elapsed < 105
    run.progress(1, 2)
    run.close()
    assert 100 <= RunContext(folder).elapsed < 110
    (folder / "elapsed").write_text("rubbish")
    assert RunContext(folder).elapsed < 5


def test_progress_is_thinned_but_the_last_gets_through(folder):
    seen = []
    run = RunContext(folder, on_progress=lambda *event: seen.append(event))
    for step in range(1, 1001):
        run.progress(step, 1000, "x")
    assert seen[0] == (1, 1000, "x")
    assert seen[-1] == (1000, 1000, "x")
    assert len(seen) < 200


def test_the_progress_and_the_notes_of_a_part_are_those_of_its_run(folder):
    seen = []
    run = RunContext(folder, 3, 2, lambda *event: seen.append(event), on_note=seen.append)
    run.parts = 2
    part = run.part("net1", 1, seed=9)
    part.progress(3, 4, "x")
    part.note("It starts over.")
    assert seen == [(7, 8, "x"), "It starts over."]
    assert (part.folder, part.seed, part.threads, run.part("net2", 1).seed) == (folder / "net1", 9, 2, 3)


def test_defaults_of_the_context(folder):
    assert RunContext(folder, threads=2).device == "cpu (2 threads)"
    assert RunContext(folder).device == "cpu (1 thread)"
    assert RunContext(folder).curves == []
    assert json.dumps(RunContext(folder, seed=3).seed) == "3"


def test_a_run_of_another_machine_is_taken_whole_or_not_at_all(tmp_path):
    here, there = (Store(tmp_path / place).run("0123") for place in ("here", "there"))
    for run in (here, there):
        run.folder.mkdir(parents=True)
    (here.folder / "old").touch()
    with there.lock():
        (there.folder / "level_1").mkdir()
        (there.folder / "level_1" / "net").write_bytes(bytes(1000))
        (there.folder / "curves.csv").write_text("epoch\n1\n")
        there.finish({"value": math.nan, "config_hash": "0123"})
    packed = pack(there.folder)

    row = (there.folder / "row.json").read_text()
    (there.folder / "row.json").write_text(row.replace("NaN", "1.0"))
    for damaged in (packed[:-100], packed.replace(bytes(1000), bytes(999) + b"1"), b"", pack(there.folder)):
        with pytest.raises(DamagedFileError, match=r"what came for .*0123 is damaged"):
            here.take(damaged)
        assert [path.name for path in here.folder.iterdir()] == ["old"]
    with here.lock():
        here.take(packed)
    assert here.row() is not None
    assert sorted(path.name for path in here.folder.iterdir()) == ["curves.csv", "level_1", "row.json"]
    assert (here.folder / "level_1" / "net").stat().st_size == 1000
    assert [path.name for path in here.folder.parent.iterdir()] == ["0123"]


def test_a_folder_that_a_killed_command_was_putting_together_is_swept_away(tmp_path):
    run = Store(tmp_path).run("0123")
    left = tmp_path / f".0123.{_host()}-{2**22 + 1}.{'0' * 16}.part"
    left.mkdir()
    (left / "file").touch()
    _swept.discard(tmp_path)
    run.take(pack(tmp_path / "nothing"))
    assert [path.name for path in tmp_path.iterdir()] == ["0123"]
