from __future__ import annotations

import pytest
import torch

from lightning_regs.analysis import beale, descent, long_valley, min_norm_solution, saddle, wilson_problem


def test_the_functions_have_their_minima_and_curvatures_where_they_should() -> None:
    origin, at = torch.zeros(2, dtype=torch.float64), torch.tensor([3, 0.5], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian
    assert hessian(lambda p: long_valley(p, 7.0), origin).tolist() == [[1, 0], [0, 7]]
    assert hessian(saddle, origin).tolist() == [[1, 0], [0, -1]]
    assert beale(at) == 0
    assert (torch.linalg.eigvalsh(hessian(beale, at)) > 0).all()
    assert beale(torch.tensor([0.0, 1.0])) == pytest.approx(1.5**2 + 2.25**2 + 2.625**2)
    assert long_valley(torch.ones(2, 3, 4)).shape == (3, 4)


def test_a_descent_yields_each_point_from_the_start_on() -> None:
    start = torch.tensor([1.0, 1.0], dtype=torch.float64)
    path = torch.stack(list(descent(long_valley, start, lambda point: torch.optim.SGD(point, lr=0.015), 3)))
    assert torch.allclose(path, torch.stack([0.985 ** torch.arange(4), (-0.5) ** torch.arange(4)], 1).double())
    assert start.tolist() == [1, 1]


def test_on_wilsons_problem_the_two_kinds_of_solution_are_those_of_the_paper() -> None:
    """Lemma 3.1 and Section 3.3: signs of X^T y fit all and know the larger class alone; the least norm knows all."""
    made = wilson_problem(60, torch.Generator().manual_seed(0), test_rows=500)
    assert made.x.shape == (60, 303)
    assert 30 < int((made.y > 0).sum()) < 60
    own = made.x[:, 3:].view(60, 60, 5).sum((1, 2))
    assert torch.equal(own, torch.where(made.y > 0, 1.0, 5.0).double())
    signs = (made.x.T @ made.y).sign()
    assert torch.equal(made.x @ signs, 4 * made.y)
    assert (made.x_test @ signs > 0).all()
    assert torch.equal((made.x_test @ min_norm_solution(made.x, made.y)).sign(), made.y_test)
    assert (made.x_test[:, 3:] == 0).all()


def test_an_optimizer_that_asks_for_the_value_again_gets_it() -> None:
    (*_, end) = descent(long_valley, torch.ones(2), lambda point: torch.optim.LBFGS(point, max_iter=50), steps=3)
    assert float(long_valley(end)) < 1e-6
