"""Every method in two processes: the step is that of the mean of the gradients that each has alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract_runs import all_pairs, assert_same_step, ids, plain, step_of_the_mean
from discover import Variant
from modules import Case

ACCEPTED, _ = all_pairs()


@pytest.mark.parametrize(("case", "variant"), ACCEPTED, ids=map(ids, ACCEPTED))
def test_two_processes(case: Case, variant: Variant, two_processes: list[dict[Any, dict[str, Any]]]) -> None:
    first, second = (ends[ids((case, variant))] for ends in two_processes)
    assert first["error"] is None
    assert second["error"] is None
    assert len(first["trajectory"]) == 3  # each rank has every other one of the four batches
    for a, b in zip(first["trajectory"], second["trajectory"], strict=True):
        assert torch.equal(a, b)
        assert torch.isfinite(a).all()
    # Each rank draws for itself and penalises its own batch, and the gradients are averaged.
    alone = step_of_the_mean(case, variant, [(rank, (0, 0, rank)) for rank in range(2)])
    without = torch.stack([plain(case, batch=rank, each_batch=True, position=(0, 0, rank)).moved for rank in range(2)])
    moved = first["trajectory"][1] - first["trajectory"][0]
    assert_same_step(moved, alone.moved, without.mean(0))
    assert not torch.equal(first["trajectory"][1], first["trajectory"][2])
