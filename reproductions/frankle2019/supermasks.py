"""The tasks of Zhou et al. (1905.01067): masks on weights that are never trained, from a trained net or learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lightning_regs.core import rng
from lightning_regs.core.checks import seeds_apart
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.level import handed_on
from lightning_regs.procedures.splits import correct
from lightning_regs.pruning import Pruning
from lightning_regs.pruning.supermask import add_supermask, apply_supermask, learned_mask
from lightning_regs.training.fit import data_of, evaluate, fit_stack, initial_network, shared, stackable

# Masks sampled for one accuracy.
SAMPLES = {"train": 1, "val": 10, "test": 10}


def untrained(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Measure masks of the trained dense net on its initial weights, of which none is trained.

    Args:
        config: ``{"model": ..., "data": ..., "pruning": ..., "weights": "initial" or "signed_constant", "levels": n}``;
            the trainer's part is that of the dense net's training.
        run: The engine's run; its only input is the dense net's.

    Returns:
        ``test_acc``, ``val_acc``, ``p_m`` and ``level`` of the mask that is best on the validation set; the curve has
        ``val_acc`` of every level.
    """
    (dense,) = handed_on(run).values()
    data, pruning = data_of(config, run), Pruning(**config["pruning"])
    network = initial_network(config["model"], data, seeds_apart(config).get("weights", run.seed)).eval()

    def accuracy(split: str, level: int) -> tuple[float, float]:
        mask = pruning.one_shot(dense.mask, dense.initial, dense.final, level)
        signed = config["weights"] == "signed_constant"
        network.load_state_dict(apply_supermask(dense.initial, mask, signed_constant=signed))
        right = correct(network, data, split)
        return 100 * int(right.sum()) / len(right), 100 * mask.density

    found = [accuracy("val", level)[0] for level in range(int(config["levels"]) + 1)]
    best = max(range(len(found)), key=found.__getitem__)
    test, p_m = accuracy("test", best)
    run.restore_curves([{"step": level, "val_acc": value} for level, value in enumerate(found)])
    return {"test_acc": test, "val_acc": found[best], "p_m": p_m, "level": float(best)}


@stackable
def learned(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Learn a Bernoulli mask on the initial weights, or several at once as replicas of one net.

    Args:
        configs: ``{"model": ..., "data": ..., "trainer": ...}`` as for :func:`~lightning_regs.training.fit.fit`, and
            ``"supermask"``: arguments of :func:`~lightning_regs.pruning.supermask.add_supermask`.
        runs: The engine's. An interrupted one goes on from its last saved epoch.

    Returns:
        ``test_acc``, ``val_acc`` and ``train_acc``: means over sampled masks; ``density``: mean probability, in
        percent, that a weight is kept.

    Raises:
        ValueError: If the configurations differ in more than the kind of weights, and whether they are rescaled.
    """
    shared(configs, "supermask")
    # Rescaling is part of the net's code, which replicas share.
    rows: dict[int, dict[str, float]] = {}
    for rescale in (False, True):
        if chosen := [i for i, c in enumerate(configs) if bool(c["supermask"].get("rescale")) == rescale]:
            found = _learn([configs[i] for i in chosen], [runs[i] for i in chosen])
            rows |= dict(zip(chosen, found, strict=True))
    return [rows[i] for i in range(len(runs))]


def _learn(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    config, apart = configs[0], seeds_apart(configs[0])
    data = data_of(config, *runs)
    networks = [
        add_supermask(initial_network(own["model"], data, apart.get("weights", run.seed)), **own["supermask"])
        for own, run in zip(configs, runs, strict=True)
    ]
    found = fit_stack(config | {"trainer": config["trainer"] | {"limit_val_batches": 0}}, runs, (), networks, data)
    first, masks = found[0], [learned_mask(one.network()).values() for one in found]
    rows = [{"density": 100 * float(torch.cat([kept.flatten() for kept in own]).mean())} for own in masks]
    # The masks of an evaluation are drawn from torch's global generator; the stream's name is part of the rows.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.derive_seed(apart.get("order", runs[0].seed), "frankle2019 sampled masks"))
        for split, number in SAMPLES.items():
            each = [evaluate(first.trainer, first.module, data, split) for _ in range(number)]
            for row, own in zip(rows, zip(*each, strict=True), strict=True):
                row[f"{split}_acc"] = sum(values["acc"] for values in own) / number
    return rows
