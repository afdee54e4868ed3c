"""The tasks of a ladder: one level of one treatment, alone or stacked with others of the same length."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from frankle2019.callbacks import BestWeights, FrozenWeights, results
from frankle2019.starts import TWIN, Level, Start, make_start
from torch import Tensor

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.analysis import distance_travelled, error_barrier
from lightning_regs.core import rng
from lightning_regs.core.lightning import NAMESPACE, Callback, pl
from lightning_regs.core.runs import RunContext
from lightning_regs.data.dataset import ImageArrays
from lightning_regs.data.loaders import LoaderFactory
from lightning_regs.pruning import Mask, Pruning
from lightning_regs.regularizers import WeightMask
from lightning_regs.training import fit as engine
from lightning_regs.training.recorder import EpochCheckpoint, resumable
from lightning_regs.training.replicas import Replicated

PREFIX = "network."
# Positions on the line between two runs: enough for a barrier, whose maximum is flat.
POINTS = 11


def level(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Train one level of one treatment.

    Args:
        config: ``{"model": ..., "data": ..., "trainer": ...}`` as for :func:`lightning_regs.training.fit.train`,
            ``"pruning"``: arguments of :class:`~lightning_regs.pruning.Pruning`, and ``"treatment"``: ``{"kind": ...,
            "level": ...}``, see :meth:`Ladder.runs`.
        run: The engine's run; ``run.inputs`` holds the levels that :meth:`Ladder.needs` names. An interrupted one goes
            on from its last saved epoch.

    Returns:
        ``p_m`` (percent of weights kept) and ``kept``; ``stop_iteration``, ``stop_val_loss``, ``stop_val_acc`` and
        ``test_acc_stop``: where the validation loss was least, and the test accuracy of the weights there;
        ``train_acc``, ``val_acc``, ``test_acc``, ``train_loss``, ``val_loss``, ``test_loss`` after the last iteration;
        ``start_test_acc`` before the first. Of a ticket ``moved_kept`` and ``moved_pruned``: mean distance that weights
        went in the training of the dense net, those in its mask and the others; of a twin ``barrier``: the error in
        percent on the line between it and the run that it is the twin of.
    """
    return _train([config], [run])[0]


def stacked(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train several, as replicas of one net; see :func:`level`.

    Raises:
        ValueError: If they differ in more than the treatment.
    """
    shared = [{name: value for name, value in config.items() if name != "treatment"} for config in configs]
    if any(other != shared[0] for other in shared):
        raise ValueError("runs that are trained together differ in their treatment only; give the others another stack")
    return _train(configs, runs)


level.stacked = stacked  # type: ignore[attr-defined]


class OrderedData(ImageDataModule):
    """The data with a training order that is not that of the split's seed.

    Args:
        orders: A seed for the order of each replica.
        **options: The DataModule's.
    """

    def __init__(self, orders: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self._orders = tuple(orders)

    def _loaders(self) -> LoaderFactory:
        return dataclasses.replace(super()._loaders(), seeds=self._orders)


def _train(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    logging.getLogger(NAMESPACE).setLevel(logging.WARNING)
    config, seeds = configs[0], [run.seed for run in runs]
    replicas = seeds if len(runs) > 1 else None
    treatments = [(str(c["treatment"]["kind"]), int(c["treatment"]["level"])) for c in configs]
    orders = [
        rng.derive_seed(seed, "frankle2019 twin") if kind.endswith(TWIN) else seed
        for seed, (kind, _) in zip(seeds, treatments, strict=True)
    ]
    data = OrderedData(orders, **config["data"], seed=seeds[0], replicas=replicas)
    data.prepare_data()
    data.setup()
    options = config["model"] | {"input_shape": data.input_shape, "num_classes": data.num_classes}
    pruning = Pruning(**config["pruning"])
    inputs = [_inputs(run) for run in runs]
    starts = []
    for run, (kind, number), needed in zip(runs, treatments, inputs, strict=True):

        def fresh(draw: int, seed: int = run.seed) -> dict[str, Tensor]:
            at = rng.derive_seed(seed, "frankle2019 reinitialisation", draw) if draw else seed
            network = Classifier(**options, seed=at).network
            assert network is not None
            return {name: value.detach().clone() for name, value in network.state_dict().items()}

        network = Classifier(**options, seed=run.seed).network
        assert network is not None
        dense = pruning.start(network)
        starts.append(make_start(kind, number, run.seed, pruning, dense, fresh, needed))
    model, frozen = _module(options, starts, seeds, replicas)
    best = BestWeights(runs, data, int(config["every"]), int(config["iterations"]))
    measured = _fit_and_test(config, model, data, [best, *frozen], runs)
    finals = _states(model)
    rows = []
    for i, (kind, number) in enumerate(treatments):
        start, needed, run = starts[i], inputs[i], runs[i]
        mask = start.mask
        row = {"p_m": 100 * mask.density, "kept": float(mask.kept)} | measured[i]
        stop = best.step[i].item()
        row |= {"stop_iteration": stop or math.nan, "stop_val_loss": best.loss[i].item() if stop else math.nan}
        row["stop_val_acc"] = best.accuracy[i].item()
        dense_level = needed.get(("ticket", 0))
        if kind == "ticket" and dense_level is not None:
            moved = distance_travelled(dense_level.initial, dense_level.final, mask).overall
            row |= {"moved_kept": moved.kept.mean, "moved_pruned": moved.pruned.mean}
        if kind.endswith(TWIN):
            row["barrier"] = _barrier(options, data, needed[kind.removesuffix(TWIN), number].final, finals[i], run.seed)
        _hand_on(kind, start, finals[i], needed).save(run.folder)
        run.epochs = config["iterations"] * config["data"]["batch_size"] / len(data.dataset("train"))
        rows.append(row)
    # Of a stack it is large, and the levels hold what others need.
    _checkpoint(runs).unlink(missing_ok=True)
    return rows


def _checkpoint(runs: Sequence[RunContext]) -> Path:
    # Other runs, other checkpoint: a stack that is cut short is put together anew, perhaps of fewer.
    digest = hashlib.sha256(" ".join(run.folder.name for run in runs).encode()).hexdigest()[:12]
    return runs[0].folder / f"last-{digest}.ckpt"


def _hand_on(kind: str, start: Start, final: dict[str, Tensor], needed: Mapping[tuple[str, int], Level]) -> Level:
    """Return what other levels need of this one: of most the final weights and the mask."""
    initial: dict[str, Tensor] = {}
    if kind == "ticket":
        initial = start.weights  # a ticket starts where the dense net did
    elif kind == "continued":
        initial = next(iter(needed.values())).initial
    has_twin = kind == "ticket" or kind.startswith("reinit-")
    return Level(initial, start.weights if has_twin and not kind.endswith(TWIN) else {}, final, start.mask)


def _inputs(run: RunContext) -> dict[tuple[str, int], Level]:
    found = {}
    for name, folder in run.inputs.items():
        _, kind, number = name.rsplit("/", 2)
        found[kind, int(number)] = Level.load(folder)
    return found


def _module(
    options: dict[str, Any], starts: Sequence[Start], seeds: Sequence[int], replicas: Sequence[int] | None
) -> tuple[Classifier, list[Callback]]:
    # What is frozen counts as kept for the mask, which would set it to zero.
    masks = [Mask.dense(start.mask) if start.frozen else start.mask for start in starts]
    mask = masks[0] if replicas is None else Mask.stack(masks)
    method = WeightMask(Mask({PREFIX + name: kept for name, kept in mask.items()}))
    model = Classifier(**options, seed=seeds[0], replicas=replicas, regularizers=[method])
    for i, start in enumerate(starts):
        weights = start.weights if start.frozen else start.mask.apply(start.weights)
        if isinstance(model.network, Replicated):
            model.network.load_state_of(i, weights)
        else:
            assert model.network is not None
            model.network.load_state_dict(weights)
    if not any(start.frozen for start in starts):
        return model, []
    kept = [start.mask if start.frozen else Mask.dense(start.mask) for start in starts]
    trained = kept[0] if replicas is None else Mask.stack(kept)
    return model, [FrozenWeights({PREFIX + name: value for name, value in trained.items()})]


def _states(model: Classifier) -> list[dict[str, Tensor]]:
    network = model.network
    assert network is not None
    if isinstance(network, Replicated):
        states = [network.state_of(i) for i in range(network.replicas)]
    else:
        states = [network.state_dict()]
    return [{name: value.detach().cpu().clone() for name, value in state.items()} for state in states]


def _fit_and_test(
    config: dict[str, Any],
    model: Classifier,
    data: ImageDataModule,
    callbacks: Sequence[Callback],
    runs: Sequence[RunContext],
) -> list[dict[str, float]]:
    """Train, and return what each net reaches before, at its least validation loss, and at the end."""
    best = callbacks[0]
    assert isinstance(best, BestWeights)
    last = _checkpoint(runs)
    epochs = math.ceil(config["iterations"] / math.ceil(len(data.dataset("train")) / data.batch_size))
    options = config["trainer"] | {"max_epochs": epochs}
    with warnings.catch_warnings():
        for message in engine._NOISE:
            warnings.filterwarnings("ignore", message)
        trainer = pl.Trainer(
            devices=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            limit_val_batches=0,
            use_distributed_sampler=False,
            default_root_dir=runs[0].folder,
            callbacks=[*callbacks, EpochCheckpoint(last)],
            **options,
        )
        before = _measure(trainer, model, data, "test")
        trainer.fit(model, datamodule=data, ckpt_path=resumable(last))
        found = {split: _measure(trainer, model, data, split) for split in ("train", "val", "test")}
        network = model.network
        assert network is not None
        end = {name: value.clone() for name, value in network.state_dict().items()}
        chosen = best.weights if model.replicas else {name: value[0] for name, value in best.weights.items()}
        network.load_state_dict(chosen)
        at_stop = _measure(trainer, model, data, "test")
        network.load_state_dict(end)
    rows = []
    for i, run in enumerate(runs):
        run.device, run.precision = engine.device_name(trainer), str(trainer.precision)
        row = {f"{split}_{name}": each[i][name] for split, each in found.items() for name in ("loss", "acc")}
        rows.append(row | {"test_acc_stop": at_stop[i]["acc"], "start_test_acc": before[i]["acc"]})
    return rows


def _measure(trainer: pl.Trainer, model: Classifier, data: ImageDataModule, split: Any) -> list[dict[str, float]]:
    with data.evaluating(split):
        trainer.test(model, datamodule=data, verbose=False)
    return [dict(values) for values in results(model, "test")]


def _barrier(
    options: dict[str, Any], data: ImageDataModule, ours: dict[str, Tensor], theirs: dict[str, Tensor], seed: int
) -> float:
    network = Classifier(**options, seed=seed).network
    assert network is not None
    network.eval()
    test = data.dataset("test")
    assert isinstance(test, ImageArrays)  # all replicas have the same
    assert isinstance(test.x, Tensor)
    x, y = data.eval_transform(test.x).cpu(), test.y.cpu()

    @torch.no_grad()
    def error(state: dict[str, Tensor]) -> float:
        network.load_state_dict(state)
        wrong = sum(
            int((network(part).argmax(1) != label).sum())
            for part, label in zip(torch.split(x, 1000), torch.split(y, 1000), strict=True)
        )
        return 100 * wrong / len(y)

    return error_barrier(error, ours, theirs, POINTS).barrier
