"""What decides the device of the suite, LIGHTNING_REGS_TEST_DEVICE, decides it everywhere."""

from __future__ import annotations

import pytest
import torch

from lightning_regs.core.lightning import pl


def test_no_trainer_of_a_test_that_runs_on_a_gpu_names_a_device(request: pytest.FixtureRequest, device: torch.device):
    assert pl.Trainer(enable_checkpointing=False).strategy.root_device.type == device.type
    root = request.config.rootpath / "tests"
    rooms = request.config.pluginmanager.get_plugin(str(root / "conftest.py")).ON_A_GPU
    files = [path for room in rooms for path in (root / room).rglob("*.py")]
    naming = {path.name for path in files if 'accelerator="' in (text := path.read_text()) or '"accelerator"' in text}
    assert naming == {path.name for path in files if "pytestmark = pytest.mark.cpu(" in path.read_text()}
    assert len(naming) == 3


def test_without_a_gpu_asked_for_there_is_none(device: torch.device):
    assert device.type == "cuda" or not torch.cuda.is_available()
