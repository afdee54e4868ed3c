from __future__ import annotations

from pathlib import Path

from lightning_regs.core.runs import Store
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.run.events import Event, Job
from lightning_regs.study.run.executors import queue
from lightning_regs.study.run.executors.local import InProcess
from lightning_regs.study.run.executors.queue import Queue
from lightning_regs.study.run.runner import reproduce
from lightning_regs.study.store.ledger import Ledger


def test_runs_that_another_has_are_set_aside_and_waited_for_when_nothing_else_runs(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(queue, "_LOOK_EVERY", 0.0)
    one, two, three = (Job(name, 0, "task", {}, str(tmp_path / name)) for name in ("one", "two", "three"))
    events: list[Event] = []
    line = Queue([(one, two), (three,)], events.append)
    with two.stored.lock():
        assert line.pop() == (three,)
        assert line.pop(running=1) is None
        assert line.held
        assert not events
        assert line.pop() is None
        assert line.pop() is None
        assert [(event.kind, event.cell) for event in events] == [("waiting", "one")]
    assert line.pop(running=1) == (one, two)
    assert not line.held
    assert line.pop() is None


def test_a_folder_that_cannot_be_locked_is_its_run_s_to_tell(tmp_path: Path):
    (tmp_path / "file").write_text("")
    job = Job("one", 0, "task", {}, str(tmp_path / "file" / "run"))
    assert Queue([(job,)], lambda event: None).pop() == (job,)


def test_what_another_had_does_not_start_beside_a_run_for_which_memory_was_short(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(queue, "_LOOK_EVERY", 0.0)
    one, two = (Job(name, 0, "task", {}, str(tmp_path / name)) for name in ("one", "two"))
    line = Queue([(one,), (two,)], lambda event: None, shares=True)
    with one.stored.lock():
        assert line.pop() == (two,)
        line.emit(two.event("failed", memory=True))
        assert line.pop() == (two,)
    assert line.pop(running=1) is None
    assert line.pop() == (one,)


def test_rows_that_another_command_measured_meanwhile_are_not_replaced_by_older_ones(toy):
    toy.write(toy.cell("one"), toy.cell("two"), seeds=1)
    reproduce("toy", cells="one", jobs=0)
    paper = load_paper("toy")
    ledger = Ledger(paper, paper.scale("quick"), Store())
    reproduce("toy", cells="one", jobs=0, force=True)
    newer = ledger.csv.read_text()
    reproduce("toy", cells="two", jobs=0)
    assert newer.splitlines()[1] in ledger.csv.read_text()
    text = ledger.csv.read_text()
    ledger.write(finish=True)
    assert ledger.csv.read_text() == text


def test_a_row_of_the_store_is_newer_than_that_of_a_table_also_of_a_seed_beyond_the_scale_s(toy):
    toy.write(toy.cell("one"), seeds=1)
    reproduce("toy", seeds=[7], jobs=0)
    outcome = reproduce("toy", seeds=[7], jobs=0, force=True, results_dir=toy.root / "elsewhere")
    paper = load_paper("toy")
    ledger = Ledger(paper, paper.scale("quick"), Store())
    ledger.write()
    assert ledger.csv.read_text() == outcome.csv.read_text()


def test_a_run_that_another_command_measured_anew_meanwhile_is_not_measured_anew_again(toy):
    toy.write(toy.cell("one"), toy.cell("two"), toy.cell("three"), seeds=1)
    reproduce("toy", cells=["one", "two"], jobs=0)

    class Meanwhile(InProcess):
        def run(self, stacks, emit):
            reproduce("toy", cells="one", jobs=0, force=True)
            reproduce("toy", cells="three", jobs=0)  # which may go on with what was begun before
            super().run(stacks, emit)

    assert reproduce("toy", executor=Meanwhile(), force=True).finished == 3
    assert [name for name, _ in toy.ran()] == ["one"] * 2 + ["three"] * 2 + ["two"] * 2
    assert reproduce("toy", jobs=0, force=True).finished == 3
    assert len(toy.ran()) == 9
