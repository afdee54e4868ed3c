"""Regularization methods: a pure function plus a thin Lightning callback, one file each.

A file ``some_method.py`` in this folder, with the class ``SomeMethod`` and the function ``some_method``, is all that a
new method needs: both are public, documented and tested by their place.
"""

from __future__ import annotations

from lightning_regs.core import registry
from lightning_regs.core.checks import NoEffectWarning
from lightning_regs.regularizers.base import Acts, Regularizer, example
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.regularizers.parts.rows import Rows
from lightning_regs.regularizers.parts.targets import MixedTarget

_METHODS = registry.classes(__name__)

__all__ = ["Acts", "MixedTarget", "Moment", "NoEffectWarning", "Regularizer", "Rows", "example"]
__all__ += _METHODS
__getattr__, __dir__ = registry.lazy(__name__, _METHODS)
