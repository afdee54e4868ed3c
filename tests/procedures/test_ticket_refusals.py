"""Bad input: one clear sentence each, before anything is trained where that can be known."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ticket_cases import LitNet, Made, adam, by_epoch, dataset, search, shuffled

from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.procedures.tickets import Control
from lightning_regs.pruning import Pruning


class Bare(LitNet):
    """Has nothing to prune."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.LayerNorm(8))  # type: ignore[assignment]


AT_ONCE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"rewind_to": "2"}, ValueError, "a whole number and its unit, like '500it' or '2ep', got '2'"),
    ({"rewind_to": 2}, TypeError, "written like '500it' or '2ep', got 2"),
    ({"rewind_to": "3ep"}, ValueError, r"rewind_to='3ep' is not before the end of training, which is at max_epochs=3"),
    ({"rewind_to": "12it", "trainer": {"max_steps": 12}}, ValueError, "'12it' is not before the end .* max_steps=12"),
    ({"method": "fine_tuning"}, ValueError, "give fine_tune='10ep' with it"),
    ({"fine_tune": "2ep"}, ValueError, "got method='weight_rewinding' and fine_tune='2ep'"),
    ({"method": "fine_tuning", "fine_tune": "0ep"}, ValueError, "at least one epoch or iteration, got 0"),
    ({"controls": ["reinitialize"]}, ValueError, "unknown control 'reinitialize'. Did you mean 'reinitialise'"),
    ({"controls": ["random_mask:x"]}, ValueError, "written like 'reinitialise:3', got 'random_mask:x'"),
    ({"controls": ["random_mask:0"]}, ValueError, "repeats must be at least 1, got 0"),
    ({"controls": [3]}, TypeError, "written like 'reinitialise:3', got 3"),
    ({"controls": ["random_mask", "random_mask:2"]}, ValueError, "'random_mask' is given twice"),
    ({"controls": [Control("random_mask", levels=(5,))]}, ValueError, r"for level 5, which is not among \[1, 2\]"),
    ({"trainer": {}}, ValueError, "says nothing of the length of training; add for example {'max_epochs': 5}"),
    ({"trainer": {"max_epochs": 1, "callbacks": [pl.Callback()]}}, ValueError, "give find_ticket.*callbacks=lambda"),
    ({"trainer": {"max_epochs": 1, "logger": object()}}, ValueError, "give find_ticket.*logger=lambda"),
    ({"trainer": pl.Trainer}, TypeError, "trainer must be the options of a Trainer, such as {'max_epochs': 5}"),
    ({"callbacks": [pl.Callback()]}, TypeError, "callbacks must be a function of the level's name"),
    ({"module": LitNet()}, TypeError, "give the class or a function that makes the module, not the object"),
    ({"module": lambda: None}, TypeError, "must return a LightningModule, got NoneType"),
    ({"module": lambda s: None}, TypeError, "and it asks for s; give a function of none, or of seed"),
    ({"module": Bare}, ValueError, "Bare has nothing to prune"),
    ({"pruning": Pruning(layers="net.9")}, ValueError, "the glob 'net.9' matches none of the 3 prunable weights"),
    ({"data": dataset()}, TypeError, "data must be a LightningDataModule.* not a data set, got .*TensorDataset"),
    ({"data": dataset}, TypeError, "got TensorDataset; put a data set into a DataLoader"),
    ({"data": lambda: (1, 2, 3, 4)}, ValueError, "loaders or fewer, got 4"),
]


@pytest.mark.parametrize(("options", "error", "message"), AT_ONCE)
def test_refused_before_anything_is_trained(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message) as caught:
        search(tmp_path, **options)
    assert str(caught.value).strip().count("\n") == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rewind_to", "trainer", "message"),
    [
        ("12it", {"max_epochs": 3}, r"rewind_to='12it' is not before the end .* 12 iterations \(4 an epoch\)"),
        ("3ep", {"max_steps": 12}, "rewind_to='3ep' is not before the end .* 12 iterations"),
        ("6it", {"max_epochs": 3, "accumulate_grad_batches": 2}, r"takes 6 iterations \(2 an epoch\)"),
    ],
)
@pytest.mark.slow
def test_a_rewind_point_after_the_end_that_the_data_decide(
    rewind_to: str, trainer: Any, message: str, tmp_path: Path
) -> None:
    made = Made()
    with pytest.raises(MisconfigurationException, match=message):
        search(tmp_path, made, rewind_to=rewind_to, trainer=trainer)
    assert not made.trained
    assert len(search(tmp_path, made, rewind_to="1it", trainer=trainer)) == 3  # no second refusal for the remedy


class Loaders(pl.LightningDataModule):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(dataset(), self.size)


class Wide(LitNet):
    def __init__(self, seed: int = 0, width: int = 12) -> None:
        super().__init__(seed)
        self.net[3] = torch.nn.Linear(16, width)
        self.net[6] = torch.nn.Linear(width, 4)


class Options(dict[str, int]):
    """Called, it makes the module; the code is the same whatever the options are."""

    def __call__(self) -> LitNet:
        return Wide(**self) if "width" in self else LitNet(**self)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"seed": 0}, {"seed": 1}, "seed was 0 and is now 1"),
        ({}, {"rewind_to": "2it"}, "rewind_to was '0it' and is now '2it'"),
        ({}, {"trainer": {"max_epochs": 2}}, "trainer.max_epochs was 1 and is now 2"),
        ({}, {"trainer": {"max_epochs": 1, "precision": "bf16-mixed"}}, "trainer.precision was None and is now 'bf16-"),
        ({}, {"method": "lr_rewinding"}, "method was 'weight_rewinding' and is now 'lr_rewinding'"),
        ({}, {"pruning": Pruning(layers="net.0")}, r"pruning.layers was None and is now \['net.0'\]"),
        ({}, {"callbacks": lambda level: []}, "callbacks was None and is now '.*lambda"),
        ({}, {"module": partial(LitNet, 5)}, "module.factory was 'LitNet' and is now 'LitNet.5.'"),
        (
            {"module": Made()},
            {"module": Made(optimizer=adam)},
            "module.attributes.optimizer was 'sgd' and is now 'adam'",
        ),
        ({"module": Made()}, {"module": Made(halve_every=3)}, "module.attributes.halve_every was 5 and is now 3"),
        ({"module": Options(width=12)}, {"module": Options(width=9)}, "module.layers was 'Wide"),
        ({"module": Options(seed=1)}, {"module": Options(seed=2)}, "module.initial weights was '[0-9a-f]+'"),
        ({"data": Loaders(8)}, {"data": Loaders(9)}, "data.attributes.size was 8 and is now 9"),
        ({"data": by_epoch}, {"data": shuffled}, "data.loader 0.batch_size was 16 and is now 10"),
    ],
)
def test_a_folder_of_another_configuration(first: Any, second: Any, message: str, tmp_path: Path) -> None:
    options = {"levels": 1, "trainer": {"max_epochs": 1}}
    if isinstance(first.get("rewind_to", second.get("rewind_to")), str):
        options["trainer"] = {"max_epochs": 2}
    search(tmp_path, **{**options, **first})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match=rf"level_00 holds a level of another configuration: {message}.*other? ?folder"
    ):
        search(tmp_path, **{**options, **first, **second})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_pruning_shares_the_dense_net_only(tmp_path: Path) -> None:
    search(tmp_path, levels=1)
    with pytest.raises(ValueError, match=r"level_01 holds .* pruning.rate was 0.2 and is now 0.3; use another folder"):
        search(tmp_path, levels=1, pruning=Pruning(rate=0.3))


def test_what_only_shows_may_differ(tmp_path: Path) -> None:
    search(tmp_path, Made(), levels=1)
    again = Made()
    options = {"max_epochs": 3, "log_every_n_steps": 1, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    search(tmp_path, again, levels=1, trainer=options, monitor="val_loss")
    assert not again.trained


def test_a_trainer_without_checkpoints_and_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^trainer={'barebones': True} keeps no checkpoints .*; leave it out"):
        search(tmp_path, Made(), shuffled, trainer={"max_epochs": 1, "barebones": True})
