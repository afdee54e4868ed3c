"""The GPUs of this machine, and how several runs share them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_regs.study.run.events import Stack

_ROOM = 4096  # MiB that a run is thought to need: a net of the papers here, its data, and what CUDA takes for itself
_SETTLES = 30.0  # seconds after which a run's memory is in what the card says
_LOOK_EVERY = 2.0


@dataclass(frozen=True)
class Memory:
    """What a card says of its memory, in MiB."""

    free: int
    total: int


def look() -> dict[str, Memory]:
    """Return the memory of the GPUs that this process may use, by their names for ``CUDA_VISIBLE_DEVICES``.

    It is empty where there are none, or none that ``nvidia-smi`` knows. No CUDA is started for it, which would take
    memory itself.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "" or (program := shutil.which("nvidia-smi")) is None:
        return {}
    command = [program, "--query-gpu=uuid,memory.free,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(  # noqa: S603
            command + ([f"--id={visible}"] if visible else []), capture_output=True, text=True, check=True, timeout=20
        )
        lines = [line.split(", ") for line in answer.stdout.splitlines()]
        return {uuid: Memory(int(free), int(total)) for uuid, free, total in lines}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def devices(config: Mapping[str, Any]) -> int:
    """Return how many devices a cell's configuration asks for.

    Raises:
        ValueError: If it says which: a process sees those alone that it is given, numbered from 0.
    """
    given = asked = _trainer(config).get("devices", 1)
    if isinstance(asked, str):  # as Lightning reads it: "0,1" names two, "2" is how many, "auto" is what it is given
        asked = asked.split(",") if "," in asked else int(asked) if asked.isdecimal() else 1
    if isinstance(asked, (list, tuple)):
        named = [str(card).strip() for card in asked if card != ""]
        if sorted(named) != sorted(map(str, range(len(named)))):
            raise ValueError(
                f"trainer.devices is {given!r}; give how many devices a run has ({len(named)}): which ones is chosen "
                "for it, of those that CUDA_VISIBLE_DEVICES lets it see."
            )
        asked = len(named)
    return max(1, asked if isinstance(asked, int) else 1)


def keeps_to_cpu(config: Mapping[str, Any]) -> bool:
    """Tell whether a cell's configuration says that no GPU is used."""
    return _trainer(config).get("accelerator") == "cpu"


def loses_stacked(config: Mapping[str, Any]) -> bool:
    """Tell whether a GPU takes longer over runs of a cell as replicas than over one after another.

    It does over nets with convolutions, which are grouped ones in a stack: 3 small Inceptions on an H100 took 33.1 ms a
    step together, and 29.3 one after another. Of ``models`` the nets of linear layers are ``mlp``.
    """
    model = config.get("model")
    return isinstance(model, Mapping) and model.get("architecture", "mlp") != "mlp" and not keeps_to_cpu(config)


def _trainer(config: Mapping[str, Any]) -> Mapping[str, Any]:
    trainer = config.get("trainer")
    return trainer if isinstance(trainer, Mapping) else {}


class Cards:
    """Tells which GPUs the next runs may use, by the memory of each that is free.

    Where there are not ``several`` to choose from, a process sees what it always saw.
    """

    def __init__(self, look: Callable[[], Mapping[str, Memory]] = look) -> None:
        self._look = look
        self._seen, self._seen_at = look(), time.monotonic()
        self.several = len(self._seen) > 1
        self._began: list[tuple[tuple[str, ...], float]] = []

    def jobs(self, cores: int) -> int:
        """Return how many runs at once cores and cards carry."""
        rooms = [max(1, memory.total // _ROOM) for memory in self._seen.values()]
        return min(cores, sum(rooms)) if rooms else cores

    def place(self, stack: Stack, running: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
        """Return the cards that runs may use: none where they need none; None while there is no room beside others."""
        number = max(devices(job.config) for job in stack)
        if not self._seen or all(keeps_to_cpu(job.config) for job in stack):
            return ()
        now = time.monotonic()
        if now - self._seen_at > _LOOK_EVERY:
            self._seen, self._seen_at = self._look() or self._seen, now  # a driver that is busy may not answer
        busy = [card for cards in running for card in cards or ()]
        free: dict[str, float] = {}
        for card, memory in self._seen.items():
            young = sum(now - at < _SETTLES for cards, at in self._began if card in cards)
            free[card] = memory.free - _ROOM * min(young, busy.count(card))
        best = sorted(free, key=lambda card: (-free[card], busy.count(card)))[:number]
        if any(free[card] < _ROOM and card in busy for card in best):
            return None
        chosen = tuple(sorted(best))
        self._began.append((chosen, now))
        return chosen
