"""The README files show the results that are committed."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.report.card import is_stale

ROOT = Path(__file__).parents[2]


def test_the_committed_cards_show_the_committed_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed, and not what a reproduction has just written into the working tree beside it."""
    archive = ["git", "-C", str(ROOT), "archive", "HEAD", "README.md", "reproductions", "configs"]
    committed = subprocess.run(archive, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(committed)) as files:
        files.extractall(tmp_path, filter="data")
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(tmp_path))
    papers = [load_paper(name) for name in find_papers()]
    assert {paper.id for paper in papers} >= {"smith2021", "zhang2017"}
    for paper in papers:
        assert paper.folder == tmp_path / "reproductions" / paper.id
    for card in (tmp_path / "README.md", *tmp_path.glob("reproductions/*/README.md")):
        assert not is_stale(card, papers), f"{card.relative_to(tmp_path)} is older than its results; run make report"
