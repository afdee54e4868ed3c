"""Lottery tickets: the search for sparse subnetworks that train as well as the dense net."""

from __future__ import annotations

from lightning_regs.procedures.tickets.find import find_ticket
from lightning_regs.procedures.tickets.plan import Control
from lightning_regs.procedures.tickets.results import Level, Tickets
from lightning_regs.procedures.tickets.time import Time

__all__ = ["Control", "Level", "Tickets", "Time", "find_ticket"]
