"""`make gpu` on a machine without a card: what is missing in a sentence, and the command itself tried on the CPU."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_machine_without_a_card_is_told_so_in_a_sentence() -> None:
    done = run()
    assert done.returncode == 2
    assert re.fullmatch(r"make gpu measures a CUDA card, .* finds none .*`make gpu DEVICE=cpu`\.\n", done.stdout)
    assert not done.stderr


def test_all_that_a_cpu_can_run_of_it_runs(tmp_path: Path) -> None:
    small = ("--device", "cpu", "--images", "4", "--batch", "4", "--suite", "tests/core/test_names.py")
    done = run(*small, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "CPU.md").read_text()
    assert "failed" not in report
    assert "no time" not in report
    figures = re.findall(r"\| (?:MLP|small|LeNet).*", report)
    assert len(figures) == 14
    assert all(re.search(r"\| \d+ \|", line) for line in figures)
    assert re.search(r"`paper`, theory/theorem1 and theory/min-norm: complete", report)
    assert re.search(r"device tests, .*\d+ passed", report)
