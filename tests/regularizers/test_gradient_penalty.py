"""The gradient penalty against closed forms and torch.func; its hook on modules that optimize by themselves."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import GradientPenalty
from lightning_regs.functional import gradient_penalty
from lightning_regs.regularizers import NoEffectWarning
from lightning_regs.testing.runs import half

CLASSES, FEATURES = 3, 5


class Foreign(pl.LightningModule):
    """A LightningModule as its documentation shows it."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(FEATURES, 7), nn.Tanh(), nn.Linear(7, CLASSES)).to(dtype)
        self.unused = nn.Parameter(torch.zeros(2))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.layers(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.3)


def batches(number: int = 24, size: int = 6, dtype: torch.dtype = torch.float64) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(number, FEATURES, generator=generator, dtype=dtype)
    return DataLoader(TensorDataset(x, torch.randint(CLASSES, (number,), generator=generator)), size)


def fit(model: pl.LightningModule, *callbacks: pl.Callback, loader: Any = None, **options: Any) -> pl.Trainer:
    options = {"max_epochs": 1, "precision": "64-true"} | options
    trainer = pl.Trainer(enable_checkpointing=False, callbacks=list(callbacks), **options)
    trainer.fit(model, loader or batches())
    return trainer


def vector(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def by_hand(model: Foreign, strength: float, accumulate: int = 1, loader: Any = None) -> Tensor:
    parameters = list(model.layers.parameters())
    total = torch.zeros((), dtype=parameters[0].dtype)
    for i, (x, y) in enumerate(loader or batches()):
        loss = F.cross_entropy(model.layers(x), y)
        norm = sum(g.square().sum() for g in torch.autograd.grad(loss, parameters, create_graph=True))
        total = total + (loss + strength / 4 * norm) / accumulate
        if (i + 1) % accumulate == 0:
            with torch.no_grad():
                for p, g in zip(parameters, torch.autograd.grad(total, parameters), strict=True):
                    p -= 0.3 * g
            total = torch.zeros((), dtype=parameters[0].dtype)
    return vector(model)


@settings(max_examples=20, deadline=None)
@given(
    diagonal=st.lists(st.floats(-3, 3), min_size=1, max_size=6),
    coefficient=st.floats(0, 10),
    scale=st.sampled_from([1.0, 0.25, 65536.0]),
)
def test_quadratic_loss(diagonal: list[float], coefficient: float, scale: float) -> None:
    """For C = w'Aw/2 the penalty is lambda/4 |Aw|^2 and its gradient lambda/2 A^2 w."""
    a = torch.tensor(diagonal, dtype=torch.float64)
    w = nn.Parameter(torch.linspace(-1, 2, len(a), dtype=torch.float64))
    penalty, norm = gradient_penalty(0.5 * (a * w * w).sum() * scale, [w], coefficient, scale)
    assert penalty.item() == pytest.approx(coefficient / 4 * (a * w).square().sum().item(), rel=1e-9, abs=1e-12)
    assert norm.item() == pytest.approx((a * w).norm().item(), rel=1e-9, abs=1e-12)
    (gradient,) = torch.autograd.grad(penalty, [w])
    torch.testing.assert_close(gradient, coefficient / 2 * a * a * w.detach())


def test_its_gradient_is_forward_over_reverse() -> None:
    """lambda/2 H g by torch.func's jvp of grad, which shares no code with double backward."""
    model = Foreign()
    x, y = next(iter(batches()))
    parameters = dict(model.layers.named_parameters())

    def loss(values: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(model.layers, values, (x,)), y)

    detached = {name: p.detach() for name, p in parameters.items()}
    gradient = torch.func.grad(loss)(detached)
    _, product = torch.func.jvp(torch.func.grad(loss), (detached,), (gradient,))
    penalty, _ = gradient_penalty(loss(parameters), parameters.values(), 0.7)
    ours = torch.autograd.grad(penalty, list(parameters.values()))
    for name, mine in zip(parameters, ours, strict=True):
        torch.testing.assert_close(mine, 0.35 * product[name])


def test_frozen_and_unused_parameters_count_as_zero() -> None:
    w, frozen, unused = (nn.Parameter(torch.tensor(2.0)) for _ in range(3))
    frozen.requires_grad_(False)
    penalty, norm = gradient_penalty(3 * w * w * frozen, [w, frozen, unused], 1.0)
    assert norm.item() == 24.0
    assert penalty.item() == 144.0


@pytest.mark.parametrize("accumulate", [1, 4])
def test_on_a_foreign_module_it_is_exact(accumulate: int) -> None:
    model, reference = Foreign(), Foreign()
    fit(model, GradientPenalty(0.9), accumulate_grad_batches=accumulate)
    assert torch.allclose(vector(model), by_hand(reference, 0.9, accumulate), atol=1e-12)


def test_on_a_foreign_module_under_the_scaler() -> None:
    loader = batches(dtype=torch.float32)
    model, plain = Foreign(torch.float32), Foreign(torch.float32)
    plugin = half(2.0**16)
    fit(model, GradientPenalty(0.9), loader=loader, accumulate_grad_batches=2, precision=None, plugins=[plugin])
    reference = by_hand(Foreign(torch.float32), 0.9, 2, loader)
    effect = (reference - by_hand(plain, 0.0, 2, loader)).norm()
    assert (vector(model) - reference).norm() < 0.05 * effect


@pytest.mark.parametrize("ending", ["ends", "fails", "skips"])
def test_layers_of_torch_are_as_before_afterwards(ending: str) -> None:
    """Within a step convolutions record a fast second derivative; outside they must be torch's own again."""
    inside = []

    class Convolves(Foreign):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
            return -1 if ending == "skips" and batch_idx == 1 else None

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            inside.append(name())
            if ending == "fails":
                raise RuntimeError("made up")
            return super().training_step(batch, batch_idx)

    def name() -> str:
        image = torch.ones(1, 1, 3, 3, requires_grad=True)
        return type(F.conv2d(image, torch.ones(1, 1, 2, 2)).grad_fn).__name__

    before = name()
    with pytest.raises(RuntimeError, match="made up") if ending == "fails" else nullcontext():
        fit(Convolves(), GradientPenalty(0.1))
    assert inside[0] != before
    assert name() == before


def test_lr_follows_the_optimizer() -> None:
    model = Foreign()
    fit(model, GradientPenalty("lr"))
    assert torch.allclose(vector(model), by_hand(Foreign(), 0.3), atol=1e-12)


def test_several_learning_rates_are_refused() -> None:
    class Two(Foreign):
        def configure_optimizers(self) -> Any:
            first, *rest = self.layers.parameters()
            return torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": rest}], lr=0.3)

    with pytest.raises(MisconfigurationException, match=r"2 \(0\.1, 0\.3\)"):
        fit(Two(), GradientPenalty("lr"))


def test_what_is_logged_under_accumulation() -> None:
    model, reference = Foreign(), Foreign()
    trainer = fit(model, GradientPenalty(0.9), accumulate_grad_batches=4)
    norms = []
    for x, y in batches():  # one step after four batches: all see the initial weights
        loss = F.cross_entropy(reference.layers(x), y)
        norms.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(reference.layers.parameters()))]).norm()
        )
    expected = torch.stack(norms)
    assert float(trainer.callback_metrics["train/gradient_norm"]) == pytest.approx(expected.mean().item(), rel=1e-5)
    penalty = float(trainer.callback_metrics["train/gradient_penalty"])
    assert penalty == pytest.approx(0.225 * expected.square().mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"estimator": "forward_difference"}, "estimator='exact'"),
        ({"micro_batch_size": 8}, "accumulate_grad_batches="),
        ({"gradient_clip_val": 0.5}, r"Trainer\(gradient_clip_val=0.5\)"),
        ({"accumulate_grad_batches": 3}, r"Trainer\(accumulate_grad_batches=3\)"),
    ],
)
def test_what_needs_the_classifier_says_what_to_do(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(MisconfigurationException, match=remedy):
        fit(Foreign(), GradientPenalty(0.1, **options))


@pytest.mark.parametrize("whole", [True, False])
def test_exact_refuses_compiled_modules_by_name(whole: bool) -> None:
    model = Foreign()
    if whole:
        model.layers = torch.compile(model.layers)  # type: ignore[assignment]
    else:
        model.layers[0].compile()
    with pytest.raises(MisconfigurationException, match="'layers'" if whole else r"'layers\.0'"):
        fit(model, GradientPenalty(0.1))


def test_a_compiled_lightning_module_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match="Foreign is compiled"):
        fit(torch.compile(Foreign()), GradientPenalty(0.1))  # type: ignore[arg-type]


@pytest.mark.slow
def test_modified_flow_is_third_order_only_with_a_quarter() -> None:
    """The mean SGD end point over all orders of an epoch follows the flow of C + eps/4 mean |grad C_k|^2."""
    errors = {c: [_flow_error(eps, c) for eps in (0.02, 0.01)] for c in (0.0, 1.0, 2.0)}
    rates = {c: coarse / fine for c, (coarse, fine) in errors.items()}
    assert rates[1.0] == pytest.approx(8, rel=0.1)
    assert rates[0.0] == pytest.approx(4, rel=0.1)
    assert rates[2.0] == pytest.approx(4, rel=0.1)


def _flow_error(eps: float, factor: float) -> float:
    """Distance after one epoch of 4 batches, 6 weights; ``factor`` times eps is the penalty's coefficient."""
    from itertools import permutations

    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4, 5, 2, generator=generator, dtype=torch.float64)
    y = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    start = torch.randn(6, generator=generator, dtype=torch.float64)

    def loss(w: Tensor, k: int) -> Tensor:
        return (torch.tanh(x[k] @ w[:4].view(2, 2)) @ w[4:] - y[k]).square().mean()

    def sgd(order: tuple[int, ...]) -> Tensor:
        w = start
        for k in order:
            w = w - eps * torch.func.grad(loss)(w, k)
        return w

    def field(w: Tensor) -> Tensor:
        parameter = nn.Parameter(w.clone())
        losses = [loss(parameter, k) for k in range(4)]
        modified = sum(c + gradient_penalty(c, [parameter], factor * eps)[0] for c in losses) / 4
        assert isinstance(modified, Tensor)
        return -torch.autograd.grad(modified, [parameter])[0]

    mean = torch.stack([sgd(order) for order in permutations(range(4))]).mean(0)
    w, steps = start, 40
    h = 4 * eps / steps
    for _ in range(steps):  # Runge-Kutta of fourth order
        k1 = field(w)
        k2 = field(w + h / 2 * k1)
        k3 = field(w + h / 2 * k2)
        k4 = field(w + h * k3)
        w = w + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return float((mean - w).norm())


def test_a_copy_penalises_alike() -> None:
    model = Foreign()
    twin = copy.deepcopy(model)
    method = GradientPenalty(0.5)
    fit(model, method)
    fit(twin, copy.deepcopy(method))
    assert torch.equal(vector(model), vector(twin))


def test_a_static_graph_is_refused() -> None:
    strategy = pl.strategies.DDPStrategy(static_graph=True)
    trainer = pl.Trainer(devices=1, strategy=strategy)
    with pytest.raises(MisconfigurationException, match="leave static_graph out"):
        GradientPenalty(0.1)._check_foreign(trainer, Foreign())


def test_nothing_to_penalise() -> None:
    model = Foreign()
    model.requires_grad_(False)
    with pytest.warns(NoEffectWarning, match="all of Foreign are frozen"):
        GradientPenalty(0.1).on_train_start(pl.Trainer(), model)
    penalty, norm = gradient_penalty(torch.zeros(()), model.parameters(), 1.0)
    assert penalty == norm == 0


def test_low_precision_with_a_short_step_warns() -> None:
    from lightning_regs import Classifier

    method = GradientPenalty(0.1, "forward_difference")
    model = Classifier("mlp", input_shape=(FEATURES,), num_classes=CLASSES, regularizers=[method])
    with pytest.warns(NoEffectWarning, match="use step_size=0.1 or more"):
        fit(model, loader=batches(dtype=torch.float32), precision="bf16-mixed")
