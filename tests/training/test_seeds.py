"""Weights, order and split each have the run's seed, or one apart: what is fixed is fixed, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.core.checks import PURPOSES, check_seeds
from lightning_regs.core.runs import RunContext
from lightning_regs.study import Cell
from lightning_regs.training.fit import Trained, fit, fit_stack

CONFIG: dict[str, Any] = {
    "model": {
        "architecture_args": {"hidden": [32], "dropout": 0.3},
        "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9},
    },
    "data": {"source": "digits", "train_size": 150, "val_split": 30, "test_size": 100, "batch_size": 20,
             "image_size": 7, "random_crop": True, "corruption": "partial_labels", "corruption_p": 0.5},
    "trainer": {"max_epochs": 2},
}  # fmt: skip
# What draws otherwise in a stack.
MIXED = CONFIG["model"] | {"regularizers": [{"class_path": "lightning_regs.Mixup"}]}


class Start(pl.Callback):
    """Keeps what a training starts with: initial weights, and the order of the samples and the seed of dropout."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 1:
            assert trainer.train_dataloader is not None
            self.order = [torch.tensor(list(trainer.train_dataloader.sampler)), torch.tensor(torch.initial_seed())]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.weights = [value.clone() for value in pl_module.state_dict().values()]


class Data(ImageDataModule):
    """Keeps the seed of its augmentation."""

    def train_transform(self, x: torch.Tensor, generator: Any) -> torch.Tensor:
        self.drawn = torch.tensor(generator.initial_seed())
        return super().train_transform(x, generator)


def run(folder: Path, seed: int, **seeds: int) -> Trained:
    return fit(CONFIG | {"model": MIXED, "seeds": seeds}, RunContext(folder, seed))


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("fixed", PURPOSES)
def test_what_has_a_seed_apart_is_equal_in_runs_of_two_seeds_and_the_rest_is_not(tmp_path: Path, fixed: str) -> None:
    found = []
    for seed in (1, 2):
        start = Start()
        data = Data(**CONFIG["data"], seed=seed, seeds={fixed: 7})
        fit(CONFIG | {"seeds": {fixed: 7}}, RunContext(tmp_path / str(seed), seed), [start], data=data)
        parts: Any = [data.dataset(name) for name in ("train", "val", "test")]
        split = [tensor for part in parts for tensor in (part.x, part.y)] + [parts[0].changed]
        found.append({"weights": start.weights, "order": [*start.order, data.drawn], "split": split})
    for purpose, (one, other) in {purpose: [each[purpose] for each in found] for purpose in PURPOSES}.items():
        assert [torch.equal(a, b) for a, b in zip(one, other, strict=True)] == [purpose == fixed] * len(one), purpose


@pytest.mark.parametrize("fixed", [(), ("weights",), ("order",), ("split",)])
def test_a_run_is_determined_by_the_seeds_of_its_purposes(tmp_path: Path, fixed: tuple[str, ...]) -> None:
    """Dropout, mixup and the crops among them: two ways to name the same three seeds, bit for bit."""
    others = {purpose: 3 for purpose in PURPOSES if purpose not in fixed}
    one = run(tmp_path / "one", 5, **others)
    other = run(tmp_path / "other", 3, **dict.fromkeys(fixed, 5))
    assert one.metrics == other.metrics
    assert equal(list(one.state().values()), list(other.state().values()))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("seeds", [{"order": 7}, {"weights": 7, "order": 7}, {"split": 7, "order": 7}])
@pytest.mark.slow
def test_replicas_have_the_seeds_of_their_runs(tmp_path: Path, seeds: dict[str, int], dropout: float) -> None:
    """With an order of their own, stacked nets have the dropout of single ones too."""
    model = CONFIG["model"] | {"architecture_args": {"hidden": [32], "dropout": dropout}}
    config = CONFIG | {"model": model, "seeds": seeds if dropout else {k: v for k, v in seeds.items() if k != "order"}}
    runs = [RunContext(tmp_path / str(seed), seed) for seed in (1, 2)]
    for stacked, single in zip(fit_stack(config, runs), [fit(config, context) for context in runs], strict=True):
        torch.testing.assert_close(stacked.state(), single.state(), rtol=1e-4, atol=1e-6)


def test_without_seeds_the_arguments_that_are_kept_are_those_of_before() -> None:
    """They are part of the identity of tickets, and of checkpoints."""
    assert "seeds" not in ImageDataModule().hparams
    assert "seeds" not in Classifier().hparams


@pytest.mark.parametrize(
    ("seeds", "error", "message"),
    [
        ({"weight": 0}, ValueError, "unknown purpose of a seed 'weight'. Did you mean 'weights'"),
        ({"order": -1}, ValueError, r"seeds\['order'\] must be at least 0, got -1"),
        ({"order": 1.5}, TypeError, r"seeds\['order'\] must be an integer, got 1.5"),
        ({"split": True}, TypeError, r"seeds\['split'\] must be an integer, got True"),
        (3, TypeError, "seeds must be a mapping, got 3"),
    ],
)
def test_seeds_that_are_none_are_refused_at_load(seeds: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_seeds(seeds)
    with pytest.raises(error, match=message):
        ImageDataModule(seeds=seeds)
    with pytest.raises(error, match=message):
        Classifier(seeds=seeds)
    with pytest.raises(error, match=f"cell 'a': {message}"):
        Cell("a", "module:function", {"trainer": {}, "seeds": seeds})
    Cell("a", "module:function", {"seeds": seeds})  # a task that trains nothing calls its own settings what it likes
