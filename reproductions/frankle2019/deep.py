"""The task of a whole search for tickets of a deep net."""

from __future__ import annotations

import math
from typing import Any

import torch

from lightning_regs import Classifier, ImageDataModule, Pruning, find_ticket
from lightning_regs.core.checks import seeds_apart
from lightning_regs.core.runs import RunContext
from lightning_regs.study import override
from lightning_regs.training.fit import quiet


def search(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Find tickets level by level.

    Args:
        config: ``{"model": ..., "data": ..., "trainer": ..., "pruning": Pruning's arguments, "search": those of
            :func:`~lightning_regs.find_ticket`: levels, rewind_to, method, fine_tune, controls}``. ``"warmup"`` is that
            of the model's schedule.
        run: The engine's run. Complete levels are skipped when an interrupted one is repeated.

    Returns:
        For each level ``NN``: ``p_m_NN`` (percent of the net's weights, those that are never pruned among them),
        ``test_acc_NN``, and of a control ``CONTROL_acc_NN``, such as ``reinitialise_acc_NN``, of its first draw.

    Raises:
        ValueError: If ``"seeds"`` are given, or ``"warmup"`` beside a schedule in parts.
    """
    if seeds_apart(config):
        raise ValueError(
            f"seeds={config['seeds']} is not possible in a search for tickets, which draws all that it needs from the "
            "run's seed; leave seeds out."
        )
    warm = {"model.schedule.warmup": config["warmup"]} if config.get("warmup") else {}
    model, options = override(config, warm)["model"], config["search"]

    def data() -> ImageDataModule:
        run.progress(len(list(run.folder.glob("level_*/level.pt"))), int(options["levels"]) + 1, "")
        return ImageDataModule(**config["data"], seed=run.seed)

    with quiet():
        tickets = find_ticket(
            lambda seed: Classifier(**model, seed=seed),
            data,
            folder=run.folder,
            trainer={"devices": 1, "use_distributed_sampler": False} | config["trainer"],
            pruning=Pruning(**config["pruning"]),
            seed=run.seed,
            **options,
        )
    weights = sum(value.numel() for value in tickets[0].weights().values() if value.ndim > 1)
    row: dict[str, float] = {}
    for one in tickets:
        if not one.repeat:
            row[f"p_m_{one.level:02d}"] = 100 * (weights - one.mask.total + one.mask.kept) / weights
        if one.repeat <= 1:
            name = one.kind if one.repeat else "test"
            row[f"{name}_acc_{one.level:02d}"] = one.metrics.get("test/acc", math.nan)
    if torch.cuda.is_available():
        run.device = f"1 x {torch.cuda.get_device_name()}"
    run.precision = str(config["trainer"].get("precision", "32-true"))
    return row
