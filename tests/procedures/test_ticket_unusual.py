"""Tickets of modules whose weights are shared, or are made when training starts; and what is frozen stays so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier, ImageDataModule, MaxNorm, NormPenalty, find_ticket
from lightning_regs.core.lightning import pl
from lightning_regs.procedures.splits import measure
from lightning_regs.procedures.tickets import Tickets
from lightning_regs.pruning import Pruning


class Base(pl.LightningModule):
    """Classifies two features a sample, and trains what it has."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class Tied(Base):
    """Has one weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


class Late(Base):
    """Is built when training starts, and ends in an embedding."""

    def configure_model(self) -> None:
        if not hasattr(self, "a"):
            self.a, self.b, self.e = nn.Linear(6, 20), nn.Linear(20, 3), nn.Embedding(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.b((self.a(x) + self.e.weight.sum()).relu())


def loader() -> DataLoader[Any]:
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 16)


def search(folder: Path, module: Any, **options: Any) -> Tickets:
    options = {"levels": 1, "trainer": {"max_epochs": 1, "accelerator": "cpu"}, "test": False, **options}
    return find_ticket(module, loader, folder=folder, **options)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"rewind_to": "1it"}, {"method": "fine_tuning", "fine_tune": "1ep"}])
@pytest.mark.parametrize("layers", [None, "b"])
def test_shared_weights_are_pruned_under_each_of_their_names(
    tmp_path: Path, options: dict[str, Any], layers: str | None
) -> None:
    tickets = search(tmp_path, Tied, pruning=Pruning(layers=layers), controls=("reinitialise", "constant"), **options)
    dense = tickets.level(0).weights("initial")
    assert torch.equal(dense["a.weight"], dense["b.weight"])
    for level in tickets:
        (kept,) = [kept for name, kept in level.mask.items() if name in ("a.weight", "b.weight")]
        for which in ("rewind", "final"):
            weights = level.weights(which)
            assert torch.equal(weights["a.weight"], weights["b.weight"])
            assert torch.equal(weights["a.weight"] != 0, kept), (level.name, which)
    constant = tickets.level(1, "constant").weights("rewind")["a.weight"]
    assert len(constant.abs().unique()) == 2  # zero, and the one that was drawn for


@pytest.mark.slow
def test_a_resumed_search_knows_the_output_of_a_module_that_is_built_late(tmp_path: Path) -> None:
    pruning = Pruning(layers="*")
    whole = search(tmp_path, Late, pruning=pruning).level(1)
    mask, weights = whole.mask, whole.weights()
    assert mask.counts == {"a.weight": 96, "b.weight": 54}
    shutil.rmtree(tmp_path / "level_01")  # as a kill after level 0 leaves it
    again = search(tmp_path, Late, pruning=Pruning(layers="*")).level(1)
    assert again.mask == mask
    assert all(torch.equal(value, weights[name]) for name, value in again.weights().items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "penalty", [lambda: NormPenalty(0.1), lambda: NormPenalty(0.1, decoupled=True), lambda: MaxNorm(0.2)]
)
def test_frozen_weights_stay_where_they_were_beside_penalties(tmp_path: Path, penalty: Any) -> None:
    class Decays(Tied):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9, weight_decay=0.1)

    tickets = search(tmp_path, Decays, controls="one-shot-frozen", callbacks=lambda level: [penalty()])
    control = tickets.level(1, "one-shot-frozen")
    start, end = control.weights("rewind"), control.weights()
    for name, kept in control.mask.items():
        assert torch.equal(start[name][~kept], end[name][~kept])
        assert start[name][~kept].all()
        assert not torch.equal(start[name][kept], end[name][kept])


@pytest.mark.slow
def test_measuring_leaves_what_is_frozen_by_eval_as_it_is() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    net[2].eval()
    modes = []

    class Measures(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            measure(trainer, pl_module, "test")
            modes.append([part.training for part in net])

    trainer = pl.Trainer(max_steps=1, callbacks=[Measures()], enable_checkpointing=False)
    trainer.fit(Classifier(net), datamodule=ImageDataModule("digits", train_size=32, test_size=50))
    assert modes == [[True, True, False, True]]
