from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier, ImageDataModule, Initialization, WeightMask
from lightning_regs.analysis import WeightNorms
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.core.runs import RunContext
from lightning_regs.training.fit import fit as fit_config

X = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(64) % 3


class Foreign(pl.LightningModule):
    """Unpacks its batch as ``keys`` says."""

    def __init__(self, keys: tuple[Any, Any] = (0, 1), lr: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        self.keys, self.lr = keys, lr

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[self.keys[0]]), batch[self.keys[1]])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def train(module: pl.LightningModule, callbacks: list[Any], epochs: int = 1, collate=None, **options: Any) -> Any:
    trainer = pl.Trainer(max_epochs=epochs, callbacks=callbacks, **options.pop("trainer", {}))
    trainer.fit(module, DataLoader(TensorDataset(X, Y), batch_size=32, collate_fn=collate), **options)
    return trainer


def collated(kind: str) -> Any:
    def collate(samples: list[Any]) -> Any:
        x, y = (torch.stack([s[0] for s in samples]), torch.stack([s[1] for s in samples]))
        return {"tuple": (x, y), "dict": {"image": x, "label": y}, "odd": {"a": x, "b": y}}[kind]

    return collate


def variances(net: nn.Sequential, x: torch.Tensor) -> list[float]:
    found = []
    for layer in net:
        x = layer(x)
        found += [x.var(correction=0).item()] if isinstance(layer, nn.Linear) else []
    return found


@pytest.mark.parametrize(
    ("kind", "keys", "given"), [(None, (0, 1), None), ("tuple", (0, 1), None), ("dict", ("image", "label"), None),
                                ("odd", ("a", "b"), ("a", "b"))],
)  # fmt: skip
def test_the_first_batch_sets_a_foreign_module(kind, keys, given):
    module, callback = Foreign(keys), Initialization("lsuv", batch=given)
    train(module, [callback], collate=kind and collated(kind), trainer={"enable_checkpointing": False})
    assert variances(module.net, X[:32]) == pytest.approx([1, 1], abs=0.02)
    assert callback.initialized is not None
    assert callback.initialized.drawn == ["net.1.weight", "net.3.weight"]


def test_options_and_seed_and_rules_without_data():
    made = []
    for seed in (3, 3, 4):
        module = Foreign()
        rule = Initialization("normal", {"std": 0.4}, seed=seed)
        train(module, [rule], trainer={"enable_checkpointing": False})
        made.append(module.net[1].weight.detach())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert made[0].std() == pytest.approx(0.4, rel=0.2)


def test_a_resumed_training_goes_on_with_its_weights(tmp_path: Path):
    def callbacks() -> list[Any]:
        return [Initialization("pca"), pl.callbacks.ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)]

    whole, resumed = Foreign(lr=0.1), Foreign(lr=0.1)
    train(whole, callbacks(), epochs=2, trainer={"default_root_dir": tmp_path})
    saved = str(tmp_path / "epoch=0.ckpt")
    own = callbacks()
    train(resumed, own, epochs=2, ckpt_path=saved, trainer={"default_root_dir": tmp_path})
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert own[0].initialized.drawn == ["net.1.weight", "net.1.bias", "net.3.weight", "net.3.bias"]
    held = torch.load(saved, weights_only=False)
    held["callbacks"] = {name: state for name, state in held["callbacks"].items() if "Initialization" not in name}
    torch.save(held, other := tmp_path / "other.ckpt")
    later = Foreign(lr=0.1)
    with pytest.warns(UserWarning, match="leaves the weights as they are, as they come from a checkpoint"):
        train(later, callbacks(), epochs=2, ckpt_path=str(other), trainer={"default_root_dir": tmp_path})
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), later.parameters(), strict=True))


def test_each_replica_is_set_as_if_it_were_alone():
    def trained(**options: Any) -> Classifier:
        module = Classifier(architecture_args={"hidden": [16, 16]}, optimizer={"name": "SGD", "lr": 1e-30}, **options)
        data = ImageDataModule("digits", batch_size=128, **options)
        callbacks = [Initialization("lsuv", seed=9)]
        pl.Trainer(max_steps=1, callbacks=callbacks, enable_checkpointing=False).fit(module, data)
        return module

    stack, single = trained(replicas=[0, 5]), trained(seed=5)
    own = stack.network.state_of(1)
    for name, value in single.network.state_dict().items():
        assert torch.allclose(own[name], value, rtol=1e-4, atol=1e-6), name
    assert not torch.allclose(stack.network.state_of(0)["head.weight"], own["head.weight"])


def test_a_configuration_names_it(tmp_path: Path):
    config = {
        "model": {"architecture_args": {"hidden": [8]}, "optimizer": {"name": "SGD", "lr": 1e-30}},
        "data": {"source": "digits", "batch_size": 600},
        "trainer": {"max_epochs": 1},
        "callbacks": [{"class_path": "lightning_regs.Initialization", "init_args": {"rule": "data_statistics"}}],
    }
    trained = fit_config(config, RunContext(tmp_path, 1))
    # Other samples of the same kind: digits that were held out.
    with torch.no_grad():
        x = next(iter(trained.data.test_dataloader()))[0]
        units = trained.network().body[1](trained.data.eval_transform(x).flatten(1))
    assert units.var(0).mean() == pytest.approx(1, rel=0.3)
    assert units.mean().abs() < 0.3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rule": "lsuw"}, "Did you mean 'lsuv'"),
        ({"rule": "lsuv", "options": {"tol": 1}}, "option of the initialization 'lsuv': 'tol'"),
        ({"rule": "lsuv", "options": {"tolerance": -1}}, "tolerance must be above 0, got -1"),
        ({"rule": "kaiming_normal", "options": {"activation": "selo"}}, "Did you mean 'selu'"),
        ({"rule": "fixup"}, r"adds scalars to the net.*options=\{'scalars': False\}"),
    ],
)
def test_refused_at_construction(arguments, said):
    with pytest.raises(ValueError, match=said):
        Initialization(**arguments)


@pytest.mark.parametrize("size", [10, 64])
def test_a_batch_of_one_class_is_warned_of(size, recwarn):
    labels = torch.arange(64) // 32
    trainer = pl.Trainer(max_epochs=1, callbacks=[Initialization("lsuv")], enable_checkpointing=False)
    trainer.fit(Foreign(), DataLoader(TensorDataset(X, labels), batch_size=size))
    said = [str(warning.message) for warning in recwarn if "Initialization" in str(warning.message)]
    one_class = (
        "Initialization('lsuv') looks at the first batch, and all 10 samples of this one have one label; let the "
        "loader shuffle, or take a larger batch, as the scales would be those of one class."
    )
    assert said == ([one_class] if size == 10 else [])


def test_replicas_are_warned_of_a_batch_of_one_class(recwarn):
    callback = Initialization("lsuv")
    callback._look_at_labels(
        [torch.zeros(2, 5, 3), torch.tensor([[0, 1, 0, 1, 1], [2, 2, 2, 2, 2]])], torch.Size([2, 5])
    )
    assert "all 5 samples of this one have one label" in str(recwarn.pop(UserWarning).message)
    for y in (torch.tensor([[0, 1], [1, 0]]), -torch.ones(2, 2, dtype=torch.long), torch.ones(2, 2), torch.ones(2)):
        callback._look_at_labels([torch.zeros(2, 2, 3), y], torch.Size([2, 2]))
    assert not recwarn


def test_refused_at_the_first_batch():
    with pytest.raises(MisconfigurationException, match=r"a dict with the keys \['a', 'b'\].*say where they are"):
        train(Foreign(("a", "b")), [Initialization("lsuv")], collate=collated("odd"))
    frozen = Foreign()
    for layer in (frozen.net[1], frozen.net[3]):
        layer.weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"has nothing to initialize: net.1.weight is frozen"):
        train(frozen, [Initialization("lsuv")])


class WithoutForward(Foreign):
    forward = pl.LightningModule.forward

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])


def test_refused_before_the_training():
    with pytest.raises(MisconfigurationException, match=r"WithoutForward has no forward; give it one, such as `def"):
        train(WithoutForward(), [Initialization("lsuv")])
    train(WithoutForward(), [Initialization("kaiming_normal")], trainer={"fast_dev_run": True})
    with pytest.raises(
        MisconfigurationException, match="WeightMask has set pruned ones to zero; initialize the module"
    ):
        train(Foreign(), [WeightMask(density=0.5), Initialization("kaiming_normal")])
    with pytest.raises(MisconfigurationException, match="WeightNorms has kept what they start as; initialize the mod"):
        train(Foreign(), [Initialization("kaiming_normal"), WeightNorms()])
