"""Every YAML under configs/ is run through the real command on tiny data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_regs.cli.parser import main

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Stand-ins for the data sets that cannot be embedded: same shapes, a handful of images."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.Generator(np.random.PCG64(0))
    y = np.arange(40, dtype=np.uint8) % 10
    for name, shape in (
        ("cifar10", (32, 32, 3)),
        ("cifar100", (32, 32, 3)),
        ("mnist", (28, 28)),
        ("fashion_mnist", (28, 28)),
    ):
        x = rng.integers(0, 256, (40, *shape), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    for split in ("train", "test"):
        for label in ("ant", "bee"):
            (folder / "imagenet" / split / label).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 256, (320, 340, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "imagenet" / split / label / f"{i}.png")
    return {"root": str(folder), "imagenet": str(folder / "imagenet")}


def test_there_are_configs() -> None:
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
@pytest.mark.slow
def test_config_runs(path: Path, tiny: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTNING_REGS_DATA", tiny["root"])
    small = ["--trainer.fast_dev_run", "2", "--trainer.accelerator", "cpu", "--data.batch_size", "4"]
    if "imagenet" in path.name:
        small += ["--data.source", tiny["imagenet"], "--data.batch_size", "2", "--data.num_workers", "1"]
    if "cifar" in path.name:  # whose nets are the large ones
        small += ["--data.batch_size", "2"]
    if "wrn" in path.name:  # two steps of it would take longer than all other configs
        small += ["--trainer.fast_dev_run", "1"]
    assert main(["fit", "--config", str(path), *small]) == 0
