"""What the planned seeds of a claim can see, in words."""

from __future__ import annotations

from lightning_regs.study.paper.claims import Claim, Frozen
from lightning_regs.study.paper.power import smallest_beyond, smallest_effect
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.paper.verdicts import estimated


def sees(form: Claim, seeds: tuple[int, ...], rows: Rows | None = None) -> str:
    """Say which effect the planned seeds of a claim see: in its unit where rows tell how much seeds differ.

    Args:
        form: The claim at a scale.
        seeds: The plan, one number for each look.
        rows: What has been measured at that scale, if anything.
    """
    if form.exact:
        return ""
    if seeds[-1] < 2:
        return "one seed sees nothing"
    confidence = Frozen(seeds).confidence
    effect, unit = _beyond(form, rows, seeds[-1], confidence), form.unit
    if not effect:
        effect, unit = smallest_effect(seeds[-1], confidence), "standard deviations over seeds"
    return f"{seeds[-1]} seeds see {effect:.2g} {unit}".rstrip()


def _beyond(form: Claim, rows: Rows | None, seeds: int, confidence: float) -> float | None:
    """Return the effect in the claim's unit; None where nothing tells how much seeds differ."""
    assert form.criterion is not None
    try:
        return None if rows is None else smallest_beyond(estimated(form, rows), form.criterion, confidence, seeds)
    except (Exception, SystemExit):  # a measure that fails says so when it is judged
        return None
