"""Killed and repeated, a search ends as if nothing had happened; damage is named and made good."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from ticket_cases import Kill, Killed, LitNet, Made, all_weights, assert_same, search, shuffled
from torch import Tensor

from lightning_regs.core.lightning import pl
from lightning_regs.procedures.level import LevelFolder
from lightning_regs.procedures.tickets import Tickets


class Plateau(LitNet):
    """Has a schedule that Lightning steps after checkpoints are saved, and a metric that it logs after validations."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}


def run(folder: Path, cls: type[LitNet] = LitNet, **options: Any) -> Tickets:
    options = {"rewind_to": "4it", "levels": 2, "trainer": {"max_epochs": 3}, **options}
    return search(folder, lambda seed: cls(seed, dropout=0.2), shuffled, callbacks=lambda n: [Kill(n)], **options)


def interrupted(monkeypatch: pytest.MonkeyPatch, folder: Path, at: tuple[str, int], **options: Any) -> Tickets:
    with monkeypatch.context() as patch:
        patch.setattr(Kill, "at", at)
        with pytest.raises(Killed):
            run(folder, **options)
    return run(folder, **options)


def assert_equal(a: Tickets, b: Tickets) -> None:
    assert_same(all_weights(a), all_weights(b))
    for one, other in zip(a, b, strict=True):
        assert (one.metrics, one.curve) == (other.metrics, other.curve)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tickets]:
    """A search that was never interrupted, for a limit of the Trainer; each is made once."""

    @cache
    def uninterrupted(limit: str = "epochs") -> Tickets:
        return run(tmp_path_factory.mktemp(limit), levels=1, trainer=LIMITS[limit])

    return uninterrupted


LIMITS = {"epochs": {"max_epochs": 3}, "steps": {"max_steps": 20}}


@pytest.mark.parametrize(
    ("level", "step", "limit"),
    [
        *(("level_00", 2, "epochs"), ("level_00", 7, "epochs"), ("level_00", 10, "steps"), ("level_00", 18, "epochs")),
        *(("level_01", 5, "steps"), ("level_01", 7, "steps"), ("level_01", 10, "epochs"), ("level_01", 18, "steps")),
    ],
)
@pytest.mark.slow
def test_killed_in_a_level(
    level: str, step: int, limit: str, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = interrupted(monkeypatch, tmp_path, (level, step), levels=1, trainer=LIMITS[limit])
    assert_equal(again, whole(limit))


@pytest.mark.parametrize("hook", ["on_validation_start", "on_fit_end"])
@pytest.mark.slow
def test_killed_at_other_points(hook: str, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kill, "hook", hook)
    for level in ("level_00", "level_01"):
        assert_equal(interrupted(monkeypatch, tmp_path / level, (level, 21), levels=1), whole())


@pytest.mark.parametrize(
    "options",
    [
        {"method": "lr_rewinding"},
        {"method": "fine_tuning", "fine_tune": "2ep"},
        {"rewind_to": "1ep", "cls": Plateau},
        {"rewind_to": "0it", "trainer": {"max_epochs": 3, "accumulate_grad_batches": 2, "precision": "bf16-mixed"}},
        {"controls": ["reinitialise"]},
    ],
    ids=["lr_rewinding", "fine_tuning", "plateau", "accumulation", "control"],
)
@pytest.mark.slow
def test_killed_with_other_options(options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level = "level_01-reinitialise-1" if "controls" in options else "level_01"
    step = 16 if "cls" in options else 9
    whole = run(tmp_path / "whole", **{"levels": 1, **options})
    assert_equal(interrupted(monkeypatch, tmp_path / "killed", (level, step), **{"levels": 1, **options}), whole)
    last = json.loads((tmp_path / "killed" / level / "config.json").read_text())
    assert last["settings"]["level"] == 1


def test_a_level_starts_with_the_learning_rate_that_a_plateau_had_led_to(tmp_path: Path) -> None:
    rates: dict[str, list[float]] = {}

    class Rates(pl.Callback):
        def __init__(self, level: str) -> None:
            self.seen = rates.setdefault(level, [])

        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    search(tmp_path, Plateau, shuffled, rewind_to="2ep", levels=1, callbacks=lambda name: [Rates(name)])
    assert rates["level_00"] == [0.1] * 14 + [0.05] * 7
    assert rates["level_01"] == [0.05] * 7


@pytest.mark.slow
def test_an_interrupted_level_goes_on_and_does_not_start_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(dropout=0.2)
    monkeypatch.setattr(Kill, "at", ("level_00", 16))
    with pytest.raises(Killed):
        search(tmp_path, made, shuffled, levels=1, callbacks=lambda n: [Kill(n)])
    monkeypatch.setattr(Kill, "at", None)
    first = len(made.modules)
    search(tmp_path, made, shuffled, levels=1, callbacks=lambda n: [Kill(n)])
    trained = [module for module in made.modules[first:] if module.seen]
    assert [len(module.seen) for module in trained] == [7, 21]
    assert not list(tmp_path.rglob("last.ckpt"))
    assert not list(tmp_path.rglob("*.part"))


def run_and_die(folder: Path, at: tuple[str, int]) -> None:
    torch.set_num_threads(1)  # OpenMP's other threads do not live on in a forked process, which would wait for them
    Kill.signal, Kill.at = True, at
    run(folder)


@pytest.mark.slow
def test_killed_by_the_system(whole: Any, tmp_path: Path) -> None:
    for at in [("level_00", 11), ("level_01", 17)]:
        process = multiprocessing.get_context("fork").Process(target=run_and_die, args=(tmp_path / "killed", at))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert (tmp_path / "killed" / at[0] / "last.ckpt").exists()
    assert_equal(run(tmp_path / "killed", levels=1), whole())


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """The folder of a search, to be copied, and what is in it."""
    folder = tmp_path_factory.mktemp("searched")
    return folder, all_weights(search(folder, Made(), rewind_to="2it"))


@pytest.mark.parametrize("file", ["level.pt", "curves.csv", "rewind.ckpt", "config.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_level_is_named_and_redone_and_the_later_ones_are_kept(
    file: str, damage: str, searched: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    level = "level_00" if file == "rewind.ckpt" else "level_01"
    folder, kept = searched
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / level / file
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        flip(path)
    made = Made()
    if damage == "missing" and file == "level.pt":
        again = search(tmp_path, made, rewind_to="2it")  # as if it had been killed
    else:
        with pytest.warns(UserWarning, match=rf"{level}/{file} is damaged .*; the level is redone") as caught:
            again = search(tmp_path, made, rewind_to="2it")
        assert Path(next(w for w in caught if "redone" in str(w.message)).filename).name == "ticket_cases.py"
    assert len(made.trained) == 1
    assert_same(all_weights(again), kept)


@pytest.mark.slow
def test_levels_made_from_another_result_are_redone(tmp_path: Path) -> None:
    tickets = search(tmp_path, Made(), levels=3)
    kept = all_weights(tickets)
    folder = LevelFolder(tmp_path / "level_02")
    made_from = folder.made_from()
    made_from["inputs"]["level_01"] = "of another device"
    (folder.path / "config.json").write_text(json.dumps(made_from))
    made = Made()
    with pytest.warns(UserWarning, match=r"level_02 was made from another level_01; the level is redone"):
        again = search(tmp_path, made, levels=3)
    assert len(made.trained) == 1  # what comes out is the same, so level 3 is kept
    assert_same(all_weights(again), kept)


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint(whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save
    calls: list[Any] = []

    def full(state: Any, file: Any) -> None:
        calls.append(file)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")
        save(state, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path / "full", levels=1)
    assert not list((tmp_path / "full").rglob("*.part"))
    assert_equal(run(tmp_path / "full", levels=1), whole())


def test_two_searches_in_one_folder(tmp_path: Path) -> None:
    class Second(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            search(tmp_path, levels=1)

    with pytest.raises(RuntimeError, match=r"another find_ticket is at work in .*; wait for it, or use another"):
        search(tmp_path, levels=1, callbacks=lambda level: [Second()])
    assert len(search(tmp_path, levels=1, callbacks=lambda level: [])) == 2
