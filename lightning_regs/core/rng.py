"""Random streams that never touch each other.

Every draw in the package comes from a generator seeded by (run seed, purpose, position): data order, corruption,
augmentation, initialisation and regularizers each have their own purpose, so changing one leaves the others as they
were, and any epoch can be replayed without replaying the epochs before it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Annotated

import torch

from lightning_regs.core.checks import Count, Seed, checked, nonempty


def derive_seed(seed: int, purpose: str, *position: int) -> int:
    """Derive the seed of one stream, in ``[0, 2**63)``: equal on every machine and Python version.

    Its purpose is for example ``"augmentation"``; its position is where in the run it is: epoch, batch, rank, in an
    order that the caller fixes.
    """
    text = ":".join([str(int(seed)), purpose, *(str(int(p)) for p in position)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *position: int) -> torch.Generator:
    """Return a fresh ``torch.Generator`` for one stream; the arguments are those of :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *position))


def run_seed(seed: int | None) -> int:
    """Resolve a seed argument: the number itself, else what ``seed_everything`` was last given, else 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else int(seed)


@checked
def replica_seeds(replicas: Count | Annotated[Sequence[Seed], nonempty] | None, seed: int) -> tuple[int, ...] | None:
    """Return the seeds of the replicas: those given, or for a number R ``seed, seed + 1, ..., seed + R - 1``."""
    if replicas is None:
        return None
    return tuple(range(seed, seed + replicas) if isinstance(replicas, int) else replicas)
