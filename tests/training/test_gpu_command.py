"""`make gpu` on a machine without a card: what is missing in a sentence, and the command itself tried on the CPU."""

from __future__ import annotations

import importlib
import logging
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_regs.cli.parser import main
from lightning_regs.study.run import runner
from lightning_regs.study.run.executors.local import InProcess


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    lightning = logging.getLogger("pytorch_lightning")
    before = lightning.level
    yield importlib.import_module("gpu")
    lightning.setLevel(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_machine_without_a_card_is_told_so_in_a_sentence(gpu: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    said = capsys.readouterr().out
    assert re.fullmatch(r"make gpu measures a CUDA card, .* finds none .*`make gpu DEVICE=cpu`\.\n", said)


@pytest.mark.cpu("it tries the command on the CPU")
@pytest.mark.slow
def test_all_that_a_cpu_can_run_of_it_runs(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = gpu.subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        """Only pytest needs a process of its own."""
        if command[2] == "pytest":
            return real(command, **options)
        return subprocess.CompletedProcess(command, main(command[3:]), stdout="")

    monkeypatch.setattr(gpu.subprocess, "run", run)
    monkeypatch.setattr(runner, "Processes", lambda *_, **__: InProcess())
    monkeypatch.delitem(gpu.NETS, "small Inception")  # which takes as long as all the rest
    suite = tmp_path / "test_device.py"
    suite.write_text("import os\n\ndef test_device():\n    assert os.environ['LIGHTNING_REGS_TEST_DEVICE'] == 'cpu'\n")
    small = ("--device", "cpu", "--images", "4", "--batch", "4", "--suite", str(suite))
    assert gpu.main([*small, "--out", str(tmp_path)]) == 0
    report = (tmp_path / "CPU.md").read_text()
    assert "failed" not in report
    assert "no time" not in report
    figures = re.findall(r"\| (?:MLP|small|LeNet).*", report)
    assert len(figures) == 15
    assert all(re.search(r"\| \d+ \|", line) for line in figures)
    assert re.search(r"`paper`, theory/theorem1 and theory/min-norm: complete", report)
    assert re.search(r"device tests, .*1 passed", report)
