"""Files that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give the path to write to; what was written takes the place of ``path`` when the block ends well.

    A reader finds the old content or the new, whenever the process or the machine stops. Where the block or the disk
    fails, the old content is still there, and nothing else is left behind.

    Args:
        path: The file. One process at a time may write it; its folder is made where it is missing.
        durable: Whether it must survive a power cut right after the block.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        if durable:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
