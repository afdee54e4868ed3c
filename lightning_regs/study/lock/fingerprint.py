"""What a claim is at a scale, in one short hash: what its measure does, and what the number has to satisfy.

The measure is run on made-up rows. So code may be rewritten, and cells renamed that no condition names, without another
hash; another rule, another criterion or another configuration of the runs has another one. Settings (what the
paper does not state, varied) are not part of it: they stand beside the verdict and do not make it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from lightning_regs.core.metrics import ERROR
from lightning_regs.study.paper.claims import Claim
from lightning_regs.study.paper.criteria import Criterion
from lightning_regs.study.paper.estimates import CONFIDENCE
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.paper.rows import MissingRows, Rows

_SEEDS = 5
# From a uniform number to one as a metric may have it: a percentage, a number near 1, one of either sign, and a count
# that may be 0 or never come.
_DRAWS: tuple[Callable[[float], float], ...] = (
    lambda u: 100 * u,
    lambda u: 1 + u,
    lambda u: 4 * u - 2,
    lambda u: math.nan if u < 0.1 else float(int(50 * u) - 5),
)


@dataclass(frozen=True)
class Plan:
    """What a paper says of a claim at a scale, before anything is measured.

    That is the hash of its measure and criterion, in twelve hexadecimal digits; the seeds of the cell that has the
    fewest; and the cells that it looks at.
    """

    hash: str
    seeds: int
    cells: frozenset[str]


def plans(paper: Paper, scale: Scale) -> Mapping[str, Plan]:
    """Return the plan of every claim that a scale measures, by id, in the order of the paper."""
    return _plans(paper.claims, scale)


@lru_cache(maxsize=2**8)  # a page asks for them again and again
def _plans(claims: tuple[Claim, ...], scale: Scale) -> dict[str, Plan]:
    runs = {cell.name: cell.hash(0) for cell in scale.cells}
    seeds = {cell.name: cell.seeds or scale.seeds for cell in scale.cells}
    found = {}
    for claim in claims:
        if (form := scale.form(claim)) is None:
            continue
        made_up = [_MadeUp(runs, number) for number in range(len(_DRAWS))]
        outcomes = [_outcome(form, rows) for rows in made_up]
        cells = frozenset().union(*(rows.asked for rows in made_up))
        # A measure that asks for no cell has no seeds of its own.
        least = min((seeds[name] for name in cells), default=scale.seeds)
        found[claim.id] = Plan(_hash(form, outcomes, scale.test_samples), least, cells)
    return found


def _hash(form: Claim, outcomes: list[list[str]], test_items: int) -> str:
    conditions = [[*one.patterns, one.metric, *_ends(one.criterion)] for one in form.conditions]
    asked = [*_ends(form.criterion), form.published, form.unit, form.kind, form.exact, conditions, form.rests_on]
    asked += [test_items] if test_items else []
    return hashlib.sha256(json.dumps([outcomes, asked]).encode()).hexdigest()[:12]


def _ends(criterion: Criterion | None) -> list[str | bool]:
    assert criterion is not None
    return [_short(criterion.low), _short(criterion.high), criterion.open_low, criterion.open_high]


def _outcome(form: Claim, rows: Rows) -> list[str]:
    """Return what a measure makes of made-up rows; an error by its type."""
    try:
        measured = form.estimate(rows)
        numbers = [measured.ours, *measured.ends(CONFIDENCE), *measured.values]
        return ["invalid" if measured.invalid else "", *map(_short, numbers)]
    except (Exception, SystemExit) as error:
        return [type(error).__name__]


def _short(number: float) -> str:
    return f"{float(number) + 0.0:.6g}"


class _MadeUp(Rows):
    """Rows with a number for whatever is asked of a cell, in one of several draws of what ``runs`` has for it."""

    def __init__(self, runs: Mapping[str, str], draw: int) -> None:
        super().__init__(())
        self._runs, self._draw = runs, draw
        self.asked: set[str] = set()

    def _column(self, cell: str, name: str) -> dict[int, float]:
        if cell not in self._runs:
            raise MissingRows(f"the scale has no cell {cell!r}")
        self.asked.add(cell)
        # An error is made of its accuracy.
        run = self._runs[cell]
        return {} if name.endswith(ERROR) else {seed: _number(self._draw, run, name, seed) for seed in range(_SEEDS)}


@lru_cache(maxsize=2**14)  # the claims of a paper ask for the same columns
def _number(draw: int, run: str, name: str, seed: int) -> float:
    text = json.dumps([draw, run, name, seed])
    uniform = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
    return _DRAWS[draw](uniform)
