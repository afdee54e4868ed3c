"""The task that measures the test set on the way of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightning_regs.core.runs import RunContext
from lightning_regs.study import COURSE
from lightning_regs.study.paper.config import override
from lightning_regs.study.paper.tasks import import_task
from lightning_regs.training.fit import train

CONFIG: dict[str, Any] = {
    "model": {"architecture_args": {"hidden": [16]}, "optimizer": {"name": "Adam", "lr": 0.01}},
    "data": {"source": "digits", "train_size": 200, "batch_size": 20},
    "trainer": {"max_epochs": 4, "accelerator": "cpu"},
    "course": {"epochs": [2, 4]},
}


def contexts(folder: Path, *seeds: int) -> list[RunContext]:
    return [RunContext(folder / str(seed), seed) for seed in seeds]


def test_the_error_after_an_epoch_is_that_of_a_training_that_ends_there(tmp_path: Path) -> None:
    row = import_task(COURSE).stacked([CONFIG] * 2, contexts(tmp_path / "long", 3, 4))[1]
    short = override({key: value for key, value in CONFIG.items() if key != "course"}, {"trainer.max_epochs": 2})
    [run] = contexts(tmp_path / "short", 4)
    assert row["test_error_2"] == pytest.approx(100 - train(short, run)["test_acc"], abs=1e-6)
    assert row["test_error_4"] == pytest.approx(100 - row["test_acc"])
    assert row["test_error_2"] != row["test_error_4"]
    with (tmp_path / "long" / "4" / "curves.csv").open(encoding="utf-8") as file:
        assert "test_acc" in file.read()


@pytest.mark.parametrize(("course", "message"), [({"epochs": [9]}, "after epoch 9"), ({"epochs": []}, "epochs")])
def test_epochs_that_never_come_are_refused(tmp_path: Path, course: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_task(COURSE)(CONFIG | {"course": course}, contexts(tmp_path, 1)[0])


def test_a_training_that_ends_by_steps_has_no_epochs_to_measure_after(tmp_path: Path) -> None:
    steps = override(CONFIG, {"trainer.max_epochs": -1, "trainer.max_steps": 4})
    with pytest.raises(ValueError, match=r"trainer.max_epochs is -1: give it at least that many"):
        import_task(COURSE)(steps, contexts(tmp_path, 1)[0])
