"""Ghost batch norm against batch norm of each part by hand, and the paper's running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.core.lightning import pl
from lightning_regs.layers import GhostBatchNorm, layer_replacements, replace_layers, update_batch_norm


@pytest.mark.parametrize(("number", "parts"), [(3, [3]), (7, [7]), (8, [4, 4]), (14, [5, 5, 4])])
@pytest.mark.parametrize("shape", [(5,), (5, 6), (5, 3, 2)])
def test_each_part_is_normalized_by_itself(number: int, parts: list[int], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(number, *shape, dtype=torch.float64)
    norm = GhostBatchNorm(5, size=4, momentum=0.3).double()
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    dims, wide = (0, *range(2, x.ndim)), (1, 5, *(1,) * (x.ndim - 2))
    expected, mean, var = [], torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    for part in x.split(parts):
        m, v = part.mean(dims), part.var(dims, correction=0)
        normed = (part - m.view(wide)) / (v.view(wide) + norm.eps).sqrt()
        expected.append(normed * norm.weight.view(wide) + norm.bias.view(wide))
        mean, var = 0.7 * mean + 0.3 * m, 0.7 * var + 0.3 * part.var(dims)
    torch.testing.assert_close(norm(x), torch.cat(expected))
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    assert norm.num_batches_tracked == len(parts)
    norm.eval()
    scaled = (x - mean.view(wide)) / (var.view(wide) + norm.eps).sqrt()
    torch.testing.assert_close(norm(x), scaled * norm.weight.view(wide) + norm.bias.view(wide))


def test_a_net_keeps_what_it_has_learned() -> None:
    torch.manual_seed(0)
    old = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=0.2), nn.Flatten(), nn.Linear(144, 3))
    old(torch.randn(16, 1, 8, 8))
    new = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=0.2), nn.Flatten(), nn.Linear(144, 3))
    new.load_state_dict(old.state_dict())
    (pair,) = layer_replacements([{"replace": "BatchNorm2d", "by": "GhostBatchNorm", "size": 16}])
    assert replace_layers(new, pair) == {"BatchNorm2d": 1}
    x = torch.randn(20, 1, 8, 8)
    assert torch.equal(new(x), old(x))  # fewer than two sizes
    assert all(torch.equal(value, old.state_dict()[name]) for name, value in new.state_dict().items())
    assert not torch.allclose(new(torch.cat([x, 3 * x])), old(torch.cat([x, 3 * x])))
    assert (new[1].eps, new[1].momentum) == (1e-3, 0.2)


@pytest.mark.parametrize("replicas", [None, 2])
def test_it_trains_in_a_classifier_of_growing_batches(replicas: int | None) -> None:
    trainer = pl.Trainer(max_epochs=2, enable_checkpointing=False, reload_dataloaders_every_n_epochs=1)
    layers = [{"replace": "BatchNorm1d", "by": "GhostBatchNorm", "size": 16}]
    module = Classifier("mlp", {"hidden": [8], "norm": "batch"}, layers=layers, replicas=replicas, seed=1)
    data = ImageDataModule("digits", train_size=128, batch_size=[(0, 16), (1, 64)], replicas=replicas, seed=1)
    trainer.fit(module, datamodule=data)
    assert module.network is not None
    (norm,) = (part for part in module.network.modules() if isinstance(part, GhostBatchNorm))
    assert norm.num_batches_tracked.flatten().tolist() == [16] * (replicas or 1)


def test_what_is_no_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes the place of a batch norm with running statistics, got ReLU"):
        replace_layers(nn.Sequential(nn.ReLU()), layer_replacements([{"replace": "ReLU", "by": "GhostBatchNorm"}])[0])
    with pytest.raises(ValueError, match=r"got BatchNorm1d.*track_running_stats=False"):
        GhostBatchNorm.like(nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(ValueError, match=r"size.*1"):
        layer_replacements([{"replace": "BatchNorm2d", "by": "GhostBatchNorm", "size": 1}])
    with pytest.raises(ValueError, match="ghosts"):
        layer_replacements([{"replace": "BatchNorm2d", "by": "GhostBatchNorm", "ghosts": 4}])


def test_what_was_frozen_stays_frozen() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3).requires_grad_(False))
    replace_layers(net, layer_replacements([{"replace": "BatchNorm1d", "by": "GhostBatchNorm"}])[0])
    assert not any(p.requires_grad for p in net.parameters())


def test_without_momentum_running_statistics_are_means_over_ghost_batches() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 8, 5, dtype=torch.float64)
    norm = GhostBatchNorm.like(nn.BatchNorm1d(5, momentum=None).double(), size=4)
    for batch in x:
        norm(batch)
    parts = [part for batch in x for part in batch.split(4)]
    torch.testing.assert_close(norm.running_mean, torch.stack([part.mean(0) for part in parts]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([part.var(0) for part in parts]).mean(0))
    again = GhostBatchNorm(5, size=4).double()
    update_batch_norm(again, x)
    torch.testing.assert_close(again.running_mean, norm.running_mean)
    assert again.momentum == 0.1


@pytest.mark.slow
def test_lightnings_weight_averaging_estimates_its_statistics() -> None:
    averages = pl.callbacks.StochasticWeightAveraging(0.01, swa_epoch_start=1)
    trainer = pl.Trainer(max_epochs=2, enable_checkpointing=False, callbacks=[averages])
    net = nn.Sequential(nn.Flatten(), GhostBatchNorm(64, size=4), nn.Linear(64, 10))
    data = ImageDataModule("digits", train_size=64, test_size=50, batch_size=16)
    trainer.fit(Classifier(net), datamodule=data)
    x = data.train_transform(data.dataset("train").x, torch.Generator()).flatten(1)
    torch.testing.assert_close(net[1].running_mean, x.mean(0))  # of equal parts it is the mean of all


def test_it_does_not_become_another_norm_in_silence() -> None:
    net = nn.Sequential(GhostBatchNorm(4, size=2))
    with pytest.raises(TypeError, match=r"parts of a batch, .*sync_batchnorm=True.* replace_layers\(net"):
        nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert type(copy.deepcopy(net)[0]) is GhostBatchNorm
