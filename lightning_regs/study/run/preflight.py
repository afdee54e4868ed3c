"""What can be known to fail before the first run starts: data that are nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def prepare_data(configs: Iterable[Mapping[str, Any]]) -> None:
    """Find, or download once and in one process, every data set that the configurations name.

    Args:
        configs: Configurations of cells; the data set is ``data.source`` of a training, ``source`` of other tasks.

    Raises:
        ValueError: If one of them is unknown.
        FileNotFoundError: If one is nowhere and cannot be downloaded; the message lists where it was looked for.
    """
    wanted: dict[tuple[str, str | None], None] = {}
    for config in configs:
        section = config.get("data", config)
        if isinstance(section, Mapping) and isinstance(section.get("source"), str):
            wanted[section["source"], section.get("root")] = None
    if wanted:
        from lightning_regs.data.sources import prepare  # imports torch, which toy tasks and finished plans do without

        for source, root in wanted:
            prepare(source, root)
