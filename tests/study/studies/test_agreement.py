import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import matthews_corrcoef

from lightning_regs.core.runs import RunContext
from lightning_regs.study import AGREE, override
from lightning_regs.study.paper.tasks import import_task
from lightning_regs.study.studies.agreement import OFFSET, agree
from lightning_regs.training.fit import fit

CONFIG: dict[str, Any] = {
    "model": {"architecture_args": {"hidden": [16]}, "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9}},
    "data": {"source": "digits", "train_size": 200, "batch_size": 20},
    "trainer": {"max_epochs": 3, "accelerator": "cpu"},
}
OTHER: dict[str, Any] = {"other": {"model.optimizer.lr": 0.02, "trainer.max_epochs": 2}}


def hits(config: dict[str, Any], context: RunContext) -> torch.Tensor:
    trained = fit(config, context)
    test: Any = trained.data.dataset("test")
    return trained.network()(trained.data.eval_transform(test.x)).argmax(1) == test.y


@pytest.mark.slow
def test_two_nets_are_trained_and_compared(tmp_path: Path) -> None:
    row = agree(CONFIG | OTHER, RunContext(tmp_path / "pair", 2))
    changed = override(CONFIG, OTHER["other"])
    one, twin, other, its_twin = [
        hits(config, RunContext(tmp_path / f"{at}", 2 + at * OFFSET))
        for at, config in enumerate([CONFIG] * 2 + [changed] * 2)
    ]
    pairs = [(one, other), (one, its_twin), (twin, other), (twin, its_twin)]
    assert row["agreement"] == pytest.approx(statistics.fmean(matthews_corrcoef(*pair) for pair in pairs))
    within = matthews_corrcoef(one, twin) + matthews_corrcoef(other, its_twin)
    assert row["agreement_within"] == pytest.approx(within / 2)
    shares = [100 * float(part.double().mean()) for part in (one, other)]
    assert [row[name] for name in ("test_acc", "other_test_acc")] == pytest.approx(shares, abs=1e-4)


@pytest.mark.parametrize(("number", "parts"), [(1, 4), (2, 2)])
@pytest.mark.slow
def test_the_progress_of_a_pair_is_that_of_all_its_nets(tmp_path: Path, number: int, parts: int) -> None:
    said: list[tuple[float, float]] = []
    first = RunContext(tmp_path / "0", 0, on_progress=lambda done, total, text: said.append((done, total)))
    runs = [first, *(RunContext(tmp_path / str(seed), seed) for seed in range(1, number))]
    import_task(AGREE).stacked([CONFIG | {"other": {}}] * number, runs)
    assert said == sorted(said)
    assert said[-1] == (3 * parts, 3 * parts)
    assert {total for _, total in said} == {3 * parts}


@pytest.mark.slow
def test_in_a_stack_they_are_those_of_the_runs_apart(tmp_path: Path) -> None:
    runs = [RunContext(tmp_path / str(seed), seed) for seed in (0, 1)]
    rows = import_task(AGREE).stacked([CONFIG | {"other": {}}] * 2, runs)
    for seed, row in enumerate(rows):
        alone = agree(CONFIG | {"other": {}}, RunContext(tmp_path / f"alone {seed}", seed))
        for name in ("agreement", "agreement_within"):
            assert row.pop(name) == pytest.approx(alone.pop(name), abs=0.03)
        assert row == pytest.approx(alone, abs=0.5)  # rounding, and so a sample or two
    with pytest.raises(ValueError, match="must have equal configurations"):
        agree.stacked([CONFIG | OTHER, CONFIG | {"other": {}}], runs)


@pytest.mark.slow
def test_nets_that_are_tested_on_other_samples_are_not_compared(tmp_path: Path) -> None:
    for name, config in (("drawn", {"data.test_size": 100}), ("stack", {"data.test_size": 100})):
        runs = [RunContext(tmp_path / f"{name} {seed}", seed) for seed in range(1 if name == "drawn" else 2)]
        with pytest.raises(ValueError, match="the test samples of the nets differ"):
            agree.stacked([override(CONFIG, config | {"trainer.max_epochs": 1}) | {"other": {}}] * len(runs), runs)
