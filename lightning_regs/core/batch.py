"""What is known about the samples of a batch beside their labels; it travels on the labels.

A batch stays the list ``[x, y]`` that any module unpacks, and every hook, step and metric that is given ``y`` can ask.
"""

from __future__ import annotations

from collections.abc import Mapping

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
