"""Reading ``SCALE.claims.json`` with care: its claims, and whether they follow from the rows beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning_regs.study.paper.claims import VERDICTS, ClaimResult
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.paper.verdicts import evaluate

if TYPE_CHECKING:
    from lightning_regs.study.paper.paper import Paper, Scale

_TEXTS = ("id", "sentence", "provenance", "unit", "reason", "criterion")
_NUMBERS = ("ours", "low", "high", "n")
_MOST_SEEDS = 1_000_000


def some(names: Sequence[str], most: int = 5) -> str:
    """List names, the first few of many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def parse_claims(text: str, name: str, paper: Paper, problems: list[str]) -> list[ClaimResult]:
    """Read a claims file.

    Args:
        text: Its content.
        name: Its name, for the problems.
        paper: The paper that it should belong to.
        problems: Receives one sentence for each kind of damage.

    Returns:
        The claims that are the paper's; what is not there, or not of its type, is empty.

    Raises:
        ValueError: The text is not a list in JSON.
    """
    entries = json.loads(text)
    if not isinstance(entries, list):
        raise ValueError("it is not a list of claims")
    if not entries:
        raise ValueError("it has no claim")
    known = {claim.id: claim for claim in paper.claims}
    found: dict[str, ClaimResult] = {}
    nameless, foreign, twice, faulty, reworded = 0, [], [], [], []
    for entry in entries:
        key = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(key, str) or not isinstance(entry.get("sentence"), str):
            nameless += 1
        elif key not in known:
            foreign.append(key)
        elif key in found:
            twice.append(key)
        else:
            found[key] = claim = _claim(entry)
            if entry.get("verdict") not in VERDICTS:
                problems.append(f"Claim {key} of {name} has the unknown verdict {str(entry.get('verdict'))[:40]!r}.")
            if fault := _fault(entry):
                faulty.append(f"{key} ({fault})")
            forms = [known[key], *known[key].variants.values()]
            if (claim.sentence, claim.unit) not in [(form.sentence, form.unit) for form in forms]:
                reworded.append(key)
    if nameless:
        problems.append(f"{name} has entries without the id and sentence of a claim: {nameless}, which were left out.")
    for keys, says in (
        (foreign, "are not claims of this paper and were left out"),
        (twice, "are there twice, and the first counts"),
        (faulty, "have entries of the wrong type, which were left out"),
        (reworded, "say something else in the paper's module"),
        ([key for key in known if key not in found], "are claims of this paper that it does not judge"),
    ):
        if keys:
            problems.append(f"In {name} these {says}: {some(keys)}.")
    return list(found.values())


def contradictions(claims: Iterable[ClaimResult], paper: Paper, rows: Rows, scale: Scale, name: str) -> list[str]:
    """Name the claims whose numbers or verdict do not follow from the rows: one sentence, or none.

    Args:
        claims: The claims as a file gives them.
        paper: The paper that judges them.
        rows: The rows of the same scale.
        scale: The scale.
        name: The file's name.
    """
    known = {claim.id: claim for claim in paper.claims}
    cells = {cell.name for cell in scale.cells}
    wrong = []
    for claim in claims:
        try:
            (again,) = evaluate([known[claim.id]], rows, scale.name, cells)
        except ArithmeticError:  # numbers too large to be judged
            wrong.append(claim.id)
            continue
        pairs = zip((claim.ours, claim.low, claim.high), (again.ours, again.low, again.high), strict=True)
        if claim.verdict != again.verdict or claim.n != again.n or not all(_close(a, b) for a, b in pairs):
            wrong.append(claim.id)
    if not wrong:
        return []
    return [f"In {name} these claims were judged on other rows than those of {scale.name}.csv: {some(wrong)}."]


def _close(a: float | None, b: float | None) -> bool:
    """Compare two numbers of which the second was computed again, maybe on another machine."""
    b = b if b is not None and math.isfinite(b) else None
    return a is b if a is None or b is None else math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _claim(entry: Mapping[str, Any]) -> ClaimResult:
    value = entry.get("paper_value")
    texts: dict[str, Any] = {key: entry[key] if isinstance(entry.get(key), str) else "" for key in _TEXTS}
    count = _number(entry.get("n")) or 0
    return ClaimResult(
        **texts,
        paper_value=value if isinstance(value, str) else _number(value),
        ours=_number(entry.get("ours")),
        low=_number(entry.get("low")),
        high=_number(entry.get("high")),
        n=int(count) if 0 <= count <= _MOST_SEEDS else 0,
        verdict=next((verdict for verdict in VERDICTS if verdict == entry.get("verdict")), "not decided"),
        recalled=entry.get("recalled") is True,
        headline=entry.get("headline") is True,
    )


def _fault(entry: Mapping[str, Any]) -> str:
    """Name the first entry that is not of its type."""
    for key in _TEXTS:
        if not isinstance(entry.get(key, ""), str):
            return key
    for key in _NUMBERS:
        value = entry.get(key)
        if value is not None and _number(value) is None:
            return key
    count = entry.get("n", 0)
    if count != int(_number(count) or 0) or not 0 <= count <= _MOST_SEEDS:
        return "n"
    value = entry.get("paper_value")
    return "" if value is None or isinstance(value, str) or _number(value) is not None else "paper_value"


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
