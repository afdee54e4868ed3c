"""Snapshot ensembles: the rate at each step, what is kept, what is averaged, and that a kill changes nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ticket_cases import LitNet, dataset, shuffled
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_regs import Classifier, GradientPenalty, SnapshotEnsemble, load_ensemble, train_snapshots
from lightning_regs.core.files import DamagedFileError
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.snapshots import cells
from lightning_regs.procedures.snapshots.ensemble import Ensemble

CPU = {"accelerator": "cpu"}


class Net(LitNet):
    """A user's module: one optimizer, and a forward that gives logits."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters())


class Rates(pl.Callback):
    """Writes down the rate of each batch; may end the program at one."""

    kill: int | None = None

    def __init__(self) -> None:
        self.rates: dict[int, float] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.kill:
            raise RuntimeError("killed")
        self.rates[trainer.global_step] = trainer.optimizers[0].param_groups[0]["lr"]


def paper(t: int, total: int, cycles: int, first: float = 0.1) -> float:
    """Equation 2 of Huang et al., t from 1."""
    length = math.ceil(total / cycles)
    return first / 2 * (math.cos(math.pi * ((t - 1) % length) / length) + 1)


def fit(net: pl.LightningModule, ensemble: SnapshotEnsemble, *more: pl.Callback, **options: Any) -> pl.Trainer:
    options = {"max_epochs": 5, "enable_checkpointing": False} | options
    trainer = pl.Trainer(**CPU, callbacks=[ensemble, *more], **options)
    trainer.fit(net, DataLoader(dataset(), 10))
    return trainer


def test_the_rate_is_the_papers_at_every_step_and_snapshots_end_the_cycles(tmp_path: Path) -> None:
    rates, net = Rates(), Net()
    fit(net, SnapshotEnsemble(tmp_path, cycles=4), rates)  # 35 iterations in cycles of 9, 9, 9 and 8
    assert rates.rates == {t - 1: paper(t, 35, 4) for t in range(1, 36)}
    for number, step in enumerate((9, 18, 27, 35), 1):
        kept = torch.load(tmp_path / f"snapshot-{number:03d}.pt")
        assert kept["global_step"] == step
        after = net.states[step] if step < 35 else net.state_dict()  # batch norm's statistics too
        assert all(torch.equal(value, after[name]) for name, value in kept["state_dict"].items())


@pytest.mark.parametrize(
    ("options", "trainer", "expected"),
    [
        ({"growth": 2, "cycles": 3}, {}, [5, 15, 35]),
        ({"cycles": 2}, {"accumulate_grad_batches": 2}, [10, 20]),
        ({"cycles": 3, "schedule": "cosine"}, {"max_epochs": -1, "max_steps": 15}, [5, 10, 15]),
    ],
    ids=["growing", "accumulated", "one cosine"],
)
def test_where_cycles_end(
    options: dict[str, Any], trainer: dict[str, Any], expected: list[int], tmp_path: Path
) -> None:
    rates = Rates()
    fit(Net(), SnapshotEnsemble(tmp_path, **options), rates, **trainer)
    kept = [torch.load(path)["global_step"] for path in sorted(tmp_path.glob("*.pt"))]
    assert kept == expected
    tops = [step for step, rate in rates.rates.items() if rate == 0.1]
    assert tops == ([0] if "schedule" in options else [0, *expected[:-1]])


def test_a_step_schedule_falls_in_two_steps_and_a_restart_begins_with_other_weights(tmp_path: Path) -> None:
    rates, net = Rates(), Net()
    ensemble = SnapshotEnsemble(tmp_path, 2, schedule="step", restart=lambda _, cycle: Net(cycle).state_dict())
    fit(net, ensemble, rates, max_epochs=4)
    assert list(rates.rates.values()) == pytest.approx([*[0.1] * 7, *[0.01] * 4, *[0.001] * 3] * 2)
    fresh = Net(2).state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in net.states[14].items())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("snapshots")
    level = train_snapshots(Net, shuffled, folder=folder, trainer={**CPU, "max_epochs": 4}, cycles=3)
    return folder, level.metrics


def by_hand(folder: Path, x: Tensor) -> list[Tensor]:
    found = []
    for path in sorted(folder.glob("*.pt")):
        net = Net().eval()
        net.load_state_dict(torch.load(path)["state_dict"])
        found.append(net(x).detach().softmax(1))
    return found


def test_the_ensemble_is_the_mean_softmax_and_the_test_measures_it_for_every_m(trained: Any) -> None:
    folder, measured = trained
    x, y = dataset().tensors
    each, ensemble = by_hand(folder, x), load_ensemble(folder, Net())
    with torch.no_grad():
        assert torch.allclose(ensemble(x).softmax(1), sum(each) / 3, atol=1e-6)
        assert torch.allclose(ensemble.last(2).probabilities(x), (each[1] + each[2]) / 2, atol=1e-6)
    for m in (1, 2, 3):
        wrong = (sum(each[3 - m :]).argmax(1) != y).double().mean()  # type: ignore[union-attr]
        assert measured[f"error_m{m}"] == pytest.approx(100 * wrong.item())
        alone = (each[m - 1].argmax(1) != y).double().mean()
        assert measured[f"error_snapshot{m}"] == pytest.approx(100 * alone.item())
    pairs = torch.corrcoef(torch.stack(each).flatten(1)).flatten()[torch.tensor([1, 2, 5])]
    assert measured["softmax_correlation"] == pytest.approx(pairs.mean().item(), abs=1e-5)


def test_copies_of_one_net_are_exactly_that_net(trained: Any) -> None:
    path, x = trained[0] / "snapshot-002.pt", dataset().tensors[0]
    (_, own, _) = by_hand(trained[0], x)
    with torch.no_grad():
        for copies in (2, 3, 5, 7):
            assert torch.equal(load_ensemble([path] * copies, Net()).probabilities(x), own)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.slow
def test_killed_and_repeated_it_ends_bit_for_bit_as_uninterrupted(
    fresh: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(folder: str, kill: int | None = None) -> tuple[dict[str, Tensor], Rates]:
        rates = Rates()
        monkeypatch.setattr(Rates, "kill", kill)
        train_snapshots(
            *(dropping, shuffled),
            **{"folder": tmp_path / folder, "trainer": {**CPU, "max_epochs": 4}, "callbacks": lambda _: [rates]},
            **{"cycles": 3, "fresh": fresh, "checkpoint_every": 0.0},
        )
        files = sorted((tmp_path / folder).glob("*.pt"))
        return {f"{file.name} {name}": v for file in files for name, v in torch.load(file)["state_dict"].items()}, rates

    whole, _ = train("whole")
    for kill in (12, 20):
        with pytest.raises(RuntimeError, match="killed"):
            train("killed", kill)
    again, rates = train("killed")
    assert min(rates.rates) == 14  # not from the beginning
    assert whole.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    assert not torch.equal(whole["snapshot-001.pt net.0.weight"], whole["snapshot-002.pt net.0.weight"])


def dropping(seed: int) -> Net:
    return Net(seed, dropout=0.2)


class TwoOptimizers(Net):
    automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.net[:3].parameters(), 0.1), torch.optim.SGD(self.net[3:].parameters(), 0.1)]


class Manual(Net):
    automatic_optimization = False


@pytest.mark.parametrize(
    ("net", "cycles", "options", "error", "message"),
    [
        (Net, 2, {"callbacks": [pl.callbacks.StochasticWeightAveraging(0.1)]}, MisconfigurationException, "rate, and"),
        (LitNet, 2, {}, MisconfigurationException, "LitNet sets the learning rate by StepLR, and so does SnapshotEns"),
        (TwoOptimizers, 2, {}, MisconfigurationException, "one optimizer, and TwoOptimizers has 2"),
        (Manual, 2, {}, MisconfigurationException, "Manual optimizes manually"),
        (Net, 2, {"max_epochs": -1}, MisconfigurationException, "no end .* set max_epochs, or max_steps"),
        (Net, 36, {}, ValueError, "35 iterations are over before cycle 36 begins"),
        (Net, 20, {}, ValueError, "35 iterations are over before cycle 20 .* the first 2; use fewer cycles"),
        (Net, 0, {}, ValueError, "cycles must be at least 1, got 0"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_go_well_is_refused_by_name(
    net: Any, cycles: int, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        fit(net(), SnapshotEnsemble(tmp_path, cycles), *options.pop("callbacks", ()), **options)


def test_what_is_no_ensemble_is_refused_by_name(trained: Any, tmp_path: Path) -> None:
    folder = trained[0]
    with pytest.raises(ValueError, match=r"snapshot-001.pt is of another architecture than this Linear \(Missing key"):
        load_ensemble(folder, nn.Linear(8, 4))
    with pytest.raises(ValueError, match="there are no snapshots in"):
        load_ensemble(tmp_path, Net())
    with pytest.raises(ValueError, match="there are 3 snapshots and not 4"):
        load_ensemble(folder, Net()).last(4)
    whole = (folder / "snapshot-001.pt").read_bytes()
    weight = torch.load(folder / "snapshot-001.pt")["state_dict"]["net.0.weight"].numpy().tobytes()
    for content in (whole[:-100], whole.replace(weight[:8], b"damaged!"), b""):
        (tmp_path / "snapshot-001.pt").write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"snapshot-001\.pt is damaged .*; train again, or leave it out"):
            load_ensemble(tmp_path, Net())
    torch.save({"weights": {}}, tmp_path / "snapshot-001.pt")
    with pytest.raises(DamagedFileError, match="it has no weights"):
        load_ensemble(tmp_path, Net())
    with pytest.raises(TypeError, match=r"LSTM\.forward gives .*let forward return them"):
        Ensemble([nn.LSTM(8, 4)])(torch.zeros(3, 8))


def test_what_goes_on_with_another_schedule_is_refused(tmp_path: Path) -> None:
    for name, cycles in (("plain", 0), ("cyclic", 2)):
        saved = pl.callbacks.ModelCheckpoint(tmp_path, name)
        given = [saved, *([SnapshotEnsemble(tmp_path, cycles)] if cycles else [])]
        trainer = pl.Trainer(**CPU, callbacks=given, max_epochs=2)
        trainer.fit(Net(), DataLoader(dataset(), 10))
    for name, cycles, epochs in (("plain", 2, 4), ("cyclic", 2, 4), ("cyclic", 1, 3)):
        net, given = Net(), SnapshotEnsemble(tmp_path, cycles)
        trainer = pl.Trainer(**CPU, callbacks=[given], max_epochs=epochs, enable_checkpointing=False)
        with pytest.raises(MisconfigurationException, match="at iteration 14 did not begin with that schedule; resume"):
            trainer.fit(net, DataLoader(dataset(), 10), ckpt_path=tmp_path / f"{name}.ckpt")
    assert len(load_ensemble(tmp_path, Net()).members) == 2  # nothing was removed


class Stop(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= 20


def test_a_training_that_is_stopped_says_so_and_a_trial_run_touches_nothing(tmp_path: Path) -> None:
    ensemble, loader = SnapshotEnsemble(tmp_path, 4), DataLoader(dataset(), 32)
    (tmp_path / "snapshot-best.pt").write_bytes(b"of the user")
    with pytest.warns(UserWarning, match="after 20 of the 35 iterations .* 2 of 4 snapshots are missing"):
        trainer = fit(Net(), ensemble, Stop())
    (found,) = trainer.test(Net(), loader, verbose=False)
    assert {"error_m1", "error_m2"} < {*found}
    assert "error_m3" not in found
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {*files} == {"snapshot-001.pt", "snapshot-002.pt", "snapshot-best.pt"}
    fit(Net(), SnapshotEnsemble(tmp_path, 2), fast_dev_run=True).test(Net(), loader, verbose=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    with pytest.warns(UserWarning, match=r"the last cycle takes 2 and not 3, .* taken at 25% of the first rate"):
        fit(Net(), SnapshotEnsemble(tmp_path, 12))


class OneLogit(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :1]


def test_an_ensemble_stays_in_evaluation_mode_and_takes_what_is_one(trained: Any, tmp_path: Path) -> None:
    net = Net()
    assert not any(part.training for part in load_ensemble(trained[0], net).train().modules())
    with pytest.raises(TypeError, match=r"OneLogit\.forward gives .*at least 2 classes"):
        Ensemble([OneLogit(8, 4)])(torch.zeros(3, 8))
    with pytest.raises(TypeError, match=r"module must be an nn\.Module to load weights into, got .*Net"):
        load_ensemble(trained[0], Net)  # type: ignore[arg-type]
    net.loss = net(torch.randn(4, 8)).sum()
    with pytest.raises(TypeError, match=r"copies of Net, which cannot be copied .* detached"):
        load_ensemble(trained[0], net)
    net, ensemble = Net(), SnapshotEnsemble(trained[0], 2)
    net.forward = lambda x: net.net(x).unflatten(0, (2, -1))  # type: ignore[method-assign]
    tokens = DataLoader([[torch.randn(10, 8), torch.zeros(2, 5, dtype=torch.long)]], batch_size=None)
    net.test_step = lambda batch, batch_idx: None  # type: ignore[method-assign]
    with pytest.raises(MisconfigurationException, match=r"class indices \(N,\), and these labels are .* \(2, 5\)"):
        pl.Trainer(**CPU, callbacks=[ensemble]).test(net, tokens, verbose=False)
    assert SnapshotEnsemble("~/somewhere", 2).folder == Path.home() / "somewhere"


CONFIG: dict[str, Any] = {
    "model": {"architecture": "mlp", "architecture_args": {"hidden": [12]}, "optimizer": {"name": "SGD", "lr": 0.1}},
    "data": {"source": "digits", "batch_size": 20, "whiten": False, "train_size": 140, "test_size": 100},
    "trainer": {"accelerator": "cpu", "max_epochs": 4},
}


@pytest.mark.parametrize("options", [{}, {"schedule": "step", "fresh": True}], ids=["cyclic", "fresh"])
def test_a_cell_measures_each_seed_of_a_stack_as_it_would_alone(options: dict[str, Any], tmp_path: Path) -> None:
    def config() -> dict[str, Any]:
        return {**CONFIG, "snapshots": {"cycles": 2, **options}}

    runs = [RunContext(tmp_path / f"{i}", i) for i in (0, 1)]
    rows = cells.snapshots.stacked([config(), config()], runs)
    alone = cells.snapshots(config(), RunContext(tmp_path / "alone", 1))
    assert {*rows[1]} == {*alone}
    assert {name: rows[1][name] for name in alone if "error" in name} == pytest.approx(
        {name: value for name, value in alone.items() if "error" in name}, abs=2.01
    )
    assert rows[1]["softmax_correlation"] == pytest.approx(alone["softmax_correlation"], abs=1e-3)
    assert alone["error_m1"] == alone["error_snapshot2"] == pytest.approx(100 - alone["test_acc"], abs=1e-4)
    assert (alone["softmax_correlation"] < 0.5) == bool(options)
    with pytest.raises(ValueError, match="cycels"):
        cells.snapshots({**CONFIG, "snapshots": {"cycels": 2}}, RunContext(tmp_path / "wrong", 1))


def test_a_method_that_drives_the_steps_of_our_classifier_has_the_same_rates(tmp_path: Path) -> None:
    method, rates = GradientPenalty(0.01, accumulate_grad_batches=2), Rates()
    sgd = {"name": "SGD", "lr": 0.1}
    net = Classifier("mlp", {"hidden": [4]}, sgd, regularizers=[method], input_shape=(8,), num_classes=4)
    fit(net, SnapshotEnsemble(tmp_path, 2), rates)
    assert list(rates.rates.values()) == [paper(t, 20, 2) for t in range(1, 21)]


@pytest.mark.slow
def test_a_snapshot_under_accumulation_by_a_driver_is_of_its_iteration(tmp_path: Path) -> None:
    method = GradientPenalty(0.0, accumulate_grad_batches=2)
    net = Classifier(LitNet().net, optimizer={"name": "SGD", "lr": 0.1}, regularizers=[method], input_shape=(8,))
    nothing = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    fit(net, SnapshotEnsemble(tmp_path, cycles=2, restart=lambda module, cycle: nothing), max_epochs=1)
    kept = torch.load(tmp_path / "snapshot-001.pt")  # of 7 batches and 4 iterations
    assert kept["global_step"] == 2
    assert kept["state_dict"]["network.0.weight"].any()
