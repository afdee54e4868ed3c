"""A paper that has a cell in common with the other one."""

from made.paper import PLAIN

from lightning_regs.study import Paper, Scale

SCALE = Scale("quick", "small", (PLAIN,), seeds=1)
PAPER = Paper(id="other", title="Other", authors="Nobody", year=2021, arxiv="", scales=(SCALE,))
