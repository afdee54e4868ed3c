"""Snapshot ensembles: one training whose learning rate falls again and again, and the nets that it passes through.

A cell has ``task=SNAPSHOTS``, see :func:`~lightning_regs.procedures.snapshots.cells.snapshots` for what its
configuration says and which columns it measures.
"""
