"""Compare the rows of two results files, number by number: ``python tests/reproductions/compare_rows.py A.csv B.csv``.

Prints, for each cell that both have, how many rows are the same in all numbers, and where they differ by how much.
Exits with 1 if any differ.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

# What may differ between two measurements of the same numbers.
NOT_MEASURED = {"wall_s", "device", "commit", "versions", "paper", "scale", "cell", "seed"}
Rows = dict[tuple[str, str], dict[str, str]]


def read(path: Path) -> Rows:
    """Return the rows of a results file by cell and seed."""
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["cell"], row["seed"]): row for row in csv.DictReader(file)}


def differences(a: dict[str, str], b: dict[str, str]) -> dict[str, float]:
    """Return column -> distance, relative to the larger number, of what differs; infinite where one side has none."""
    found = {}
    for name in sorted((a.keys() | b.keys()) - NOT_MEASURED):
        ours, theirs = a.get(name, ""), b.get(name, "")
        if ours != theirs:
            try:
                x, y = float(ours), float(theirs)
            except ValueError:
                found[name] = float("inf")
            else:
                found[name] = abs(x - y) / max(abs(x), abs(y))
    return found


def report(a: Rows, b: Rows) -> tuple[list[str], bool]:
    """Return a line a cell, and whether all rows are the same."""
    lines, same = [], True
    by_cell: dict[str, list[dict[str, float]]] = defaultdict(list)
    for key in a:
        if key in b:
            by_cell[key[0]].append(differences(a[key], b[key]))
    for cell, found in by_cell.items():
        equal = sum(not one for one in found)
        same = same and equal == len(found)
        worst: dict[str, float] = {}
        for one in found:
            worst |= {name: max(distance, worst.get(name, 0.0)) for name, distance in one.items()}
        text = ", ".join(f"{name} {distance:.1e}" for name, distance in worst.items())
        lines.append(f"{cell}: {equal} of {len(found)} rows are the same{f'; {text}' if text else ''}")
    for name, only in (("first", a.keys() - b.keys()), ("second", b.keys() - a.keys())):
        if only:
            lines.append(f"{len(only)} rows are in the {name} file alone")
    return lines, same


def main(arguments: Iterable[str] | None = None) -> int:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    files = parser.parse_args(None if arguments is None else list(arguments))
    lines, same = report(read(files.first), read(files.second))
    print("\n".join(lines))
    return 0 if same and lines else 1


if __name__ == "__main__":
    raise SystemExit(main())
