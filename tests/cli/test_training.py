"""fit, test and predict as a user meets them: configurations by name, own modules, a table, a file, one sentence."""

from __future__ import annotations

import contextlib
import csv
import io
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.cli.parser import main
from lightning_regs.cli.training import write_predictions

SHORT = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_model_summary", "false"]
OWN = """
from lightning_regs import Regularizer
from lightning_regs.regularizers.base import Acts


class Halved(Regularizer, acts=Acts.GRADIENTS):
    def on_gradients(self, gradients, at):
        for gradient in gradients:
            gradient.mul_(0.5)
"""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which a user has trained with a configuration that came with the package and a method beside it."""
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "mine").mkdir()
    (folder / "mine" / "halved_gradients.py").write_text(OWN)
    mine = {"model": {"regularizers": [{"class_path": "halved_gradients.Halved"}]}}
    (folder / "mine" / "own.yaml").write_text(yaml.safe_dump(mine))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.chdir(folder)
        arguments = ["--config", "zhang2017/digits-mlp-1x512", "--config", "mine/own.yaml", *SHORT]
        assert main(["fit", *arguments]) == 0
    return folder, said.getvalue()


def test_fit_ends_with_a_table_and_what_comes_next(fitted: tuple[Path, str]) -> None:
    folder, said = fitted
    lines = said[said.index("After 1 epochs") :].split("\n")
    assert lines[1].split() == ["loss", "acc"]
    assert lines[2].split()[0] == "train"
    [checkpoint] = folder.rglob("*.ckpt")
    assert f"Checkpoint: {checkpoint.relative_to(folder)}" in lines
    assert lines[4].startswith("Test it: lightning-regs test --config lightning_logs/version_0/config.yaml")
    config = yaml.safe_load((folder / "lightning_logs" / "version_0" / "config.yaml").read_text())
    assert config["model"]["regularizers"][0]["class_path"] == "halved_gradients.Halved"


@pytest.mark.slow
def test_without_a_logger_a_configuration_of_the_users_stays_as_it_is(tmp_path, monkeypatch, capsys) -> None:
    own = "# of mine\n" + yaml.safe_dump({"data": {"source": "digits"}, "trainer": {"logger": False}})
    (tmp_path / "config.yaml").write_text(own)
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", "config.yaml", *SHORT]) == 0
    assert (tmp_path / "config.yaml").read_text() == own
    [test] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Test it: lightning-regs ")]
    assert main(shlex.split(test)[3:]) == 0
    assert (tmp_path / "config.yaml").read_text() == own


def test_fit_of_nothing_is_refused(capsys) -> None:
    assert main(["fit"]) == 2
    assert "fit needs to know what to train; give it --config FILE" in capsys.readouterr().err


@pytest.mark.slow
def test_predict_writes_a_file(fitted: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = fitted
    monkeypatch.chdir(folder)
    [checkpoint] = folder.rglob("*.ckpt")
    config = ["--config", "lightning_logs/version_0/config.yaml", "--trainer.logger", "false"]
    assert main(["predict", *config, "--ckpt_path", str(checkpoint)]) == 0
    data = ImageDataModule("digits")
    data.setup()
    model = Classifier.load_from_checkpoint(checkpoint, regularizers=[]).eval()
    with torch.no_grad():
        expected = model(data.eval_transform(data.dataset("test").x)).softmax(-1).numpy()
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(597))
    assert [int(row["predicted"]) for row in rows] == expected.argmax(-1).tolist()
    np.testing.assert_allclose([float(row["p(3)"]) for row in rows], expected[:, 3], rtol=1e-4, atol=1e-6)


def test_predictions_are_headed_by_the_names_of_the_classes_or_are_arrays(tmp_path: Path) -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 100.0]])
    write_predictions(tmp_path / "two.csv", logits, ("cat", "dog"))
    assert (tmp_path / "two.csv").read_text() == "index,predicted,p(cat),p(dog)\n0,0,0.5,0.5\n1,1,3.78351e-44,1\n"
    write_predictions(tmp_path / "two.npz", logits)
    found = np.load(tmp_path / "two.npz")
    assert (found["index"].tolist(), found["predicted"].tolist()) == ([0, 1], [0, 1])
    np.testing.assert_array_equal(found["probabilities"], logits.softmax(-1))


BASE = {"model": {"architecture": "mlp"}, "data": {"source": "digits"}, "trainer": {"max_epochs": 1}}
MIXUP = "lightning_regs.Mixup"
MISTAKES = {
    "option": ({"model": {"achitecture": "mlp"}}, "unknown option 'model.achitecture'. Did you mean"),
    "section": ({"trianer": {"max_epochs": 1}}, "unknown option 'trianer.max_epochs'. Did you mean 'trainer.max"),
    "value": ({"data": {"batch_size": "fifty"}}, "data.batch_size is 'fifty', which is no int."),
    "class": (
        {"model": {"regularizers": [{"class_path": "lightning_regs.Mixap"}]}},
        f"model.regularizers: there is no 'lightning_regs.Mixap'. Did you mean '{MIXUP}'?",
    ),
    "module": ({"model": {"regularizers": [{"class_path": "nowhere.Mine"}]}}, "a module of your own lies beside"),
    "argument": (
        {"model": {"regularizers": [{"class_path": MIXUP, "init_args": {"alfa": 1}}]}},
        f"model.regularizers: {MIXUP} does not take 'alfa'. Did you mean 'alpha'?",
    ),
    "range": ({"model": {"regularizers": [{"class_path": MIXUP, "init_args": {"alpha": -1}}]}}, "above 0, got -1."),
    "module of one's own": ({"model": {"class_path": "mine.Net", "init_args": {"n": 1}}}, "model is the Classifier"),
    "callback": ({"trainer": {"callbacks": [{"class_path": "lightning_regs.MaxNrm"}]}}, "'lightning_regs.MaxNorm'?"),
    "name": ({"model": {"architecture": "mpl"}}, "unknown model 'mpl'. Did you mean 'mlp'?"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_configuration_is_one_sentence(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, told = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({k: v | changed.pop(k, {}) for k, v in BASE.items()} | changed))
    assert main(["fit", "--config", "run.yaml"]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Seed set")]
    assert line.startswith("lightning-regs: ")
    assert told in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fit", "--config", "zhang2017/digits-mlp-1x51"], "Did you mean 'configs/zhang2017/digits-mlp-1x512.yaml'?"),
        (["fit", "--confg", "x"], "unknown option '--confg'. Did you mean '--config'?"),
        (["predict", "--config", "zhang2017/digits-mlp-1x512.yaml"], "without --ckpt_path FILE the weights are"),
        (["predict", "--config=zhang2017/digits-mlp-1x512.yaml", "--output", "a.txt"], "a.txt is neither .csv nor"),
        (
            ["fit", "--config", "zhang2017/digits-mlp-1x512.yaml", "--ckpt_path", "junk"],
            "--ckpt_path junk is damaged (File",
        ),
        (["fit", "--config", "open"], "config open is no YAML: while parsing"),
        (["fit", "--config", "bytes"], "config bytes is no YAML: 'utf-8' codec"),
        (["fit", "--config", "empty"], "config empty holds no sections"),
    ],
    ids=["config", "flag", "untrained", "ending", "junk", "no YAML", "bytes", "empty"],
)
def test_commands_that_make_no_sense_are_refused(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, held in {"junk": b"junk", "open": b"model: [", "bytes": b"\xff", "empty": b""}.items():
        (tmp_path / name).write_bytes(held)
    assert main(arguments) == 2
    assert told in capsys.readouterr().err
