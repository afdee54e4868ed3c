"""Training in stages: each a level that starts from others, trains, and hands on; a folder, complete or resumable.

A procedure is a generator of :class:`~lightning_regs.procedures.ends.Stage`, each after those that it needs, and
:class:`~lightning_regs.procedures.driver.Driver` trains what is not there yet: ``find_ticket`` is one,
:class:`~lightning_regs.procedures.plan.Plan` says its stages. A cell that is one level of a chain trains it by
:func:`~lightning_regs.procedures.cells.level`. Both start from the same
:data:`~lightning_regs.procedures.starts.TREATMENTS`, and hand on the same
:class:`~lightning_regs.procedures.level.LevelState`.
"""
