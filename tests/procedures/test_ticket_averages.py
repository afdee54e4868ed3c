"""Callbacks that average weights: tickets stay sparse, and levels rewind to the weights and not to their average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ticket_cases import Kill, Killed, LitNet, Made, all_weights, assert_same, search

from lightning_regs.core.lightning import pl

EMA, SWA = pl.callbacks.EMAWeightAveraging, pl.callbacks.StochasticWeightAveraging


class Slow(LitNet):
    """Has a schedule that SWA can take the place of."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Replaced(pl.Callback):
    """An average of somebody's own: ones, at the end of training."""

    @torch.no_grad()
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for weight in pl_module.parameters():
            weight.fill_(1.0)


class Zeros(pl.Callback):
    """Counts the pruned weights that are not zero, in validation and test."""

    def __init__(self, name: str, wrong: dict[str, list[int]]) -> None:
        self.wrong = wrong.setdefault(name, [])
        self.pruned: dict[str, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        weights = pl_module.state_dict().items()
        self.pruned = {name: w == 0 for name, w in weights if name.endswith("weight") and w.ndim == 2}

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        weights = dict(pl_module.named_parameters())
        self.wrong.append(sum(int((weights[name][pruned] != 0).sum()) for name, pruned in self.pruned.items()))

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.on_validation_batch_end(trainer, pl_module)


AVERAGES: list[Any] = [
    (lambda: EMA(decay=0.9), "3it", 3),
    (lambda: EMA(decay=0.9), "1ep", 3),
    (lambda: EMA(decay=0.9), "0it", 3),
    (lambda: EMA(update_starting_at_step=100), "0it", 3),
    (lambda: SWA(swa_lrs=0.05, swa_epoch_start=1), "2ep", 4),
    (Replaced, "0it", 2),
]


@pytest.mark.parametrize(("average", "rewind_to", "epochs"), AVERAGES)
@pytest.mark.slow
def test_tickets_of_averaged_weights_are_sparse(average: Any, rewind_to: str, epochs: int, tmp_path: Path) -> None:
    wrong: dict[str, list[int]] = {}
    tickets = search(
        tmp_path,
        Slow,
        rewind_to=rewind_to,
        trainer={"max_epochs": epochs},
        callbacks=lambda name: [average(), Zeros(name, wrong)],
        test=True,
    )
    for one in tickets[1:]:
        assert all((one.weights()[name][~kept] == 0).all() for name, kept in one.mask.items())
    assert not any(wrong["level_01"] + wrong["level_02"])
    assert len(wrong["level_02"]) > 1


@pytest.mark.slow
def test_levels_start_from_the_weights_that_were_trained_and_not_from_their_average(tmp_path: Path) -> None:
    made = Made()
    tickets = search(tmp_path, made, rewind_to="3it", callbacks=lambda name: [EMA(decay=0.9)])
    dense, *levels = made.trained
    assert_same(tickets[0].weights("rewind"), dense.states[3])
    for module, ticket in zip(levels, tickets[1:], strict=True):
        assert_same(module.states[0], ticket.mask.apply(dense.states[3]))
        assert_same(ticket.weights("rewind"), module.states[0])


@pytest.mark.slow
def test_a_search_with_averages_is_the_same_where_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path) -> Any:
        return search(folder, levels=1, rewind_to="3it", callbacks=lambda name: [EMA(decay=0.9), Kill(name)])

    monkeypatch.setattr(Kill, "at", ("level_00", 10))
    with pytest.raises(Killed):
        run(tmp_path / "stopped")
    monkeypatch.undo()
    assert_same(all_weights(run(tmp_path / "stopped")), all_weights(run(tmp_path / "whole")))
