"""What methods there are, and what they do on odd modules: files that ``python tests/generated.py`` writes."""

from __future__ import annotations

import csv
import importlib
import re
import string
import sys
from pathlib import Path
from typing import Any

import lightning_regs
from lightning_regs import init, layers, optim, procedures, pruning
from lightning_regs.core import registry
from lightning_regs.regularizers import Regularizer
from lightning_regs.testing.odd import ODD
from lightning_regs.testing.table import Row, outcome
from lightning_regs.testing.variants import reason, variants

RENEW = "python tests/generated.py"
FILE = Path(__file__).with_name("contracts") / "modules.csv"
HEADINGS = {"W": "works", "v": "warns", "R": "refuses"}


def methods() -> list[type[Regularizer]]:
    """Return every method of the package."""
    found: list[type[Any]] = list(registry.subclasses("lightning_regs.regularizers", Regularizer).values())
    return found


def rows() -> list[Row]:
    """Return the rows of the committed table of methods by modules, which the contract tests measure anew."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return [Row(**row) for row in csv.DictReader(file)]


def generated() -> dict[Path, str]:
    """Return each generated file of the checkout, and what it has to hold."""
    head = f"# Written by `{RENEW}`: the names that type checkers cannot find by their place.\n"
    tail = "\n__all__: list[str]\n"
    package = Path(lightning_regs.__file__)
    found: dict[Path, str] = {}
    for file in package.parent.rglob("*.pyi"):
        name = ".".join(file.relative_to(package.parents[1]).with_suffix("").parts).removesuffix(".__init__")
        public = vars(importlib.import_module(name))["_PUBLIC"]
        found[file] = head + "".join(sorted(f"from {public[n]} import {n} as {n}\n" for n in public)) + tail
    found[package.with_suffix(".pyi")] += "__version__: str\n"
    readme = package.parents[1] / "README.md"
    text = readme.read_text(encoding="utf-8")
    measured = (package.parents[1] / "tests" / "benchmarks" / "results.md").read_text(encoding="utf-8")
    found[readme] = _filled(text, {"methods": methods_table(), "others": others_table(), "speed": speed(measured)})
    return found | {package.parents[1] / "docs" / "contract.md": contract_page()}


def _filled(text: str, parts: dict[str, str]) -> str:
    for name, body in parts.items():
        before, begin, rest = text.partition(f"<!-- begin:{name} -->\n")
        text = f"{before}{begin}{body}\n<!-- end:{name} -->{rest.partition(f'<!-- end:{name} -->')[2]}"
    return text


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


def others_table() -> str:
    """Return what is no method by itself: layers, optimizers, procedures and pruning, as Markdown."""
    rows = ["| beside them | what it does | import it from |", "| --- | --- | --- |"]
    for room in (init, layers, optim, procedures, pruning):
        for name in sorted({*vars(room).get("__all__", ()), *(top := lightning_regs.__all__)}):
            found = getattr(room, name, None) or getattr(lightning_regs, name)
            place = str(getattr(found, "__module__", ""))
            named = isinstance(found, type) or name in top or place.endswith(f".{name}")
            if place.startswith(f"{room.__name__}.") and named and not hasattr(found, "_fields"):
                line = re.sub(":[a-z]+:`|``", "`", str(found.__doc__).strip().partition("\n")[0]).rstrip(".")
                rows.append(f"| `{name}` | {line} | `{(lightning_regs if name in top else room).__name__}` |")
    return "\n".join(rows)


def speed(measured: str) -> str:
    """Return what methods cost and what training gains, as sentences, from the results of ``make bench``."""

    def between(numbers: list[str]) -> str:
        return " to ".join(dict.fromkeys((min(numbers, key=float), max(numbers, key=float))))

    ratios: dict[str, list[str]] = {}
    for method, way, ratio in re.findall(r" step, .*: ([A-Z]\w+)(?:, (.*?))? / plain \| ([\d.]+) x", measured):
        ratios.setdefault(f"`{method}`{f' ({way})' if way else ''}", []).append(ratio)
    (first, cost), *others = [(method, between(found)) for method, found in ratios.items()]
    gains = re.findall(r"over the usual recipe's \| ([\d.]+) x", measured)
    return (
        f"On two CPU threads a training step with {first} takes {cost} times as long as a plain one, "
        f"{', '.join(f'with {method} {cost}' for method, cost in others)}. Training with `ImageDataModule` and "
        f"`Classifier`, in float32 or bf16, is {between(gains)} times as fast as the usual recipe in float32, "
        "with PIL transforms in two workers ([all measurements](tests/benchmarks/results.md); "
        "[on GPUs](tests/benchmarks/devices))."
    )


def contract_page() -> str:
    """Return what each method does on each kind of module, and together with each other, as Markdown."""
    return f"""# Methods by modules, and in pairs

Written by `{RENEW}`, from what the contract tests measure: a method that is added has its column by being there.
`lightning_regs.testing.check_regularizer` runs the same on a method of your own.

## Modules as people write them

W: {HEADINGS["W"]}; it trains as a loop by hand does in plain torch and float64. v: {HEADINGS["v"]}, once, by the
sentence of the letter. R: {HEADINGS["R"]} the module, by that sentence. Methods have the arguments of the first variant
that the tests run. What each module is: `lightning_regs/testing/odd`.

{modules_table()}

## Pairs

The method of the row stands before that of the column in the list. Letters are the reasons for which a pair is refused
when the Trainer starts, and by `Classifier` when it is made; beside "yes" they are about some arguments only. The
contract tests train each method together with one of each kind, in both orders.

{pairs_table()}
"""


def modules_table() -> str:
    """Return what each method does on each kind of module, and the sentences, as Markdown."""
    found = {(row.method, row.module): row for row in rows()}
    lines, letters = [], _Letters()
    for module in ODD:
        cells = [found[cls.__name__, module] for cls in methods()]
        told = [f"{row.outcome} {letters.of(row.sentence.replace(row.method, 'METHOD'))}".strip() for row in cells]
        lines.append(f"| {module} | {' | '.join(told)} |")
    heads = [f"| module | {' | '.join(cls.__name__ for cls in methods())} |", f"| --- |{' --- |' * len(methods())}"]
    return "\n".join([*heads, *lines, "", *letters.lines()])


def pairs_table() -> str:
    """Return which methods go together, in which order, and why the others do not, as Markdown."""
    lines, letters = [], _Letters()
    for i, first in enumerate(methods()):
        cells = []
        for second in methods():
            found = [reason(a, b) for a in variants(first) for b in variants(second)]
            notes = sorted({letters.of(why) for why in found if why})
            cells.append(" ".join((["yes"] if None in found else []) + notes))
        lines.append(f"| {i + 1} {first.__name__} | {' | '.join(cells)} |")
    heads = [
        f"| first, then | {' | '.join(str(i + 1) for i in range(len(lines)))} |",
        f"| --- |{' --- |' * len(lines)}",
    ]
    return "\n".join([*heads, *lines, "", *letters.lines()])


class _Letters:
    """Notes below a table."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def of(self, text: str) -> str:
        """Return the letter of a text; none for no text."""
        return self._of.setdefault(text, string.ascii_letters[len(self._of)]) if text else ""

    def lines(self) -> list[str]:
        """Return all texts as a list in Markdown."""
        return [f"- {letter}: {text}" for text, letter in self._of.items()]


if __name__ == "__main__":
    measured = [outcome(name, variants(cls)[0]) for cls in methods() for name in ODD]
    with FILE.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([Row._fields, *measured])
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
