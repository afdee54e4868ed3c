from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_regs.analysis import implicit_regularizer


def test_the_implicit_regularizer_of_a_linear_classifier() -> None:
    torch.manual_seed(0)
    network = nn.Linear(5, 3).double()
    x, y = torch.randn(7, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2, 1])
    errors = network(x).softmax(1).detach() - nn.functional.one_hot(y, 3)
    expected = []
    for rows in (slice(0, 3), slice(3, 6)):
        weight, bias = errors[rows].T @ x[rows] / 3, errors[rows].mean(0)
        expected.append(float(weight.square().sum() + bias.square().sum()))
    assert implicit_regularizer(network, x, y, 3) == pytest.approx(sum(expected) / 2, rel=1e-12)
