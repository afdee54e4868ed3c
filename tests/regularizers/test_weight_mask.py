"""WeightMask, against a network that has its mask in the forward pass and is trained in a loop of plain PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign import Plain, fit, images
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier, GradientPenalty, MaxNorm, NormPenalty
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.pruning import Mask, prunable, random_mask
from lightning_regs.regularizers import NoEffectWarning, WeightMask
from lightning_regs.testing.runs import half

Make = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-2),
    "Nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, 1e-2, weight_decay=1e-2),
    "fused Adam": lambda p: torch.optim.Adam(p, 1e-2, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.5, centered=True),
}


class Net(Plain):
    """With any optimizer, and in float64, where the order of sums does not matter."""

    def __init__(self, make: Make = OPTIMIZERS["SGD"], network: nn.Module | None = None) -> None:
        super().__init__(network)
        self.make = make
        self.double()

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits.double(), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make(self.parameters())


def conv() -> nn.Module:
    torch.manual_seed(1)
    # Without a bias, which batch norm would take out again: its gradient is rounding alone, and Adam makes steps of it.
    layers = [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 8), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(8, 4))


def mask_of(model: nn.Module, seed: int = 0) -> Mask:
    mask = WeightMask(density=0.4)._determine(model)
    return random_mask(mask, torch.Generator().manual_seed(seed))


def data(number: int = 12) -> DataLoader[Any]:
    x, y = images(number)
    return DataLoader(TensorDataset(x.double(), y), batch_size=4)


class Watch(pl.Callback):
    """Looks at pruned weights before each batch, after each step, and at their gradients where they are clipped."""

    def __init__(self, mask: Mask | None = None) -> None:
        self.mask = mask
        self.steps = 0

    def pruned(self, module: nn.Module, gradients: bool = False) -> list[Tensor]:
        weights = dict(module.named_parameters(remove_duplicate=False))
        found = {name: weights[name].grad if gradients else weights[name] for name in self.mask or {}}
        return [value[~self.mask[name]] for name, value in found.items() if value is not None]

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.mask = next(m.mask for m in trainer.callbacks if isinstance(m, WeightMask)) or self.mask
        assert all((w == 0).all() for w in self.pruned(pl_module))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.steps += 1
        assert all((g == 0).all() for g in self.pruned(pl_module, gradients=True))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert all((w == 0).all() for w in self.pruned(pl_module))


def masked_loop(
    model: Net, mask: Mask, epochs: int, clip: float | None = None, every: int = 1, penalty: float = 0.0
) -> dict[str, Tensor]:
    """Train with the mask in the forward pass; return the weights that the network then has."""
    weights = {name: w.detach().clone().requires_grad_() for name, w in model.named_parameters()}
    optimizer = model.make(list(weights.values()))
    buffers = dict(model.named_buffers())
    for _ in range(epochs):
        for i, (x, y) in enumerate(data()):
            masked = {name: w * mask[name] if name in mask else w for name, w in weights.items()}
            loss = model.loss(torch.func.functional_call(model, masked | buffers, (x,)), y)
            if penalty:
                # With respect to what is trained, as pruned weights are none of the network's.
                gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
                loss = loss + penalty / 4 * sum(g.square().sum() for g in gradients)
            (loss / every).backward()
            if (i + 1) % every == 0:
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(weights.values(), clip)
                optimizer.step()
                optimizer.zero_grad()
    return {name: (w * mask[name] if name in mask else w).detach() for name, w in weights.items()}


def assert_equal(ours: nn.Module, theirs: dict[str, Tensor]) -> None:
    found = dict(ours.named_parameters())
    assert found.keys() == theirs.keys()
    for name, w in theirs.items():
        torch.testing.assert_close(found[name].detach(), w, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 0.05}, {"accumulate_grad_batches": 3}], ids=str)
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_it_is_the_network_with_a_mask_in_its_forward_pass(optimizer: str, options: dict[str, Any]) -> None:
    if optimizer == "fused Adam" and "gradient_clip_val" in options:
        options = options | {"gradient_clip_algorithm": "norm"}
    model = Net(OPTIMIZERS[optimizer], conv())
    mask = mask_of(model)
    reference = copy.deepcopy(model)
    expected = masked_loop(
        reference, mask, 4, options.get("gradient_clip_val"), options.get("accumulate_grad_batches", 1)
    )
    watch = Watch()
    fit(model, [WeightMask(mask), watch], data(), max_epochs=4, **options)
    assert watch.steps == 12 // options.get("accumulate_grad_batches", 1)
    assert_equal(model, expected)
    torch.testing.assert_close(dict(model.named_buffers()), dict(reference.named_buffers()), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("ours", [False, True])
def test_a_gradient_penalty_sees_masked_gradients(ours: bool) -> None:
    model = Net(lambda p: torch.optim.SGD(p, 0.1), nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(),
                nn.Linear(8, 4)))  # fmt: skip
    mask = mask_of(model)
    expected = masked_loop(copy.deepcopy(model), mask, 2, penalty=2.0)
    methods = [WeightMask(mask), GradientPenalty(2.0)]
    if not ours:
        fit(model, methods, data(), max_epochs=2)
        return assert_equal(model, expected)
    classifier = Classifier(
        copy.deepcopy(model.network), optimizer={"name": "SGD", "lr": 0.1}, regularizers=methods,
        input_shape=(3, 6, 6), num_classes=4,
    ).double()  # fmt: skip
    fit(classifier, [], data(), max_epochs=2)
    return assert_equal(classifier, expected)


@pytest.mark.parametrize("estimator", ["forward_difference", "central_difference"])
def test_differences_of_gradients_leave_pruned_weights_at_zero(estimator: Any) -> None:
    def ends(step_size: float) -> tuple[Classifier, Mask]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 4))
        penalty = GradientPenalty(0.5, estimator, step_size=step_size)
        method = WeightMask(density=0.3)
        model = Classifier(network, regularizers=[method, penalty], input_shape=(3, 6, 6), num_classes=4).double()
        fit(model, [Watch()], data(), max_epochs=2)
        assert method.mask is not None
        return model, method.mask

    (model, mask), (finer, _) = ends(1e-3), ends(1e-4)
    for name, m in mask.items():
        w = model.get_parameter(name).detach()
        assert torch.equal(w == 0, ~m)
        # Were the move one along pruned weights too, the difference would depend on its length.
        torch.testing.assert_close(w, finer.get_parameter(name).detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("how", ["automatic", "manual_backward", "backward", "grad", "create_graph"])
def test_every_way_to_a_gradient_is_masked_and_no_other_gradient(how: str) -> None:
    class Adapted(Net):
        """Adds to a weight another one, which gets the same gradient, as a low-rank adapter does."""

        def __init__(self) -> None:
            super().__init__(network=nn.Sequential(nn.Flatten(), nn.Linear(108, 4)))
            self.delta = nn.Parameter(torch.zeros(4, 108, dtype=torch.double))
            self.automatic_optimization = how == "automatic"
            self.seen: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x.flatten(1), self.network[1].weight + self.delta)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = self.loss(self(batch[0]), batch[1])
            both = [self.network[1].weight, self.delta]
            if how == "automatic":
                return loss
            optimizer = self.optimizers()
            optimizer.zero_grad()
            if how == "manual_backward":
                self.manual_backward(loss)
            elif how == "grad":
                for w, g in zip(both, torch.autograd.grad(loss, both), strict=True):
                    w.grad = g
            else:
                loss.backward(create_graph=how == "create_graph")
            optimizer.step()
            return loss.detach()

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            self.seen = [w.grad.detach().clone().cpu() for w in (self.network[1].weight, self.delta)]

    model = Adapted()
    mask = mask_of(model)
    fit(model, [WeightMask(mask), Watch()], data())
    ours, theirs = model.seen
    assert torch.equal(ours, theirs * mask[NAME])
    assert (theirs != 0).all()


def test_norm_penalties_before_and_after_it() -> None:
    for decoupled in (False, True):
        for p in (1, 2):
            ends = []
            for turn in (1, -1):
                model = Net()
                methods = [WeightMask(density=0.3), NormPenalty(1e-2, p, decoupled=decoupled)][::turn]
                fit(model, [*methods, Watch()], data(), max_epochs=2)
                ends.append(model.state_dict())
            assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


# -- which mask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "density"), [("global", 0.3), ("layer", 0.3), ("layer", 1.0)])
def test_density_keeps_the_greatest(scope: str, density: float) -> None:
    model, method = Net(network=conv()), WeightMask(density=density, scope=scope)
    start = {name: w.detach().abs() for name, w in prunable(copy.deepcopy(model)).items()}
    fit(model, [method], data())
    mask = method.mask
    assert mask is not None
    assert list(mask) == list(start)
    for names in [list(start)] if scope == "global" else [[name] for name in start]:
        sizes, kept = (torch.cat([source[n].flatten() for n in names]) for source in (start, mask))
        assert int(kept.sum()) == pytest.approx(density * len(kept), abs=1)
        assert density == 1 or sizes[kept].min() > sizes[~kept].max()
    for name, m in mask.items():
        assert torch.equal(model.get_parameter(name) != 0, m)


def test_layers_limits_what_is_pruned() -> None:
    model, method = Net(network=conv()), WeightMask(density=0.25, layers="network.4")
    fit(model, [method], data())
    assert list(method.mask or {}) == ["network.4.weight"]
    assert (model.get_parameter("network.4.weight") == 0).double().mean() == 0.75


class Distils(Net):
    """Learns from a teacher, and keeps an average of itself; the optimizer has neither."""

    def __init__(self, frozen: bool = True) -> None:
        super().__init__(network=conv())
        self.teacher, self.average = conv().double().requires_grad_(not frozen), copy.deepcopy(self.network)
        self.recurrent, self.words = nn.LSTM(4, 5).double(), nn.Embedding(7, 3)

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        x = self.batches[-1][0].to(logits.device)
        return F.mse_loss(logits, self.teacher(x)) + self.average(x).mean() + self.recurrent(logits)[0].sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make([*self.network.parameters(), *self.recurrent.parameters(), *self.words.parameters()])


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_what_no_optimizer_trains_is_not_pruned_and_what_is_left_dense_is_said(frozen: bool, scope: str) -> None:
    model = Distils(frozen)
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    method = WeightMask(density=0.25, scope=scope)
    told = (
        r"prunes among 652 of the module's 2,157 weights: no optimizer trains 'teacher.0.weight' and 5 more \(1,304\), "
        r"and no linear or convolutional layer has 'recurrent.weight_ih_l0' and 1 more \(180\); give a Mask"
    )
    with pytest.warns(UserWarning, match=told):
        fit(model, [method, Watch()], data())
    assert list(method.mask or {}) == ["network.0.weight", "network.4.weight", "network.6.weight"]
    assert method.mask is not None
    assert method.mask.density == pytest.approx(0.25, abs=0.01)
    for name in before:
        if name.startswith(("teacher", "average")):
            assert torch.equal(model.get_parameter(name), before[name])


def test_weights_that_are_named_and_not_trained_are_pruned() -> None:
    """A backbone that a callback unfreezes later is named by who wants it pruned."""
    model = Distils()
    method = WeightMask(density=0.5, layers="teacher.*")
    fit(model, [method, Watch()], data())
    assert method.mask is not None
    assert method.mask.density == 0.5
    for name, kept in method.mask.items():
        assert torch.equal(model.get_parameter(name) != 0, kept)
    chosen = WeightMask(density=0.5, layers=["teacher.*", "network.*"])
    fit(model, [chosen, Watch()], data())
    assert all(name.startswith("network") for name in chosen.mask or {"none": 0})


def test_without_arguments_what_is_zero_stays_zero() -> None:
    model = Net()
    mask = mask_of(model)
    with torch.no_grad():
        for name, m in mask.items():
            model.get_parameter(name).mul_(m)
    method = WeightMask()
    fit(model, [method, Watch()], data(), max_epochs=3)
    assert method.mask == mask
    method = WeightMask()
    with pytest.warns(NoEffectWarning, match="no weight is zero"):
        fit(Net(), [method], data())
    assert method.mask is not None
    assert method.mask.density == 1


def test_a_mask_in_a_checkpoint_is_taken_and_nothing_pruned_again(tmp_path: Path) -> None:
    def run(method: WeightMask, epochs: int, ckpt_path: Path | None = None) -> Net:
        model = Net(OPTIMIZERS["Adam"])
        trainer = pl.Trainer(max_epochs=epochs, callbacks=[method, Watch()], enable_checkpointing=False)
        trainer.fit(model, data(), ckpt_path=ckpt_path, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return model

    whole = run(WeightMask(density=0.3), 3).state_dict()
    keys = Net().state_dict().keys()
    first = WeightMask(density=0.3)
    run(first, 1)
    saved = torch.load(tmp_path / "1.ckpt", weights_only=True)
    assert saved["state_dict"].keys() == keys
    assert Mask(saved["callbacks"][first.state_key]["mask"]) == first.mask
    for method in (WeightMask(density=0.3), WeightMask(), WeightMask(first.mask)):
        resumed = run(method, 3, tmp_path / "1.ckpt").state_dict()
        assert all(torch.equal(whole[name], resumed[name]) for name in keys)
        assert method.mask == first.mask
    with pytest.raises(MisconfigurationException, match=r"density=0\.3, and WeightMask\(density=0\.5\)"):
        run(WeightMask(density=0.5), 3, tmp_path / "1.ckpt")
    # One that is given is what holds, for example at the next level from a checkpoint of the first.
    other = mask_of(Net(), seed=5)
    smaller = WeightMask(other)
    run(smaller, 3, tmp_path / "1.ckpt")
    assert smaller.mask == other


def test_a_checkpoint_without_a_mask_is_pruned_where_it_goes_on(tmp_path: Path) -> None:
    dense = Net(OPTIMIZERS["Adam"])
    trainer = fit(dense, [], data(), max_epochs=2)
    trainer.save_checkpoint(tmp_path / "dense.ckpt")
    mask = WeightMask(density=0.2)._determine(dense)
    method, seen = WeightMask(density=0.2), []

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            (optimizer,) = trainer.optimizers
            seen.append({key: v.clone() for key, v in optimizer.state[pl_module.get_parameter(NAME)].items()})

    model = Net(OPTIMIZERS["Adam"])
    callbacks = [method, Watch(), Look()]
    trainer = pl.Trainer(max_epochs=3, callbacks=callbacks, enable_checkpointing=False)
    trainer.fit(model, data(), ckpt_path=tmp_path / "dense.ckpt", weights_only=True)
    assert method.mask == mask
    assert float(seen[0]["step"]) == 6  # the count of steps goes on
    for state in seen:
        for key in ("exp_avg", "exp_avg_sq"):
            assert (state[key][~mask[NAME]] == 0).all()
            assert (state[key][mask[NAME]] != 0).any()


NAME = "network.1.weight"


def test_what_is_frozen_stays_at_its_value_in_averages_too_and_is_trained_no_further() -> None:
    model, mask = Net(OPTIMIZERS["Adam"]), mask_of(Net())
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    method = WeightMask(mask)
    method.frozen = True

    class Looks(pl.Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            for name, kept in mask.items():
                assert not pl_module.get_parameter(name).grad[~kept].any()

    fit(model, [method, pl.callbacks.EMAWeightAveraging(), Looks(), MaxNorm(0.1)], data(), max_epochs=2)
    for name, kept in mask.items():
        now = model.get_parameter(name)
        assert torch.equal(now[~kept], before[name][~kept])
        assert not torch.equal(now[kept], before[name][kept])


# -- around it -------------------------------------------------------------------------------------------------------


def test_nothing_is_left_behind_and_a_second_fit_goes_on_with_the_mask() -> None:
    model, method = Net(), WeightMask(density=0.3)
    fit(model, [method], data())
    mask = method.mask
    assert not any(p._backward_hooks for p in model.parameters())
    assert copy.deepcopy(method).mask == mask
    fit(model, [method, Watch()], data())
    assert method.mask == mask
    method.mask = None
    fresh = Net(network=conv())
    fit(fresh, [copy.deepcopy(method), Watch()], data())
    with pytest.raises(MisconfigurationException, match=r"'network\.1\.weight'"):
        fit(Net(network=conv()), [WeightMask(mask)], data())

    class Stops(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            with pytest.raises(MisconfigurationException, match="set it afterwards"):
                method.mask = None
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fit(model, [method, Stops()], data())
    assert not any(p._backward_hooks for p in model.parameters())
    model.trainer.optimizers[0].step()  # after the training nothing holds the weights
    with torch.no_grad():
        model.get_parameter(NAME).fill_(1.0)
    model.trainer.optimizers[0].step()
    assert (model.get_parameter(NAME) != 0).all()


def test_validation_and_test_alone_change_nothing() -> None:
    class Validates(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self(batch[0])

        test_step = validation_step

    model, method = Validates(), WeightMask(density=0.1)
    before = copy.deepcopy(model.state_dict())
    trainer = pl.Trainer(callbacks=[method])
    trainer.validate(model, data(), verbose=False)
    trainer.test(model, data(), verbose=False)
    assert all(torch.equal(before[name], w) for name, w in model.state_dict().items())
    assert method.mask is None
    assert method.state_dict() == {}


def test_shared_and_frozen_weights() -> None:
    class Shared(Net):
        def __init__(self, frozen: bool) -> None:
            inner = nn.Linear(8, 8)
            super().__init__(network=nn.Sequential(nn.Flatten(), nn.Linear(108, 8), inner, nn.Tanh(), nn.Linear(8, 4)))
            self.again = nn.Linear(8, 8).double()
            self.again.weight = inner.weight
            self.network[1].weight.requires_grad_(not frozen)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.network[:4](x)
            return self.network[4](self.again(hidden))

    for frozen in (False, True):
        model = Shared(frozen)
        by_either_name = {name: torch.rand(8, 8) < 0.5 for name in ("again.weight",)}
        by_either_name["network.1.weight"] = torch.rand(8, 108) < 0.5
        start = model.network[1].weight.detach().clone()
        fit(model, [WeightMask(by_either_name), Watch(Mask(by_either_name))], data(), max_epochs=2)
        assert torch.equal(model.network[2].weight != 0, by_either_name["again.weight"])
        if frozen:
            assert torch.equal(model.network[1].weight, start * by_either_name["network.1.weight"])
            assert not model.network[1].weight.requires_grad
    both = {"again.weight": torch.ones(8, 8), "network.2.weight": torch.zeros(8, 8)}
    with pytest.raises(MisconfigurationException, match="shares its weights"):
        fit(Shared(False), [WeightMask(both)], data())
    fit(Shared(False), [WeightMask(dict.fromkeys(both, torch.eye(8)))], data())


def test_weights_that_are_unfrozen_later() -> None:
    class Unfreezes(pl.callbacks.BaseFinetuning):
        def freeze_before_training(self, pl_module: Any) -> None:
            self.freeze(pl_module.network[1])

        def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
            if epoch == 1:
                self.unfreeze_and_add_param_group(pl_module.network[1], optimizer, lr=0.1)

    model = Net(lambda p: torch.optim.SGD([w for w in p if w.requires_grad], 0.1, momentum=0.9))
    start = model.get_parameter(NAME).detach().clone()
    mask = mask_of(model)

    class Gradients(Watch):
        def pruned(self, module: nn.Module, gradients: bool = False) -> list[Tensor]:
            return super().pruned(module, gradients) if not gradients or module.network[1].weight.requires_grad else []

    fit(model, [Unfreezes(), WeightMask(mask), Gradients()], data(), max_epochs=3)
    assert not torch.equal(model.get_parameter(NAME), start * mask[NAME])
    assert torch.equal(model.get_parameter(NAME) != 0, mask[NAME])


def test_an_optimizer_that_calls_its_closure_several_times() -> None:
    model, method = Net(lambda p: torch.optim.LBFGS(p, max_iter=4, history_size=3)), WeightMask(density=0.3)
    fit(model, [method], data(), max_epochs=2)
    for name, kept in (method.mask or {}).items():
        assert torch.equal(model.get_parameter(name) != 0, kept)


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_the_scaler_skips(fused: bool) -> None:
    class Half(Plain):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            # Not SGD: fused, it takes the momentum of a first step that is skipped from memory as it is found.
            return torch.optim.Adam(self.parameters(), 0.01, fused=fused)

    model, watch = Half(), Watch()
    plugin = half(2.0**30)
    x, y = images(64)
    loader = DataLoader(TensorDataset(x, y), batch_size=4)
    watch.on_before_optimizer_step = lambda *_: None  # type: ignore[method-assign] - overflows are no zeros
    fit(model, [WeightMask(density=0.3), watch], loader, max_epochs=2, plugins=[plugin])
    assert plugin.scaler.get_scale() < 2.0**30  # steps were skipped
    assert torch.isfinite(model.get_parameter(NAME)).all()
    assert watch.mask is not None
    assert torch.equal(model.get_parameter(NAME) != 0, watch.mask[NAME])


def test_stacked_networks_need_nothing_else() -> None:
    class Stacked(Net):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(3, 108, 4, dtype=torch.double))

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("ni,rio->nro", x.flatten(1), self.w).mean(1)

    model = Stacked()
    mask = Mask.stack([Mask({"w": torch.rand(108, 4) < d}) for d in (0.2, 0.5, 0.9)])
    fit(model, [WeightMask(mask)], data(), max_epochs=2)
    assert torch.equal(model.w != 0, mask["w"])


def test_the_names_of_a_compiled_module() -> None:
    class Compiled(Net):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.ModuleDict({"_orig_mod": self.network})

        def forward(self, x: Tensor) -> Tensor:
            return self.network["_orig_mod"](x)

    mask = mask_of(Net())
    for method in (WeightMask(mask), WeightMask(density=0.5)):
        model = Compiled()
        fit(model, [method], data())
        assert list(method.mask or {}) == list(mask)
        (weight,) = (w for n, w in model.named_parameters() if n.endswith("1.weight"))
        assert torch.equal(weight != 0, (method.mask or mask)[NAME])


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"layers": []}, ValueError, "selects nothing"),
        ({"mask": {"w": torch.tensor([0.5])}}, ValueError, r"'w' has 0\.5"),
        ({"mask": {}}, ValueError, "masks is empty"),
        ({"mask": {"w": torch.ones(1)}, "density": 0.5}, ValueError, "give one of the two"),
        ({"mask": {"w": torch.ones(1)}, "layers": "w"}, ValueError, "give one of the two"),
    ],
)
def test_arguments_are_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        WeightMask(**options)


@pytest.mark.parametrize(
    ("method", "network", "words"),
    [
        (WeightMask({"network.2.weight": torch.ones(2)}), None, r"unknown weight.*'network\.2\.weight'.*Did you mean"),
        (WeightMask({NAME: torch.ones(2, 2)}), None, r"'network\.1\.weight' has the shape \(2, 2\), and .* \(8, 108\)"),
        (WeightMask(density=0.5, layers="head"), None, "'head' matches none"),
        (WeightMask(density=0.5), nn.Sequential(nn.Flatten(), nn.Bilinear(1, 1, 4)), "nothing to prune"),
    ],
)
def test_modules_that_do_not_fit_are_refused(method: WeightMask, network: nn.Module | None, words: str) -> None:
    with pytest.raises(MisconfigurationException, match=words):
        fit(Net(network=network), [method], data())
    assert not method._handles


def test_two_masks_are_refused() -> None:
    methods = [WeightMask(density=0.5), WeightMask(density=0.3)]
    with pytest.raises(ValueError, match="use one WeightMask with both masks"):
        Classifier(nn.Linear(2, 2), regularizers=methods)
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `WeightMask`"):
        fit(Net(), methods, data())
