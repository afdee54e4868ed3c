"""FGSM and PGD against closed forms of linear models, and adversarial training of foreign modules."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign import CLASSES, NumbersLoss, OwnLoss, Plain, fit, images
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import AdversarialTraining, Classifier, CutMix, LabelSmoothing, Mixup
from lightning_regs.core.batch import notes, with_notes
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.core.runs import RunContext
from lightning_regs.functional import MixedTarget, fgsm, pgd
from lightning_regs.regularizers import NoEffectWarning
from lightning_regs.regularizers.parts.mixing import Watch
from lightning_regs.testing.runs import half
from lightning_regs.training.fit import fit_stack


class Context:
    """Stands for a Trainer, where an attack is all that is asked of it."""

    current_epoch = global_rank = 0
    precision_plugin = pl.plugins.Precision()

    def __init__(self, datamodule: Any = None) -> None:
        # Where Lightning keeps which DataModule serves the batches; see datamodule_of.
        self._data_connector = SimpleNamespace(_datahook_selector=SimpleNamespace(datamodule=datamodule))


def attacked(method: AdversarialTraining, model: Any, x: Tensor, y: Tensor, **options: Any) -> list[Tensor]:
    batch = [x, y]
    method.on_train_batch_start(Context(**options), model, batch, 0)  # type: ignore[arg-type]
    return batch


# -- the functions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_fgsm_is_the_closed_form_of_a_linear_model(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    w, b = torch.randn(CLASSES, 6, generator=generator), torch.randn(CLASSES, generator=generator)
    x, y = torch.randn(5, 6, generator=generator), torch.randint(CLASSES, (5,), generator=generator)
    # d CE / d x = (softmax(W x + b) - onehot(y)) W
    expected = x + 0.3 * torch.sign(((x @ w.T + b).softmax(1) - F.one_hot(y, CLASSES)) @ w)
    ours = fgsm(lambda changed: F.cross_entropy(F.linear(changed, w, b), y), x, 0.3)
    assert torch.equal(ours, expected)
    assert not ours.requires_grad


def test_fgsm_of_logistic_regression_is_goodfellows_formula() -> None:
    """The adversarial loss of a binary linear model is softplus(eps |w|_1 - y (w x + b)), with y of -1 and 1."""
    torch.manual_seed(0)
    w, x, y = torch.randn(7), torch.randn(9, 7), torch.tensor([1.0, -1.0] * 4 + [1.0])

    def losses(changed: Tensor) -> Tensor:
        return F.softplus(-y * (changed @ w))

    worst = losses(fgsm(lambda changed: losses(changed).mean(), x, 0.2))
    torch.testing.assert_close(worst, F.softplus(0.2 * w.abs().sum() - y * (x @ w)))


@settings(max_examples=40, deadline=None)
@given(
    epsilon=st.floats(0.01, 1),
    step_size=st.floats(0.01, 2),
    steps=st.integers(1, 5),
    noise=st.floats(0, 3),
    clip=st.booleans(),
    seed=st.integers(0, 999),
)
def test_pgd_stays_in_the_ball_and_in_the_valid_range(
    epsilon: float, step_size: float, steps: int, noise: float, clip: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(4, 5, generator=generator, dtype=torch.float64)
    w = torch.randn(5, generator=generator, dtype=torch.float64)
    start = noise * torch.randn(4, 5, generator=generator, dtype=torch.float64)
    bounds = (0.0, 1.0) if clip else None
    found = pgd(lambda changed: (changed @ w).square().sum(), x, epsilon, step_size, steps, start, bounds)
    assert ((found - x).abs() <= epsilon * (1 + 1e-9)).all()
    assert not clip or ((found >= 0) & (found <= 1)).all()
    assert not found.requires_grad


def test_pgd_finds_the_corner_of_a_linear_loss_from_anywhere() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(3, 8), torch.randn(8)
    found = pgd(lambda changed: (changed @ w).sum(), x, 0.5, 0.3, 4, torch.empty(3, 8).uniform_(-0.5, 0.5))
    torch.testing.assert_close(found, x + 0.5 * w.sign())
    few = pgd(lambda changed: (changed @ w).sum(), x, 0.5, 0.1, 2)
    torch.testing.assert_close(few, x + 0.2 * w.sign())


def test_more_steps_find_a_higher_loss_of_a_curved_model() -> None:
    model, (x, y) = Plain(), images(32)

    def loss(changed: Tensor) -> Tensor:
        return F.cross_entropy(model(changed), y)

    with torch.no_grad():
        clean, one, ten = (loss(c) for c in (x, fgsm(loss, x, 0.3), pgd(loss, x, 0.3, 0.06, 10)))
    assert clean < one < ten


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_leaves_samples_finite(bad: float) -> None:
    x = torch.rand(2, 3)
    assert fgsm(lambda changed: changed.sum() * bad, x, 0.1).isfinite().all()


def test_a_loss_without_the_samples_is_named() -> None:
    w = torch.ones((), requires_grad=True)
    for loss in (lambda _: torch.ones(()), lambda _: 2 * w, lambda x: F.cross_entropy(x.detach(), torch.arange(2))):
        with pytest.raises(ValueError, match="the loss does not depend on x, so that there is nothing to attack"):
            fgsm(loss, torch.rand(2, 3), 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0, "random_start": False}, "steps=0 and random_start=False change nothing"),
        ({"clip": (1.0, 0.0)}, "low below high"),
        ({"clean_weight": 0.3}, r"clean_weight=0.3 has no meaning with mode='augment'; use mode='mixed'"),
    ],
)
def test_bad_modes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdversarialTraining(**options)


# -- the method ------------------------------------------------------------------------------------------------------


def test_augment_replaces_the_samples_by_fgsms() -> None:
    model, (x, y) = Plain(), images(4)
    batch = attacked(AdversarialTraining(0.1), model, x, y)
    assert torch.equal(batch[0], fgsm(lambda c: F.cross_entropy(model(c), y), x, 0.1))
    assert batch[1] is y


def test_steps_and_random_start_have_the_defaults_of_the_papers() -> None:
    one, seven = AdversarialTraining(0.2), AdversarialTraining(0.2, 7)
    assert (one.step_size, one.random_start) == (0.2, False)
    assert (seven.step_size, seven.random_start) == (pytest.approx(2.5 * 0.2 / 7), True)
    model, (x, y) = Plain(), images(4)

    def start(seed: int) -> Tensor:
        return attacked(AdversarialTraining(0.2, step_size=1e-6, random_start=True, seed=seed), model, x, y)[0]

    for seed in (0, 1):
        moved = (start(seed) - x).abs()
        assert moved.max() <= 0.2 + 1e-6
        assert 0.08 < moved.mean() < 0.12  # uniform in the ball
    assert torch.equal(start(0), start(0))
    assert not torch.allclose(start(0), start(1))


def test_without_steps_the_random_start_is_all_of_it() -> None:
    model, (x, y) = Plain(), images(4)
    uniform = attacked(AdversarialTraining(0.2, 0), model, x, y)[0] - x
    assert uniform.abs().max() <= 0.2 + 1e-6
    assert 0.08 < uniform.abs().mean() < 0.12
    signs = attacked(AdversarialTraining(0.2, 0, random_start="signs"), model, x, y)[0] - x
    torch.testing.assert_close(signs.abs(), torch.full_like(x, 0.2))
    assert signs.mean().abs() < 0.05  # no more up than down
    clipped = attacked(AdversarialTraining(0.2, 0, random_start="signs", clip=(0, 1)), model, x.clamp(0, 1), y)[0]
    assert ((clipped >= 0) & (clipped <= 1)).all()


@pytest.mark.cpu("signs of gradients near 0 are those of the kernel, and other kernels train a stack")
@pytest.mark.parametrize("options", [{}, {"mode": "mixed"}, {"mode": "mixed", "steps": 2, "random_start": False}])
def test_nets_of_a_stack_are_attacked_each_by_itself(options: dict[str, Any], tmp_path: Path) -> None:
    method = {"class_path": "lightning_regs.AdversarialTraining", "init_args": {"epsilon": 0.2} | options}
    config = {
        "model": {"architecture_args": {"hidden": [8]}, "regularizers": [method]},
        "data": {"source": "digits", "train_size": 60, "batch_size": 20, "corruption": "partial_labels"},
        "trainer": {"max_epochs": 2},
    }
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
    stack = fit_stack(config, [RunContext(tmp_path / str(seed), seed) for seed in (0, 1)])
    for seed, one in enumerate(stack):
        alone = fit_stack(config, [RunContext(tmp_path / str(seed + 2), seed)])[0]
        torch.testing.assert_close(one.state(), alone.state())
        assert one.metrics == pytest.approx(alone.metrics, nan_ok=True)
    with pytest.raises(ValueError, match="would mix replicas"):
        Classifier(replicas=2, regularizers=[AdversarialTraining(mode="mixed", clean_weight=0.3)])


@pytest.mark.parametrize("clean_weight", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_mixed_is_the_weighted_sum_of_both_losses(clean_weight: float) -> None:
    model = Plain()
    fit(model, [AdversarialTraining(0.1, mode="mixed", clean_weight=clean_weight)])
    start, (x, y) = Plain(), images()
    x, y = x[:4], y[:4]
    worst = fgsm(lambda c: F.cross_entropy(start(c), y), x, 0.1)
    expected = clean_weight * F.cross_entropy(start(x), y) + (1 - clean_weight) * F.cross_entropy(start(worst), y)
    torch.testing.assert_close(model.losses[0], expected.detach())
    assert torch.equal(model.batches[0][0][0::2], x)
    assert torch.equal(model.batches[0][0][1::2], worst)
    assert model.batches[0][1].tolist() == y.repeat_interleave(2).tolist()


@pytest.mark.parametrize("clean_weight", [0.5, 0.3])
def test_even_parts_of_a_mixed_batch_have_the_mixed_loss_of_their_samples(clean_weight: float) -> None:
    model, (x, y) = Plain(), images()
    both, target = attacked(AdversarialTraining(0.1, mode="mixed", clean_weight=clean_weight), model, x, y)
    whole = F.cross_entropy(model(both), target)
    parts = [F.cross_entropy(model(both[i : i + 4]), target[i : i + 4]) for i in range(0, 16, 4)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_what_is_known_about_the_samples_is_doubled() -> None:
    x, y = images(4)
    y = with_notes(y, {"corrupted": torch.tensor([True, False, False, True])})
    batch = attacked(AdversarialTraining(mode="mixed"), Plain(), x, y)
    assert notes(batch[1])["corrupted"].tolist() == [True, True, False, False, False, False, True, True]
    batch = attacked(AdversarialTraining(mode="augment"), Plain(), x, y)
    assert notes(batch[1])["corrupted"].tolist() == [True, False, False, True]
    assert notes(attacked(AdversarialTraining(mode="mixed"), Plain(), *images(4))[1]) == {}


def test_the_attack_leaves_no_trace_in_the_module() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, CLASSES)
    )
    model, (x, y) = Plain(network), images()
    model.train()
    network[3].eval()  # as a frozen batch norm is
    flags = {name: m.training for name, m in model.named_modules()}
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    modes: list[dict[str, bool]] = []
    network.register_forward_hook(lambda *_: modes.append({n: m.training for n, m in model.named_modules()}))
    first = attacked(AdversarialTraining(0.1, 3), model, x, y)[0]
    assert len(modes) == 3
    assert not any(flag for mode in modes for flag in mode.values())
    assert {name: m.training for name, m in model.named_modules()} == flags
    assert torch.equal(torch.get_rng_state(), random)
    assert all(w.grad is None for w in model.parameters())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    torch.manual_seed(5)  # eval mode: no dropout mask takes part
    assert torch.equal(attacked(AdversarialTraining(0.1, 3), model, x, y)[0], first)


def test_flags_come_back_after_an_error() -> None:
    model, (x, y) = Plain(), images()
    model.train()

    def fails(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        raise KeyError

    with pytest.raises(KeyError):
        attacked(AdversarialTraining(loss=fails), model, x, y)
    assert all(m.training for m in model.modules())


def test_after_mixup_it_attacks_the_mixture_and_before_weighted_it_is_refused() -> None:
    model = Plain()
    fit(model, [Mixup(seed=1), LabelSmoothing(0.1), AdversarialTraining(0.1, mode="mixed", clean_weight=0.2)])
    (both, target), loss = model.batches[0], model.losses[0]
    assert isinstance(target, MixedTarget)
    rows, start = target.probabilities(CLASSES)[0::2], Plain()
    x, worst = both[0::2], both[1::2]
    torch.testing.assert_close(worst, fgsm(lambda c: F.cross_entropy(start(c), rows), x, 0.1))
    expected = 0.2 * F.cross_entropy(start(x), rows) + 0.8 * F.cross_entropy(start(worst), rows)
    torch.testing.assert_close(loss, expected.detach())
    for mixer in (Mixup(), CutMix()):
        with pytest.raises(MisconfigurationException, match=r"weigh 0.2 and 0.8 .* put \w+ before AdversarialTraining"):
            fit(Plain(), [AdversarialTraining(mode="mixed", clean_weight=0.2), mixer])
        fit(Plain(), [AdversarialTraining(mode="mixed"), mixer])
    with pytest.raises(MisconfigurationException, match="use one, with more steps"):
        fit(Plain(), [AdversarialTraining(), AdversarialTraining()])


def test_that_the_attack_saw_the_mixture_does_not_hide_a_loss_that_does_not() -> None:
    with pytest.warns(NoEffectWarning, match=r"the loss of NumbersLoss depends on no label") as caught:
        fit(NumbersLoss(), [Mixup(), AdversarialTraining()])
    assert sum(w.category is NoEffectWarning for w in caught) == 1
    with pytest.warns(NoEffectWarning, match=r"AdversarialTraining weighed clean and adversarial samples in vain"):
        fit(OwnLoss(), [AdversarialTraining(mode="mixed", clean_weight=0.2)])


def test_a_loss_of_ones_own_is_attacked() -> None:
    class Regression(Plain):
        forward = pl.LightningModule.forward

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.batches.append([part.cpu() for part in batch])
            return self.squares(*batch)

        def squares(self, x: Tensor, y: Tensor) -> Tensor:
            return (self.network(x)[:, 0] - y).square().mean()

    x, y = torch.rand(4, 108), torch.rand(4)
    data = DataLoader(TensorDataset(x, y), batch_size=4)
    model, start = Regression(), Regression()
    with pytest.raises(MisconfigurationException, match=r"Regression has no forward; .* AdversarialTraining\(loss="):
        fit(model, [AdversarialTraining()], data)
    fit(model, [AdversarialTraining(0.1, loss=lambda module, x, y: module.squares(x, y))], data)
    torch.testing.assert_close(model.batches[0][0], fgsm(lambda c: start.squares(c, y), x, 0.1))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 6, 6), (4, 1, 6, 6)])
def test_class_indices_of_samples_and_pixels_are_attacked(shape: tuple[int, ...]) -> None:
    network = nn.Conv2d(3, CLASSES, 1) if len(shape) > 2 else None
    model, x, y = Plain(network), images(4)[0], torch.randint(CLASSES, shape)
    flat = y.view(4, *shape[-2:]) if len(shape) > 2 else y.view(4)
    expected = fgsm(lambda c: F.cross_entropy(model(c), flat), x, 0.1)
    assert torch.equal(attacked(AdversarialTraining(0.1), model, x, y)[0], expected)
    both, labels = attacked(AdversarialTraining(0.1, mode="mixed", clean_weight=0.3), model, x, y)
    ours = F.cross_entropy(model(both), labels.reshape(8, *flat.shape[1:]))
    parts = [F.cross_entropy(model(samples), flat) for samples in (x, expected)]
    torch.testing.assert_close(ours.detach(), (0.3 * parts[0] + 0.7 * parts[1]).detach())


class NeverArrived:
    """A CUDA event that the host is always ahead of."""

    def record(self) -> None: ...

    def synchronize(self) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()

    def query(self) -> bool:
        return False


@pytest.fixture(params=[False, True], ids=["at once", "late"])
def late(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, device: torch.device) -> bool:
    """Whether what is known of a batch is there only when the epoch ends, as it can be on CUDA."""
    if request.param:
        monkeypatch.setattr(Watch, "_is_late", lambda *_: True)
        monkeypatch.setattr(torch.cuda, "Event", NeverArrived)
    return request.param or device.type == "cuda"


@pytest.mark.parametrize(
    "y",
    [
        -torch.ones(8, CLASSES),
        torch.zeros(8, CLASSES),
        torch.tensor([[1.0, 1.0, 0.0, 0.0]]).repeat(8, 1),
        torch.eye(CLASSES).repeat(2, 1) * torch.tensor([1.0] * 7 + [3.0])[:, None],  # the last row alone
    ],
    ids=["regression", "no label", "several labels", "in the second batch"],
)
def test_float_targets_that_are_no_probabilities_are_refused_in_each_batch(y: Tensor, late: bool) -> None:
    data = DataLoader(TensorDataset(images()[0], y), batch_size=4)
    model = Plain()
    with pytest.raises(MisconfigurationException, match=r"rows of these \(4, 4\) are negative or do not sum to 1"):
        fit(model, [AdversarialTraining()], data)
    model.loss = F.mse_loss  # type: ignore[method-assign, assignment]
    fit(model, [AdversarialTraining(loss=lambda module, x, y: F.mse_loss(module(x), y))], data)


def test_samples_outside_the_range_are_refused_in_each_batch_and_never_moved_further_than_epsilon(late: bool) -> None:
    x, y = images()
    x[4:] = torch.tensor([1.5, -0.7]).repeat_interleave(2).view(4, 1, 1, 1)
    model = Plain()
    with pytest.raises(MisconfigurationException, match=r"clip=\(0.0, 1.0\)\) names .* reach from -0.7 to 1.5"):
        fit(model, [AdversarialTraining(clip=(0, 1))], DataLoader(TensorDataset(x, y), batch_size=4))
    assert late or len(model.batches) == 1
    changed = pgd(lambda c: F.cross_entropy(model(c), y), x, 0.1, 0.05, 4, torch.full_like(x, 0.1), (0, 1))
    assert ((changed - x).abs() <= 0.1 + 1e-6).all()
    assert torch.equal(changed[4], torch.full_like(x[4], 1.5) - 0.1)
    assert torch.equal(changed[6], torch.full_like(x[6], -0.7) + 0.1)
    assert ((changed[:4] >= 0) & (changed[:4] <= 1)).all()


def test_probabilities_are_attacked_too() -> None:
    model, (x, y) = Plain(), images(4)
    rows = F.one_hot(y, CLASSES).float()
    soft = attacked(AdversarialTraining(0.1), model, x, rows)[0]
    assert torch.equal(soft, attacked(AdversarialTraining(0.1), model, x, y)[0])
    with pytest.raises(MisconfigurationException, match=r"clean_weight=0.3\) weighs samples .* torch.float32 labels"):
        attacked(AdversarialTraining(mode="mixed", clean_weight=0.3), model, x, rows)


@pytest.mark.parametrize(
    ("network", "y", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(108, 1)), torch.zeros(4, dtype=torch.long), r"returned \(4, 1\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(108, 4)), torch.rand(4), r"torch.float32 labels of shape \(4,\)"),
        (nn.Identity(), torch.rand(4, 3), r"returned \(4, 3, 6, 6\)"),
    ],
)
def test_outputs_that_are_no_logits_are_named(network: nn.Module, y: Tensor, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        attacked(AdversarialTraining(), Plain(network), images(4)[0], y)


def test_float16_signs_do_not_underflow(device: torch.device) -> None:
    class Reads(Plain):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.batches.append([part.cpu() for part in batch])

    def faint(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return 1e-6 * F.cross_entropy(module(x), y)  # its gradients are below float16's smallest number

    low, full, plugin = Reads(), Reads(), half(2.0**16)
    fit(low, [AdversarialTraining(0.1, loss=faint)], plugins=[plugin])
    fit(full, [AdversarialTraining(0.1, loss=faint)])
    x, _ = images()
    moved, expected = low.batches[0][0] - x[:4], full.batches[0][0] - x[:4]
    assert (moved != 0).all()
    assert (moved.sign() == expected.sign()).float().mean() > 0.97
    x, y = x[:4].to(device), images()[1][:4].to(device)
    with plugin.forward_context():
        lost = fgsm(lambda c: faint(Plain().to(device), c, y), x, 0.1)
    assert (lost != x).float().mean() < 0.5  # what the scale is for


def test_the_attack_runs_in_the_precision_of_the_training() -> None:
    model, dtypes = Plain(), []
    model.network.register_forward_hook(lambda module, x, logits: dtypes.append(logits.dtype))
    fit(model, [AdversarialTraining()], precision="bf16-mixed")
    assert dtypes == [torch.bfloat16] * 4  # attack and step of two batches


def test_bad_samples_are_named() -> None:
    x, y = images(4)
    with pytest.raises(MisconfigurationException, match=r"floating point, and these are torch.uint8"):
        attacked(AdversarialTraining(), Plain(), x.to(torch.uint8), y)
    with pytest.raises(MisconfigurationException, match=r"this one is a tuple"):
        AdversarialTraining().on_train_batch_start(Context(), Plain(), (x, y), 0)  # type: ignore[arg-type]
    method = AdversarialTraining(clip=(0, 1))
    with pytest.raises(MisconfigurationException, match=r"clip=\(0.0, 1.0\)\) names the valid range .* reach from -"):
        attacked(method, Plain(), x - 1, y)
    inside = attacked(AdversarialTraining(0.3, clip=(0, 1)), Plain(), x, y)[0]
    assert inside.min() == 0
    assert inside.max() == 1


def test_samples_in_another_unit_are_told_once() -> None:
    x, y = images()
    method = AdversarialTraining()
    with pytest.warns(NoEffectWarning, match="from 0.* to 2.* by at most 0.03137"):
        attacked(method, Plain(), 255 * x, y)
