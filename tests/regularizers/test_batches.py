"""Batches that are no pairs: dicts, triples and objects, with every method that acts on batches."""

from __future__ import annotations

import inspect
from collections import UserDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign import Plain, at, fit, images
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_regs import AdversarialTraining, CutMix, Cutout, LabelSmoothing, Mixup, Regularizer
from lightning_regs.core.checks import NoEffectWarning, Share
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.regularizers.base import Acts
from lightning_regs.regularizers.parts.moment import Moment

METHODS: tuple[type[Any], ...] = (AdversarialTraining, CutMix, Cutout, LabelSmoothing, Mixup)


class Darken(Regularizer, acts=Acts.BATCH):
    factor: Share = 0.5

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        return x * self.factor, y


class Named(Plain):
    """Finds its samples and labels by their keys."""

    def __init__(self, x: Any, y: Any) -> None:
        super().__init__()
        self.keys = x, y

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step([batch[key] for key in self.keys], batch_idx)


class Rows(Dataset[Any]):
    """Samples in any form."""

    def __init__(self, make: Any) -> None:
        self.rows = [make(x, y, i) for i, (x, y) in enumerate(zip(*images(), strict=True))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return self.rows[i]


FORMS: dict[str, tuple[Any, tuple[Any, Any], Any]] = {
    "usual": (lambda x, y, i: {"pixel_values": x, "labels": y, "path": f"{i}.png"}, ("pixel_values", "labels"), None),
    "named": (lambda x, y, i: {"a": x, "b": y, "c": i}, ("a", "b"), ("a", "b")),
    "triple": (lambda x, y, i: (x, y, {"id": i}), (0, 1), (0, 1)),
    "turned": (lambda x, y, i: (i, y, x), (2, 1), (-1, 1)),
}


@pytest.mark.parametrize("method", [*METHODS, Darken])
@pytest.mark.parametrize("form", FORMS)
def test_trains_as_on_pairs(form: str, method: type[Any]) -> None:
    make, keys, given = FORMS[form]
    named, pairs = Named(*keys), Plain()
    fit(named, [method(batch=given)], DataLoader(Rows(make), batch_size=4))
    fit(pairs, [method()])
    assert torch.equal(torch.stack(named.losses), torch.stack(pairs.losses))
    assert not torch.equal(named.losses[0], F.cross_entropy(Plain()(images()[0][:4]), images()[1][:4]))


def test_mappings_and_objects_are_changed_in_place() -> None:
    x, y = images(4)
    mapping: Any = UserDict({"image": x, "label": y, "meta": 1})
    Darken().on_train_batch_start(batch=mapping, **at())
    thing = SimpleNamespace(img=x, cls=y)
    Darken(batch=("img", "cls")).on_train_batch_start(batch=thing, **at())
    assert torch.equal(mapping["image"], 0.5 * x)
    assert torch.equal(thing.img, 0.5 * x)
    assert mapping["meta"] == 1


@pytest.mark.parametrize("method", [*METHODS, Darken])
@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (
            "xy",
            TypeError,
            r'batch must be the keys of samples and labels, \("image", "label"\) or \(0, 1\), got \'xy\'',
        ),
        ((0, 1, 2), TypeError, "batch must be the keys"),
        ((0, True), TypeError, "batch must be the keys"),
        (("x", "x"), ValueError, "batch must be two keys"),
    ],
)
def test_bad_keys_are_refused_at_construction(
    method: type[Any], keys: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        method(batch=keys)
    assert method(batch=["x", "y"]).batch == ("x", "y")  # as a configuration file has them


@pytest.mark.parametrize("method", METHODS)
def test_keys_that_a_batch_lacks_are_refused_with_those_that_it_has(method: type[Any]) -> None:
    x, y = images(4)
    with pytest.raises(
        MisconfigurationException, match=rf"{method.__name__} .* keys \['id', 'img', 'y'\], .*'label' is"
    ):
        method(batch=("img", "label")).on_train_batch_start(batch={"img": x, "y": y, "id": 3}, **at())
    with pytest.raises(MisconfigurationException, match=r"a list of 2 \(Tensor, Tensor\), in which 2 is missing"):
        method(batch=(0, 2)).on_train_batch_start(batch=[x, y], **at())


def test_a_doubled_batch_whose_other_parts_would_not_fit_is_refused() -> None:
    method = AdversarialTraining(mode="mixed", batch=(0, 1))
    with pytest.raises(MisconfigurationException, match=r"makes 8 samples of 4, .* a list of 3"):
        fit(Named(0, 1), [method], DataLoader(Rows(lambda x, y, i: (x, y, i)), batch_size=4))
    fit(Named(0, 1), [method], DataLoader(Rows(lambda x, y, i: (x, y)), batch_size=4))


class Negate(Regularizer, acts=Acts.BATCH):
    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        return -x, y


class Shift(Regularizer, acts=Acts.BATCH):
    """Has a ``p`` of its own.

    Args:
        p: What is added.
    """

    p: int = 3

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        return x + self.p, y


def test_a_users_method_says_on_which_batches_it_acts_by_being_on_batches() -> None:
    assert {*inspect.signature(Negate).parameters} == {"seed", "batch", "p", "from_epoch", "until_epoch"}
    assert (Negate(3, p=0.5).seed, Negate(p=0.5).p) == (3, 0.5)
    assert Shift(p=7, until_epoch=2).p == 7  # no probability
    assert "p: What is added.\n        seed: Seed" in str(Shift.__doc__)
    assert "from_epoch: The first epoch in which it acts, from 0.\n" in str(Mixup.__doc__)


@pytest.mark.parametrize("method", METHODS)
def test_two_of_a_kind_go_together_where_their_epochs_do_not_meet(method: type[Any]) -> None:
    apart, one = Plain(), Plain()
    fit(apart, [method(seed=1, until_epoch=1), method(seed=1, from_epoch=1)], max_epochs=2)
    fit(one, [method(seed=1)], max_epochs=2)
    assert torch.equal(torch.stack(apart.losses), torch.stack(one.losses))
    with pytest.raises(MisconfigurationException, match=rf"{method.__name__} and {method.__name__} do not go together"):
        fit(Plain(), [method(seed=1, until_epoch=2), method(seed=1, from_epoch=1)], max_epochs=2)


def test_what_acts_in_no_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Mixup\(from_epoch=2, until_epoch=2\) acts in no epoch.* at least 3"):
        Mixup(from_epoch=2, until_epoch=2)


def test_what_begins_after_the_training_is_told() -> None:
    with pytest.warns(NoEffectWarning, match="Mixup does nothing: from_epoch=1, and max_epochs=1; begin earlier"):
        fit(Plain(), [Mixup(from_epoch=1)], max_epochs=1)
