"""Numbers of every batch, read without waiting for the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Watch:
    """Reads what is computed of each batch: at once on a CPU, and of the first batch; else once it has arrived."""

    def __init__(self) -> None:
        self._started = False
        self._on_their_way: deque[tuple[Tensor, Any]] = deque()

    def read(self, numbers: Tensor) -> Iterator[list[float]]:
        """Take the numbers ``(k,)`` of a batch, and yield those of batches that have arrived since."""
        numbers = numbers.detach()
        if not numbers.is_cuda or not self._started:
            self._started = True
            yield numbers.tolist()
            return
        arrived: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._on_their_way.append((numbers.to("cpu", non_blocking=True), arrived))
        arrived.record()
        while self._on_their_way and self._on_their_way[0][1].query():
            yield self._on_their_way.popleft()[0].tolist()
