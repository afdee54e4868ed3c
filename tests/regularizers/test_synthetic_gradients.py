"""Synthetic gradients against true ones in float64, a loop of plain torch, and a trace of which part steps when."""

from __future__ import annotations

import copy
from typing import Any

import foreign
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import (
    L0,
    Classifier,
    GradientPenalty,
    Initialization,
    Mixup,
    Regularizer,
    SyntheticGradients,
    WeightMask,
)
from lightning_regs.core.lightning import MisconfigurationException, only_gathers_statistics, pl
from lightning_regs.functional import synthetic_gradient
from lightning_regs.pruning.layers import prunable
from lightning_regs.regularizers.parts.gradient_model import GradientModel
from lightning_regs.regularizers.parts.selection import select
from lightning_regs.training.options import make


def squared(out: Tensor, y: Tensor) -> Tensor:
    return (out - F.one_hot(y, 2)).square().sum(1).mean() / 2


@pytest.mark.slow
def test_linear_models_that_see_labels_find_the_gradients_of_a_linear_net() -> None:
    """Of a frozen linear net under squared error gradients are linear in units and label."""
    torch.manual_seed(0)
    parts = [nn.Linear(3, 4).double(), nn.Linear(4, 5).double(), nn.Linear(5, 2).double()]
    x, y = torch.randn(64, 3, dtype=torch.float64), torch.arange(64) % 2
    models = [GradientModel(4, 2, [], 0).double(), GradientModel(5, 2, [], 0).double()]
    adam = torch.optim.Adam([p for model in models for p in model.parameters()], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 1500)
    label = F.one_hot(y, 2)
    for _ in range(1500):
        units = x
        for part, model in zip(parts, models, strict=False):
            units = part(units)
            units = synthetic_gradient(units, model(units.detach(), label))
        adam.zero_grad()
        squared(parts[2](units), y).backward()
        adam.step()
        schedule.step()
    first = parts[0](x).detach().requires_grad_()
    second = parts[1](first)
    true = torch.autograd.grad(squared(parts[2](second), y), [first, second])
    for model, units, expected in zip(models, (first, second), true, strict=True):
        torch.testing.assert_close(model(units.detach(), label) / 64, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 4, 5)], ids=str)
def test_what_is_predicted_goes_back_and_learns_from_what_came(shape: tuple[int, ...]) -> None:
    units, weight, predicted = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(3))
    scale, samples, places = 0.25, shape[0], predicted[:, 0].numel()
    loss = (synthetic_gradient(units, predicted, scale) * weight).sum() * scale
    found = torch.autograd.grad(loss, [units, predicted])
    torch.testing.assert_close(found[0], predicted * scale / samples)
    error = (predicted - samples * weight.detach()).square().sum() / places / 2
    torch.testing.assert_close(found[1], scale * torch.autograd.grad(error, predicted)[0])
    with pytest.raises(ValueError, match=r"units of shape .* have gradients alike, got .8, 3, 1."):
        synthetic_gradient(torch.zeros(8, 3, 2), torch.zeros(8, 3, 1))


def test_a_model_sees_each_place_and_the_label_and_is_in_no_state() -> None:
    torch.manual_seed(0)
    model, maps, label = GradientModel(3, 2, [6], 5).eval(), torch.randn(4, 3, 2, 2), F.one_hot(torch.arange(4) % 2, 2)
    assert not model(maps, label).any()
    nn.init.normal_(model.layers[-1].weight)
    torch.testing.assert_close(model(maps, label)[..., 1, 0], model(maps[..., 1, 0], label))
    assert not torch.equal(model(maps, label), model(maps, 1 - label))
    deep = GradientModel(3, 0, [4], 0)
    for rows in (1, 2):  # of one, batch norm has no statistics
        assert deep(torch.ones(rows, 3)).shape == (rows, 3)
        assert deep.layers[1].num_batches_tracked == rows - 1
    net = nn.Sequential(nn.Linear(3, 3))
    net[0].gradient_model = model
    assert list(net.state_dict()) == ["0.weight", "0.bias"]
    net.load_state_dict(nn.Sequential(nn.Linear(3, 3)).state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        net.load_state_dict({"0.weight": torch.zeros(3, 3)})


# -- trainings -------------------------------------------------------------------------------------------------------


class Plain(pl.LightningModule):
    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        layers = [nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)]
        self.net = net or nn.Sequential(*layers).double()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.02)


def batches() -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(2)
    return [(torch.randn(8, 6, generator=g, dtype=torch.float64), torch.arange(8) % 3) for _ in range(3)]


def fit(module: pl.LightningModule, method: Any, max_epochs: int = 3, **options: Any) -> pl.LightningModule:
    """Train, and return the module on the CPU."""
    x, y = (torch.cat(part) for part in zip(*batches(), strict=True))
    data = DataLoader(TensorDataset(x.to(next(module.parameters(), x).dtype), y), 8)
    foreign.fit(module, method if isinstance(method, list) else [method], data, max_epochs=max_epochs, **options)
    return module.cpu()


def by_hand(kind: str, hidden: list[int]) -> nn.Module:
    """Train part by part, each detached from the last, and step it before the next one runs."""
    net: Any = copy.deepcopy(Plain().net)
    made = SyntheticGradients(kind=kind, num_classes=3 if kind == "cdni" else None, hidden=hidden, seed=4)
    holder = Plain()
    made.setup(pl.Trainer(enable_checkpointing=False, callbacks=[made]), holder, "fit")
    models = [None, None] if kind == "none" else [m.double() for m in made._models.values()]
    assert holder.net.state_dict().keys() == net.state_dict().keys()
    parts = [net[:3], net[3:5], net[5:]]
    of = [[*part.parameters(), *(m.parameters() if m else ())] for part, m in zip(parts, [None, *models], strict=True)]
    optimizers = [torch.optim.Adam(own, lr=0.02) for own in of]
    for x, y in batches() * 3:
        units, last = x, None  # the part's input, and what was predicted there
        for i, (part, optimizer) in enumerate(zip(parts, optimizers, strict=True)):
            entry = units.detach().requires_grad_()
            units = part(entry)
            predicted = None
            if i == 2:
                F.cross_entropy(units, y).backward()
            elif models[i] is None:
                units.backward(torch.zeros_like(units))
            else:
                predicted = models[i](units.detach(), F.one_hot(y, 3) if kind == "cdni" else None)
                units.backward(predicted.detach() / 8)
            if last is not None:
                (last - 8 * entry.grad).square().sum(1).mean().div(2).backward()
            optimizer.step()
            optimizer.zero_grad()
            last = predicted
    return net


KINDS = [("dni", []), ("dni", [7]), ("cdni", []), ("none", [])]


@pytest.mark.parametrize("unlocked", [False, True])
@pytest.mark.parametrize(("kind", "hidden"), KINDS, ids=str)
def test_it_trains_as_a_loop_by_hand_that_steps_part_by_part(kind: str, hidden: list[int], unlocked: bool) -> None:
    module, before = Plain(), copy.deepcopy(Plain().net)
    classes = 3 if kind == "cdni" else None
    fit(module, SyntheticGradients(kind=kind, num_classes=classes, hidden=hidden, unlocked=unlocked, seed=4))  # type: ignore[arg-type]
    expected = by_hand(kind, hidden).state_dict()
    assert list(module.state_dict()) == [f"net.{name}" for name in expected]
    assert len(list(module.parameters())) == len(list(before.parameters()))
    torch.testing.assert_close(dict(module.net.state_dict()), dict(expected), rtol=1e-9, atol=1e-11)
    moved = not torch.equal(module.net[0].weight, before[0].weight)
    assert moved == (kind != "none")


def test_unlocked_each_part_has_stepped_before_the_next_one_runs() -> None:
    trace: list[str] = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                stepped = [name for name, w in matrices().items() if not torch.equal(w, weights[name])]
                trace.append(f"{self.out_features} runs, stepped: {' '.join(stepped)}")
            return super().forward(x)

    module = Plain(nn.Sequential(Watched(6, 5), nn.ReLU(), Watched(5, 4), nn.ReLU(), Watched(4, 3)))
    weights: dict[str, Tensor] = {}

    def matrices() -> dict[str, Tensor]:
        return {name: p.detach().cpu().clone() for name, p in module.net.named_parameters() if p.ndim > 1}

    class Opens(pl.Callback):
        """Lets models predict something from the first batch on."""

        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            for m in pl_module.modules():
                if isinstance(m, GradientModel):
                    nn.init.normal_(m.layers[-1].weight)
            weights.update(matrices())

    fit(module, [SyntheticGradients(unlocked=True), Opens()], max_epochs=1, limit_train_batches=1)
    model = "0.gradient_model.layers.0.weight"  # of the first part, which learns with the second
    assert trace == ["5 runs, stepped: ", "4 runs, stepped: 0.weight", f"3 runs, stepped: 0.weight {model} 2.weight"]


@pytest.mark.parametrize("kind", ["dni", "cdni"])
def test_in_our_classifier_unlocked_is_the_same_training_too(kind: str) -> None:
    def trained(unlocked: bool) -> dict[str, Tensor]:
        method = SyntheticGradients(kind=kind, num_classes=3 if kind == "cdni" else None, unlocked=unlocked)  # type: ignore[arg-type]
        adam = {"name": "Adam", "lr": 0.02}
        methods = [Mixup(0.5, seed=1), method]  # whose labels a conditioned model sees mixed
        module = Classifier("mlp", {"hidden": [5, 5], "norm": "batch"}, adam, input_shape=(6,), num_classes=3,
                            regularizers=methods, seed=3)  # fmt: skip
        fit(module, [])
        return module.state_dict()

    one, other = trained(True), trained(False)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_conditioned_model_sees_mixed_labels() -> None:
    seen: list[Tensor] = []  # on the CPU

    class Sees(GradientModel):
        def forward(self, units: Tensor, labels: Tensor | None = None) -> Tensor:
            assert labels is not None
            seen.append(labels.cpu())
            return super().forward(units, labels)

    class Puts(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            for m in pl_module.modules():
                if isinstance(m, GradientModel):
                    m.__class__ = Sees

    fit(Plain(), [SyntheticGradients(kind="cdni", num_classes=3), Mixup(0.5, seed=1), Puts()], max_epochs=1)
    y = F.one_hot(batches()[0][1], 3).double()
    assert len(seen) == 6
    torch.testing.assert_close(seen[0].double().sum(1), torch.ones(8, dtype=torch.float64))
    assert not torch.equal(seen[0].double(), y)
    assert torch.equal(seen[0], seen[1])


class Shared(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + super().training_step(batch, batch_idx)


class HeadAlone(Plain):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([*self.net[1].parameters(recurse=False), *self.net[5].parameters()], lr=0.1)


class FrozenNorm(Plain):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([w for at in (0, 3, 5) for w in self.net[at].parameters(recurse=False)], lr=0.1)


class Newton(Plain):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters())


class Regression(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        batch[1] = batch[1].float()
        return super().training_step([batch[0], batch[1].long()], batch_idx)


class Wide(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).repeat(1, 2)


class Block(nn.Sequential):
    out_features = 5


class Pair(nn.Tanh):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


class Single(nn.Linear):
    def forward(self, pair: Any) -> Tensor:
        return super().forward(pair[0])


class Checkpointed(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(checkpoint(self.net, batch[0], use_reentrant=False), batch[1])


class Clips(Plain):
    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        nn.utils.clip_grad_norm_(self.parameters(), 0.1)


def blocks() -> Plain:
    return Plain(nn.Sequential(Block(nn.Linear(6, 5), nn.ReLU()), Block(nn.Linear(5, 5), nn.ReLU()), nn.Linear(5, 3)))


def tokens() -> Plain:
    parts = nn.Unflatten(1, (2, 3)), nn.Linear(3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)
    return Plain(nn.Sequential(*parts))


DNI, CDNI, AT_ONCE = SyntheticGradients, {"kind": "cdni", "num_classes": 3}, {"unlocked": True}
REFUSED = [
    (
        Plain,
        {"after": "GELU"},
        {},
        r"finds no layer for after=\['GELU'\] in Plain, which has BatchNorm1d, Linear, ReLU,",
    ),
    (Plain, {"after": "net.[12]"}, {}, "cannot have a model behind 'net.2', as none stands between it and another"),
    (lambda: Plain(nn.Sequential(nn.Tanh(), nn.Linear(6, 3))), {}, {}, "behind 'net.0', as no layer with weights"),
    (
        lambda: Plain(nn.Sequential(Wide(6, 5), nn.Tanh(), nn.Linear(10, 3))),
        {},
        {},
        r"\(N, 5\) of 'net.1'.*\(8, 10\)",
    ),
    (Shared, {}, {}, "one gradient a batch behind 'net.2', which ran twice"),
    (HeadAlone, {"after": "net.2"}, {}, "model behind 'net.2' that no optimizer trains"),
    (FrozenNorm, {"after": "net.2"}, {}, "model behind 'net.2' that no optimizer trains"),
    (Newton, {}, {}, "or a checkpoint or closure ran it again"),
    (Newton, AT_ONCE, {}, "does not go with another optimizer than one of torch's"),
    (
        Regression,
        CDNI,
        {},
        r"sees class indices \(N,\) or probabilities \(N, 3\) of 8 samples, and these are torch.float32",
    ),
    (Plain, AT_ONCE, {"accumulate_grad_batches": 2}, "does not go with accumulate_grad_batches=2; use unlocked=False"),
    (Plain, AT_ONCE, {"gradient_clip_val": 1.0}, "does not go with gradient_clip_val=1.0; use unlocked=False"),
    (blocks, {"after": "Block"}, {}, "behind 'net.0', as no layer with weights stands before it"),
    (tokens, {}, {}, r"expects \(N, 2\) of 'net.2', by the layer before, got \(8, 2, 2\)"),
    (
        lambda: Plain(nn.Sequential(nn.Linear(6, 5), Pair(), Single(5, 3))),
        {"after": "Pair"},
        {},
        r"acts on a tensor, and 'net.1' returns a tuple of 2 \(Tensor, Tensor\)",
    ),
    (Checkpointed, {}, {}, "behind 'net.2', which ran twice: .* or a checkpoint or closure ran it again"),
    (Clips, AT_ONCE, {}, "does not go with Clips.configure_gradient_clipping; use unlocked=False"),
    (lambda: Plain(torch.compile(Plain().net)), {}, {}, "Plain is compiled; leave it eager"),
]


@pytest.mark.parametrize(("module", "arguments", "options", "match"), REFUSED, ids=[case[3][:40] for case in REFUSED])
def test_what_cannot_be_is_refused(module: Any, arguments: Any, options: Any, match: str) -> None:
    made = module()
    with pytest.raises(MisconfigurationException, match=match):
        fit(made, SyntheticGradients(**arguments), **options)
    assert not any(isinstance(part, GradientModel) for part in made.modules())


def test_methods_and_averages_that_do_not_go_together_are_refused() -> None:
    for other, arguments, match in (
        (GradientPenalty(0.1), {}, "is a predicted gradient, of no loss; leave one of the two out"),
        (L0(), AT_ONCE, "L0 acts at whole steps; use unlocked=False"),
    ):
        with pytest.raises(MisconfigurationException, match=match):
            fit(Plain(), [SyntheticGradients(**arguments), other])  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationException, match="comes behind a callback that averages weights"):
        fit(Plain(), [pl.callbacks.StochasticWeightAveraging(0.01), SyntheticGradients()])
    for wrong, match in (({"kind": "cdni"}, "num_classes=None and kind='cdni'"), ({"num_classes": 3}, "kind='dni'"),
                         ({"kind": "none", "hidden": [3]}, "kind='none' has none of")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            SyntheticGradients(**wrong)  # type: ignore[arg-type]


class Around(Plain):
    """Leads around its activation."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        units = self.net[0](batch[0])
        return F.cross_entropy(self.net[5](self.net[4](self.net[3](self.net[2](units))) + units[:, :4]), batch[1])


def test_what_parts_that_step_by_themselves_cannot_do_is_told_when_it_comes() -> None:
    with pytest.raises(RuntimeError, match="steps each part by itself, and a way leads around one; use unlocked=False"):
        fit(Around(), SyntheticGradients(unlocked=True))
    fit(Around(), SyntheticGradients())
    later = pl.callbacks.GradientAccumulationScheduler({0: 1, 1: 2})
    with pytest.raises(MisconfigurationException, match="does not go with accumulate_grad_batches=2"):
        fit(Plain(), [SyntheticGradients(unlocked=True), later], max_epochs=2)


def test_an_epoch_for_the_statistics_of_averaged_weights_steps_nothing() -> None:
    seen: list[Tensor] = []

    class Watches(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            if only_gathers_statistics(trainer):
                seen.append(pl_module.net[0].weight.detach().cpu().clone())

    average = pl.callbacks.StochasticWeightAveraging(0.01, swa_epoch_start=1)
    fit(Plain(), [SyntheticGradients(unlocked=True), average, Watches()], max_epochs=2)
    assert len(seen) == 3
    assert torch.equal(seen[0], seen[2])


def test_a_checkpoint_of_other_models_is_refused_in_a_sentence() -> None:
    def begun(**arguments: Any) -> SyntheticGradients:
        made = SyntheticGradients(**arguments)
        made.setup(pl.Trainer(enable_checkpointing=False, callbacks=[made]), Plain(), "fit")
        return made

    state = begun(hidden=[7]).state_dict()
    for other in ({}, {"hidden": [8]}, CDNI | {"hidden": [7]}, {"after": "net.2", "hidden": [7]}, {"kind": "none"}):
        with pytest.raises(MisconfigurationException, match="use `after`, `kind` and `hidden` as they were") as found:
            begun(**other).load_state_dict(state)
        assert "\n" not in str(found.value)


def test_a_loss_that_trains_no_layer_is_told() -> None:
    ends = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), nn.LogSoftmax(1))
    with pytest.warns(UserWarning, match=r"leaves the loss no layer behind 'net.3' to train; use `after` without it"):
        fit(Plain(ends), SyntheticGradients(kind="none"), max_epochs=1)


def test_a_copy_of_the_net_has_true_gradients() -> None:
    class Copies(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            other = copy.deepcopy(self.net)
            F.cross_entropy(other(batch[0]), batch[1]).backward()
            assert other[0].weight.grad is not None
            assert other[0].weight.grad.any()
            return super().training_step(batch, batch_idx)

    one, other = (fit(kind(), SyntheticGradients(kind="none")).state_dict() for kind in (Plain, Copies))
    torch.testing.assert_close(one, other)


def test_methods_on_weights_and_initial_weights_leave_the_models_alone() -> None:
    class Watches(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            own = [f"net.{at}.weight" for at in (0, 3, 5)]
            assert list(prunable(pl_module)) == [name for name, _ in select(pl_module, None)] == own
            assert not any("gradient_model" in name for name, _ in select(pl_module, "all"))
            last = [m.layers[-1].weight for m in pl_module.modules() if isinstance(m, GradientModel)]
            assert len(last) == 2
            if not trainer.global_step:
                assert not any(weight.any() for weight in last)

    mask = WeightMask(density=0.5)
    for other in (Initialization("kaiming_normal"), mask):
        fit(Plain(), [SyntheticGradients(), other, Watches()], max_epochs=1)
    assert mask.mask is not None
    assert sum(int(part.sum()) for part in mask.mask.values()) == 31  # of 62


class Teacher(Plain):
    """Averages weights as many do, through two nets at once, of which the optimizer trains one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
        self.teacher: Any = copy.deepcopy(self.net)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.net.parameters(), lr=0.02)

    def on_train_batch_end(self, *_: Any) -> None:
        for old, new in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
            old.data.copy_(new.data)


@pytest.mark.parametrize("unlocked", [False, True])
def test_averages_of_weights_are_those_of_the_net(unlocked: bool) -> None:
    module: Any = Teacher()
    fit(module, SyntheticGradients(unlocked=unlocked))
    own = module.net.state_dict()
    torch.testing.assert_close(dict(module.teacher.state_dict()), dict(own), rtol=0, atol=0)
    again: Any = Teacher()  # whose average is the last one, which Lightning puts into the module at the end
    fit(again, [SyntheticGradients(unlocked=unlocked), pl.callbacks.EMAWeightAveraging(decay=0.0)])
    torch.testing.assert_close(dict(again.net.state_dict()), dict(own))
    assert not any(isinstance(part, GradientModel) for part in again.modules())


def test_a_configuration_may_name_its_kind() -> None:
    config = {"class_path": "lightning_regs.SyntheticGradients", "init_args": {"kind": "cdni", "num_classes": 3}}
    made: Any = make(config, Regularizer, 5, "regularizer", "lightning_regs.Mixup")
    assert (made.kind, made.seed) == ("cdni", 5)


@pytest.mark.cpu("a label out of range stops CUDA for the rest of the process")
def test_labels_that_are_no_classes_are_told() -> None:
    with pytest.raises(ValueError, match="labels must be in 0 to 1, got 2"):
        fit(Plain(), SyntheticGradients(kind="cdni", num_classes=2))
