"""What a level depends on is seen: a folder of another configuration is refused, and of other code redone."""

from __future__ import annotations

import copy
import random
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ticket_cases import LitNet, Made, all_weights, assert_same, dataset, search
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, WeightedRandomSampler

from lightning_regs import Classifier, ImageDataModule, NormPenalty
from lightning_regs.procedures.level import LevelFolder, LevelState
from lightning_regs.procedures.objects import describe, describe_data

SHORT: dict[str, Any] = {"levels": 1, "trainer": {"max_epochs": 1}}


@pytest.mark.parametrize(
    "change",
    [
        {"corruption": "random_labels"},
        {"train_size": 100},
        {"val_split": 0.2},
        {"seed": 5},
        {"whiten": False},
        {"image_size": 6},
        {"random_flip": True},
    ],
    ids=str,
)
def test_every_argument_of_the_datamodule_counts(change: dict[str, Any]) -> None:
    options: dict[str, Any] = {"source": "digits", "seed": 0}
    same, other = ImageDataModule(**options), ImageDataModule(**{**options, **change})
    described = describe_data(ImageDataModule(**options))
    assert describe_data(same) == described
    assert describe_data(other) != described


def test_a_datamodule_that_was_used_is_what_it_was(tmp_path: Path) -> None:
    data = ImageDataModule("digits", seed=0, batch_size=512)
    before = describe_data(data)

    def make(seed: int) -> Classifier:
        return Classifier("mlp", {"hidden": [4]}, seed=seed)

    search(tmp_path, make, data, **SHORT)
    assert describe_data(data) == before
    other = ImageDataModule("digits", seed=0, batch_size=512, corruption="random_labels")
    with pytest.raises(ValueError, match=r"data.hyper-parameters.corruption was 'none' and is now 'random_labels'"):
        search(tmp_path, make, other, **SHORT)


def test_a_method_of_the_module_with_another_coefficient(tmp_path: Path) -> None:
    def make(coefficient: float) -> Any:
        def module(seed: int) -> Classifier:
            return Classifier("mlp", {"hidden": [4]}, regularizers=[NormPenalty(coefficient)], seed=seed)

        return module

    data = ImageDataModule("digits", seed=0, batch_size=512)
    search(tmp_path, make(1e-4), data, **SHORT)
    assert len(search(tmp_path, make(1e-4), data, **SHORT)) == 2
    with pytest.raises(ValueError, match=r"coefficient was 0.0001 and is now 10"):
        search(tmp_path, make(10.0), data, **SHORT)


class Files(Dataset[Any]):
    """Keeps no data, but makes each sample; augments it where asked to, with streams of many kinds."""

    def __init__(self, labels: int, noise: str = "") -> None:
        self.shift = labels
        self.noise = noise
        self.cache: dict[int, Any] = {}
        self.generator = np.random.default_rng()

    def __len__(self) -> int:
        return 24

    def __getitem__(self, i: int) -> Any:
        x = torch.full((8,), float(i))
        if self.noise == "global":
            x = x + torch.rand(8) + random.random() + np.random.rand()  # noqa: NPY002
        elif self.noise == "own":
            x = x + self.generator.random()
        return self.cache.setdefault(i, (x, (i + self.shift) % 4))


def other_labels(number: int) -> TensorDataset:
    x, y = dataset().tensors
    y = y.clone()
    y[:number] = (y[:number] + 1) % 4
    return TensorDataset(x, y)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (DataLoader(other_labels(0), 16), DataLoader(other_labels(1), 16)),
        (DataLoader(Subset(dataset(), range(32)), 16), DataLoader(Subset(dataset(), range(1, 33)), 16)),
        (DataLoader(Files(0), 8), DataLoader(Files(1), 8)),
        (DataLoader(Files(0, "global"), 8), DataLoader(Files(1, "global"), 8)),
        (DataLoader(dataset(), 16), DataLoader(dataset(), 16, shuffle=True)),
        (DataLoader(dataset(), 32, drop_last=True), DataLoader(dataset(), 32)),
        (
            DataLoader(dataset(), 16, sampler=WeightedRandomSampler([1.0] * 64, 64)),
            DataLoader(dataset(), 16, sampler=WeightedRandomSampler([1.0] * 63 + [2.0], 64)),
        ),
    ],
    ids=["labels", "subset", "samples", "augmented", "shuffled", "drop_last", "weights"],
)
def test_loaders_of_other_data(first: DataLoader[Any], second: DataLoader[Any]) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert describe_data(first) == describe_data(first) == describe_data(copy.deepcopy(first))
    assert describe_data(first) != describe_data(second)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


@pytest.mark.slow
def test_loaders_of_other_labels_are_refused_and_the_same_are_not(tmp_path: Path) -> None:
    def loaders(number: int) -> Any:
        return lambda: (DataLoader(other_labels(number), 16), None, None)

    search(tmp_path, data=loaders(0), **SHORT)
    again = Made()
    with pytest.raises(ValueError, match=r"data.loader 0.dataset.tensors"):
        search(tmp_path, data=loaders(1), **SHORT)
    search(tmp_path / "more", again, loaders(0), **SHORT)
    trained = len(again.trained)
    search(tmp_path / "more", again, loaders(0), **SHORT)
    assert len(again.trained) == trained == 2


def test_samples_that_are_others_each_time_do_not_count() -> None:
    drawn = Files(0, "own")
    drawn.cache = type("Never", (dict,), {"setdefault": lambda self, key, value: value})()
    assert describe_data(DataLoader(drawn, 8))["dataset"]["samples"] is None


class Strength:
    def __init__(self, value: float) -> None:
        self._doubled = 2 * value


class Counting:
    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.calls = 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Strength(1.0), Strength(2.0)),
        (Counting(1.0), Counting(2.0)),
        ([Counting(1.0)], [Counting(2.0)]),
        (torch.float32, torch.bfloat16),
        (np.float32(1), np.float32(2)),
        (np.arange(3), np.arange(1, 4)),
        (list(range(1000)), [*range(999), 0]),
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (nn.CrossEntropyLoss(torch.ones(3)), nn.CrossEntropyLoss(torch.zeros(3))),
        ({1, 2}, {1, 3}),
        (b"a", b"b"),
    ],
)
def test_describe(one: Any, other: Any) -> None:
    assert describe(one) == describe(copy.deepcopy(one)) != describe(other)


def test_describe_goes_round_no_circles_and_forgets_what_is_counted() -> None:
    counting, circle = Counting(1.0), Strength(1.0)
    before = describe(counting)
    counting.calls = 7
    assert describe(counting) == before
    circle.__dict__["own"] = [circle]
    assert describe(circle) == {"class": "Strength", "_doubled": 2.0}


# -- code --------------------------------------------------------------------------------------------------------------

SCRIPT = """
import torch
class Edited(LitNet):
    def training_step(self, batch, batch_idx):
        return 1.0 * super().training_step(batch, batch_idx)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("lr=0.1", "lr=0.01", "Edited.configure_optimizers"),
        ("SGD", "Adagrad", "Edited.configure_optimizers"),
        ("1.0 *", "0.5 *", "Edited.training_step"),
    ],
)
@pytest.mark.slow
def test_levels_of_an_edited_module_are_redone(old: str, new: str, name: str, tmp_path: Path) -> None:
    def run(folder: Path, script: str) -> dict[str, Any]:
        namespace: dict[str, Any] = {"__name__": "a_script", "LitNet": LitNet}
        exec(script, namespace)
        return all_weights(search(folder, namespace["Edited"], **SHORT))

    before = run(tmp_path / "one", SCRIPT)
    assert_same(run(tmp_path / "one", SCRIPT), before)
    edited = SCRIPT.replace(old, new)
    with pytest.warns(
        UserWarning, match=rf"level_0. was made when the code of {name} was another; the level is redone"
    ):
        after = run(tmp_path / "one", edited)
    assert_same(after, run(tmp_path / "two", edited))
    assert not torch.equal(after["level_00 final net.0.weight"], before["level_00 final net.0.weight"])
    kept = [LevelState.load(tmp_path / "one" / f"level_0{level}.old-1") for level in (0, 1)]
    assert torch.equal(kept[0].final["net.0.weight"], before["level_00 final net.0.weight"])
    assert kept[1].facts["curves"]


def test_a_number_that_the_code_names_is_seen_where_nothing_else_tells(tmp_path: Path) -> None:
    def made(lr: float) -> type[LitNet]:
        class Inner(LitNet):
            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=lr)

        return Inner

    search(tmp_path, made(0.1), **SHORT)
    with pytest.warns(UserWarning, match=r"level_00 was made with .*configure_optimizers.lr = 0.1; .* redone"):
        search(tmp_path, made(0.2), **SHORT)


class Louder(NormPenalty):
    """A method of the user's."""


@pytest.mark.slow
def test_the_code_of_callbacks_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(alpha: float) -> Any:
        return lambda name: [Louder(alpha)]

    search(tmp_path, callbacks=made(1e-4), **SHORT)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "level_0")
        search(tmp_path, callbacks=made(1e-4), **SHORT)
    with pytest.warns(UserWarning, match=r"level_00 was made with .*made.<locals>.<lambda>.alpha = 0.0001; .* redone"):
        search(tmp_path, callbacks=made(1e-3), **SHORT)
    monkeypatch.setattr(Louder, "on_gradients", lambda self, at: None, raising=False)
    with pytest.warns(UserWarning, match=r"made without the code of .*lambda>; .* kept in level_00.old-2"):
        search(tmp_path, callbacks=made(1e-3), **SHORT)


def test_code_that_another_python_compiled_is_not_compared_and_that_is_said(tmp_path: Path) -> None:
    search(tmp_path, Lazy, **SHORT)
    for file in tmp_path.glob("*/config.json"):
        file.write_text(re.sub('"python": ".*"', '"python": "2.7"', file.read_text()))
    for file in tmp_path.glob("*/level.pt"):
        state = LevelState.load(file.parent)
        replace(state, facts=state.facts | {"of": LevelFolder(file.parent).owner}).save(file.parent)
    with pytest.warns(UserWarning, match=r"were made with Python 2.7; whether the code .* is not known"):
        assert len(search(tmp_path, Lazy, **SHORT)) == 2
    assert not list(tmp_path.glob("*.old-1"))


class Lazy(LitNet):
    """Has a norm that takes its size from the first batch, before training."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.net[1] = nn.LazyBatchNorm1d()

    def setup(self, stage: str) -> None:
        self.net(torch.zeros(2, 8))


def test_a_norm_without_a_size_yet(tmp_path: Path) -> None:
    assert len(search(tmp_path, Lazy, **SHORT)) == 2
