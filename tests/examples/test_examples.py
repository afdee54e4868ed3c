"""Every example of ``examples/`` runs as it is, in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from load_file import load_file
from PIL import Image

from lightning_regs.cli.parser import main

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    return load_file(EXAMPLES / f"{name}.py")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_example_is_run_here():
    named = {file.stem for file in EXAMPLES.rglob("*.py")}
    others = {
        "compress",
        "gan_mixup",
        "optimizers_on_toys",
        "snapshots",
        "ticket",
        "own_data",
        "own_method",
        "activations",
        "landscape",
    }
    assert named == {"own_module_mixup", "gradient_penalty_bf16", *others}


@pytest.mark.slow
def test_mixup_in_a_module_of_ones_own():
    assert load("own_module_mixup").main() > 0.95


@pytest.mark.slow
def test_the_gradient_penalty_in_bf16_with_accumulation():
    assert load("gradient_penalty_bf16").main() > 95


@pytest.mark.slow
def test_a_ticket_is_found_and_predicts(tmp_path):
    density, accuracy = load("ticket").main(tmp_path / "tickets")
    assert density < 0.15
    assert accuracy > 90


@pytest.mark.slow
def test_a_net_is_compressed_in_levels(tmp_path):
    rate, same = load("compress").main(tmp_path / "levels")
    assert same
    assert rate > 12


@pytest.mark.slow
def test_snapshots_of_one_training_predict_together(tmp_path):
    assert load("snapshots").main(tmp_path) > 95


@pytest.mark.slow
def test_data_of_ones_own_by_yaml(tmp_path, monkeypatch, capsys):
    example = load("own_data/own_data")

    def run(command, **options):
        """Within this process: starting three would take most of the time."""
        assert command[1:3] == ["-m", "lightning_regs"]
        assert not main(command[3:])
        return SimpleNamespace(stdout=capsys.readouterr().out)

    monkeypatch.setattr(example, "subprocess", SimpleNamespace(run=run))
    assert "test/acc" in example.main(tmp_path)


@pytest.mark.slow
def test_a_method_of_ones_own_keeps_the_contracts():
    assert load("own_method").main() > 95


@pytest.mark.slow
def test_gans_that_learn_from_mixtures(tmp_path):
    example = load("gan_mixup")
    (file,) = example.main(["--steps", "20", "--width", "16", "--most", "0.5", "--data", "spiral"])
    assert file.name == "gan-spiral-0.5.png"
    assert file.stat().st_size > 5_000
    one, again, plain = (example.train("ring", most, 4, 16, shown=(2, 4)) for most in (0.5, 0.5, 0.0))
    assert list(one.samples) == [2, 4]
    assert torch.equal(one.samples[4], again.samples[4])
    assert not torch.equal(one.samples[4], plain.samples[4])
    assert all(points.isfinite().all() for points in one.samples.values())
    for data, centers in (("ring", 8), ("grid", 25)):
        points = example.real_points(data, 4_000, torch.Generator().manual_seed(0))
        assert len((10 * points).round().unique(dim=0)) == centers
    ring = example.real_points("ring", 100, torch.Generator().manual_seed(0))
    assert (ring.norm(dim=1) - 1).abs().max() < 0.05


@pytest.mark.slow
def test_activations_fade_saturate_or_keep_their_size():
    example = load("activations")
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    spread = {
        name: [float(layer.std()) for layer in example.outputs(rule, "tanh", x)] for name, rule in example.RULES.items()
    }
    small, large = spread["N(0, 0.01²)"], spread["N(0, 0.28²)"]
    assert small[4] / small[3] == pytest.approx(0.01 * 100**0.5, rel=0.2)
    assert min(large) > 0.7
    assert spread["torch's default"][4] < 0.2 < spread["Xavier"][4]
    assert len(example.picture("relu", x).axes) == 5 * len(example.RULES)


@pytest.mark.slow
def test_the_loss_around_nets_and_the_path_of_a_training():
    example = load("landscape")
    random, around, path = example.look(True, epochs=3, points=5)
    assert random.losses[2, 2] == pytest.approx(around.losses[2, 2]) == pytest.approx(random.losses.min())
    assert path.path[-1].norm() < 1e-4 * path.path[0].norm()  # the trained net is where it ends
    assert len(example.picture(shortcuts=(random, around, path)).axes) == 2


@pytest.mark.slow
def test_optimizers_go_through_toys(tmp_path):
    example = load("optimizers_on_toys")
    picture, animation = example.draw(tmp_path, steps=20, frames=3)
    assert picture.stat().st_size > 20_000
    with Image.open(animation) as found:
        assert found.n_frames == 3
    errors = example.wilson()
    assert errors.pop("SGD") == errors.pop("momentum") == 0
    assert len(set(errors.values())) == 1
    assert 35 < errors["Adam"] < 45
