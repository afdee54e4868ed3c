"""Norms of weights against their definitions, and over a training: of replicas, and of a resumed one."""

from __future__ import annotations

import pytest
import torch

from lightning_regs.analysis import weight_norms

X, Y = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3


def test_they_are_what_their_names_say() -> None:
    w, start = torch.tensor([[3.0, 0.0], [4.0, 1e-4]]), torch.tensor([[0.0, 0.0], [0.0, 5.0]])
    found = weight_norms({"a": w, "b": torch.zeros(4)}, {"a": start, "b": torch.ones(4)})
    expected = {
        "norm": w.norm().item(), "distance": (50 + 4) ** 0.5, "growth": (25 / 29) ** 0.5,
        "zeros": 62.5, "small": 75.0, "zeros/a": 25.0, "small/a": 50.0, "growth/a": 1.0, "distance/b": 2.0,
    }  # fmt: skip
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"the start of 'a' must have the shape \(2, 2\), got none"):
        weight_norms({"a": w}, {"b": w})
