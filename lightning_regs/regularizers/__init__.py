"""Regularization methods: a pure function plus a thin Lightning callback, one file each."""

from __future__ import annotations

from lightning_regs.regularizers.base import Regularizer

__all__ = ["Regularizer"]
