"""The table of all ordered pairs of methods: which go together, and why the others do not.

``python tests/contracts/pairs.py`` writes it to ``pairs.md``.
"""

from __future__ import annotations

import string
from pathlib import Path

from contract_runs import refusal
from discover import Variant, variants
from modules import CONV, OURS, Case

from lightning_regs.regularizers.base import conflicts

FILE = Path(__file__).with_name("pairs.md")
RENEW = "python tests/contracts/pairs.py"


def pairs() -> list[tuple[Variant, Variant]]:
    """Return all ordered pairs, those of a method with itself among them."""
    found = variants()
    return [(first, second) for first in found for second in found]


def reason(first: Variant, second: Variant) -> str | None:
    """Return why the pair is refused, or None."""
    return next(conflicts([first.make(), second.make()]), None)


def case_of(first: Variant, second: Variant) -> Case:
    """Return the module that a pair is tried on: our own only where one of the two refuses others."""
    return OURS if refusal(CONV, first) or refusal(CONV, second) else CONV


def table() -> str:
    """Return the table as Markdown."""
    found = variants()
    letters: dict[str, str] = {}
    rows = []
    for i, first in enumerate(found):
        cells = []
        for second in found:
            text = reason(first, second)
            cells.append("yes" if text is None else letters.setdefault(text, string.ascii_letters[len(letters)]))
        rows.append(f"| {i + 1} {first} | {' | '.join(cells)} |")
    head = f"| first, then | {' | '.join(str(i + 1) for i in range(len(found)))} |"
    rule = f"| --- |{' --- |' * len(found)}"
    notes = [f"- {letter}: {text}" for text, letter in letters.items()]
    return "\n".join(
        [
            "# Methods in pairs",
            "",
            f"Written by `{RENEW}`. The method of the row stands before that of the column in the list. Pairs with",
            '"yes" are trained by the contract tests, and both methods act. The others are refused when the Trainer',
            "starts, and by `Classifier` when it is made, for the reason below the table.",
            "",
            head,
            rule,
            *rows,
            "",
            *notes,
            "",
        ]
    )


if __name__ == "__main__":
    FILE.write_text(table())
