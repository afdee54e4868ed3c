"""Layers in the place of others: counted, shared ones once, the rest of the net as it was."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.core.lightning import pl
from lightning_regs.layers import layer_replacements, replace_layers
from lightning_regs.regularizers import NoEffectWarning


def net() -> nn.Sequential:
    torch.manual_seed(0)
    shared = nn.ReLU()
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), shared, nn.Conv2d(4, 4, 3, stride=2), shared)
    return nn.Sequential(inner, nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))


def test_layers_are_replaced_and_counted_and_a_shared_one_once() -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert replace_layers(model, {nn.ReLU: lambda old: nn.LeakyReLU(0.1), nn.Linear: nn.Sequential}) == {
        "ReLU": 2,
        "Linear": 1,
    }
    assert not any(type(layer) is nn.ReLU for layer in model.modules())
    assert model[0][1] is model[0][3] is not model[1]
    after = model.state_dict()
    assert set(before) - set(after) == {"3.weight", "3.bias"}
    assert all(torch.equal(after[name], before[name]) for name in before if name in after)
    assert torch.equal(after["3.0.weight"], before["3.weight"])  # a wrapped layer is searched no more
    x = torch.randn(1, 3, 9, 9)
    assert torch.isfinite(model(x)).all()


def test_a_predicate_chooses_and_the_mode_is_kept() -> None:
    model = net().eval()

    def strided(layer: nn.Module) -> bool:
        return isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)

    assert replace_layers(model, (strided, lambda old: nn.Sequential(nn.AvgPool2d(2), nn.Dropout()))) == {"strided": 1}
    assert isinstance(model[0][2][1], nn.Dropout)
    assert not model[0][2][1].training


def test_what_the_old_layer_has_frozen_stays_so_and_what_is_new_is_in_its_mode() -> None:
    def block() -> nn.Module:
        made = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        made[1].eval()
        return made

    def around(old: nn.Module) -> nn.Module:
        return old if len(list(old)) == 1 else nn.Sequential(old, nn.Dropout().eval())

    model = nn.ModuleList([block(), nn.Sequential(block())])
    replace_layers(model, (lambda layer: type(layer) is nn.Sequential, around))
    assert [m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d)] == [False, False]
    assert [m.training for m in model.modules() if isinstance(m, nn.Dropout)] == [True, True]


def test_a_compiled_net_has_the_names_of_its_layers_and_computes_with_the_new_ones() -> None:
    model, x = torch.compile(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), backend="eager"), torch.ones(2, 3)
    assert model(x).abs().sum() > 0
    assert replace_layers(model, {(nn.Linear, "0"): lambda old: nn.Sequential(old, nn.Threshold(9, -1))}) == {
        "Linear named 0": 1
    }
    assert model(x).eq(0).all()
    with pytest.warns(NoEffectWarning, match=r"to replace; it has 0\.0\."):
        replace_layers(model, {(nn.Linear, "1"): nn.Sequential})


@pytest.mark.parametrize("affine", [True, False])
def test_a_normalization_is_of_the_old_ones_numbers_and_on_its_device(affine: bool) -> None:
    (pair,) = layer_replacements(
        [{"replace": "BatchNorm2d", "by": "InstanceNorm2d", "affine": True, "track_running_stats": True}]
    )
    for device, dtype in (("cpu", torch.float64), ("meta", torch.bfloat16)):
        model = nn.Sequential(nn.BatchNorm2d(4, affine=affine, device=device, dtype=dtype))
        replace_layers(model, pair)
        found = {(t.device.type, t.dtype) for t in model.state_dict().values() if t.is_floating_point()}
        assert found == {(device, dtype)}


def test_a_kind_that_fits_nothing_is_warned_about_by_name() -> None:
    with pytest.warns(NoEffectWarning, match="Sequential has no layer GELU to replace"):
        assert replace_layers(net(), {nn.GELU: lambda old: nn.ReLU()}) == {"GELU": 0}
    with pytest.warns(NoEffectWarning):
        assert replace_layers(net(), {nn.ReLU: lambda old: old}) == {"ReLU": 0}
    with pytest.raises(TypeError, match=r"the layer in the place of 1 must be a Module, got None"):
        replace_layers(net(), {nn.ReLU: lambda old: None})
    for kind in ("ReLU", ("ReLU", "1"), (nn.ReLU, nn.GELU, nn.SiLU), (nn.ReLU,), (lambda layer: True, "1")):
        with pytest.raises(TypeError, match=r"named by their class, or class and glob, .* as in \{nn.ReLU: .*, got "):
            replace_layers(net(), {kind: lambda old: nn.GELU()})
    with pytest.raises(TypeError, match=r"made by a function, .* got <class '.*ReLU'>: GELU\("):
        replace_layers(net(), {nn.ReLU: nn.GELU()})


def test_torchs_transformers_compute_with_the_new_layers_and_attention_keeps_its_own() -> None:
    kinds = {
        nn.Linear: lambda old: nn.Sequential(old, nn.Tanh()),
        nn.Dropout: nn.Sequential,
        nn.LayerNorm: nn.Sequential,
    }
    x, attention = torch.randn(2, 3, 6), r"layers\.0\.self_attn\.out_proj stays as it is, as its weight is read without"
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), 1, enable_nested_tensor=False)
    with pytest.warns(NoEffectWarning, match=attention):
        assert replace_layers(model, kinds) == {"Linear": 2, "Dropout": 3, "LayerNorm": 2}
    expected = model.eval()(x)
    for layer in (model.layers[0].linear1, model.layers[0].linear2):
        layer[1] = nn.Identity()
    with torch.no_grad():
        assert not torch.allclose(model(x), expected), "the layers that were read are the old ones"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"replace": "Relu", "by": "GELU"}, r"^unknown layer 'Relu'\. Did you mean 'ReLU'\? Known: .{,70}, \d+ in all"),
        ({"after": "ReLU", "add": "Dropout", "q": 0.5}, "layer Dropout does not take .*It takes: p, inplace"),
        ({"after": "ReLU", "add": "Dropout", "p": 2}, "p must be at least 0 and below 1, got 2"),
        ({"after": "ReLU", "by": "Dropout"}, "has no 'add'; write"),
        ({"by": "Dropout"}, "has no 'replace'; write"),
    ],
)
def test_a_wrong_configuration_is_named(entry: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_replacements([entry])


@pytest.mark.parametrize("replicas", [None, 2])
def test_a_classifier_builds_its_net_and_then_replaces(replicas: int | None) -> None:
    layers = [{"replace": "ReLU", "by": "Tanh"}, {"after": "Tanh", "add": "Dropout", "p": 0.5}]
    shapes = {"input_shape": (1, 8, 8), "num_classes": 10, "seed": 0, "replicas": replicas}
    model = Classifier("mlp", {"hidden": [6]}, layers=layers, **shapes)
    plain = Classifier("mlp", {"hidden": [6]}, **shapes)
    assert [type(layer) for layer in model.network.modules() if isinstance(layer, (nn.Tanh, nn.Dropout, nn.ReLU))] == [
        nn.Tanh,
        nn.Dropout,
    ]
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.hparams["layers"] == layers
    assert "layers" not in plain.hparams
    own = Classifier(nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(64, 10)), layers=layers[:1])
    assert isinstance(own.network[1], nn.Tanh)


def test_a_net_with_dropout_trains_by_configuration(tmp_path: object) -> None:
    model = Classifier("mlp", {"hidden": [16]}, layers=[{"after": "ReLU", "add": "Dropout", "p": 0.2}])
    trainer = pl.Trainer(max_epochs=1, enable_checkpointing=False)
    trainer.fit(model, datamodule=ImageDataModule("digits", train_size=64, batch_size=32))
    assert model.results["train"]["loss"] > 0


def test_a_factory_that_changes_the_old_layer_is_counted() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replace_layers(net, {nn.Linear: nn.utils.parametrizations.weight_norm}) == {"Linear": 2}
    assert set(dict(net.named_parameters())) >= {"0.parametrizations.weight.original0", "2.bias"}
