"""Level by level, find_ticket is the plain loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ticket_cases import LitNet, Optimizer, adam, assert_same, reference, search, sgd


def check(folder: Path, optimizer: Optimizer, levels: int, expected: Any, **options: Any) -> None:
    tickets = search(folder, lambda seed: LitNet(seed, optimizer), levels=levels, **options)
    for level, (mask, final) in zip(tickets, expected, strict=True):
        assert_same(dict(level.mask), mask)
        assert_same(level.weights(), dict(final))


@pytest.mark.parametrize("optimizer", [sgd, adam])
@pytest.mark.slow
def test_masks_of_four_levels(optimizer: Optimizer, tmp_path: Path) -> None:
    expected = reference(4, optimizer)
    assert len({int(sum(m.sum() for m in mask.values())) for mask, _ in expected}) == 5
    check(tmp_path, optimizer, 4, expected)


@pytest.mark.parametrize(
    ("rewind_to", "optimizer"), [("1it", adam), ("4it", sgd), ("6it", sgd), ("6it", adam), ("1ep", adam)]
)
@pytest.mark.slow
def test_rewinding_goes_on_with_the_same_batches_and_schedule(
    optimizer: Optimizer, rewind_to: str, tmp_path: Path
) -> None:
    k = {"1ep": 4}.get(rewind_to) or int(rewind_to[:-2])
    check(tmp_path, optimizer, 2, reference(2, optimizer, k), rewind_to=rewind_to)


@pytest.mark.parametrize(("k", "optimizer"), [(0, adam), (6, sgd), (6, adam), (8, sgd)])
@pytest.mark.slow
def test_lr_rewinding(optimizer: Optimizer, k: int, tmp_path: Path) -> None:
    expected = reference(2, optimizer, k, "lr_rewinding")
    check(tmp_path, optimizer, 2, expected, rewind_to=f"{k}it", method="lr_rewinding")


@pytest.mark.parametrize(("fine_tune", "steps", "optimizer"), [("2ep", 8, adam), ("5it", 5, sgd), ("5it", 5, adam)])
@pytest.mark.slow
def test_fine_tuning(optimizer: Optimizer, fine_tune: str, steps: int, tmp_path: Path) -> None:
    expected = reference(2, optimizer, 0, "fine_tuning", steps)
    check(tmp_path, optimizer, 2, expected, method="fine_tuning", fine_tune=fine_tune)


@pytest.mark.slow
def test_with_max_steps(tmp_path: Path) -> None:
    for number, k in enumerate([0, 4, 6]):
        expected = reference(2, sgd, k)
        check(tmp_path / str(number), sgd, 2, expected, rewind_to=f"{k}it", trainer={"max_steps": 12})


def test_the_methods_differ() -> None:
    # Else the tests above could not tell one from another.
    finals = [reference(1, sgd, 4, method, 8)[1][1] for method in ("weight_rewinding", "lr_rewinding", "fine_tuning")]
    finals.append(reference(1, sgd, 0)[1][1])
    for i, a in enumerate(finals):
        for b in finals[i + 1 :]:
            assert not torch.equal(a["net.0.weight"], b["net.0.weight"])
