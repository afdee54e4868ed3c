"""The task of a whole search for tickets in a deep net, one run of ``find_ticket``."""

from __future__ import annotations

import logging
import math
import warnings
from typing import Any

import torch

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.core.lightning import NAMESPACE
from lightning_regs.core.runs import RunContext
from lightning_regs.optim import make_optimizer
from lightning_regs.procedures.tickets import find_ticket
from lightning_regs.pruning import Pruning
from lightning_regs.training import fit as engine


class WarmedUp(Classifier):
    """A Classifier whose learning rate rises linearly from 0, beside the drops of its schedule.

    Args:
        warmup: Its length in optimizer steps; 0 for none.
        **options: The Classifier's.
    """

    def __init__(self, warmup: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.warmup = warmup

    def configure_optimizers(self) -> Any:
        """Return the optimizer, with factors on its learning rate: the warm-up's times those of the drops.

        Raises:
            ValueError: If the schedule is not one of drops by step.
        """
        if not self.warmup:
            return super().configure_optimizers()
        drops = dict(self.schedule_config or {"name": "MultiStepLR", "milestones": [], "interval": "step"})
        if (drops["name"], drops.get("interval")) != ("MultiStepLR", "step"):
            raise ValueError(f"a warm-up goes with drops in steps; write MultiStepLR, interval: step, not {drops}.")
        milestones, gamma = list(drops["milestones"]), float(drops.get("gamma", 0.1))

        def factor(step: int) -> float:
            # Of the step that comes next, so that the last one of the warm-up has the whole learning rate.
            rising = min(1.0, (step + 1) / self.warmup)
            return float(rising * gamma ** sum(step >= milestone for milestone in milestones))

        optimizer = make_optimizer(self.parameters(), self.optimizer_config)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def search(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Find tickets level by level.

    Args:
        config: ``{"model": ..., "data": ..., "trainer": ..., "warmup": steps, "pruning": Pruning's arguments, "search":
            those of :func:`~lightning_regs.find_ticket`: levels, rewind_to, method, fine_tune, controls}``.
        run: The engine's run. Complete levels are skipped when an interrupted one is repeated.

    Returns:
        For each level ``NN``: ``p_m_NN`` (percent of the net's weights, those that are never pruned among them),
        ``test_acc_NN``, and of a control ``reinitialise_acc_NN``.
    """
    logging.getLogger(NAMESPACE).setLevel(logging.WARNING)
    options = config["search"]
    levels = int(options["levels"])
    data = ImageDataModule(**config["data"], seed=run.seed)
    data.prepare_data()
    data.setup()
    shapes: dict[str, Any] = {"input_shape": data.input_shape, "num_classes": data.num_classes}

    def module(seed: int) -> Classifier:
        run.progress(len(list(run.folder.glob("level_*/metrics.json"))), levels + 1, "")
        return WarmedUp(config["warmup"], **config["model"], **shapes, seed=seed)

    with warnings.catch_warnings():
        for message in engine._NOISE:
            warnings.filterwarnings("ignore", message)
        tickets = find_ticket(
            module,
            lambda: ImageDataModule(**config["data"], seed=run.seed),
            folder=run.folder,
            trainer={"devices": 1, "use_distributed_sampler": False} | config["trainer"],
            pruning=Pruning(**config["pruning"]),
            seed=run.seed,
            **options,
        )
    network = module(run.seed).network
    assert network is not None
    weights = sum(p.numel() for p in network.parameters() if p.ndim > 1)
    row: dict[str, float] = {}
    for one in tickets:
        name = f"{one.level:02d}"
        accuracy = one.metrics.get("test/acc", math.nan)
        if one.kind in ("dense", "ticket"):
            row[f"p_m_{name}"] = 100 * (weights - one.mask.total + one.mask.kept) / weights
            row[f"test_acc_{name}"] = accuracy
        elif one.kind == "reinitialise" and one.repeat == 1:
            row[f"reinitialise_acc_{name}"] = accuracy
    if torch.cuda.is_available():
        run.device = f"1 x {torch.cuda.get_device_name()}"
    run.precision = str(config["trainer"].get("precision", "32-true"))
    return row
