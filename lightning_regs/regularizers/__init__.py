"""Regularization methods: a pure function plus a thin Lightning callback, one file each."""

from __future__ import annotations

from lightning_regs.regularizers.base import Regularizer
from lightning_regs.regularizers.gradient_penalty import GradientPenalty

__all__ = ["GradientPenalty", "Regularizer"]
