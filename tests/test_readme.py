"""The README's Python runs as it stands, and what it points to is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def test_there_is_code() -> None:
    assert CODE


def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}  # a reader goes on from one block to the next
    for code in CODE:
        exec(code, namespace)
        printed = capsys.readouterr().out
        if "find_ticket(" in code:
            tickets = namespace["tickets"]
            assert [level.kind for level in tickets] == ["dense", *["ticket", "reinitialise"] * 3]
            assert all(level.metrics["test_acc"] > 0.5 for level in tickets)
            assert "level_03-reinitialise-1" in printed
            continue
        trainer = namespace["trainer"]
        assert isinstance(trainer, pl.Trainer)
        assert trainer.state.finished
        assert trainer.global_step > 0
        assert all(value.isfinite() for value in trainer.callback_metrics.values())
        if "trainer.test(" in code:
            assert trainer.callback_metrics["test/acc"] > 50
        if "replica_results" in code:
            assert len({own["loss"] for own in namespace["model"].replica_results["train"]}) == 5


def test_links_resolve() -> None:
    cards = [ROOT / "README.md", *(ROOT / "reproductions").glob("*/README.md")]
    for card in cards:
        for target in re.findall(r"\]\(([^)#\s]+)\)", card.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (card.parent / target).exists(), f"{card.name} links to {target}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
