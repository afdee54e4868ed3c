"""The picture in ARCHITECTURE.md is made from the imports: ``python tests/core/test_architecture.py`` renews it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "ARCHITECTURE.md"
_BLOCK = re.compile(r"(<!-- begin:imports -->\n).*?(<!-- end:imports -->)", re.DOTALL)


def room(module: str) -> str:
    """Return the room of a dotted module of the package: ``data``, ``study.paper``."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2] if parts[:1] == ["study"] and len(parts) > 1 else parts[:1])


@cache
def imports() -> set[tuple[str, str]]:
    """Return which room imports which, at run time."""
    found = set()
    for file in sorted((ROOT / "lightning_regs").rglob("*.py")):
        ours = room(".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        tree = ast.parse(file.read_text(encoding="utf-8"))
        hints = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.ImportFrom)
                and id(node) not in hints
                and (node.module or "").startswith("lightning_regs.")
            ):
                theirs = room(node.module or "")
                if (
                    all((ROOT / "lightning_regs" / name.replace(".", "/")).is_dir() for name in (ours, theirs))
                    and ours
                    and theirs != ours
                ):
                    found.add((ours, theirs))
    return found


def reduced(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Leave out arrows that follow from others."""

    def reaches(start: str, end: str, without: tuple[str, str]) -> bool:
        seen, todo = set(), [start]
        while todo:
            at = todo.pop()
            for edge in edges - {without}:
                if edge[0] == at and edge[1] not in seen:
                    seen.add(edge[1])
                    todo.append(edge[1])
        return end in seen

    return {edge for edge in edges if not reaches(*edge, without=edge)}


def picture() -> str:
    """Return the block: rooms and arrows in Mermaid's language."""
    lines = [f"  {a.replace('.', '_')}[{a}] --> {b.replace('.', '_')}[{b}]" for a, b in sorted(reduced(imports()))]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```", ""])


def renewed() -> str:
    """Return the page with the picture of today."""
    return _BLOCK.sub(lambda match: match[1] + picture() + match[2], PAGE.read_text(encoding="utf-8"))


def test_rooms_import_in_one_direction():
    edges = imports()
    ahead = {a: {b for x, b in edges if x == a} for a, _ in edges}
    order: list[str] = []
    while ahead:
        free = sorted(a for a, needs in ahead.items() if not needs & set(ahead))
        assert free, f"these rooms import each other in a circle: {sorted(ahead)}"
        order += free
        ahead = {a: needs for a, needs in ahead.items() if a not in free}


def test_the_picture_is_todays():
    assert renewed() == PAGE.read_text(encoding="utf-8"), "run: python tests/core/test_architecture.py"


if __name__ == "__main__":
    PAGE.write_text(renewed(), encoding="utf-8")
