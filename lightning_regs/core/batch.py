"""Where samples and labels are in a batch, and what is known about the samples beside; it travels on the labels.

A batch stays the list or the dict that its module unpacks, and every hook, step and metric that is given ``y`` can ask.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Annotated, Any

import torch
from torch import Tensor

from lightning_regs.core.lightning import MisconfigurationException

Key = str | int
# What data sets for images call them; where a batch has two of the same kind, its owner has to say which is meant.
SAMPLES = ("image", "images", "img", "imgs", "pixel_values", "x", "input", "inputs")
LABELS = ("label", "labels", "y", "target", "targets", "mask", "masks")

REPLACES = "replaces the samples and labels of a batch in place"


def _differ(name: str, keys: tuple[Key, Key] | None) -> tuple[Key, Key] | None:
    if keys is not None and keys[0] == keys[1]:
        raise ValueError(f"{name} must be two keys, of samples and of labels, got {keys!r}.")
    return keys


Keys = Annotated[tuple[Key, Key] | None, 'the keys of samples and labels, ("image", "label") or (0, 1)', _differ]


def find_keys(batch: Any, keys: tuple[Key, Key] | None, method: str, does: str = REPLACES) -> tuple[Key, Key]:
    """Return the keys of samples and labels in a batch, a list, a mapping or an object, that can be changed in place.

    Without ``keys`` they are those of ``[x, y]``, or the usual names of a mapping; ``method`` is what changes them, or
    does what else is said.
    """
    if keys is None and isinstance(batch, list) and len(batch) == 2:
        keys = 0, 1
    elif keys is None and isinstance(batch, MutableMapping):
        samples, labels = ([name for name in usual if name in batch] for usual in (SAMPLES, LABELS))
        keys = (samples[0], labels[0]) if len(samples) == len(labels) == 1 else None
    if isinstance(batch, tuple):
        reason = "in which nothing can be replaced"
    elif keys is None:
        reason = "in which they are not known, as one key alone would be"
    else:
        missing = [key for key in keys if not isinstance(take(batch, key), Tensor)]
        if not missing:
            return keys
        part = take(batch, missing[0])
        kind = "missing" if part is None else f"{describe(part)} and no tensor"
        reason = f"in which {missing[0]!r} is {kind}"
    say = "" if isinstance(batch, tuple) else f'say where they are by {method}(batch=("image", "label")) or (0, 1), or '
    raise MisconfigurationException(
        f"{method} {does}, and this one is {describe(batch)}, {reason}: "
        f"{say}let your collate_fn or on_after_batch_transfer end with `return [x, y]`."
    )


def read(batch: Any, keys: tuple[Key, Key] | None, method: str) -> list[Any]:
    """Return samples and labels of a batch, which is not changed, so that it may be a tuple."""
    batch = list(batch) if isinstance(batch, tuple) else batch
    return [take(batch, key) for key in find_keys(batch, keys, method, "reads the samples and labels of a batch")]


def take(batch: Any, key: Key) -> Any:
    """Return a part of a batch, None where it has none."""
    try:
        items: Any = batch if isinstance(batch, (list, Mapping)) else vars(batch)
        return items[key]
    except (LookupError, TypeError):
        return None


def replace(batch: Any, keys: tuple[Key, Key], x: Tensor, y: Tensor, method: str) -> None:
    """Replace samples and labels in a batch."""
    items: Any = batch if isinstance(batch, (list, MutableMapping)) else vars(batch)
    if len(items) > 2 and len(x) != len(items[keys[0]]):
        raise MisconfigurationException(
            f"{method} makes {len(x)} samples of {len(items[keys[0]])}, and this batch is {describe(batch)}, whose "
            "other parts would no longer go with them; leave those out, or use an option that keeps their number."
        )
    items[keys[0]], items[keys[1]] = x, y


def check_indices(name: str, index: Tensor, *sizes: int) -> None:
    """Refuse places that are not there: ``index`` ``(N,)`` of one size, or ``(N, D)`` of D.

    On a CPU only, and not while torch compiles: elsewhere it would wait for all that the device has queued.
    """
    if index.device.type != "cpu" or not index.numel() or torch.compiler.is_compiling():
        return
    for column, size in zip(index.view(len(index), -1).T, sizes, strict=True):
        low, high = (end.item() for end in torch.aminmax(column))
        if not (low >= 0 and high < size):
            raise ValueError(f"{name} must be in 0 to {size - 1}, got {high if low >= 0 else low}.")


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
    if isinstance(batch, Mapping):
        return f"{article} {name} with the keys {sorted(map(str, batch))}"
    if isinstance(batch, (list, tuple)):
        parts = ", ".join(type(part).__name__ for part in batch)
        return f"{article} {name} of {len(batch)} ({parts})"
    return f"{article} {name}"
