"""export: a run's weights as a file that gives its numbers again, and the card that says what they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from lightning_regs.cli.parser import main
from lightning_regs.data import ImageDataModule
from lightning_regs.study import load_paper, reproduce
from lightning_regs.training.weights import load_weights, save_weights

PAPER = """
from lightning_regs.study import Cell, Claim, Paper, Scale, Source, grid, value

CELLS = grid("net/{width}", "configs/zhang2017/digits-mlp-1x512.yaml", {"trainer.max_epochs": 2},
             width={n: {"model.architecture_args.hidden": [int(n)]} for n in ("8", "16")})
CELLS += (Cell("none", "tiny.tasks:none"),)
PAPER = Paper("tiny", "A tiny paper", "Nobody", 2030, arxiv="", scales=(Scale("quick", "small", CELLS, seeds=1),),
              claims=(Claim("16", "16 is the better one.", value("net/16"), above=0, source=Source("a", "A note")),))
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "reproductions" / "tiny"
    folder.mkdir(parents=True)
    (folder / "paper.py").write_text(PAPER)
    (folder / "tasks.py").write_text("def none(config, run):\n    return {'value': 1.0}\n")
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path / "reproductions")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_exported_weights_give_the_runs_numbers_again(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row.cell: row for row in reproduce("tiny", cells=["net/8", "none"], jobs=0).rows}
    assert main(["reproduce", "tiny", "--cells", "net/8", "--cells", "none", "--wandb", "off"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"cell +seeds +Train accuracy +Test accuracy.*\n +net/8 +1 ", said)
    assert "the better one" not in said  # a claim of cells that were not chosen
    assert main(["export", "tiny", "--cell", "net/8"]) == 0
    folder = Path("tiny-net-8-seed0")
    said = [str(folder / "model.safetensors"), str(folder / "README.md")]
    told = capsys.readouterr().out
    assert "carrying out net/8 seed 0 once more: 1 run" in told
    assert told.splitlines()[-2:] == said
    data = ImageDataModule(**load_paper("tiny").scale("quick").cells[0].config["data"])
    data.setup()
    network, test = load_weights(folder / "model.safetensors"), data.dataset("test")
    with torch.no_grad():
        right = network(data.eval_transform(test.x)).argmax(1) == test.y
    assert 100 * right.double().mean().item() == pytest.approx(rows["net/8"].metrics["test_acc"])
    _, head, card = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "apache-2.0"
    for part in ("A tiny paper: net/8, seed 0", rows["net/8"].run, "gave the same numbers", "| Test accuracy | "):
        assert part in card
    card_file = str(folder / "README.md")
    for arguments, told in (
        (["--cell", "net/16"], "reproduce tiny --scale quick --cells net/16 --seeds 0,` first"),
        (["--cell", "net/*"], "--cell net/* names 2 cells (net/8, net/16, ...)"),
        (["--cell", "none"], "cell 'none' trains no single Classifier"),
        (["--cell", "net/8", "--output", card_file], "is a file; name the folder"),
        (["--cell", "net/9"], "Did you mean 'net/8'?"),
    ):
        assert main(["export", "tiny", *arguments]) == 2
        assert told in capsys.readouterr().err


def test_what_is_no_exported_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "text").write_text("none")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        load_weights(tmp_path / "text")
    with pytest.raises(ValueError, match="does not say how its network is built"):
        load_weights(tmp_path / "other")
    with pytest.raises(ValueError, match="could not be loaded again"):
        save_weights(tmp_path / "new", torch.nn.Linear(2, 2), {"architecture": "mlp"}, (2,), 2)
    assert not (tmp_path / "new").exists()
