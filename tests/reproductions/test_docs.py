"""What documentation and rows say of each other: numbers in docs/verdicts.md, and commits in the tables."""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

import pytest

from lightning_regs.study import load_paper
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.paper.tasks import AGREEMENT
from lightning_regs.study.store.results import check_claims, default_results
from lightning_regs.study.store.tables import read_table

DOCS = (Path(__file__).parents[2] / "docs" / "verdicts.md").read_text(encoding="utf-8")


def rows_of(paper_id, scale="quick"):
    paper = load_paper(paper_id)
    return paper, read_table(default_results(paper) / f"{scale}.csv", paper_id, scale)


def reproduced(paper, rows):
    return {claim.id for claim in check_claims(paper, paper.scale("quick"), rows)
            if claim.kind == "paper" and claim.verdict == "reproduced"}  # fmt: skip


def test_the_table_of_agreements_is_what_was_measured():
    table = re.findall(r"^\| (\w+2\d{3})(?:, ([\w-]+))? \|.*\| (0\.\d\d) \| (0\.\d\d) \|$", DOCS, re.MULTILINE)
    assert len(table) == 5
    for paper_id, scale, between, within in table:
        _, rows = rows_of(paper_id, scale or "quick")
        measured = Rows(row.as_dict() for row in rows).agreement
        assert [f"{number:.2f}" for number in measured] == [within, between], paper_id


def test_what_hangs_on_them_is_said():
    """How many verdicts of a scale would not be there if the worst were assumed of its test samples."""
    text = " ".join(DOCS.split())
    said = re.search(r"(\d+) of smith2021's (\d+) reproduced claims and (\d+) of frankle2019's (\d+) would", text)
    assert said
    for paper_id, lost, of in (("smith2021", said[1], said[2]), ("frankle2019", said[3], said[4])):
        paper, rows = rows_of(paper_id)
        now = reproduced(paper, rows)
        worst = reproduced(paper, [row for row in rows if row.cell != AGREEMENT])
        assert [int(lost), int(of)] == [len(now - worst), len(now)]


def test_rows_are_of_commits_that_a_clone_has():
    """A row names the commit that measured it, and one that was rebased away is none that a reader can look at."""
    root = Path(__file__).parents[2]

    def git(*command):
        done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=False)
        return done.stdout.split() if not done.returncode else None

    if git("rev-parse", "--is-shallow-repository") != ["false"]:
        pytest.skip("the history is not here")
    history = git("rev-list", "--abbrev-commit", "--abbrev=7", "HEAD")
    for table in sorted(root.glob("reproductions/*/results/*[a-z].csv")):
        if not table.stem.endswith(".curves"):
            with table.open(encoding="utf-8", newline="") as file:
                commits = {row["commit"].partition("+")[0] for row in csv.DictReader(file)}
            assert not {commit for commit in commits if commit[:7] not in history}, table
