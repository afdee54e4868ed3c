from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lightning_regs.core.runs import Store
from lightning_regs.study import Cell, Scale, load_paper, reproduce
from lightning_regs.study.run import runner
from lightning_regs.study.run.executors.cards import Memory
from lightning_regs.study.run.executors.local import InProcess, Processes
from lightning_regs.study.run.planning import plan

TASKS = """
import os, signal


def note(run, text):
    with open(run.folder.parent / "journal", "a") as journal:
        journal.write(f"{text} {run.seed} {os.getpid()}\\n")


def grow(config, run):
    return stacked([config], [run])[0]


def stacked(configs, runs):
    label = f"stack-of-{len(runs)}"
    for config, run in zip(configs, runs):
        note(run, config["name"])
        if config.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if config.get("fail"):
            raise RuntimeError("it broke")
        before = [float((folder / "value").read_text()) for folder in run.inputs.values()]
        (run.folder / "value").write_text(str(sum(before) + 1 + run.seed / 10))
        run.progress(1, 1, label)
    return [{"value": float((run.folder / "value").read_text()), "size": len(runs)} for run in runs]


grow.stacked = stacked


def wrong(config, run):
    return {"value": 0.0}


wrong.stacked = lambda configs, runs: {"value": 0.0}


def partly(config, run):
    return {"value": 0.0}


partly.stacked = lambda configs, runs: [{"value": "none" if run.seed == 1 else 1.0} for run in runs]


def alone(config, run):
    return {"value": 1.0}
"""


def cell(name: str, needs: tuple[str, ...] = (), stack: str | None = None, task: str = "grow", **config: object) -> str:
    return f"Cell({name!r}, 'toy.stacks:{task}', {dict(config, name=name)!r}, needs={needs!r}, stack={stack!r})"


@pytest.fixture
def stacks(toy):
    def write(*cells: str, seeds: int = 2) -> None:
        toy.write(*cells, seeds=seeds)
        (toy.folder / "stacks.py").write_text(TASKS)

    return write


def values(outcome, column="value"):
    return {(row.cell, row.seed): row.metrics[column] for row in outcome.rows}


@pytest.mark.parametrize("jobs", [0, 2])
def test_runs_start_when_those_that_they_need_are_finished(toy, stacks, jobs):
    stacks(cell("c", needs=("a", "b")), cell("b", needs=("a",)), cell("a"))
    outcome = reproduce("toy", jobs=jobs)
    assert outcome.exit_code == 0
    expected = {("a", s): 1 + s / 10 for s in (0, 1)}
    expected |= {("b", s): 2 + 2 * s / 10 for s in (0, 1)}
    expected |= {("c", s): 4 + 4 * s / 10 for s in (0, 1)}
    assert values(outcome) == pytest.approx(expected)


def test_a_chosen_cell_brings_those_that_it_needs(toy, stacks):
    stacks(cell("c", needs=("b",)), cell("b", needs=("a",)), cell("a"), cell("other"))
    paper = load_paper("toy")
    assert [(p.cell.name, p.seed) for p in plan(paper, "quick", "c", 1)] == [("a", 0), ("b", 0), ("c", 0)]
    outcome = reproduce("toy", jobs=0, cells="c", seeds=1)
    assert toy.ran() == [("a", 0), ("b", 0), ("c", 0)]
    assert outcome.finished == 3
    assert reproduce("toy", jobs=0, cells="b", seeds=1).skipped == 2


@pytest.mark.parametrize("jobs", [0, 2])
def test_what_needs_a_failed_run_fails_and_says_so(toy, stacks, jobs):
    stacks(cell("a", fail=True), cell("b", needs=("a",)), cell("c", needs=("b",)), cell("d"), seeds=1)
    outcome = reproduce("toy", jobs=jobs)
    assert {f.cell: f.text for f in outcome.failed} == {
        "a": "RuntimeError: it broke",
        "b": "it needs cell 'a' with seed 0, which failed",
        "c": "it needs cell 'b' with seed 0, which failed",
    }
    assert values(outcome) == {("d", 0): 1.0}


@pytest.mark.parametrize(("card", "asked", "sizes"), [(False, None, 4), (True, None, 1), (True, 6, 4)])
def test_on_a_card_nets_with_convolutions_are_measured_apart_unless_asked(toy, stacks, monkeypatch, card, asked, sizes):
    conv, linear = {"architecture": "small_alexnet"}, {"architecture": "mlp"}
    kept = {"model": conv, "trainer": {"accelerator": "cpu"}}
    names = {"conv": {"model": conv}, "linear": {"model": linear}, "cpu": kept, "none": {}}
    stacks(*(cell(f"{name}{i}", stack=name, **config) for name, config in names.items() for i in range(2)))
    monkeypatch.setattr(runner, "look", lambda: {"0": Memory(1, 1)} if card else {})
    paper = load_paper("toy")
    paper = replace(paper, scales=tuple(replace(scale, replicas=6) for scale in paper.scales))
    found = values(reproduce(paper, jobs=0, replicas=asked), "size")
    assert {name: size for (name, _), size in found.items()} == {
        f"{name}{i}": sizes if name == "conv" else 4 for name in names for i in range(2)
    }


@pytest.mark.parametrize("jobs", [0, 2])
def test_runs_of_a_stack_are_measured_together(toy, stacks, jobs):
    stacks(cell("a", stack="one"), cell("b", stack="one"), cell("c"), seeds=3)
    events = []
    outcome = reproduce("toy", jobs=jobs, replicas=6, on_event=events.append)
    assert values(outcome, "size") == {(n, s): (1 if n == "c" else 6) for n in "abc" for s in range(3)}
    started = [e for e in events if e.kind == "started"]
    assert sorted(e.stacked for e in started) == [1, 1, 1, 6]
    assert len([e for e in events if e.kind == "finished"]) == 9
    devices = {row.cell: row.origin["device"] for row in outcome.rows}
    assert devices["a"].endswith(", 6 replicas")
    assert "replicas" not in devices["c"]


@pytest.mark.parametrize(("replicas", "sizes"), [(1, {1}), (4, {3}), (5, {3}), (6, {6}), (100, {6})])
def test_stacks_have_a_limit_and_equal_sizes(toy, stacks, replicas, sizes):
    stacks(cell("a", stack="one"), cell("b", stack="one"), seeds=3)
    assert set(values(reproduce("toy", jobs=0, replicas=replicas), "size").values()) == sizes


def test_an_interrupted_stack_is_put_together_from_the_same_runs(toy, stacks):
    stacks(cell("a", stack="one"), seeds=10)
    given = []

    class Watching(InProcess):
        def run(self, stacks, emit):
            given.append([[job.seed for job in stack] for stack in stacks])
            super().run(stacks[:1], emit)

    for _ in range(2):
        reproduce("toy", executor=Watching(), replicas=4)
    assert [len(stack) for stack in given[0]] == [3, 3, 4]
    assert given[1] == given[0][1:]


def test_the_hash_does_not_know_what_a_run_is_trained_with(toy, stacks):
    stacks(cell("a", stack="one"), seeds=3)
    together = reproduce("toy", jobs=0, replicas=3)
    again = reproduce("toy", jobs=0, replicas=1)
    assert again.skipped == 3
    assert [r.origin["config_hash"] for r in again.rows] == [r.origin["config_hash"] for r in together.rows]


def test_what_is_complete_leaves_the_stack(toy, stacks):
    stacks(cell("a", stack="one"), seeds=3)
    reproduce("toy", jobs=0, seeds=[1], replicas=3)
    sizes = values(reproduce("toy", jobs=0, replicas=3), "size")
    assert sizes == {("a", 0): 2, ("a", 1): 1, ("a", 2): 2}


def test_another_command_that_finished_a_member_meanwhile_is_believed(toy, stacks):
    stacks(cell("a", stack="one"), seeds=2)
    paper = load_paper("toy")

    class Meanwhile(InProcess):
        def run(self, given, emit):
            folder = Store().run(paper.scale("quick").cells[0].hash(1)).folder
            folder.mkdir(parents=True)
            (folder / "row.json").write_text(
                json.dumps({"config_hash": folder.name, "seed": 1, "value": 9.0, "size": 0})
            )
            super().run(given, emit)

    outcome = reproduce("toy", executor=Meanwhile(), replicas=2)
    assert values(outcome, "size") == {("a", 0): 1, ("a", 1): 0}


@pytest.mark.parametrize(("trouble", "word"), [({"fail": True}, "it broke"), ({"die": True}, "SIGKILL")])
def test_a_stack_that_breaks_fails_all_its_runs(toy, stacks, trouble, word):
    stacks(cell("a", stack="one"), cell("b", stack="one", **trouble), cell("c"), seeds=2)
    outcome = reproduce("toy", executor=Processes(2, threads=1), replicas=4)
    assert sorted((f.cell, f.seed) for f in outcome.failed) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert all(word in f.text for f in outcome.failed)
    assert all(word in Path(f.folder, "error.txt").read_text() for f in outcome.failed)
    assert set(values(outcome)) == {("c", 0), ("c", 1)}


@pytest.mark.parametrize(("task", "message"), [("alone", "has no `stacked` form"), ("wrong", "returned no list of 2")])
def test_a_task_without_a_stacked_form_says_so(toy, stacks, task, message):
    stacks(cell("a", stack="one", task=task))
    outcome = reproduce("toy", jobs=0, replicas=2)
    assert [message in f.text for f in outcome.failed] == [True, True]


def test_metrics_that_are_none_fail_their_run_only(toy, stacks):
    stacks(cell("a", stack="one", task="partly"), seeds=3)
    outcome = reproduce("toy", jobs=0, replicas=3)
    assert [(f.seed, "'none', which is not a number" in f.text) for f in outcome.failed] == [(1, True)]
    assert values(outcome) == {("a", 0): 1.0, ("a", 2): 1.0}


def test_a_stack_that_waits_for_itself_says_so(toy, stacks):
    stacks(cell("a", stack="one"), cell("b", needs=("a",), stack="one"), seeds=1)
    outcome = reproduce("toy", jobs=0, replicas=2)
    assert all("waits for a run of the same stack" in f.text for f in outcome.failed)
    assert reproduce("toy", jobs=0, replicas=1).exit_code == 0


def test_cells_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="needs itself"):
        Cell("a", "m:f", needs=("a",))
    a, b = Cell("a", "m:f", needs=("b",)), Cell("b", "m:f", needs=("a",))
    with pytest.raises(ValueError, match="need each other"):
        Scale("quick", "", (a, b))
    with pytest.raises(ValueError, match="unknown cell that 'c' needs: 'bb'"):
        Scale("quick", "", (Cell("c", "m:f", needs=("bb",)), Cell("b", "m:f")))
    with pytest.raises(TypeError, match="needs must be a tuple"):
        Cell("a", "m:f", needs="b")
    with pytest.raises(ValueError, match="'b', which it needs, has 1; give it no more"):
        Scale("quick", "", (Cell("a", "m:f", needs=("b",)), Cell("b", "m:f", seeds=1)), seeds=3)
    with pytest.raises(ValueError, match="replicas must be at least 1"):
        Scale("quick", "", (), replicas=0)
    with pytest.raises(ValueError, match="replicas is 0"):
        reproduce_nothing(0)


def reproduce_nothing(replicas):
    from lightning_regs.study import Paper

    return reproduce(Paper("x", "x", "x", 2020, "", (Scale("quick", "", ()),)), replicas=replicas)
