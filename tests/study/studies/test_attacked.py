"""The task that measures robustness, against the analysis by itself."""

from pathlib import Path
from typing import Any

import pytest

from lightning_regs.analysis import adversarial_error, adversarial_logits
from lightning_regs.core.runs import RunContext
from lightning_regs.study import override
from lightning_regs.study.studies.agreement import OFFSET
from lightning_regs.study.studies.robustness import attacked
from lightning_regs.training.fit import fit

CONFIG: dict[str, Any] = {
    "model": {
        "architecture_args": {"hidden": [16]},
        "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9},
        "regularizers": [{"class_path": "lightning_regs.Mixup"}],
    },
    "data": {"source": "digits", "train_size": 200, "batch_size": 20, "image_size": 6},
    "trainer": {"max_epochs": 3, "accelerator": "cpu"},
}
OTHER = {"model.regularizers": []}


@pytest.mark.parametrize("normalized", [{}, {"data.normalize": "channels"}])
@pytest.mark.slow
def test_a_net_is_attacked_by_itself_and_by_another(tmp_path: Path, normalized: dict[str, Any]) -> None:
    config = override(CONFIG, normalized)
    attack = {"epsilon": 0.1, "steps": 4}
    row = attacked(config | {"crafted_on": OTHER, "attack": attack}, RunContext(tmp_path / "task", 2))
    net = fit(config, RunContext(tmp_path / "net", 2))
    other = fit(override(config, OTHER), RunContext(tmp_path / "other", 2 + OFFSET))
    test: Any = net.data.dataset("test")
    x, y = test.x / 255, test.y
    options: dict[str, Any] = {"transform": net.data.eval_transform}
    for prefix, crafted_on in (("", None), ("transfer_", other.network())):
        for name, steps in (("fgsm", 1), ("ifgsm", 4)):
            error = adversarial_error(net.network(), x, y, 0.1, steps, crafted_on=crafted_on, **options)
            assert row.pop(f"{prefix}{name}_error") == pytest.approx(100 * error)
            assert 100 * error > row["test_error"]
    said = adversarial_logits(net.network(), x, y, 0.1, **options)
    sure = said[said.argmax(1) != y].softmax(1).max(1).values.mean()
    assert row.pop("fgsm_confidence") == pytest.approx(100 * sure.item())
    assert row["test_error"] < row.pop("signs_error") < 100 * float((said.argmax(1) != y).float().mean())
    assert row == pytest.approx({"test_error": 100 - net.metrics["test_acc"], "train_acc": net.metrics["train_acc"]})


@pytest.mark.slow
def test_nets_of_a_stack_are_attacked_as_each_alone_and_by_no_other_unless_one_is_named(tmp_path: Path) -> None:
    attack = {"epsilon": 0.1, "steps": 2, "clip": None}
    config = CONFIG | {"model": {"architecture_args": {"hidden": [8]}}, "attack": attack}
    rows = attacked.stacked([config] * 2, [RunContext(tmp_path / "a", 0), RunContext(tmp_path / "b", 1)])
    for seed, row in enumerate(rows):
        assert row == pytest.approx(attacked(config, RunContext(tmp_path / "cd"[seed], seed)))
        assert not any(name.startswith("transfer") for name in row)
        assert row["fgsm_error"] > row["test_error"]
