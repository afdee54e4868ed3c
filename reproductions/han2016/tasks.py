"""The task of a cell: one stage of Deep Compression, from what the stage before left, alone or stacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lightning_regs.core import rng
from lightning_regs.core.checks import seeds_apart
from lightning_regs.core.runs import RunContext
from lightning_regs.data import ImageDataModule
from lightning_regs.procedures.level import LevelState, handed_on
from lightning_regs.procedures.splits import batches, correct
from lightning_regs.procedures.starts import Start, held
from lightning_regs.pruning import Compressed, Mask, Pruning, compress, decompress, prunable, share_weights
from lightning_regs.study import override
from lightning_regs.training.fit import data_of, fit_stack, initial_network, shared, stackable

FILE = "net.compressed"


@stackable
def stage(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train the last of some stages, of one net or of several as replicas of one.

    Args:
        configs: ``{"model": ..., "data": ..., "trainer": ...}`` as for :func:`~lightning_regs.training.fit.fit`, and
            ``"stages"``: those up to this one, ``{"epochs": ..., "lr": ...}`` each. One that prunes has ``"keep"``:
            glob -> share of a layer's weights, by magnitude; one that shares weights has ``"bits"``: glob -> bits, and
            ``"start"``: where k-means starts.
        runs: The engine's; ``run.inputs`` is the run of the stage before.

    Returns:
        The metrics of :func:`~lightning_regs.training.fit.fit`; ``start_test_error`` before the training, of all but
        the first stage; and of those see :func:`sizes`.

    Raises:
        ValueError: If the configurations differ.
    """
    config = shared(configs)
    now: Mapping[str, Any] = config.pop("stages")[-1]
    config = override(config, {"model.optimizer.lr": now["lr"], "trainer.max_epochs": now["epochs"]})
    data, apart = data_of(config, *runs), seeds_apart(config)
    networks = [initial_network(config["model"], data, apart.get("weights", run.seed)) for run in runs]
    masks, at_start = [], [dict[str, float]() for _ in runs]
    for run, network, row in zip(runs, networks, at_start, strict=True):
        for before in handed_on(run).values():
            network.load_state_dict(before.final)
        if "keep" in now:
            masks.append(pruned(network, now["keep"]))
            network.load_state_dict(masks[-1].apply(network.state_dict()))
        if "bits" in now:
            draws = rng.generator(run.seed, "han2016 k-means")
            share_weights(network, now["bits"], now.get("start", "linear"), draws)
        if run.inputs:
            row["start_test_error"] = 100 - 100 * correct(network.eval(), data, "test").double().mean().item()
            network.train()
    callbacks = [held([Start({}, mask) for mask in masks])] if masks else []
    found, rows = fit_stack(config, runs, callbacks, networks, data), []
    for i, (run, trained, row) in enumerate(zip(runs, found, at_start, strict=True)):
        network, measured = trained.network(), {}
        if "bits" in now:
            fresh = initial_network(config["model"], data, run.seed + 1)
            measured = sizes(compress(network, run.folder / FILE, 8), run.folder / FILE, network, fresh, data)
        else:
            own = masks[i] if masks else Mask.dense(prunable(network))
            state, facts = trained.state(), {"of": run.folder.name}
            LevelState({}, {}, state, own, facts).save(run.folder)
        rows.append(trained.metrics | row | measured)
    found[0].checkpoint.unlink(missing_ok=True)
    return rows


def pruned(network: nn.Module, keep: Mapping[str, float]) -> Mask:
    """Return the mask of the greatest weights of each layer, by the share that its first glob keeps."""
    pruning = Pruning(rates={glob: 1 - share for glob, share in keep.items()})
    weights = network.state_dict()
    return pruning.next(pruning.start(network), weights, weights)


@torch.no_grad()
def sizes(made: Compressed, file: Any, network: nn.Module, fresh: nn.Module, data: ImageDataModule) -> dict[str, float]:
    """Return what a compressed net takes, and whether its file is the net.

    Returns:
        Of the weights of layers alone, as the paper counts, how many times smaller they are after a stage:
        ``rate_pruned``, ``rate_quantized`` and ``rate_huffman``; ``rate_all`` of the last with biases and
        ``kilobytes`` (1,000 bytes) of it, ``rate_file`` of the file; by how many percent that is larger,
        ``file_overhead``. ``saved_by_huffman`` in percent; ``weights_share``, of weights in percent of weights and
        indices; ``kept_weights`` in percent; bits of an entry in Huffman code, ``bits_weight`` and ``bits_index``, and
        by layer, ``bits_weight_1``, ...; ``same_outputs``: the share in percent of the test images on which a net with
        the weights of the file gives the same logits, bit for bit.
    """
    layers, everything = list(made.weights.values()), made.stages["huffman"]
    stages = {stage: bits - made.others for stage, bits in made.stages.items()}
    entries, weights, gaps = (sum(getattr(c, key) for c in layers) for key in ("entries", "huffman", "huffman_index"))
    found = {f"rate_{stage}": stages["dense"] / stages[stage] for stage in ("pruned", "quantized", "huffman")}
    found |= {"rate_all": made.rates["huffman"], "rate_file": made.rates["file"], "kilobytes": everything / 8000}
    found |= {"file_overhead": 100 * (8 * made.file / everything - 1)}
    found |= {"saved_by_huffman": 100 * (1 - stages["huffman"] / stages["quantized"])}
    found |= {"weights_share": 100 * weights / (weights + gaps)}
    found |= {"kept_weights": 100 * sum(c.kept for c in layers) / sum(c.total for c in layers)}
    found |= {"bits_weight": weights / entries, "bits_index": gaps / entries}
    for i, c in enumerate(layers, 1):
        found |= {f"bits_weight_{i}": c.huffman / c.entries, f"bits_index_{i}": c.huffman_index / c.entries}
    decompress(file, fresh)
    fresh.eval()
    same = torch.cat([(fresh(x) == network(x)).all(1) for x, _ in batches(data, "test", torch.device("cpu"))])
    return found | {"same_outputs": 100 * same.double().mean().item()}
