"""Nets of many sizes, as tasks: stacked within the largest of them, or grown, each from the one before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from lightning_regs.core.checks import Count, Positive, checked, nonempty, seeds_apart
from lightning_regs.core.rng import generator
from lightning_regs.core.runs import RunContext
from lightning_regs.study.paper.config import override
from lightning_regs.training.fit import data_of, fit_stack, initial_network, shared, stackable
from lightning_regs.training.options import check_config, looks, section


def _small(config: Mapping[str, Any]) -> dict[str, Any]:
    changes = config.get("padded") or {}
    return override(config, {f"model.architecture_args.{name}": size for name, size in changes.items()})


@looks(lambda config: check_config(_small(config)))
@stackable
def padded(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train nets of several widths together: each as part of a larger net, whose other weights are and stay zero.

    A unit that neither reads nor is read has a gradient of zero, where the activation of zero is zero. So a net learns
    what it would alone, from the initial weights that it would have alone, and nets that differ in width can be
    stacked: a step of a small net costs what its kernels take to start, and these are started once for all.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`, of the large net, and in ``"padded"`` the options of
            the architecture in which the small one differs, such as ``{"hidden": [12, 12]}``. Several train as replicas
            of one net, and may differ in ``"padded"``.
        runs: The engine's. An interrupted training goes on from its last saved epoch.

    Returns:
        The metrics of :func:`~lightning_regs.training.fit.fit`.

    Raises:
        ValueError: If the small net is no part of the large one, weights that are no part of it have not stayed zero,
            or the configurations differ in more.
    """
    config = shared(configs, "padded")
    data = data_of(config, runs[0])
    nets, inside = list[nn.Module](), list[list[Tensor]]()
    for one, run in zip(configs, runs, strict=True):
        seed = seeds_apart(config).get("weights", run.seed)
        large, part = (initial_network(each["model"], data, seed) for each in (config, _small(one)))
        inside.append(_embed(large, part))
        nets.append(large)
    found = fit_stack(config, runs, start=nets)
    for one, trained, masks in zip(configs, found, inside, strict=True):
        for weight, mask in zip(trained.network().parameters(), masks, strict=True):
            if bool(weight.detach()[~mask].any()):
                raise ValueError(
                    f"weights beside the net of {one['padded']} have not stayed zero, and it is not what it would be "
                    "alone: train without padding, or with an activation that is 0 at 0."
                )
    return [trained.metrics for trained in found]


@checked
@dataclass(frozen=True)
class _Options:
    sizes: Annotated[tuple[Count, ...], nonempty]
    std: Positive = 0.1

    def __post_init__(self) -> None:
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes ascend, and these are {list(self.sizes)}; nets grow.")


def _of_sizes(config: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    sizes = section(config, "grown", _Options).sizes
    return {size: override(config, {"model.architecture_args.hidden": [size]}) for size in sizes}


def _look(config: Mapping[str, Any]) -> None:
    for made in _of_sizes(config).values():
        check_config(made)


@looks(_look)
@stackable
def grown(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train MLPs of one hidden layer that grows, each from the weights of the one before; new weights are small.

    So Belkin et al., arXiv 1812.11118, train nets up to the size at which they fit all samples.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`, and in ``config["grown"]`` the ``sizes`` of the
            layer, in ascending order, and ``std``, the standard deviation of new weights and biases (default 0.1); of
            several, which are replicas of one net, the same.
        runs: The engine's. An interrupted training goes on from its last saved epoch.

    Returns:
        Of each size ``test_error_40``, ``train_error_40`` (percent), ``test_loss_40`` and ``train_loss_40``.

    Raises:
        ValueError: If the configurations differ, an option is unknown, or sizes do not ascend.
    """
    config = shared(configs)
    sizes, std = _of_sizes(config), section(config, "grown", _Options).std
    data = data_of(config, runs[0])
    rows, nets = [dict[str, float]() for _ in runs], list[nn.Module]()
    for run in runs:
        run.parts = len(sizes)
    for number, (size, made) in enumerate(sizes.items()):
        seeds = [seeds_apart(config).get("weights", run.seed) for run in runs]
        starts = [initial_network(made["model"], data, seed) for seed in seeds]
        for net, old, seed in zip(starts, nets, seeds, strict=False):  # of the first size there is none before
            _embed(net, old, std, generator(seed, "grown", size))
        own = [run.part(f"hidden-{size}", number) for run in runs]
        found = fit_stack(made, own, start=starts)
        nets = [one.network() for one in found]
        for row, one, run, part in zip(rows, found, runs, own, strict=True):
            run.device, run.precision, run.epochs = part.device, part.precision, part.epochs
            for split in ("train", "test"):
                row[f"{split}_error_{size}"] = 100 - one.metrics[f"{split}_acc"]
                row[f"{split}_loss_{size}"] = one.metrics[f"{split}_loss"]
    return rows


@torch.no_grad()
def _embed(net: nn.Module, part: nn.Module, std: float = 0.0, draw: torch.Generator | None = None) -> list[Tensor]:
    """Give a net the weights of a smaller one, and to the others random ones or zero; return where the former are."""
    masks = []
    for new, kept in zip(net.parameters(), part.parameters(), strict=True):
        if new.ndim != kept.ndim or any(a < b for a, b in zip(new.shape, kept.shape, strict=True)):
            raise ValueError(f"weights of shape {tuple(kept.shape)} are no part of {tuple(new.shape)}; widen the net.")
        new.copy_(std * torch.randn(new.shape, generator=draw) if std else torch.zeros(new.shape))
        mask = torch.zeros(new.shape, dtype=torch.bool)
        mask[tuple(map(slice, kept.shape))] = True
        new[mask] = kept.flatten()
        masks.append(mask)
    return masks
