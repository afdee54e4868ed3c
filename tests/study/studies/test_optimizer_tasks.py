"""The tasks of papers on optimizers: the sharpness of where a training ends, and Wilson's problem."""

import math
from pathlib import Path
from typing import Any

import pytest

from lightning_regs.analysis import sharpness
from lightning_regs.core import rng
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.splits import samples
from lightning_regs.study import SHARPNESS, TOY, Cell, grid
from lightning_regs.study.paper.tasks import import_task
from lightning_regs.training.fit import fit

CONFIG: dict[str, Any] = {
    "model": {"architecture_args": {"hidden": [16]}, "optimizer": {"name": "Adam", "lr": 0.01}},
    "data": {"source": "digits", "train_size": 200, "batch_size": 20},
    "trainer": {"max_epochs": 2, "accelerator": "cpu"},
}


@pytest.mark.slow
def test_sharpness_is_measured_on_the_training_set_of_each_seed_of_a_stack(tmp_path: Path) -> None:
    own = CONFIG | {"sharpness": {"dimensions": 20, "samples": 150}}
    rows = import_task(SHARPNESS).stacked([own] * 2, [RunContext(tmp_path / f"{seed}", seed) for seed in (3, 4)])
    trained = fit(CONFIG, RunContext(tmp_path / "alone", 4))
    net, (x, y) = trained.network(), samples(trained.data, "train", 150, 4)
    for name, epsilon in {"1e-3": 1e-3, "5e-4": 5e-4}.items():
        assert rows[1][f"sharpness_{name}"] == pytest.approx(sharpness(net, x, y, epsilon), rel=1e-3)
        inside = sharpness(net, x, y, epsilon, 20, rng.generator(4, "sharpness"))
        assert rows[1][f"subspace_{name}"] == pytest.approx(inside, rel=1e-3)
    assert rows[1]["test_acc"] == pytest.approx(trained.metrics["test_acc"], abs=0.5)
    assert rows[0]["sharpness_1e-3"] != rows[1]["sharpness_1e-3"]
    with pytest.raises(ValueError, match=r"does not take .*'dimension'.* It takes: dimensions, samples"):
        import_task(SHARPNESS)(CONFIG | {"sharpness": {"dimension": 20}}, RunContext(tmp_path))


@pytest.mark.parametrize(
    ("optimizer", "learns"),
    [({"name": "SGD", "lr": 0.3}, True), ({"name": "SGD", "lr": 0.1, "momentum": 0.9}, True),
     ({"name": "Adagrad", "lr": 0.1}, False), ({"name": "RMSprop", "lr": 0.01}, False),
     ({"name": "Adam", "lr": 0.01}, False)],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)  # fmt: skip
def test_adaptive_methods_fit_wilsons_problem_and_call_everything_positive(
    optimizer: dict[str, Any], learns: bool, tmp_path: Path
) -> None:
    row = import_task(TOY)({"optimizer": optimizer, "steps": 300, "rows": 50}, RunContext(tmp_path, 1))
    assert row["train_error"] == 0
    assert 35 < row["negatives"] < 45
    assert row["test_error"] == (0 if learns else row["negatives"])


def test_a_toy_that_diverges_is_no_perfect_one_and_unknown_options_are_refused(tmp_path: Path) -> None:
    toy, sgd, where = import_task(TOY), {"name": "SGD", "lr": 50}, RunContext(tmp_path)
    row = toy({"optimizer": sgd, "steps": 300, "rows": 10}, where)
    assert math.isnan(row["train_loss"])
    assert row["test_error"] == 100
    with pytest.raises(ValueError, match=r"does not take .*'row'.* It takes: "):
        toy({"optimizer": sgd, "steps": 3, "row": 10}, where)
    with pytest.raises(TypeError, match="steps must be an integer, got None"):
        toy({"optimizer": sgd, "rows": 10}, where)


def test_the_tasks_are_declared_as_others() -> None:
    (cell,) = grid("a", "configs/methods.yaml", {"sharpness": {"samples": 100}}, task=SHARPNESS)
    assert cell.config["sharpness"] == {"samples": 100}
    assert Cell("toy/adam", TOY, {"optimizer": {"name": "Adam"}, "steps": 10, "rows": 20}).hash(0)
