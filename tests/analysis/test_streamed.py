"""Streamed kernels against kernels on all features at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel

from lightning_regs.analysis.kernels import gram_matrix, mean_squared_distance
from lightning_regs.analysis.packed import StoredPanels, symmetric_matmul
from lightning_regs.analysis.streamed import recomputed_kernel, stored_kernel


def points(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 10, generator=torch.Generator().manual_seed(seed))


def blocks(x: torch.Tensor) -> Iterator[torch.Tensor]:
    yield from x.split(3, dim=1)


def dense(operator: object, n: int) -> np.ndarray:
    return symmetric_matmul(operator, torch.eye(n, dtype=torch.float64)).numpy()


@pytest.mark.parametrize("make", [recomputed_kernel, stored_kernel])
@pytest.mark.parametrize("relative", [False, True])
def test_gaussian_machines_are_sklearns_kernel(make, relative):
    x, x_test = points(15, 0), points(4, 1)
    machine = make(blocks, x, x_test, 0.5, relative, 6)
    spread = np.mean([[((a - b) ** 2).sum() for b in x.numpy()] for a in x.numpy()])
    gamma = 0.5 / spread if relative else 0.5
    assert machine.bandwidth == pytest.approx(gamma, rel=1e-5)
    assert machine.spread == pytest.approx(spread, rel=1e-5)
    assert machine.num_features == 10
    np.testing.assert_allclose(dense(machine.operator, 15), rbf_kernel(x, gamma=gamma), atol=2e-6)
    a = points(15, 2).double()
    np.testing.assert_allclose(machine.scores(a).numpy(), rbf_kernel(x_test, x, gamma=gamma) @ a.numpy(), atol=2e-5)


def test_linear_machine_has_mean_diagonal_one():
    x, x_test = points(15, 0), points(4, 1)
    seen: list[int] = []
    machine = stored_kernel(blocks, x, x_test, None, block=4, progress=seen.append)
    scale = float((x**2).sum(dim=1).mean())
    np.testing.assert_allclose(dense(machine.operator, 15), (x @ x.T / scale).numpy(), atol=1e-6)
    np.testing.assert_allclose(machine.scores(torch.eye(15)).numpy(), (x_test @ x.T / scale).numpy(), atol=1e-6)
    assert machine.bandwidth is None
    assert seen == [3, 6, 9, 10]


def test_spread_agrees_with_the_points():
    x = points(15, 0)
    assert stored_kernel(blocks, x, x, None, block=4).spread == pytest.approx(mean_squared_distance(x), rel=1e-5)
    torch.testing.assert_close(gram_matrix(blocks(x)), x.double() @ x.double().T)


def test_panels_are_symmetric_to_the_bit():
    f = torch.randn(300, 500, generator=torch.Generator().manual_seed(0)) + 3
    panels = StoredPanels.zeros(300, 300)
    panels.panels[0].copy_(f @ f.T).triu_(1).mul_(1.0001)
    panels.panels[0].add_((f @ f.T).tril())
    panel = panels.rows(0, torch.float64)
    assert torch.equal(panel, panel.T)
    assert torch.equal(panel.tril(), (f @ f.T).tril().double())


def test_no_features_is_refused():
    with pytest.raises(ValueError, match="no features"):
        gram_matrix(iter([]))
