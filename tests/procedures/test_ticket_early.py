"""What cannot end well is refused before it costs a training."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ticket_cases import LitNet, Made, by_epoch, search

from lightning_regs import Classifier, ImageDataModule, WeightMask
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.pruning import Pruning


@pytest.mark.slow
def test_an_unknown_monitor_after_one_epoch_and_the_search_goes_on_with_another(tmp_path: Path) -> None:
    made, again = Made(), Made()
    with pytest.raises(ValueError, match=r"unknown logged metric 'val_los'. Did you mean 'val_loss'"):
        search(tmp_path, made, monitor="val_los")
    assert [len(module.seen) for module in made.trained] == [4]
    tickets = search(tmp_path, again, monitor="val_loss")
    assert "early_stopping_iteration" in tickets[0].metrics
    assert len(again.trained[0].seen) == 12


@pytest.mark.slow
def test_an_unknown_monitor_waits_for_the_first_validation(tmp_path: Path) -> None:
    options = {"max_epochs": 4, "check_val_every_n_epoch": 2}
    made = Made()
    with pytest.raises(ValueError, match="unknown logged metric 'x'"):
        search(tmp_path, made, monitor="x", trainer=options)
    assert len(made.trained[0].seen) == 8
    assert "early_stopping/val_loss" in search(tmp_path / "known", monitor="val_loss", trainer=options)[1].metrics


class Trains(LitNet):
    """Logs a loss of the training epoch, which is known after its validation."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss


def test_a_metric_of_the_training_epoch_can_be_monitored(tmp_path: Path) -> None:
    assert "early_stopping/train_loss" in search(tmp_path, Trains, monitor="train_loss")[0].metrics


def test_a_monitor_without_validation(tmp_path: Path) -> None:
    made = Made()
    with pytest.raises(MisconfigurationException, match=r"monitor='val_loss' is a metric of the validation, and there"):
        search(tmp_path, made, lambda: by_epoch()[0], monitor="val_loss")
    assert not made.trained


def test_a_level_without_validation_has_no_early_stopping(tmp_path: Path) -> None:
    options = {"method": "fine_tuning", "fine_tune": "2it", "monitor": "val_loss"}
    dense, ticket, _ = search(tmp_path, **options)
    assert "early_stopping_iteration" in dense.metrics
    assert not ticket.curve
    assert "early_stopping_iteration" not in ticket.metrics
    assert len(search(tmp_path, **options)) == 3


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(3), Path("x")], ids=repr)
@pytest.mark.slow
def test_a_state_that_is_not_plain_when_the_rewind_point_is_saved(value: Any, tmp_path: Path) -> None:
    class Odd(pl.Callback):
        plain = False

        def state_dict(self) -> dict[str, Any]:
            return {"odd": 0 if self.plain else value}

    made = Made()
    with pytest.raises(MisconfigurationException, match=r"rewind.ckpt holds more than tensors and plain types"):
        search(tmp_path, made, rewind_to="6it", callbacks=lambda name: [Odd()])
    assert [len(module.seen) for module in made.trained] == [6]
    Odd.plain = True
    with pytest.warns(UserWarning, match=r"last.ckpt holds more than tensors .*; the level starts over"):
        assert len(search(tmp_path, made, rewind_to="6it", callbacks=lambda name: [Odd()])) == 3


@pytest.mark.slow
def test_another_rewind_point_after_one_that_was_not_reached(tmp_path: Path) -> None:
    class Stop(pl.callbacks.EarlyStopping):
        pass

    def callbacks(name: str) -> list[pl.Callback]:
        return [Stop("val_loss", patience=0, min_delta=100.0)]

    with pytest.raises(MisconfigurationException, match="choose an earlier point"):
        search(tmp_path, rewind_to="9it", callbacks=callbacks)
    assert len(search(tmp_path, rewind_to="5it", callbacks=callbacks)) == 3


def test_a_reinitialisation_that_is_none_is_found_before_training(tmp_path: Path) -> None:
    made = Made()
    with pytest.raises(MisconfigurationException, match="the same weights again with another seed"):
        search(tmp_path, lambda: made(3), controls=["random_mask", "reinitialise"])
    assert not made.trained
    assert not list(tmp_path.iterdir())


class Later(LitNet):
    """Draws its weights when the Trainer starts."""

    def __init__(self, seed: int = 0, always: int | None = None) -> None:
        super().__init__(0)
        self.drawn = seed if always is None else always

    def setup(self, stage: str) -> None:
        if stage == "fit":
            torch.manual_seed(self.drawn)
            for weight in self.parameters():
                torch.nn.init.normal_(weight)


@pytest.mark.slow
def test_weights_that_are_drawn_later_are_compared_later(tmp_path: Path) -> None:
    assert len(search(tmp_path, Later, levels=1, controls=["reinitialise"])) == 3
    with pytest.raises(MisconfigurationException, match="the same weights again with another seed"):
        search(tmp_path / "same", partial(Later, always=3), levels=1, controls=["reinitialise"])


@pytest.mark.slow
def test_a_second_mask_among_the_callbacks(tmp_path: Path) -> None:
    made = Made()
    with pytest.raises(MisconfigurationException, match=r"find_ticket gives each level its own WeightMask.*pruning="):
        search(tmp_path, made, callbacks=lambda name: [WeightMask(density=0.5)])
    assert not made.trained
    assert len(search(tmp_path, made, callbacks=lambda name: [])) == 3  # no second refusal for the remedy


def test_a_second_mask_in_the_module(tmp_path: Path) -> None:
    def make(seed: int) -> Classifier:
        return Classifier("mlp", {"hidden": [4]}, regularizers=[WeightMask(density=0.5)], seed=seed)

    with pytest.raises(MisconfigurationException, match="find_ticket gives each level its own WeightMask"):
        search(tmp_path, make, ImageDataModule("digits", seed=0), trainer={"max_epochs": 1})
    assert not (tmp_path / "level_00" / "final.pt").exists()


@pytest.mark.parametrize(
    ("pruning", "levels", "message"),
    [
        (Pruning(rate=0.002), 1, "round 1 would remove none of the 368 weights"),
        (Pruning(rate=0.999), 1, "round 1 would leave nothing of 'net.0.weight'"),
        (Pruning(rate=0.9), 4, "round 3 would leave nothing of 'net.0.weight'"),
    ],
)
def test_rounds_that_prune_nothing_or_everything(pruning: Pruning, levels: int, message: str, tmp_path: Path) -> None:
    made = Made()
    with pytest.raises(ValueError, match=message):
        search(tmp_path, made, pruning=pruning, levels=levels)
    assert not made.trained
    assert not list(tmp_path.iterdir())
