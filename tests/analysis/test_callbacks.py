"""Callbacks that measure layers and weights of a training: of each replica, of a resumed one, and of one more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier
from lightning_regs.analysis import LayerSignals, WeightNorms, layer_signals
from lightning_regs.core.lightning import pl
from lightning_regs.training.replicas import Replicated

X, Y = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3


def nets(normalisation: Any) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(5, 4), normalisation(4), nn.Tanh(), nn.Linear(4, 3)) for _ in range(2)]


def train(network: nn.Module, *callbacks: Any, epochs: int = 2, path: Path | None = None, of: int | None = None) -> Any:
    module = Classifier(network, input_shape=(5,), num_classes=3, replicas=of)
    x, y = (X, Y) if of is None else (X.expand(of, -1, -1), Y.expand(of, -1))
    data: Any = DataLoader(TensorDataset(X, Y), 16) if of is None else DataLoader([[x, y]], batch_size=None)
    trainer = pl.Trainer(max_epochs=epochs, callbacks=list(callbacks), enable_checkpointing=False)
    trainer.fit(module, data, ckpt_path=path)
    return module


def numbers(found: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value.sum()) for name, value in found.items()}


@pytest.mark.parametrize(
    ("cls", "tag", "normalisation"),
    [(LayerSignals, "signal", nn.BatchNorm1d), (WeightNorms, "weights", nn.LayerNorm)],
)
def test_each_net_is_measured_as_alone_and_a_resumed_training_goes_on(
    cls: Any, tag: str, normalisation: Any, tmp_path: Path
) -> None:
    stacked, singles = train(Replicated(nets(normalisation)), cls(), of=2), [cls(), cls()]
    for i, (network, single) in enumerate(zip(nets(normalisation), singles, strict=True)):
        alone, expected = train(network, single), single.last
        own, logged = stacked.replica_results[tag][i], alone.trainer.callback_metrics
        assert own == pytest.approx(numbers(expected), rel=1e-3, abs=1e-6)
        assert {name: float(logged[f"{tag}/{name}"]) for name in own} == pytest.approx(numbers(expected), rel=1e-5)
        without = train(nets(normalisation)[i]).network.state_dict()
        assert all(torch.equal(value, without[name]) for name, value in alone.network.state_dict().items())
    half = train(nets(normalisation)[0], cls(), epochs=1)
    half.trainer.save_checkpoint(path := tmp_path / "half.ckpt")
    train(nets(normalisation)[1], seen := cls(), path=path)
    assert (numbers(seen.start), numbers(seen.last)) == (numbers(singles[0].start), numbers(singles[0].last))
    train(nets(normalisation)[1], seen)
    assert (numbers(seen.start), numbers(seen.last)) == (numbers(singles[1].start), numbers(singles[1].last)), "anew"


def test_signals_are_those_before_the_first_step_and_after_the_last() -> None:
    stacked = LayerSignals()
    train(Replicated(nets(nn.BatchNorm1d)), stacked, of=2)
    for i, network in enumerate(nets(nn.BatchNorm1d)):
        start = layer_signals(network, X, Y)["2"].deviation
        assert float(stacked.start["deviation/network.2"][i]) == pytest.approx(start, rel=1e-5)
        module = train(network, alone := LayerSignals())
        now = layer_signals(network.train(), X.to(module.device), Y.to(module.device))["3"].weights
        assert alone.last["weights/network.3"].item() == pytest.approx(now, rel=1e-5)
