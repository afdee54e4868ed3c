"""The search for topologies that classify whatever weight their connections share: NEAT's operators, two aims."""

from __future__ import annotations

import contextlib
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lightning_regs.core import rng
from lightning_regs.core.checks import Count, NotNegative, Range, Seed, Shape, Share, as_text, checked, nonempty, warn
from lightning_regs.core.files import DamagedFileError, load, lock, whole
from lightning_regs.core.identity import canonical, digest, identity
from lightning_regs.procedures.agnostic.graphs import ACTIVATIONS, Graph, accuracies, losses, packed, unpacked
from lightning_regs.procedures.agnostic.operators import finite, first_graphs, next_graphs
from lightning_regs.procedures.agnostic.weight_agnostic_net import WeightAgnosticNet

Activation = Literal["linear", "step", "sin", "gaussian", "tanh", "sigmoid", "inverse", "absolute", "relu", "cos"]
Mutation = Literal["node", "connection", "activation", "enable"]
MUTATIONS: dict[Mutation, float] = {"node": 0.25, "connection": 0.2, "activation": 0.5, "enable": 0.05}
WEIGHTS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
_ALL = "a tensor of all samples; of a loader that keeps their order, x, y = map(torch.cat, zip(*loader))"
_Part = Annotated[float, Range(0, below=1)]


@checked
def find_topology(
    x: Annotated[Tensor, _ALL, Shape("N D ...", "floating-point")],
    y: Annotated[Tensor, Shape("N", "integer")],
    *,
    population: Annotated[int, Range(2)] = 960,
    generations: Count = 4096,
    batch_size: Count = 1000,
    weights: Annotated[Sequence[float], nonempty] = WEIGHTS,
    activations: Annotated[Sequence[Activation], nonempty] = get_args(Activation)[:1] + get_args(Activation)[2:],
    mutations: Mapping[Mutation, NotNegative] = MUTATIONS,
    enabled: Share = 0.05,
    by_connections: Share = 0.8,
    cull: _Part = 0.2,
    elite: _Part = 0.2,
    tournament: Count = 64,
    folder: Annotated[str | os.PathLike[str], as_text, nonempty] | None = None,
    seed: Seed | None = None,
    checkpoint_every: NotNegative = 20.0,
    on_generation: Callable[[dict[str, float]], object] | None = None,
) -> WeightAgnosticNet:
    r"""Search for a topology that classifies with any weight that all its connections share.

    Gaier & Ha, "Weight Agnostic Neural Networks" (2019, arXiv:1906.04358): the first candidates connect inputs and
    outputs at random. In each generation all candidates are evaluated on the same new batch, with each of the shared
    ``weights`` and no training. They are ranked by non-dominated sorting (Deb et al. 2002) on the mean loss over
    weights, and on the number of connections or, with probability 1 - ``by_connections``, on the loss at the best
    weight; those without a connection come last. The last are culled, the elite lives on, and children are winners of
    tournaments with one change of topology: NEAT's (Stanley & Miikkulainen 2002), without crossover, species or
    weights. Afterwards the elite is evaluated on all samples, and the candidate of the least mean loss is the champion:
    the loss on one batch prefers the lucky.

    All candidates of a generation, all weights and all samples are one pass over one graph. The search is a function of
    its arguments: killed and called again with the same ``folder`` it goes on, with the same result bit for bit.

    Does not help: where weights can be trained, a net of usual layers reaches more in a fraction of the time.

    Example:
        ``net = find_topology(x, y, population=96, generations=200, batch_size=300)``; then ``net.share(1.5)``, or train
        its ``weights``.

    Args:
        x: Training samples of D numbers ``(N, ...)``, best in [0, 1]; candidates are evaluated on their device, in
            their precision.
        y: Classes ``(N,)`` from 0 on, below N; there are as many outputs as the largest says.
        population: Candidates in a generation, at least 2.
        generations: How many, at least 1.
        batch_size: Samples that a generation is evaluated on, at most N.
        weights: The shared weights, none of them 0.
        activations: Those that hidden nodes draw from; default: all of the paper's but ``"step"``.
        mutations: How likely which change is, in proportion: ``"node"`` splits a connection, ``"connection"`` adds one,
            ``"activation"`` changes that of a hidden node, ``"enable"`` switches on one that is off. Where a graph has
            no place for a change it stays as it is.
        enabled: Share of the connections of inputs and outputs that are on in the first generation, in [0, 1].
        by_connections: Probability that the second aim is few connections.
        cull: Share of candidates that have no children, in [0, 1).
        elite: Share of the others that live on unchanged, in [0, 1).
        tournament: Candidates drawn, of which the first by rank has a child; the authors' code draws 32 twice.
        folder: Where the search is kept; None keeps nothing.
        seed: Default: what ``seed_everything`` was given, else 0.
        checkpoint_every: Seconds between the states that are kept.
        on_generation: Is called after each generation with its ``"step"``, the least mean loss of the population on the
            batch, ``"train_loss"``, and of that candidate accuracy in percent and connections, ``"train_acc"`` and
            ``"connections"``.

    Returns:
        The champion, in which all weights are the one of ``weights`` that has the least loss on all samples.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If one is outside its range, or does not go with another, or the folder is of another search.
        RuntimeError: If the population dies out: no candidate has a connection, or a loss that is a number; or if
            another search is at work in the folder.
    """
    options = dict(locals())
    x, y, seed = x.flatten(1), y.long(), rng.run_seed(seed)
    if not x.numel():
        raise ValueError(f"x of shape {tuple(options['x'].shape)} is empty; give samples, of at least one number each.")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x holds NaN or infinite values; repair or drop these samples.")
    if int(y.min()) < 0 or not 0 < int(y.max()) < len(x):
        ends = f"y reaches from {int(y.min())} to {int(y.max())}"
        raise ValueError(f"{ends}; give classes from 0 on, at least two and at most as many as the {len(x)} samples.")
    if batch_size > len(x):
        raise ValueError(f"batch_size={batch_size} is more than the {len(x)} samples of x; take at most as many.")
    if 0 in weights:
        raise ValueError(f"weights={list(weights)} has 0, with which no input reaches an output; leave it out.")
    if not sum(mutations.values()):
        raise ValueError(f"mutations={dict(mutations)} leaves nothing to change; make one likelier than 0.")
    kept = {"x", "y", "folder", "checkpoint_every", "on_generation"}
    of = canonical({name: value for name, value in options.items() if name not in kept} | {"seed": seed})
    of = identity(of + digest({"x": x, "y": y}))
    path = None if folder is None else Path(folder).expanduser().absolute() / "search.pt"
    allowed = [list(ACTIVATIONS).index(name) for name in activations]
    changes = {name: mutations[name] for name in MUTATIONS if name in mutations}  # in one order, whatever theirs
    breeding = (allowed, changes, by_connections, cull, elite, tournament)
    with contextlib.nullcontext() if path is None else lock(path.parent, partial(_refuse, path.parent), ".lock"):
        begin, graphs = (0, None) if path is None or not path.exists() else _kept(path, of)
        if graphs is None:
            graphs = first_graphs(population, x.shape[1], int(y.max()) + 1, enabled, _draws(seed, "topology start"))
        saved = time.monotonic()
        for generation in range(begin, generations):
            last = generation + 1 == generations
            if path is not None and (last or time.monotonic() - saved >= checkpoint_every):
                with whole(path) as part:
                    torch.save({"of": of, "generation": generation} | packed(graphs), part)
                saved = time.monotonic()
            some = torch.randperm(len(x), generator=rng.generator(seed, "topology batch", generation))[:batch_size]
            found = losses(graphs, x[some], y[some], weights).cpu().numpy()
            found[[not graph.connections for graph in graphs]] = np.inf  # what knows no input has nothing to pass on
            means = finite(found.mean(1))
            best = int(means.argmin())
            if not np.isfinite(found[best]).all():
                raise RuntimeError(
                    f"the population died out: in generation {generation + 1} no candidate has a connection and a loss "
                    f"that is a number; scale x to [0, 1], or take smaller weights, or more than enabled={enabled}."
                )
            if on_generation is not None:
                accuracy = float(accuracies(graphs[best], x[some], y[some], weights).mean())
                row = {"step": generation + 1, "train_loss": float(means[best]), "train_acc": accuracy}
                on_generation(row | {"connections": graphs[best].connections})
            if not last:
                graphs = next_graphs(graphs, found, _draws(seed, "topology", generation), *breeding)
    order = [i for i in np.argsort(means, kind="stable") if graphs[i].connections]
    finalists = [graphs[i] for i in order[: max(1, int(elite * population))]]
    whole_set = losses(finalists, x, y, weights).cpu().numpy()
    champion = int(finite(whole_set.mean(1)).argmin())
    if not np.isfinite(whole_set[champion]).all():
        raise RuntimeError(
            "the population died out: none of the elite has a loss on all samples that is a number; scale x to [0, 1], "
            "or take smaller weights."
        )
    return WeightAgnosticNet(finalists[champion], weights[int(whole_set[champion].argmin())])


def _refuse(folder: Path, _: int | None) -> None:
    raise RuntimeError(f"another search is at work in {folder}; wait for it, or give another folder.")


def _draws(seed: int, purpose: str, *position: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(rng.derive_seed(seed, purpose, *position)))


def _kept(path: Path, of: str) -> tuple[int, list[Graph] | None]:
    """Return the generation that a search goes on with, and its candidates; none where they are damaged."""
    try:
        state = load(path)
    except DamagedFileError as error:
        warn(f"{error}, and the search starts over.")
        return 0, None
    except pickle.UnpicklingError:  # of objects, which no search keeps
        state = {}
    if state.get("of") != of:
        raise ValueError(f"{path} is of a search with other arguments or data; give another folder, or remove it.")
    return state["generation"], unpacked(state)
