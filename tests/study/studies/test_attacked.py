"""The task that measures robustness, against the analysis by itself."""

from pathlib import Path
from typing import Any

import pytest

from lightning_regs.analysis import adversarial_error
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
def test_a_net_is_attacked_by_itself_and_by_another(tmp_path: Path, normalized: dict[str, Any]) -> None:
    config = override(CONFIG, normalized)
    for name in ("task", "net", "other"):
        (tmp_path / name).mkdir()
    attack = {"epsilon": 0.1, "steps": 4}
    row = attacked(config | {"crafted_on": OTHER, "attack": attack}, RunContext(tmp_path / "task", 2))
    net = fit(config, RunContext(tmp_path / "net", 2))
    other = fit(override(config, OTHER), RunContext(tmp_path / "other", 2 + OFFSET))
    test: Any = net.data.dataset("test")
    given: Any = (net.network(), test.x / 255, test.y)
    for prefix, crafted_on in (("", None), ("transfer_", other.network())):
        for name, steps in (("fgsm", 1), ("ifgsm", 4)):
            error = adversarial_error(*given, 0.1, steps, transform=net.data.eval_transform, crafted_on=crafted_on)
            assert row.pop(f"{prefix}{name}_error") == pytest.approx(100 * error)
            assert 100 * error > row["test_error"]
    assert row == {"test_error": pytest.approx(100 - net.metrics["test_acc"])}
