"""Claims as they were written before criteria had words; goes when the last paper is rewritten."""

from __future__ import annotations

import math
from typing import Any

from lightning_regs.study.paper import claims
from lightning_regs.study.paper.claims import Source

_OLD = Source("old", "Named by a code; see the card")


def Claim(
    id: str,
    sentence: str,
    paper: Any,
    provenance: str,
    unit: str = "",
    measure: Any = None,
    holds: tuple[float, float] = (-math.inf, math.inf),
    scales: tuple[str, ...] | None = None,
    out_of_reach: str | None = None,
    exact: bool = False,
) -> claims.Claim:
    """Make a claim from the old arguments."""
    low, high = holds
    words: dict[str, Any] = {}
    for end, strict, loose in ((low, "above", "at_least"), (high, "below", "at_most")):
        if math.isfinite(end):
            is_strict = 0 < abs(end - round(end)) < 1e-6
            words[strict if is_strict else loose] = round(end) if is_strict else end
    return claims.Claim(
        id, sentence, measure, **words, published=paper, unit=unit, source=_OLD, where=provenance,
        origin="recalled" if "recalled" in provenance.lower() else "read", on=scales,
        out_of_reach=None if measure is not None else out_of_reach, exact=exact,
    )  # fmt: skip
