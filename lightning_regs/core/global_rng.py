"""The global random streams: of torch on the CPU and this process's GPU, of NumPy and of Python.

Nothing of ours draws from them. What a user's modules and data sets draw, and ``shuffle=True``, can be replayed.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

_SEED = "PL_GLOBAL_SEED"  # what Lightning's seed_everything sets, and what distributed samplers read


def seed_all(seed: int) -> None:
    """Seed every global stream.

    Args:
        seed: At least 0; NumPy takes its lower 32 bits.
    """
    random.seed(seed)
    # A user's own data sets and modules draw from it, and Lightning neither saves nor restores it.
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


def states() -> dict[str, Any]:
    """Return the states of all global streams, as plain types and tensors."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    # Asking for the GPU's would start CUDA, after which no process can be forked.
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {
        "python": random.getstate(),
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if started else None,
    }


def set_states(saved: dict[str, Any]) -> None:
    """Set all global streams to what :func:`states` returned."""
    version, internal, gauss = saved["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = saved["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(saved["torch"].cpu())
    if saved["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"].cpu())


def states_by_rank() -> list[dict[str, Any]]:
    """Return the states of all streams in each process of a training; collective."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [states()]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, states())
    return gathered


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Leave the global streams, and the seed that Lightning remembers, as they were."""
    before, seed = states(), os.environ.get(_SEED)
    try:
        yield
    finally:
        set_states(before)
        remember(seed)


def remember(seed: int | str | None) -> None:
    """Set the seed that Lightning remembers, or forget it."""
    if seed is None:
        os.environ.pop(_SEED, None)
    else:
        os.environ[_SEED] = str(seed)
