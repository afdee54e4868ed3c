"""Training in stages: each a level that starts from others, trains, and hands on; a folder, complete or resumable.

A procedure is a generator of :class:`~lightning_regs.procedures.ends.Stage`, each after those that it needs, and
:class:`~lightning_regs.procedures.driver.Driver` trains what is not there yet: ``find_ticket`` is one,
:class:`~lightning_regs.procedures.plan.Plan` says its stages. The task of frankle2019, whose cells are one level each,
starts from the same :data:`~lightning_regs.procedures.starts.TREATMENTS`, and hands on the same
:class:`~lightning_regs.procedures.level.LevelState`.
"""
