"""What a user waits for before anything happens."""

from __future__ import annotations

import subprocess
import sys

import pytest
from harness import Table, alternate, seconds


def _python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def test_import(table: Table) -> None:
    times = alternate(
        {
            "lightning": lambda: seconds(lambda: _python("-c", "import pytorch_lightning")),
            "ours": lambda: seconds(
                lambda: _python("-c", "import pytorch_lightning, lightning_regs; lightning_regs.Classifier")
            ),
        },
        rounds=5,
    )
    extra = sorted(ours - theirs for ours, theirs in zip(times["ours"], times["lightning"], strict=True))[2]
    table.add("import of the Classifier beyond importing pytorch_lightning", extra, 0.3, "s", at_most=True)
    assert extra < 1.0


@pytest.mark.parametrize("arguments", [["--help"], ["list"]])
def test_command(table: Table, arguments: list[str]) -> None:
    best = sorted(seconds(lambda: _python("-m", "lightning_regs", *arguments)) for _ in range(5))[2]
    table.add(f"lightning-regs {arguments[0]}", best, 1.0, "s", at_most=True)
    assert best < 3.0
