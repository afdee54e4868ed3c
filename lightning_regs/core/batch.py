"""What is known about the samples of a batch beside their labels; it travels on the labels.

A batch stays the list ``[x, y]`` that any module unpacks, and every hook, step and metric that is given ``y`` can ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def notes(labels: Tensor) -> dict[str, Tensor]:
    """Return what is known about the samples: name -> a tensor with one entry a sample; empty where nothing is.

    ``corrupted``, bool: where the label was changed.
    """
    found: dict[str, Tensor] = getattr(labels, "_notes", {})
    return found


def with_notes(labels: Tensor, known: Mapping[str, Tensor]) -> Tensor:
    """Return the same labels, with these notes on them instead of others."""
    labels._notes = dict(known)  # type: ignore[attr-defined]
    return labels


def describe(batch: Any) -> str:
    """Say what a batch is, as a noun with its article."""
    name = type(batch).__name__
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    if isinstance(batch, dict):
        return f"{article} {name} with the keys {sorted(map(str, batch))}"
    if isinstance(batch, (list, tuple)):
        parts = ", ".join(type(part).__name__ for part in batch)
        return f"{article} {name} of {len(batch)} ({parts})"
    return f"{article} {name}"
