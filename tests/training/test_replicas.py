from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_regs import Classifier, ImageDataModule, LabelSmoothing, Mixup
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.core.rng import replica_seeds
from lightning_regs.layers import GhostBatchNorm, Maxout, MeanOnlyBatchNorm, update_batch_norm
from lightning_regs.models import build
from lightning_regs.models.mlp import MLP
from lightning_regs.models.stacked import straight
from lightning_regs.training.replicas import Replicated, clip_replica_norms

SEEDS = (3, 4, 7)
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def conv_net() -> nn.Module:
    body = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(4 * 6 * 6, 8), nn.ReLU(), nn.Linear(8, 5, bias=False))


def networks(number: int = 3) -> list[nn.Module]:
    torch.manual_seed(0)
    return [conv_net() for _ in range(number)]


def test_the_forward_pass_and_the_statistics_are_those_of_single_nets():
    nets = networks()
    stacked, x = Replicated(nets), torch.rand(3, 6, 1, 8, 8)
    torch.testing.assert_close(stacked(x), torch.stack([net(own) for net, own in zip(nets, x, strict=True)]))
    for name, value in stacked.state_dict().items():
        torch.testing.assert_close(value, torch.stack([net.state_dict()[name] for net in nets]))
    stacked.eval()
    for net in nets:
        net.eval()
    torch.testing.assert_close(stacked(x[0], shared=True), torch.stack([net(x[0]) for net in nets]))


def test_names_are_those_of_a_single_net_and_the_originals_stay_as_they_were():
    nets = networks()
    before = copy.deepcopy(nets[0].state_dict())
    stacked = Replicated(nets)
    assert [n for n, _ in stacked.named_parameters()] == [n for n, _ in nets[0].named_parameters()]
    assert list(stacked.state_dict()) == list(nets[0].state_dict())
    assert all(p.shape[0] == 3 for p in stacked.parameters())
    stacked(torch.rand(3, 6, 1, 8, 8)).sum().backward()
    torch.optim.SGD(stacked.parameters(), lr=1.0).step()
    for name, value in nets[0].state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("shape", [(6, 9), (2, 3, 9)], ids=["vectors", "sequences"])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_linear_layers_equal_those_of_single_nets_in_float64(shape, bias):
    torch.manual_seed(1)
    nets = [nn.Sequential(nn.Linear(9, 7, bias), nn.Tanh(), nn.Linear(7, 4, bias)).double() for _ in range(4)]
    x = torch.randn(4, *shape, dtype=torch.float64, requires_grad=True)
    stacked = Replicated(nets)
    loss = stacked(x).square().sum()
    (dx,) = torch.autograd.grad(loss, x, retain_graph=True)
    loss.backward()
    for i, net in enumerate(nets):
        own = x[i].detach().clone().requires_grad_()
        net(own).square().sum().backward()
        torch.testing.assert_close(dx[i], own.grad, rtol=1e-12, atol=1e-12)
        for stack, p in zip(stacked.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(stack.grad[i], p.grad, rtol=1e-12, atol=1e-12)
            assert stack.grad.is_contiguous()


class Fixed(nn.Module):
    """A batch norm of one scale for all nets, and without statistics."""

    def forward(self, x):
        return F.batch_norm(x, None, None, torch.arange(1.0, 5.0, device=x.device), training=True)


@pytest.mark.parametrize(
    "norm",
    [lambda: nn.BatchNorm2d(4), lambda: nn.BatchNorm2d(4, affine=False), lambda: nn.GroupNorm(2, 4), Fixed],
    ids=["batch", "batch without scale", "group", "one scale for all"],
)
def test_norms_of_bfloat16_activations_equal_those_of_single_nets(norm, device):
    """Autocast makes such activations, on CUDA also under vmap."""
    torch.manual_seed(1)
    nets = [norm().to(device) for _ in range(3)]
    for p in (p for net in nets for p in net.parameters()):
        nn.init.normal_(p)
    x = torch.randn(3, 8, 4, 5, 5, device=device).bfloat16().requires_grad_()
    stack, single = Replicated(nets), x.detach().clone().requires_grad_()
    with torch.autocast(device.type, torch.bfloat16):
        out, expected = stack(x), torch.stack([net(own) for net, own in zip(nets, single, strict=True)])
    torch.testing.assert_close(out, expected)
    for y in (out, expected):
        y.float().sin().sum().backward()
    torch.testing.assert_close(x.grad, single.grad)
    for i, net in enumerate(nets):
        torch.testing.assert_close(stack.state_of(i), net.state_dict())
        for ours, theirs in zip(stack.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(ours.grad[i], theirs.grad, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("norm", ["lrn", "batch", "layer", "group", "weight", "mean_only", None])
@pytest.mark.parametrize("shared", [False, True])
def test_alexnets_in_training_equal_single_ones_in_float64(norm, shared):
    nets = []
    for seed in range(3):
        torch.manual_seed(seed)
        nets.append(build("small_alexnet", (3, 8, 8), 5, norm=norm, width=0.2).double())
    stack = Replicated(nets)
    x = torch.randn(1 if shared else 3, 4, 3, 8, 8, dtype=torch.float64).expand(3, -1, -1, -1, -1)
    for module, batch in ((stack, (x[0] if shared else x, shared)), *((net, (x[i],)) for i, net in enumerate(nets))):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            (module(*batch).square().mean((-2, -1)).sum()).backward()
            optimizer.step()
    for i, net in enumerate(nets):
        for name, value in net.state_dict().items():
            torch.testing.assert_close(stack.state_of(i)[name], value, rtol=1e-9, atol=1e-12, msg=name)


def test_a_second_derivative_goes_through_linear_layers():
    torch.manual_seed(1)
    nets = [nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double() for _ in range(2)]
    stacked, x = Replicated(nets), torch.randn(2, 4, 3, dtype=torch.float64)

    def penalty(net, x):
        grads = torch.autograd.grad(net(x).square().sum(), list(net.parameters()), create_graph=True)
        return sum(g.square().sum() for g in grads)

    penalty(stacked, x).backward()
    for i, net in enumerate(nets):
        penalty(net, x[i]).backward()
        for stack, p in zip(stacked.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(stack.grad[i], p.grad, rtol=1e-10, atol=1e-10)


class OwnTransforms(nn.Module):
    """A linear layer under vmap over samples, and its gradient by the input under torch.func."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gradient = torch.func.grad(lambda own: self.layer(own).sin().sum())
        return torch.vmap(self.layer)(x) + torch.vmap(gradient)(x)


def test_a_network_may_use_transforms_of_its_own():
    torch.manual_seed(2)
    nets, x = [OwnTransforms().double() for _ in range(3)], torch.randn(3, 4, 5, dtype=torch.float64)
    stacked = Replicated(nets)(x)
    torch.testing.assert_close(stacked, torch.stack([net(own) for net, own in zip(nets, x, strict=True)]))


def test_frozen_and_shared_parameters_stay_so():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    net[0].bias.requires_grad_(False)
    stacked = Replicated([net, copy.deepcopy(net)])
    assert len(list(stacked.parameters())) == 3
    assert not stacked.get_parameter("0.bias").requires_grad
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(stacked(x), torch.stack([net(own) for own in x]))


def test_dropout_draws_for_each_replica():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    out = Replicated([net] * 4)(torch.ones(1, 200).expand(4, 1, 200))
    assert len({tuple(row.flatten().tolist()) for row in out}) == 4
    eval_out = Replicated([net] * 2).eval()(torch.ones(2, 1, 5))
    assert torch.equal(eval_out, torch.ones(2, 1, 5))


def test_nets_that_differ_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        Replicated([])
    with pytest.raises(ValueError, match=r"networks 0 and 1 differ in '0.weight'"):
        Replicated([nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(3, 3))])
    with pytest.raises(ValueError, match=r"differ in '0.bias'"):
        Replicated([nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3, bias=False))])


def test_settings_that_differ_are_refused_too():
    with pytest.raises(ValueError, match=r"networks 0 and 1 differ in '1.p' \(0.0 and 0.5\)"):
        Replicated([nn.Sequential(nn.Linear(2, 3), nn.Dropout(p)) for p in (0.0, 0.5)])
    with pytest.raises(ValueError, match=r"differ in '1\.class' \(Tanh and Sigmoid\)"):
        Replicated([nn.Sequential(nn.Linear(2, 3), act) for act in (nn.Tanh(), nn.Sigmoid())])
    for values in ((torch.relu, torch.tanh), (torch.zeros(2), torch.ones(2))):
        nets = [nn.Linear(2, 2) for _ in values]
        for net, value in zip(nets, values, strict=True):
            net.__dict__["fixed"] = value
        with pytest.raises(ValueError, match=r"differ in 'fixed'"):
            Replicated(nets)
    frozen = conv_net()
    frozen[1].eval()
    with pytest.raises(ValueError, match=r"'1\.training'"):
        Replicated([conv_net(), frozen])


def test_a_frozen_batch_norm_stays_frozen():
    nets = networks()
    for net in nets:
        net[1].eval()
    stacked, x = Replicated(nets), torch.rand(3, 6, 1, 8, 8)
    torch.testing.assert_close(stacked(x), torch.stack([net(own) for net, own in zip(nets, x, strict=True)]))
    assert stacked.get_buffer("1.num_batches_tracked").tolist() == [0, 0, 0]


def dense_net(norm: type[nn.Module] = nn.BatchNorm1d) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), norm(6), nn.ReLU(), nn.Linear(6, 5))


@pytest.mark.parametrize(
    "make",
    [conv_net, dense_net, lambda: dense_net(MeanOnlyBatchNorm), lambda: dense_net(partial(GhostBatchNorm, size=2))],
    ids=["images", "without vmap", "mean only", "ghost"],
)
def test_statistics_are_estimated_anew_as_those_of_single_nets(make):
    """By norms whose momentum is None meanwhile, as StochasticWeightAveraging has them too."""
    torch.manual_seed(0)
    nets, batches = [make() for _ in range(3)], [torch.rand(6, 1, 8, 8) for _ in range(3)]
    stacked = Replicated(nets)
    for _ in range(2):
        update_batch_norm(stacked, [batch.expand(3, *batch.shape) for batch in batches])
    for i, net in enumerate(nets):
        update_batch_norm(net, batches)
        torch.testing.assert_close(stacked.state_of(i), net.state_dict())


def test_numbers_that_are_changed_later_count():
    stacked, x = Replicated([nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)) for _ in "ab"]), torch.rand(2, 3, 4)
    stacked.get_submodule("1").p = 0.0
    torch.testing.assert_close(stacked(x), copy.deepcopy(stacked).eval()(x))
    assert stacked.network_of(1)[1].p == 0.0


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: nn.LazyLinear(3), "LazyLinear cannot be stacked: it has no shape yet"),
        (lambda: nn.GRU(2, 3), "GRU cannot be stacked"),
        (lambda: nn.utils.spectral_norm(nn.Linear(2, 2)), "use torch.nn.utils.parametrizations"),
    ],
)
def test_layers_that_cannot_be_stacked_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        Replicated([nn.Sequential(layer()) for _ in range(2)])


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_norms_are_clipped_a_replica_at_a_time(limit):
    torch.manual_seed(0)
    stacked = [torch.randn(3, 4, 5), torch.randn(3, 4)]
    for p in stacked:
        p.grad = torch.randn_like(p) * torch.tensor([0.01, 1.0, 10.0]).view(3, *[1] * (p.ndim - 1))
    singles = [[p[i].clone() for p in stacked] for i in range(3)]
    for i, own in enumerate(singles):
        for p, stack in zip(own, stacked, strict=True):
            p.grad = stack.grad[i].clone()
    norms = clip_replica_norms(stacked, limit)
    for i, own in enumerate(singles):
        torch.testing.assert_close(norms[i], nn.utils.clip_grad_norm_(own, limit))
        for p, stack in zip(own, stacked, strict=True):
            torch.testing.assert_close(stack.grad[i], p.grad)


def test_seeds_are_counted_or_listed():
    assert replica_seeds(None, 5) is None
    assert replica_seeds(3, 5) == (5, 6, 7)
    assert replica_seeds([4, 4], 5) == (4, 4)
    for wrong, message in [
        (0, "at least 1"),
        ([], "empty"),
        (True, "must be an integer"),
        ("12", "must be an integer"),
        ([1.5], "must be an integer"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            replica_seeds(wrong, 0)


# -- the Classifier and the data ---------------------------------------------------------------------------------------

DATA = {"source": "digits", "batch_size": 64, "val_split": 60, "train_size": 300}
CORRUPTED = DATA | {"corruption": "partial_labels", "corruption_p": 0.3, "random_flip": True, "whiten": False}
PIXELS = DATA | {"corruption": "random_pixels", "test_size": 100, "drop_last": True}


def fit(model_options, data_options, *, trainer=None, callbacks=(), ckpt_path=None, epochs=2, **who):
    data = ImageDataModule(**data_options, **who)
    model = Classifier(**model_options, **who)
    fitting = pl.Trainer(max_epochs=epochs, callbacks=list(callbacks), **(QUIET | (trainer or {})))
    fitting.fit(model, datamodule=data, ckpt_path=ckpt_path)
    fitting.test(model, datamodule=data, verbose=False)
    return model, fitting


ADAM = {"optimizer": {"name": "Adam", "lr": 1e-2}, "architecture_args": {"hidden": [20], "norm": "layer"}}
SGD = {
    "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3},
    "architecture_args": {"hidden": [20, 10], "norm": "batch"},
    "schedule": {"name": "OneCycleLR", "max_lr": 0.1, "interval": "step"},
    "loss": "squared_error",
}


@pytest.mark.parametrize(
    ("model", "data", "trainer"),
    [
        (ADAM, CORRUPTED, {}),
        (SGD, PIXELS, {}),
        (SGD, DATA, {"gradient_clip_val": 0.05}),
        (ADAM, DATA, {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value", "accumulate_grad_batches": 2}),
    ],
    ids=["adam-corrupted", "sgd-pixels", "clipped", "accumulated"],
)
@pytest.mark.slow
def test_replicas_equal_separate_runs(model, data, trainer):
    stack, _ = fit(model, data, trainer=trainer, replicas=SEEDS)
    assert stack.replicas == SEEDS
    for i, seed in enumerate(SEEDS):
        alone, _ = fit(model, data, trainer=trainer, seed=seed)
        for name, value in alone.network.state_dict().items():
            torch.testing.assert_close(stack.network.state_of(i)[name], value, rtol=1e-4, atol=1e-6, msg=name)
        for stage in ("train", "val", "test"):
            assert stack.replica_results[stage][i] == pytest.approx(alone.results[stage], rel=1e-4)
    for stage, each in stack.replica_results.items():
        means = {name: sum(own[name] for own in each) / len(SEEDS) for name in stack.results[stage]}
        assert stack.results[stage] == pytest.approx(means)


def test_each_replica_is_logged():
    stack, trainer = fit(ADAM, DATA, replicas=2, seed=3)
    assert stack.replicas == (3, 4)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["test/acc"] == pytest.approx((logged["test/acc/0"] + logged["test/acc/1"]) / 2)
    assert logged["test/acc/1"] == pytest.approx(stack.replica_results["test"][1]["acc"])


def test_bf16_autocast_trains_replicas_as_it_trains_single_nets():
    options = {"trainer": {"precision": "bf16-mixed"}, "epochs": 4}
    stack, _ = fit(ADAM, DATA, replicas=[3, 4], **options)
    alone, _ = fit(ADAM, DATA, seed=4, **options)
    assert stack.replica_results["train"][1]["loss"] == pytest.approx(alone.results["train"]["loss"], rel=0.05)


@pytest.mark.slow
def test_resuming_replicas_equals_the_uninterrupted_run(tmp_path):
    whole, _ = fit(ADAM, CORRUPTED, replicas=SEEDS, epochs=4)
    half = pl.Trainer(max_epochs=2, **QUIET)
    half.fit(Classifier(**ADAM, replicas=SEEDS), datamodule=ImageDataModule(**CORRUPTED, replicas=SEEDS))
    half.save_checkpoint(tmp_path / "half.ckpt")
    again, _ = fit(ADAM, CORRUPTED, replicas=SEEDS, epochs=4, ckpt_path=tmp_path / "half.ckpt")
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])


@pytest.mark.parametrize("test_size", [None, 50], ids=["one test set", "a test set each"])
def test_prediction_is_of_every_replica(test_size):
    data = ImageDataModule("digits", replicas=2, seed=0, test_size=test_size)
    model = Classifier(replicas=2, seed=0)
    trainer = pl.Trainer(max_epochs=1, **QUIET)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    logits = torch.cat(trainer.predict(model, datamodule=data), dim=1).cpu()
    accuracy = 100 * (logits.argmax(-1) == data.dataset("test").y.cpu()).float().mean(-1)
    assert accuracy.tolist() == pytest.approx([own["acc"] for own in model.replica_results["test"]])


def test_transforms_take_the_batches_that_are_served():
    data = ImageDataModule("digits", replicas=2, seed=0, random_flip=True, random_crop=True, image_size=7)
    data.setup()
    x, _ = next(iter(data.train_dataloader()))
    torch.testing.assert_close(data.eval_transform(x), torch.stack([data.eval_transform(own) for own in x]))

    def draws():
        return [torch.Generator().manual_seed(s) for s in (1, 2)]

    own = torch.stack([data.train_transform(part, g) for part, g in zip(x, draws(), strict=True)])
    assert torch.equal(data.train_transform(x, draws()), own)


def test_stacked_networks_are_an_architecture():
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2)]
    data = ImageDataModule("digits", replicas=2, seed=0)
    model = Classifier(Replicated(nets), replicas=2, input_shape=(1, 8, 8), num_classes=10, seed=0)
    pl.Trainer(max_epochs=1, **QUIET).fit(model, datamodule=data)
    x = torch.rand(5, 1, 8, 8)
    prediction = model.predict_step(x, 0)
    own = [F.linear(x.flatten(1), *model.network.state_of(i).values()) for i in range(2)]
    torch.testing.assert_close(prediction, torch.stack(own))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regularizers": [Mixup()]}, "Mixup acts on a batch"),
        ({"optimizer": {"name": "LBFGS"}}, "LBFGS takes the tensor"),
        ({"optimizer": {"name": "Adafactor"}}, "Adafactor takes the tensor"),
        ({"optimizer": {"name": "adafactor"}}, "adafactor takes the tensor"),
        ({"optimizer": {"name": "ranger"}}, "ranger takes the tensor"),
        ({"optimizer": {"name": "Lookahead", "base": {"name": "adafactor"}}}, "adafactor takes the tensor"),
        ({"architecture": nn.Linear(2, 2)}, "stack the networks first"),
        ({"architecture": Replicated([nn.Linear(2, 2)] * 3)}, "has 3 replicas, replicas names 2"),
    ],
)
def test_what_would_mix_replicas_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Classifier(**options, replicas=2)


def test_the_trainer_s_methods_and_other_data_are_refused_too():
    data = ImageDataModule("digits", replicas=2, seed=0)
    trainer = pl.Trainer(max_epochs=1, callbacks=[LabelSmoothing()], **QUIET)
    with pytest.raises(MisconfigurationException, match="LabelSmoothing acts on a batch"):
        trainer.fit(Classifier(replicas=2, seed=0), datamodule=data)
    with pytest.raises(
        MisconfigurationException, match=r"the Classifier has replicas None and the DataModule \(0, 1\)"
    ):
        pl.Trainer(max_epochs=1, **QUIET).fit(Classifier(seed=0), datamodule=data)


@pytest.mark.parametrize("other", [{"lazy": True}, {"batch_repeats": 2}])
def test_data_for_replicas_refuse_what_is_made_for_single_nets(other):
    with pytest.raises(ValueError, match="do not go together"):
        ImageDataModule("digits", replicas=2, **other)


def test_images_are_held_once_and_a_common_test_set_is_plain():
    data = ImageDataModule("digits", replicas=5, val_split=97)
    data.setup()
    train, val, test = (data.dataset(split) for split in ("train", "val", "test"))
    assert train.x is val.x
    assert len(train.x) == 1500 - 97 + 97 or len(train.x) == len(train) + len(val)
    assert train.y.shape[0] == 5
    assert test.y.ndim == 1
    rows = [set(r.tolist()) for r in val.rows]
    assert all(len(r) == 97 for r in rows)
    assert len(set.intersection(*rows)) < 20
    assert not any(set(t.tolist()) & v for t, v in zip(train.rows, rows, strict=True))


STRAIGHT = {
    "mlp": {}, "dropout in evaluation": {"dropout": 0.5}, "branches": {"hidden": [5, 5, 5], "residual": True},
    "maxout": {"activation": "maxout"}, "norm": {"norm": "batch"},
    "norm in evaluation": {"norm": "batch", "residual": "each"},
}  # fmt: skip


@pytest.mark.parametrize("kind", ["sequential", *STRAIGHT])
@pytest.mark.parametrize("shared", [False, True])
def test_nets_of_linear_layers_go_without_vmap_bit_for_bit_as_with_it(kind, shared, monkeypatch):
    torch.manual_seed(2)
    if kind == "sequential":
        nets = [nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(6, 5), nn.GELU()), nn.Linear(5, 4)) for _ in "abc"]
    else:
        nets = [build("mlp", (2, 3), 4, **({"hidden": [5, 5]} | STRAIGHT[kind])) for _ in "abc"]
    results = []
    x = torch.randn(*([8] if shared else [3, 8]), 2, 3)
    for way in ("straight", "vmap"):
        stacked = Replicated(nets).train("evaluation" not in kind)
        assert straight(stacked.template) is not None
        if way == "vmap":
            monkeypatch.setattr("lightning_regs.training.replicas.straight", lambda *_: None)
        out = stacked(x, shared)
        out.square().sum().backward()
        results.append([out, *(p.grad for p in stacked.parameters()), *stacked.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    "net",
    [
        lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)),
        lambda: nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU()),
        lambda: nn.Sequential(nn.Linear(3, 3), nn.Softmax(dim=0)),
        lambda: nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))),
        lambda: nn.Sequential(nn.Flatten(0), nn.Linear(3, 3)),
        lambda: nn.Sequential(nn.Linear(3, 3), Maxout(3, dim=1)),
        lambda: nn.Bilinear(3, 3, 3),
    ],
)
def test_all_other_nets_go_by_vmap(net):
    made = net()
    assert straight(made) is None


def test_a_net_with_a_hook_goes_by_vmap():
    made = nn.Sequential(nn.Linear(3, 3))
    made[0].register_forward_hook(lambda module, args, out: 2 * out)
    stacked, x = Replicated([made, copy.deepcopy(made)]), torch.randn(2, 5, 3)
    assert straight(stacked.template) is None
    torch.testing.assert_close(stacked(x)[0], made(x[0]))


class Doubled(MLP):
    """An MLP that computes more than its parts do."""

    def forward(self, x):
        return 2 * super().forward(x)


def repeated() -> nn.Module:
    act, middle = nn.Tanh(), nn.Linear(3, 3)
    return nn.Sequential(nn.Linear(3, 3), act, middle, act, middle, act)


@pytest.mark.parametrize("net", [repeated, lambda: Doubled((3,), 2, hidden=[4])], ids=["repeated parts", "own forward"])
def test_parts_that_come_again_and_a_forward_of_one_s_own_count(net):
    torch.manual_seed(3)
    nets, x = [net(), net()], torch.randn(2, 5, 3)
    torch.testing.assert_close(Replicated(nets)(x), torch.stack([net(own) for net, own in zip(nets, x, strict=True)]))
