"""A paper that has a cell in common with the other one."""

from lightning_regs.study import Cell, Paper, Scale

PAPER = Paper(
    id="other",
    title="Other",
    authors="Nobody",
    year=2021,
    arxiv="",
    scales=(
        Scale(
            "quick",
            "small",
            (Cell("net/plain", "made.tasks:measure", {"rows": 3, "seed": "its own", "options": {"p": 0.1}}),),
            seeds=1,
        ),
    ),
)
