"""What comes back of a Classifier from its checkpoint: its methods, and what it says of what it cannot bring back."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from generated import methods
from test_classifier import digits, trainer, weights
from torch import Tensor, nn

from lightning_regs import (
    AdversarialTraining,
    Classifier,
    CutMix,
    GradientPenalty,
    Mixup,
    NormPenalty,
    Regularizer,
    WeightMask,
)
from lightning_regs.core.files import DamagedFileError
from lightning_regs.regularizers.base import Acts
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.testing.variants import variants


class Dims(Regularizer, acts=Acts.BATCH):
    """A method of the user's own."""

    factor: float = 0.5

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        return x * self.factor, y


def saved(path: Path, given: list[Regularizer], architecture: Any = "mlp", **data: Any) -> Classifier:
    model = Classifier(architecture, regularizers=given, seed=1)
    t = trainer(path.parent, max_epochs=1)
    t.fit(model, datamodule=digits(**data))
    t.save_checkpoint(path)
    return model


def loaded(path: Path, **options: Any) -> Classifier:
    model: Classifier = Classifier.load_from_checkpoint(path, weights_only=True, **options)
    return model


EVERY = [variant.make() for cls in methods() for variant in variants(cls)] + [Dims(factor=0.7)]


@pytest.mark.filterwarnings("ignore:all weights were compared")
@pytest.mark.parametrize("method", EVERY, ids=[f"{i}-{type(m).__name__}" for i, m in enumerate(EVERY)])
def test_each_method_comes_back_with_its_arguments(method: Regularizer, tmp_path: Path) -> None:
    saved(tmp_path / "m.ckpt", [method], classes=[0, 1, 2, 3])  # as many as variants are of
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        (again,) = loaded(tmp_path / "m.ckpt").regularizers
    assert type(again) is type(method)
    assert again is not method
    for name in inspect.signature(type(method)).parameters:
        if name != "mask":  # it comes with the training that is resumed
            assert getattr(again, name) == getattr(method, name), name


@pytest.mark.slow
def test_training_goes_on_as_with_the_methods_given_again(tmp_path: Path) -> None:
    given = [Mixup(0.4, seed=3), CutMix(seed=4), NormPenalty(0.1, p=1, parameters=["*.weight"])]
    saved(tmp_path / "m.ckpt", given)
    ends = []
    for options in ({}, {"regularizers": given}):
        model = loaded(tmp_path / "m.ckpt", **options)
        trainer(tmp_path, max_epochs=2).fit(model, datamodule=digits())
        ends.append(weights(model))
    assert torch.equal(*ends)
    without = loaded(tmp_path / "m.ckpt", regularizers=[])
    assert without.regularizers == []
    trainer(tmp_path, max_epochs=2).fit(without, datamodule=digits())
    assert not torch.equal(ends[0], weights(without))


@pytest.mark.parametrize("density", [None, 0.3])
def test_a_mask_that_was_given_or_found_holds_again(density: float | None, tmp_path: Path) -> None:
    network = Classifier("mlp", {"hidden": [8]}, input_shape=(1, 8, 8), num_classes=10, seed=1)
    mask = {name: torch.rand_like(w) < 0.4 for name, w in network.named_parameters() if w.ndim > 1}
    model = Classifier("mlp", {"hidden": [8]}, regularizers=[WeightMask(None if density else mask, density)], seed=1)
    t = trainer(tmp_path, max_epochs=1)
    t.fit(model, datamodule=digits())
    t.save_checkpoint(tmp_path / "m.ckpt")
    again = loaded(tmp_path / "m.ckpt")
    zeros = [w == 0 for w in model.parameters() if w.ndim > 1]
    trainer(tmp_path, max_epochs=2).fit(again, datamodule=digits())
    trained = [w for w in again.parameters() if w.ndim > 1]
    for w, zero in zip(trained, zeros, strict=True):
        assert torch.equal(w == 0, zero)


def test_a_method_that_cannot_be_made_again_is_told(tmp_path: Path) -> None:
    saved(tmp_path / "m.ckpt", [AdversarialTraining(0.1, loss=lambda m, x, y: m(x).square().mean()), Mixup()])
    with pytest.warns(
        UserWarning, match=r"with AdversarialTraining, which was given what .* regularizers=\[\.\.\.\]\)"
    ):
        model = loaded(tmp_path / "m.ckpt")
    assert [type(method) for method in model.regularizers] == [Mixup]
    state = torch.load(tmp_path / "m.ckpt", weights_only=True)
    state["regularizers"] = [{"method": "os.system", "arguments": {"command": "true"}}]
    torch.save(state, tmp_path / "m.ckpt")
    with pytest.warns(UserWarning, match="with system, which is not defined here"):
        assert loaded(tmp_path / "m.ckpt").regularizers == []
    del state["regularizers"]  # as of a version that did not save them
    torch.save(state, tmp_path / "m.ckpt")
    assert loaded(tmp_path / "m.ckpt").regularizers == []


def test_a_training_that_is_resumed_has_the_methods_that_it_is_given(tmp_path: Path) -> None:
    saved(tmp_path / "m.ckpt", [Mixup()])
    model = Classifier("mlp", seed=1)
    trainer(tmp_path, max_epochs=2).fit(model, datamodule=digits(), ckpt_path=tmp_path / "m.ckpt")
    assert model.regularizers == []


def test_a_network_that_was_an_object_is_asked_for(tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    model = saved(tmp_path / "m.ckpt", [GradientPenalty(0.1)], network())
    with pytest.raises(
        ValueError, match=r"'Sequential'.* Classifier.load_from_checkpoint\(path, architecture=network\)"
    ):
        loaded(tmp_path / "m.ckpt")
    again = loaded(tmp_path / "m.ckpt", architecture=network())
    assert torch.equal(weights(model), weights(again))
    with pytest.raises(ValueError, match=r"^unknown model 'lenets'\. Did you mean 'lenet'[^;]*$"):
        Classifier("lenets")


def test_a_checkpoint_that_is_not_as_it_was_written_is_refused(tmp_path: Path) -> None:
    """Torch reads one with a changed number without a word."""
    model = saved(path := tmp_path / "m.ckpt", [])
    whole, weight = path.read_bytes(), next(model.parameters()).detach().numpy().tobytes()
    assert weight[:8] in whole
    for content in (whole[: len(whole) // 2], whole.replace(weight[:8], b"damaged!"), b"junk", b""):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"m\.ckpt is damaged .*; give a checkpoint that a Trainer wrote"):
            Classifier.load_from_checkpoint(path)
