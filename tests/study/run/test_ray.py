"""A cluster of two machines, as far as Ray can tell: their processes share nothing but this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from lightning_regs.core.runs import Store
from lightning_regs.study import reproduce
from lightning_regs.study.run.executors.node import _PREFIX

pytestmark = pytest.mark.xdist_group("ray")

TASKS = """
import os, time


def grow(config, run):
    with open(config["journal"], "a") as journal:
        journal.write(f"{config['name']} {run.seed} {os.getpid()} {run.folder}\\n")
    run.log_curve({"epoch": 1, "value": run.seed})
    run.progress(1, 2)
    while not os.path.exists(config.get("until", "/")):
        time.sleep(0.02)
    before = [float((folder / "value").read_text()) for folder in run.inputs.values()]
    (run.folder / "value").write_text(str(sum(before) + 1 + run.seed / 10))
    if config.get("fail"):
        raise RuntimeError("it broke")
    if config.get("big") and open(config["journal"]).read().count(f"{config['name']} {run.seed} ") == 1:
        raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")
    return {"value": float((run.folder / "value").read_text()), "omp": int(os.environ["OMP_NUM_THREADS"])}
"""


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    # What Ray and runs write is in one place; a socket's path must be short.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # Ray holds what is hidden against the made-up GPU
        yield from started(Cluster, Path(folder))
    shutil.rmtree(folder)


def started(kind, folder):
    has = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 2**20}  # the GPU is made up
    made = kind(initialize_head=True, head_node_args={"include_dashboard": False, **has})
    made.other, made.folder = made.add_node(**has), folder
    yield made
    made.shutdown()


@pytest.fixture
def far(toy):
    toy.folder.mkdir(parents=True)
    (toy.folder / "far.py").write_text(TASKS)
    toy.far = toy.root / "far"

    def write(**cells):
        lines = []
        for name, options in cells.items():
            needs = options.pop("needs", ())
            config = {"name": name, "journal": str(toy.far), **options}
            lines.append(f"Cell({name!r}, 'toy.far:grow', {config!r}, needs={needs!r})")
        toy.write(*lines)

    toy.cells = write
    return toy


def journal(toy) -> list[list[str]]:
    return [line.split() for line in toy.far.read_text().splitlines()] if toy.far.exists() else []


def scratch(cluster) -> list[Path]:
    return list(cluster.folder.glob(f"{_PREFIX}*"))


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_the_cluster_gives_the_rows_of_this_machine_into_one_store(cluster, far, tmp_path):
    far.cells(a={}, b={"needs": ("a",)}, broken={"fail": True}, big={"big": True})
    told = []
    here = reproduce("toy", jobs=2, runs_dir=tmp_path / "here", on_event=told.append)
    far.far.unlink()
    # One run was begun on this machine, and another command has it until this one says that it waits.
    begun = Store().run(here.rows[0].origin["config_hash"])
    begun.folder.mkdir(parents=True)
    (begun.folder / "begun").touch()
    other = ExitStack()
    other.enter_context(begun.lock())

    def look(event):
        told.append(event)
        if event.kind == "waiting":
            assert (event.run, event.text) == (begun.hash, str(os.getpid()))
            other.close()

    there = reproduce("toy", executor="ray", address=cluster.address, gpus=0.5, on_event=look)
    assert [event.kind for event in told].count("waiting") == 1
    assert sum("tried again alone (OutOfMemoryError" in event.text for event in told) == 2 * 2

    def rows(outcome):
        return [(r.cell, r.seed, r.metrics, {k: v for k, v in r.origin.items() if k != "wall_s"}) for r in outcome.rows]

    assert len(there.rows) == 6
    assert rows(there) == rows(here)
    assert there.curves_csv.read_text() == here.curves_csv.read_text()
    assert {(f.cell, f.text) for f in there.failed} == {(f.cell, f.text) for f in here.failed}
    assert "in grow" in Path(there.failed[0].folder, "error.txt").read_text()
    # They ran elsewhere, and nothing is left there.
    assert not any(Path(folder).is_relative_to(far.runs) for _, _, _, folder in journal(far))
    assert scratch(cluster) == []
    for row in there.rows:
        mine = Store().run(row.origin["config_hash"])
        theirs = Store(tmp_path / "here").run(mine.hash)
        assert mine.row() is not None
        assert {p.name for p in mine.folder.iterdir()} | {"lock"} == {p.name for p in theirs.folder.iterdir()} | (
            {"begun"} if mine.hash == begun.hash else set()
        )
    assert not list(far.runs.glob(".*.part"))
    assert reproduce("toy", cells="[ab]", executor="ray", address="never:1").skipped == 4


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(cluster, far, eventually):
    far.cells(long={"until": str(far.root / "never")})
    command = far.start(executor="ray", address=cluster.address)
    eventually(lambda: len(journal(far)) == 2, "both runs start")
    assert len(scratch(cluster)) == 2
    os.killpg(command.pid, signal.SIGINT)
    out, _ = command.communicate(timeout=30)
    assert command.returncode == 130, out
    assert out.splitlines()[-1].endswith("repeat the command to go on")
    assert "Traceback" not in out
    assert not any(alive(pid) for _, _, pid, _ in journal(far))
    assert scratch(cluster) == []
    assert not [path for path in far.runs.rglob("*") if path.name == "error.txt" or path.suffix == ".part"]


@pytest.mark.slow
def test_a_machine_that_dies_costs_its_runs_only_time(cluster, far):
    gate = far.root / "go"
    far.cells(a={"until": str(gate)})
    told = []

    def kill(event):
        told.append(event.kind)
        if told.count("progress") == 2 and cluster.other is not None:
            cluster.remove_node(cluster.other, allow_graceful=False)
            cluster.other = None
        if event.kind == "noted":
            assert "was lost with its machine" in event.text
            gate.touch()

    outcome = reproduce("toy", executor="ray", address=cluster.address, on_event=kill)
    assert (outcome.exit_code, outcome.finished, told.count("noted")) == (0, 2, 1)
    assert [row.metrics["value"] for row in outcome.rows] == [1.0, 1.1]
    assert len(journal(far)) == 3


@pytest.mark.slow
def test_a_run_that_no_machine_has_room_for_is_not_waited_for(cluster, far):
    far.cells(a={}, wide={"trainer": {"devices": 2}})
    with pytest.raises(
        ValueError, match=r"no machine of the Ray cluster has 2 CPUs and 2 GPUs for a run; ask for less"
    ):
        reproduce("toy", executor="ray", address=cluster.address, gpus=0.5)
    assert journal(far) == []


@pytest.mark.slow
def test_what_cannot_be_is_refused_in_one_sentence(far, monkeypatch):
    far.cells(a={})
    with pytest.raises(ValueError, match=r"unknown executor 'rya'. Did you mean 'ray'"):
        reproduce("toy", executor="rya")
    with pytest.raises(ValueError, match="are for executor='ray'; here jobs"):
        reproduce("toy", gpus=0.5)
    with pytest.raises(ValueError, match=r"gpus is 1.5; give a share of one GPU"):
        reproduce("toy", executor="ray", gpus=1.5)
    with pytest.raises(ValueError, match=r"gpus is -1; give a share of one GPU"):
        reproduce("toy", executor="ray", gpus=-1)
    with pytest.raises(ValueError, match=r"cpus is 0; give the cores of a run, at least 1"):
        reproduce("toy", executor="ray", cpus=0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ValueError, match=rf"nobody answers at the address '{address}'.*`ray start --head` printed"):
        reproduce("toy", executor="ray", address=address)
    with pytest.raises(ValueError, match="is of Ray's client"):
        reproduce("toy", executor="ray", address="ray://somewhere:10001")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"not installed: pip install 'lightning-regs\[cluster\]'"):
        reproduce("toy", executor="ray")
    assert journal(far) == []
