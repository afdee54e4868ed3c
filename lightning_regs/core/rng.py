"""Random streams that never touch each other.

Every draw in the package comes from a generator seeded by (run seed, purpose, position): data order, corruption,
augmentation, initialisation and regularizers each have their own purpose, so changing one leaves the others as they
were, and any epoch can be replayed without replaying the epochs before it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import torch


def derive_seed(seed: int, purpose: str, *position: int) -> int:
    """Derive the seed of one stream, in ``[0, 2**63)``: equal on every machine and Python version.

    Its purpose is for example ``"augmentation"``; its position is where in the run it is: epoch, batch, rank, in an
    order that the caller fixes.
    """
    text = ":".join([str(int(seed)), purpose, *(str(int(p)) for p in position)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *position: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh ``torch.Generator`` for one stream; the arguments are those of :func:`derive_seed`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, purpose, *position))


def run_seed(seed: int | None) -> int:
    """Resolve a seed argument: the number itself, else what ``seed_everything`` was last given, else 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else int(seed)


def replica_seeds(replicas: int | Sequence[int] | None, seed: int) -> tuple[int, ...] | None:
    """Return the seeds of the replicas: those given, or for a number R ``seed, seed + 1, ..., seed + R - 1``.

    Args:
        replicas: How many, or their seeds; None for an ordinary, single net.
        seed: The run's seed.
    """
    if replicas is None:
        return None
    if type(replicas) is int:
        if replicas < 1:
            raise ValueError(f"replicas is {replicas}; give at least 1, or None for a single net.")
        return tuple(range(seed, seed + replicas))
    seeds: object = replicas
    if not isinstance(seeds, (list, tuple, range)) or any(type(s) is not int for s in seeds):
        raise TypeError(f"replicas must be a number or a list of whole numbers, the seeds, got {replicas!r}.")
    if not seeds:
        raise ValueError("replicas is an empty list; give one seed a replica, or None for a single net.")
    return tuple(seeds)
