"""MaxNorm against the formula, and where it holds: masks, accumulation, fused optimizers, replicas, skipped steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from foreign import Plain, fit, images
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_regs import Classifier, ImageDataModule, MaxNorm, NormPenalty, Regularizer, WeightMask
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.functional import max_norm
from lightning_regs.regularizers import NoEffectWarning


def norms(weight: Tensor) -> Tensor:
    return weight.detach().flatten(1).norm(dim=1)


@settings(deadline=None)
@given(st.sampled_from([(4, 3), (5, 2, 3, 3), (1, 1)]), st.floats(0.01, 10), st.integers(0, 1000))
def test_equals_renorm_of_torch_and_leaves_what_is_within(shape: tuple[int, ...], value: float, seed: int) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    projected = max_norm(weight, value)
    # torch.renorm divides by norm + 1e-7.
    torch.testing.assert_close(projected, torch.renorm(weight, 2, 0, value), rtol=1e-5, atol=1e-6)
    assert (norms(projected) <= value * (1 + 1e-6)).all()
    within = norms(weight) <= value * (1 - 1e-6)
    assert torch.equal(projected[within], weight[within])


def test_zeros_and_low_precision() -> None:
    assert torch.equal(max_norm(torch.zeros(2, 3), 1.0), torch.zeros(2, 3))
    long = torch.full((1, 4096), 0.5, dtype=torch.bfloat16)  # a norm of 32, which bfloat16 does not sum up to
    assert max_norm(long, 1.0).dtype == torch.bfloat16
    assert norms(max_norm(long, 1.0).float()).item() == pytest.approx(1.0, rel=1e-2)


class Watches(pl.Callback):
    """Keeps the largest norm of a unit before each batch."""

    def __init__(self) -> None:
        self.largest: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.largest.append(max(float(norms(w).max()) for w in pl_module.parameters() if w.ndim > 1))


@pytest.mark.parametrize("fused", [False, True])
def test_holds_between_steps_of_fast_optimizers_and_only_after_a_step(fused: bool) -> None:
    class Fast(Plain):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=0.5, fused=fused)

    watches = Watches()
    fit(Fast(), [MaxNorm(0.5), watches], max_epochs=4, accumulate_grad_batches=2)
    first, *others = watches.largest
    assert first == others[0] > 0.5  # nothing is stepped yet
    assert max(others[1:]) <= 0.5 + 1e-6


def test_pruned_weights_stay_zero_in_either_order() -> None:
    for methods in ([MaxNorm(0.5), WeightMask(density=0.5)], [WeightMask(density=0.5), MaxNorm(0.5)]):
        model = Plain()
        fit(model, methods, max_epochs=2)
        for layer in (model.network[1], model.network[3]):
            assert norms(layer.weight).max() <= 0.5 + 1e-6
        assert sum(int((w == 0).sum()) for w in (model.network[1].weight, model.network[3].weight)) == (864 + 32) // 2


def test_acts_on_what_is_selected_and_trained() -> None:
    model = Plain()
    model.network[3].weight.requires_grad_(False)
    before = model.network[3].weight.clone()
    fit(model, [MaxNorm(0.1)])
    assert norms(model.network[1].weight).max() <= 0.1 + 1e-6
    assert torch.equal(model.network[3].weight, before)
    model = Plain()
    fit(model, [MaxNorm(0.1, parameters="*.3.weight")])
    assert norms(model.network[1].weight).min() > 0.1
    assert norms(model.network[3].weight).max() <= 0.1 + 1e-6


@pytest.mark.parametrize("method", [MaxNorm(0.1), NormPenalty(0.1)], ids=["MaxNorm", "L2"])
def test_a_weight_without_a_shape_is_refused_where_it_would_be_left_out(method: Regularizer) -> None:
    def lazy() -> Plain:
        return Plain(nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Linear(8, 4)))

    with pytest.raises(MisconfigurationException, match=r"'network\.1\.weight' has no shape yet; let the network see"):
        fit(lazy(), [method])
    (model := lazy())(images()[0])
    fit(model, [method])


def test_warns_where_there_is_nothing_and_lets_go_of_the_optimizer() -> None:
    class Nothing(Plain):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD([self.network[1].bias], lr=0.1)

    with pytest.warns(NoEffectWarning, match="found no weight to act on in Nothing"):
        fit(Nothing(), [MaxNorm()])
    model, method = Plain(), MaxNorm(0.5)
    trainer = fit(model, [method])
    assert not trainer.optimizers[0]._optimizer_step_post_hooks


@pytest.mark.parametrize(
    "method", [MaxNorm(0.6), NormPenalty(0.05), NormPenalty(0.02, p=1, decoupled=True)], ids=["MaxNorm", "L2", "L1"]
)
def test_each_replica_is_a_net_of_its_own(method: Regularizer) -> None:
    def train(seed: int, replicas: int | None) -> Classifier:
        options = {"hidden": [8]}
        data = ImageDataModule("digits", train_size=64, test_size=16, batch_size=16, seed=seed, replicas=replicas)
        module = Classifier(
            "mlp", options, {"name": "SGD", "lr": 0.5}, regularizers=[method], seed=seed, replicas=replicas
        )
        fit(module, [], data, max_epochs=2)
        return module

    stacked = train(0, 2)
    for i in range(2):
        single = train(i, None).network
        assert isinstance(single, nn.Module)
        for name, value in stacked.network.state_of(i).items():
            torch.testing.assert_close(value, single.state_dict()[name], rtol=1e-4, atol=1e-5)
        bound = [norms(w).max() for w in single.parameters() if w.ndim > 1]
        assert max(bound) == pytest.approx(0.6, rel=1e-5) or not isinstance(method, MaxNorm)
