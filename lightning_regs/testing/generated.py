"""The files that say which methods there are, written by ``python -m lightning_regs.testing.generated``."""

from __future__ import annotations

import string
from pathlib import Path

import lightning_regs
from lightning_regs import analysis, data, functional
from lightning_regs.core import registry
from lightning_regs.testing.variants import methods, reason, variants

RENEW = "python -m lightning_regs.testing.generated"


def generated() -> dict[Path, str]:
    """Return each generated file of the checkout, and what it has to hold."""
    head = f"# Written by `{RENEW}`: the names that type checkers cannot find by their place.\n"
    tail = "\n__all__: list[str]\n"
    found = {
        Path(str(lazy.__file__)).with_suffix(".pyi"): head + registry.stub(vars(lazy)["_PUBLIC"]) + tail
        for lazy in (lightning_regs, functional, analysis, data)
    }
    package = Path(lightning_regs.__file__)
    found[package.with_suffix(".pyi")] += "__version__: str\n"
    return found | {package.parents[1] / "tests" / "contracts" / "pairs.md": pairs_table()}


def pairs_table() -> str:
    """Return which methods go together, in which order, and why the others do not, as Markdown."""
    letters: dict[str, str] = {}
    rows = []
    for i, first in enumerate(methods()):
        cells = []
        for second in methods():
            found = [reason(a, b) for a in variants(first) for b in variants(second)]
            notes = sorted({letters.setdefault(why, string.ascii_letters[len(letters)]) for why in found if why})
            cells.append(" ".join((["yes"] if None in found else []) + notes))
        rows.append(f"| {i + 1} {first.__name__} | {' | '.join(cells)} |")
    lines = [
        "# Methods in pairs",
        "",
        f"Written by `{RENEW}`. The method of the row stands before that of the column in the list. Letters are the",
        "reasons below the table, for which a pair is refused when the Trainer starts, and by `Classifier` when it is",
        'made; beside "yes" they are about some arguments only. The contract tests train each method together with one',
        "of each kind, in both orders.",
        "",
        f"| first, then | {' | '.join(str(i + 1) for i in range(len(rows)))} |",
        f"| --- |{' --- |' * len(rows)}",
        *rows,
        "",
        *(f"- {letter}: {text}" for text, letter in letters.items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
