"""What the planned seeds of a claim can see, in words."""

from __future__ import annotations

import contextlib

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
    effect, unit = None, form.unit
    with contextlib.suppress(Exception, SystemExit):  # a measure that fails says so when it is judged
        if rows is not None and form.criterion:
            effect = smallest_beyond(estimated(form, rows), form.criterion, confidence, seeds[-1])
    if not effect:
        effect, unit = smallest_effect(seeds[-1], confidence), "standard deviations over seeds"
    return f"{seeds[-1]} seeds see {effect:.2g} {unit}".rstrip()
