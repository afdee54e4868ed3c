"""L0 against its closed forms and a loop by hand, and where gates are: replicas, checkpoints, averages, refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign import Plain, fit, images
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import L0, Classifier, ImageDataModule, NormPenalty, WeightMask, load_ensemble
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.functional import expected_l0, hard_concrete
from lightning_regs.pruning import compact, open_gates
from lightning_regs.pruning.gates import add_gates, gates_of
from lightning_regs.regularizers import NoEffectWarning

LOG_ALPHA = torch.tensor([-4.0, -1.0, 0.0, 0.5, 3.0], dtype=torch.float64)


def test_the_expected_number_is_that_of_samples_and_its_slope_that_of_autograd() -> None:
    drawn = torch.rand(400_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = hard_concrete(LOG_ALPHA, drawn.expand(-1, len(LOG_ALPHA)))
    assert (z >= 0).all()
    assert (z <= 1).all()
    share, p = (z != 0).double().mean(0), (LOG_ALPHA + 2 / 3 * math.log(11)).sigmoid()
    assert ((share - p).abs() < 4 * (p * (1 - p) / len(drawn)).sqrt() + 1e-5).all()
    torch.testing.assert_close(expected_l0(LOG_ALPHA, 7), 7 * p.sum())
    torch.testing.assert_close(hard_concrete(LOG_ALPHA), (1.2 * LOG_ALPHA.sigmoid() - 0.1).clamp(0, 1))
    (gate,) = add_gates(nn.Linear(5, 7).double()).values()
    gate.log_alpha.data.copy_(LOG_ALPHA)
    (slope,) = torch.autograd.grad(gate.expected(), gate.log_alpha)
    torch.testing.assert_close(gate.slope(), slope)


class Draws(pl.Callback):
    """Keeps what the gates were drawn from, batch by batch."""

    def __init__(self) -> None:
        self.drawn: list[list[Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.drawn.append([gate.uniform.cpu().clone() for gate in gates_of(pl_module).values()])


def test_a_training_equals_a_loop_with_the_penalty_in_its_loss() -> None:
    """Two accumulated batches a step, clipped; first with the noise of each, the penalty once."""
    model, draws = Plain().double(), Draws()
    x, y = images()
    data: Any = DataLoader(TensorDataset(x.double(), y), batch_size=2)
    fit(model, [L0(0.01, 0.3), draws], data, max_epochs=2, accumulate_grad_batches=2, gradient_clip_val=0.5)
    plain = Plain().double().network
    starts = [torch.full((n,), math.log(0.7 / 0.3), dtype=torch.float64) for n in (108, 8)]
    log_alphas = [nn.Parameter(start) for start in starts]
    trained = [*plain.parameters(), *log_alphas]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for step in range(4):
        loss: Any = sum(0.01 * expected_l0(a, n) for a, n in zip(log_alphas, (8, 4), strict=True))
        for i in (0, 1):
            x, y = list(data)[2 * (step % 2) + i]
            first, second = map(hard_concrete, log_alphas, draws.drawn[2 * step + i])
            hidden = plain[1](x.flatten(1) * first).relu()
            loss = loss + F.cross_entropy(plain[3](hidden * second), y) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 0.5)
        optimizer.step()
    state = model.network.state_dict()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(state[name], value)
    for i, log_alpha in zip((1, 3), log_alphas, strict=True):
        torch.testing.assert_close(state[f"{i}.l0_gate.log_alpha"], log_alpha.data)
    assert not torch.equal(draws.drawn[0][0], draws.drawn[1][0])
    assert torch.equal(model.eval()(x), model(x)), "in evaluation nothing is drawn"


def test_replicas_have_gates_each_and_each_is_exported() -> None:
    data = ImageDataModule(source="digits", batch_size=50, train_size=100, test_size=20, replicas=[0, 1])
    adam = {"name": "Adam", "lr": 0.03}
    module = Classifier("mlp", {"hidden": [12]}, adam, regularizers=[L0(0.02)], replicas=2)
    pl.Trainer(max_epochs=1, enable_checkpointing=False).fit(module, datamodule=data)
    network: Any = module.network
    for gate in gates_of(network).values():
        assert not torch.equal(*gate.log_alpha.data), "nets differ in their gates"
        gate.log_alpha.data.normal_(0, 5)
    x = torch.randn(9, 1, 8, 8)
    stacked, z = network.eval()(x, shared=True), open_gates(module)
    assert list(z) == ["network.body.1", "network.head"]
    with pytest.raises(ValueError, match=r"give one of them, Replicated\.network_of"):
        compact(network)
    for i in (0, 1):
        alone = network.network_of(i)
        torch.testing.assert_close(alone(x), stacked[i])
        small: Any = compact(alone)
        torch.testing.assert_close(small(x), stacked[i], rtol=1e-4, atol=1e-5)
        inputs, hidden = ((gate[i] > 0).sum() for gate in z.values())
        assert 0 < inputs < 64
        assert small.body[1][1].weight.shape == (hidden, inputs)


def test_checkpoints_are_loaded_by_who_has_the_method(tmp_path: Path) -> None:
    trained = Classifier(nn.Sequential(nn.Linear(108, 4)), regularizers=[L0()], input_shape=(108,), num_classes=4)
    x, y = images()
    data: Any = DataLoader(TensorDataset(x := x.flatten(1), y), batch_size=4)
    trainer = fit(trained, [], data)
    trainer.save_checkpoint(path := tmp_path / "end.ckpt")
    loaded = Classifier.load_from_checkpoint(path, architecture=nn.Sequential(nn.Linear(108, 4)))
    assert torch.equal(loaded.eval()(x), trained.eval()(x))
    shape: dict[str, Any] = {"input_shape": (108,), "num_classes": 4}
    half = Classifier(nn.Sequential(nn.Linear(108, 8), nn.Linear(8, 4)), regularizers=[L0()], **shape)
    half.network[1].requires_grad_(False)
    fit(half, [], data).save_checkpoint(path.with_name("half.ckpt"))
    whole = nn.Sequential(nn.Linear(108, 8), nn.Linear(8, 4))
    loaded = Classifier.load_from_checkpoint(path.with_name("half.ckpt"), architecture=whole)
    assert torch.equal(loaded.eval()(x), half.eval()(x)), "what was frozen has no gates"
    fresh = Classifier(nn.Sequential(nn.Linear(108, 4)), regularizers=[L0()], input_shape=(108,), num_classes=4)
    trainer = pl.Trainer(enable_checkpointing=False)
    trainer.test(fresh, data, ckpt_path=path, verbose=False)
    assert torch.equal(fresh.eval()(x), trained(x))
    without = Classifier(nn.Sequential(nn.Linear(108, 4)), input_shape=(108,), num_classes=4)
    with pytest.raises(
        MisconfigurationException, match=r"with L0, and this one has none\. .* call .*add_gates\(module\)"
    ):
        trainer.test(without, data, ckpt_path=path, verbose=False)
    with pytest.raises(ValueError, match=r"another architecture .* call lightning_regs\.pruning\.add_gates\(module\)"):
        load_ensemble([path], without)


def test_a_foreign_module_is_tested_with_the_gates_of_its_checkpoint(tmp_path: Path) -> None:
    data: Any = DataLoader(TensorDataset(*images()), batch_size=4)
    fit(trained := Plain(), [L0()], data).save_checkpoint(path := tmp_path / "end.ckpt")
    trainer = pl.Trainer(enable_checkpointing=False, callbacks=[L0()])
    x: Any = images()[0]
    trainer.predict(fresh := Plain(), DataLoader(x))
    assert not gates_of(fresh)  # which nothing asks for
    found: Any = trainer.predict(fresh, DataLoader(x, batch_size=len(x)), ckpt_path=path)
    assert torch.equal(found[0], trained.eval()(x))
    assert not fresh._load_state_dict_pre_hooks


class Taught(Plain):
    """Has a teacher that is not frozen, and that no optimizer trains."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Sequential(nn.Linear(108, 4))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network.parameters(), lr=0.1)


@pytest.mark.parametrize("frozen", [True, False])
def test_what_had_no_gates_when_it_was_trained_has_none_of_the_checkpoint(frozen: bool, tmp_path: Path) -> None:
    model = Taught()
    model.network[3].requires_grad_(not frozen)
    fit(model, [L0()]).save_checkpoint(path := tmp_path / "end.ckpt")
    expected = ["network.1"] if frozen else ["network.1", "network.3"]
    assert [*gates_of(model)] == expected
    data: Any = DataLoader(TensorDataset(*images()), batch_size=4)
    trainer = pl.Trainer(enable_checkpointing=False, callbacks=[L0()])
    found: Any = trainer.predict(tested := Taught(), DataLoader(images()[0], batch_size=8), ckpt_path=path)
    assert [*gates_of(tested)] == expected
    assert torch.equal(found[0], model.eval()(images()[0]))
    resumed = pl.Trainer(max_epochs=2, enable_checkpointing=False, callbacks=[L0()])
    resumed.fit(again := Taught(), data, ckpt_path=path)
    assert [*gates_of(again)] == expected


class ByName(Plain):
    """Names what it trains."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.network[1].weight, self.network[3].weight], lr=0.1)


class Newton(Plain):
    """Takes several gradients a step."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters())


def attention() -> nn.Module:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.inner = nn.MultiheadAttention(6, 1, batch_first=True), nn.Linear(108, 108)
            self.head = nn.Linear(108, 4)

        def forward(self, x: Tensor) -> Tensor:
            rows = x.flatten(1).view(-1, 18, 6)
            return self.head(F.linear(self.attention(rows, rows, rows)[0].flatten(1), self.inner.weight))

    return Attends()


def test_what_cannot_be_gated_is_refused_or_told() -> None:
    with pytest.raises(MisconfigurationException, match=r"no optimizer trains the gates of 'network\.1'"):
        fit(ByName(), [L0()])
    with pytest.raises(MisconfigurationException, match="LBFGS takes many with a loss that would lack the penalty"):
        fit(Newton(), [L0()])
    computed = Plain(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))))
    with pytest.raises(MisconfigurationException, match=r"nothing to gate: 'network\.0\.weight' is no parameter"):
        fit(computed, [L0()])
    with pytest.raises(MisconfigurationException, match=r"two L0 act on 'network\.1'"):
        fit(Plain(), [L0(layers="*.1"), L0(layers="network.?")])
    with pytest.raises(MisconfigurationException, match="do not go together in this order: a mask and gates"):
        fit(Plain(), [WeightMask(density=0.5), L0()])
    with pytest.raises(MisconfigurationException, match="has copied the module before it had gates"):
        fit(Plain(), [pl.callbacks.StochasticWeightAveraging(0.01), L0()])
    with pytest.warns(NoEffectWarning, match=r"no gradient of the gates of 'network\.inner'"):
        fit(Plain(attention()), [L0()])


def test_layers_of_their_own_strength() -> None:
    model = Plain()
    fit(model, [L0(0.5, layers="*.1"), L0(0.0, layers="*.3"), NormPenalty(0.1)], max_epochs=3)
    first, second = gates_of(model).values()
    assert first.log_alpha.mean() < -0.02 < second.log_alpha.mean()
