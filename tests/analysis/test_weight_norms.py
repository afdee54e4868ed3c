"""Norms of weights against their definitions, and over a training: of replicas, and of a resumed one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier
from lightning_regs.analysis import WeightNorms, weight_norms
from lightning_regs.core.lightning import pl
from lightning_regs.training.replicas import Replicated

X, Y = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3


def nets() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)) for _ in range(2)]


def train(network: nn.Module, epochs: int, replicas: int | None = None, **options: Any) -> tuple[Classifier, Any]:
    module = Classifier(network, input_shape=(5,), num_classes=3, replicas=replicas)
    x, y = (X, Y) if replicas is None else (X.expand(2, -1, -1), Y.expand(2, -1))
    data: Any = DataLoader(TensorDataset(X, Y), 16) if replicas is None else DataLoader([[x, y]], batch_size=None)
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[norms := WeightNorms()], enable_checkpointing=False)
    trainer.fit(module, data, **options)
    return module, norms


def test_they_are_what_their_names_say() -> None:
    w, start = torch.tensor([[3.0, 0.0], [4.0, 1e-4]]), torch.tensor([[0.0, 0.0], [0.0, 5.0]])
    found = weight_norms({"a": w, "b": torch.zeros(4)}, {"a": start, "b": torch.ones(4)})
    expected = {
        "norm": w.norm().item(), "distance": (50 + 4) ** 0.5, "growth": (25 / 29) ** 0.5,
        "zeros": 62.5, "small": 75.0, "zeros/a": 25.0, "small/a": 50.0, "growth/a": 1.0, "distance/b": 2.0,
    }  # fmt: skip
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"the start of 'a' must have the shape \(2, 2\), got none"):
        weight_norms({"a": w}, {"b": w})


def test_those_of_replicas_are_those_of_each_net_and_a_resumed_training_goes_on(tmp_path: Path) -> None:
    stacked, norms = train(Replicated(nets()), 2, replicas=2)
    for i, (own, network) in enumerate(zip(stacked.replica_results["weights"], nets(), strict=True)):
        alone, single = train(network, 2)
        assert set(own) == set(single.last) == {key for key in norms.last if "bias" not in key}
        assert own == pytest.approx({name: float(value) for name, value in single.last.items()}, rel=1e-4)
        assert float(alone.trainer.callback_metrics["weights/norm/network.2.weight"]) == pytest.approx(
            float(norms.last["norm/network.2.weight"][i]), rel=1e-4
        )
    half, first = train(nets()[0], 1)
    half.trainer.save_checkpoint(path := tmp_path / "half.ckpt")
    _, resumed = train(nets()[1], 2, ckpt_path=path)
    _, whole = train(nets()[0], 2)
    assert torch.equal(first.start["network.0.weight"].cpu(), resumed.start["network.0.weight"].cpu())
    assert {name: float(v) for name, v in resumed.last.items()} == {name: float(v) for name, v in whole.last.items()}
    again, last = Classifier(nets()[1], input_shape=(5,), num_classes=3), whole.last["distance"]
    trainer = pl.Trainer(max_epochs=2, callbacks=[whole], enable_checkpointing=False)
    trainer.fit(again, DataLoader(TensorDataset(X, Y), 16))
    assert whole.last["distance"] < 2 * last, "what is used again begins anew"
