"""How lengths of v grow, as Salimans & Kingma's task measures it: against the lengths themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_regs.core.runs import RunContext
from lightning_regs.study import load_paper, override
from lightning_regs.study.paper.tasks import import_task
from lightning_regs.study.studies.initialized import _net

TINY = {"data.source": "digits", "data.train_size": 200, "trainer.max_epochs": 2, "data.val_split": 0,
        "model.architecture_args.hidden": [12, 12]}  # fmt: skip


def lengths(net: nn.Module) -> dict[str, Tensor]:
    return {name: w.detach().norm() for name, w in net.named_parameters() if name.endswith("original1")}


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_growth_is_that_of_v_and_the_least_is_a_layer_s_in_an_epoch(tmp_path: Path, decay: float) -> None:
    cell = next(c for c in load_paper("salimans2016").scales[0].cells if c.name == "weight/lr-0.1")
    config: dict[str, Any] = override(cell.config, TINY | {"model.optimizer.weight_decay": decay})
    run = RunContext(tmp_path, seed=3)
    row = import_task(cell.task)(config, run)
    start, end = lengths(_net(config, run)), lengths(run.trained.network())
    assert len(end) == 2
    whole = [torch.stack(list(each.values())).norm() for each in (end, start)]
    assert row["growth"] == pytest.approx(float(whole[0] / whole[1]), rel=1e-5)
    layers = [float(end[name] / start[name]) for name in end]
    assert (row["least_growth"] > 1) == (decay == 0)
    assert row["least_growth"] ** 2 <= min(layers) * (1 + 1e-6)
