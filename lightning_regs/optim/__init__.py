"""Optimizers and learning-rate schedules by name, as plain configuration.

A class in a file of this folder, an ``Optimizer`` or an ``LRScheduler``, is found by its name beside torch's.
"""

from __future__ import annotations

from lightning_regs.optim.build import check_optimization, make_optimizer, make_schedules
from lightning_regs.optim.lookahead import Lookahead, Ranger, SlowWeights

__all__ = ["Lookahead", "Ranger", "SlowWeights", "check_optimization", "make_optimizer", "make_schedules"]
