"""Early stopping: Prechelt's criteria on recorded curves, a callback that stops by them, and training on all data.

:mod:`~lightning_regs.procedures.stopping.criteria` are pure functions of a curve, so what they decide can be asked of
any recorded training; :class:`~lightning_regs.StopWhen` asks them while it trains; :func:`~lightning_regs.retrain`
trains on all data for as long as they found.
"""
