"""The tasks of Zhou et al. (1905.01067): masks on weights that are never trained, from a trained net or learned."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from frankle2019.starts import Level

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.core import rng
from lightning_regs.core.lightning import NAMESPACE, pl
from lightning_regs.core.runs import RunContext
from lightning_regs.data.dataset import ImageArrays
from lightning_regs.pruning import Pruning
from lightning_regs.pruning.supermask import add_supermask, apply_supermask, learned_mask
from lightning_regs.training import fit as engine
from lightning_regs.training.recorder import EpochCheckpoint, EpochRecorder, resumable
from lightning_regs.training.replicas import Replicated

# Masks sampled for one accuracy.
SAMPLES = 10


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
    (folder,) = run.inputs.values()
    dense = Level.load(folder)
    data = ImageDataModule(**config["data"], seed=run.seed)
    data.prepare_data()
    data.setup()
    shapes: dict[str, Any] = {"input_shape": data.input_shape, "num_classes": data.num_classes}
    network = Classifier(**config["model"], **shapes, seed=run.seed).network
    assert network is not None
    network.eval()
    pruning = Pruning(**config["pruning"])

    @torch.no_grad()
    def accuracy(split: str, level: int) -> tuple[float, float]:
        mask = pruning.one_shot(dense.mask, dense.initial, dense.final, level)
        signed = config["weights"] == "signed_constant"
        network.load_state_dict(apply_supermask(dense.initial, mask, signed_constant=signed))
        images = data.dataset(split)
        assert isinstance(images, ImageArrays)  # there are no replicas
        assert isinstance(images.x, torch.Tensor)
        parts = zip(torch.split(data.eval_transform(images.x), 1000), torch.split(images.y, 1000), strict=True)
        right = sum(int((network(x).argmax(1) == y).sum()) for x, y in parts)
        return 100 * right / len(images), 100 * mask.density

    found = [accuracy("val", level)[0] for level in range(int(config["levels"]) + 1)]
    best = max(range(len(found)), key=found.__getitem__)
    test, p_m = accuracy("test", best)
    run.restore_curves([{"step": level, "val_acc": value} for level, value in enumerate(found)])
    return {"test_acc": test, "val_acc": found[best], "p_m": p_m, "level": float(best)}


def learned(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Learn a Bernoulli mask on the initial weights.

    Args:
        config: ``{"model": ..., "data": ..., "trainer": ...}`` as for :func:`lightning_regs.training.fit.train`, and
            ``"supermask"``: arguments of :func:`~lightning_regs.pruning.supermask.add_supermask`.
        run: The engine's run. An interrupted one goes on from its last saved epoch.

    Returns:
        ``test_acc``, ``val_acc`` and ``train_acc``: means over sampled masks; ``density``: mean probability, in
        percent, that a weight is kept.
    """
    return _learn([config], [run])[0]


def stacked(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Learn several masks at once, as replicas of one net; see :func:`learned`.

    Raises:
        ValueError: If they differ in more than the kind of weights, and whether they are rescaled.
    """
    shared = [{name: value for name, value in config.items() if name != "supermask"} for config in configs]
    if any(other != shared[0] for other in shared):
        raise ValueError("masks that are learned together differ in their weights only; give the others another stack")
    # Rescaling is part of the net's code, which replicas share.
    rows: list[dict[str, float] | None] = [None] * len(runs)
    for rescale in (False, True):
        chosen = [i for i, c in enumerate(configs) if bool(c["supermask"].get("rescale")) == rescale]
        if chosen:
            found = _learn([configs[i] for i in chosen], [runs[i] for i in chosen])
            for i, row in zip(chosen, found, strict=True):
                rows[i] = row
    return [row for row in rows if row is not None]


learned.stacked = stacked  # type: ignore[attr-defined]


def _learn(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    logging.getLogger(NAMESPACE).setLevel(logging.WARNING)
    config, seeds = configs[0], [run.seed for run in runs]
    replicas = seeds if len(runs) > 1 else None
    data = ImageDataModule(**config["data"], seed=seeds[0], replicas=replicas)
    data.prepare_data()
    data.setup()
    shapes: dict[str, Any] = {"input_shape": data.input_shape, "num_classes": data.num_classes}
    networks = []
    for own, run in zip(configs, runs, strict=True):
        network = Classifier(**own["model"], **shapes, seed=run.seed).network
        assert network is not None
        networks.append(add_supermask(network, **own["supermask"]))
    options = {name: value for name, value in config["model"].items() if not name.startswith("architecture")}
    architecture = Replicated(networks) if replicas else networks[0]
    model = Classifier(architecture, **options, **shapes, seed=seeds[0], replicas=replicas)
    last = runs[0].folder / f"last-{len(runs)}-{runs[-1].folder.name}.ckpt"
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
            callbacks=[EpochRecorder(runs), EpochCheckpoint(last)],
            **config["trainer"],
        )
        trainer.fit(model, datamodule=data, ckpt_path=resumable(last))
        # The masks of an evaluation are drawn from torch's global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.derive_seed(seeds[0], "frankle2019 sampled masks"))
            found = {split: _sampled(trainer, model, data, split) for split in ("train", "val", "test")}
    rows = []
    for i, run in enumerate(runs):
        if isinstance(architecture, Replicated):
            networks[i].load_state_dict(architecture.state_of(i))
        probabilities = torch.cat([p.flatten().cpu() for p in learned_mask(networks[i]).values()])
        run.device, run.precision = engine.device_name(trainer), str(trainer.precision)
        run.epochs = trainer.current_epoch
        row = {f"{split}_acc": values[i] for split, values in found.items()}
        rows.append(row | {"density": 100 * float(probabilities.mean())})
    return rows


def _sampled(trainer: pl.Trainer, model: Classifier, data: ImageDataModule, split: Any) -> list[float]:
    """Return each net's accuracy, a mean over masks."""
    samples = []
    for _ in range(1 if split == "train" else SAMPLES):
        with data.evaluating(split):
            trainer.test(model, datamodule=data, verbose=False)
        each = [model.results["test"]] if model.replicas is None else model.replica_results["test"]
        samples.append([values["acc"] for values in each])
    return [sum(own) / len(own) for own in zip(*samples, strict=True)]
