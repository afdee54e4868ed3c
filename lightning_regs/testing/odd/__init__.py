"""LightningModules as people write them: other batches, targets, losses and steps than the usual; float64 throughout.

A class in one of these files is a kind of module by being there; the first line of its docstring is its name.
"""

from __future__ import annotations

from lightning_regs.testing.odd import batches, losses, steps
from lightning_regs.testing.odd.base import Odd

__all__ = ["ODD", "Odd", "batches", "losses", "steps"]


def _kinds(cls: type[Odd]) -> dict[str, type[Odd]]:
    line = str(cls.__doc__).partition(".\n")[0].rstrip(".")
    found = {line[0].lower() + line[1:]: cls}
    for kind in cls.__subclasses__():
        found |= _kinds(kind)
    return found


ODD = _kinds(Odd)
