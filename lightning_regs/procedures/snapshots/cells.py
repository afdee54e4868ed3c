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
from lightning_regs.training.fit import evaluate, fit_stack, initial_network, shared, stackable
from lightning_regs.training.options import looks
from lightning_regs.training.replicas import Replicated


def _ensemble(config: Mapping[str, Any], **given: Any) -> SnapshotEnsemble:
    own = {name: value for name, value in (config.get("snapshots") or {}).items() if name != "fresh"}
    made: SnapshotEnsemble = call("snapshots", SnapshotEnsemble, **own, **given, test=False)
    return made


@looks(lambda config: _ensemble(config, folder="snapshots"))
@stackable
def snapshots(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train a Classifier with :class:`~lightning_regs.SnapshotEnsemble`, and measure its ensembles on the test set.

    Args:
        configs: ``{"model": ..., "data": ..., "trainer": ...}`` as for :func:`~lightning_regs.training.fit.fit`, but
            no ``model.schedule``; the rate at which cycles start is ``model.optimizer.lr``. And ``"snapshots"``:
            ``{"cycles": 5, "growth": 1, "schedule": "cyclic", "fresh": False}``, of which all but ``cycles`` are what
            they are by default. The baselines of the paper: ``"schedule": "step"`` is NoCycle, and its last snapshot
            alone is Single; ``"step"`` with ``"fresh": True`` is SingleCycle, a net from scratch in each cycle;
            ``"cosine"`` is one cosine over all epochs.
        runs: The engine's, several as replicas of one net. An interrupted one goes on from its last saved epoch.

    Returns:
        The metrics of :func:`~lightning_regs.training.fit.fit`, which are those of the last net alone; and test errors
        in percent: ``error_m1``, ..., ``error_mM`` of the mean softmax of the last m, ``error_snapshot1``, ...,
        ``error_snapshotM`` of each alone, the first trained first; ``softmax_correlation``, the mean over all pairs of
        snapshots of the correlation of their softmax outputs on the test set.

    Raises:
        ValueError: If ``snapshots`` has another option, or one is outside its range, or the configurations differ.
    """
    config = shared(configs)
    seeds = [seeds_apart(config).get("weights", run.seed) for run in runs]

    def restart(module: Any, cycle: int) -> State:
        at = [rng.derive_seed(seed, "snapshots", cycle) for seed in seeds]
        nets = [initial_network(config["model"], module, seed) for seed in at]
        state = (nets[0] if module.replicas is None else Replicated(nets)).state_dict()
        return {f"network.{name}": value for name, value in state.items()}

    fresh = (config.get("snapshots") or {}).get("fresh")
    ensemble = _ensemble(config, folder=runs[0].folder / "snapshots", restart=restart if fresh else None)
    found = fit_stack(config, runs, [ensemble])
    ensemble.test, last = True, found[0]
    assert isinstance(last.trainer, pl.Trainer)
    evaluate(last.trainer, last.module, last.data, "test")
    return [trained.metrics | own for trained, own in zip(found, ensemble.results, strict=True)]
