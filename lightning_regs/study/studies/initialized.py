"""What a training makes of the weights that it starts from, as a task; the rules may look at data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lightning_regs.core.checks import Count, check, seeds_apart
from lightning_regs.core.rng import generator
from lightning_regs.core.runs import RunContext
from lightning_regs.init import initialize
from lightning_regs.init.initialize import rule_of
from lightning_regs.procedures.splits import samples
from lightning_regs.training.fit import data_of, fit_stack, initial_network, shared, stackable
from lightning_regs.training.options import check_config, looks


def _read(config: Mapping[str, Any]) -> tuple[str, dict[str, Any], int | None, dict[str, Any]]:
    """Return the rule, its options, how many samples it looks at, and the configuration that these are of."""
    options = dict(config.get("initial") or {})
    rule, number = options.pop("rule", ""), check("samples", options.pop("samples", None), Count | None)
    within = {**config, "data": config["data"] | (options.pop("data", None) or {})}
    rule_of(rule, options)
    return rule, options, number, within


@looks(lambda config: check_config(_read(config)[3]))
@stackable
def initialized(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Set the weights of a net by a rule and some training samples, train it, and measure it.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`, and as ``"initial"`` the ``rule`` of
            :func:`~lightning_regs.init.initialize` and its options; ``samples``, how many training samples it looks at,
            drawn by the seed of the weights, all where there is no number; and ``data``, what is different in the data
            from which they are: with a larger ``train_size`` a net learns from samples whose labels it never sees.
            Several train as replicas of one net and may differ in ``"initial"``, where that adds the same parameters.
        runs: The engine's. An interrupted one goes on from its last saved epoch.

    Returns:
        The metrics of :func:`~lightning_regs.training.fit.fit`, in which ``test_error`` is that of a net without skill
        where the training left the numbers that floats can hold.

    Raises:
        ValueError: If the rule cannot set the net, or the configurations differ in more.
    """
    nets = [_net(config, run) for config, run in zip(configs, runs, strict=True)]
    return [trained.metrics for trained in fit_stack(shared(configs, "initial"), runs, start=nets)]


def _net(config: dict[str, Any], run: RunContext) -> nn.Module:
    rule, options, number, within = _read(config)
    data = data_of(within, run)
    seed = seeds_apart(config).get("weights", run.seed)
    net = initial_network(config["model"], data, seed)
    batch: Tensor | None = None
    if rule_of(rule, options)[1] != "weight":
        batch, _ = samples(data, "train", number, seed)
    initialize(net, rule, generator(seed, "initialization"), batch, **options)
    return net
