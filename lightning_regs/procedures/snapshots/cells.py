"""The task of cells that are snapshot ensembles, and of what they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_regs.core import rng
from lightning_regs.core.checks import call, seeds_apart
from lightning_regs.core.lightning import pl
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.level import State
from lightning_regs.procedures.snapshots.snapshot_ensemble import SnapshotEnsemble
from lightning_regs.training.fit import evaluate, fit, fit_stack, initial_network, shared
from lightning_regs.training.replicas import Replicated


def snapshots(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Train a Classifier with :class:`~lightning_regs.SnapshotEnsemble`, and measure its ensembles on the test set.

    Args:
        config: ``{"model": ..., "data": ..., "trainer": ...}`` as for :func:`~lightning_regs.training.fit.fit`, without
            ``model.schedule``; the rate at which cycles start is ``model.optimizer.lr``. And ``"snapshots"``:
            ``{"cycles": 5, "growth": 1, "schedule": "cyclic", "fresh": False}``, of which all but ``cycles`` are what
            they are by default. The baselines of the paper: ``"schedule": "step"`` is NoCycle, and its last snapshot
            alone is Single; ``"step"`` with ``"fresh": True`` is SingleCycle, a net from scratch in each cycle;
            ``"cosine"`` is one cosine over all epochs.
        run: The engine's run. An interrupted one goes on from its last saved epoch.

    Returns:
        The metrics of :func:`~lightning_regs.training.fit.fit`, which are those of the last net alone; and test errors
        in percent: ``error_m1``, ..., ``error_mM`` of the mean softmax of the last m, ``error_snapshot1``, ...,
        ``error_snapshotM`` of each alone, the first trained first; ``softmax_correlation``, the mean over all pairs of
        snapshots of the correlation of their softmax outputs on the test set.

    Raises:
        ValueError: If ``snapshots`` has another option, or one is outside its range.
    """
    return _snapshots([config], [run])[0]


def snapshots_stack(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train several seeds, as replicas of one net; see :func:`snapshots`.

    Raises:
        ValueError: If the configurations differ.
    """
    return _snapshots(configs, runs)


snapshots.stacked = snapshots_stack  # type: ignore[attr-defined]


def _snapshots(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    config = shared(configs)
    options: Mapping[str, Any] = config.pop("snapshots")
    seeds = [seeds_apart(config).get("weights", run.seed) for run in runs]

    def restart(module: Any, cycle: int) -> State:
        at = [rng.derive_seed(seed, "snapshots", cycle) for seed in seeds]
        nets = [initial_network(config["model"], module, seed) for seed in at]
        state = (nets[0] if module.replicas is None else Replicated(nets)).state_dict()
        return {f"network.{name}": value for name, value in state.items()}

    own = {name: value for name, value in options.items() if name != "fresh"}
    given = {"folder": runs[0].folder / "snapshots", "restart": restart if options.get("fresh") else None}
    ensemble = call("snapshots", SnapshotEnsemble, **own, **given, test=False)
    found = [fit(config, runs[0], [ensemble])] if len(runs) == 1 else fit_stack(config, runs, [ensemble])
    ensemble.test, last = True, found[0]
    assert isinstance(last.trainer, pl.Trainer)
    evaluate(last.trainer, last.module, last.data, "test")
    return [trained.metrics | own for trained, own in zip(found, ensemble.results, strict=True)]
