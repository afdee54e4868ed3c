"""The files that say which methods there are, written by ``python -m lightning_regs.testing.generated``."""

from __future__ import annotations

import re
import string
import sys
from pathlib import Path

import lightning_regs
from lightning_regs import analysis, data, functional
from lightning_regs.core import registry
from lightning_regs.testing.variants import methods, reason, variants

RENEW = "python -m lightning_regs.testing.generated"
_BEGIN, _END = "<!-- begin:methods -->", "<!-- end:methods -->"


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
    readme = package.parents[1] / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(_BEGIN)
    found[readme] = f"{before}{_BEGIN}\n{methods_table()}\n{_END}{rest.partition(_END)[2]}"
    return found | {package.parents[1] / "tests" / "contracts" / "pairs.md": pairs_table()}


def methods_table() -> str:
    """Return each method with the first line of its file, its papers, and what it acts on, as Markdown."""
    rows = ["| method | what it does | acts on |", "| --- | --- | --- |"]
    for cls in methods():
        line = str(sys.modules[cls.__module__].__doc__).partition("\n")[0]
        papers = re.findall(r"\b\d{4}\.\d{4,5}\b", "".join(str(cls.__doc__).split("\n\n")[:2]))
        links = ", ".join(f"[{paper}](https://arxiv.org/abs/{paper})" for paper in dict.fromkeys(papers))
        does = f"{line.partition(': ')[2].rstrip('.')}{f' ({links})' if links else ''}"
        rows.append(f"| `{cls.__name__}` | {does} | {cls.acts.value if cls.acts else ''} |")
    return "\n".join(rows)


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
