"""How the benchmarks measure: alternating rounds in one process, medians of ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


class Table:
    """Rows of the benchmark table: what was compared, how much faster, and the goal."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str]] = []

    def add(self, what: str, measured: float, goal: float, unit: str = "x", *, at_most: bool = False) -> None:
        met = measured <= goal if at_most else measured >= goal
        sign = "<=" if at_most else ">="
        self.rows.append((what, f"{measured:.2f} {unit}", f"{sign} {goal:.2f} {unit}", "yes" if met else "no"))

    def markdown(self) -> str:
        lines = ["| compared | measured | goal | met |", "| --- | ---: | ---: | --- |"]
        return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in self.rows)])


def seconds(function: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def alternate(functions: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each function once a round, in turn, so that a slow minute of the machine hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(function())
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """Return the median over rounds of how many times longer ``slow`` took than ``fast``."""
    return statistics.median(s / f for s, f in zip(times[slow], times[fast], strict=True))
