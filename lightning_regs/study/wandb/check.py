"""Whether the log that wandb wrote of an offline run is whole."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

_HEADER, _BLOCK = b":W&B\xe1\xbe\x00", 32768
_TIMEOUT = 5.0


def check(log: Path, rows: int) -> None:
    """Make sure that a log holds every row and the end; W&B's service says nothing when the disk is full.

    Raises:
        OSError: If it does not.
    """
    until = time.monotonic() + _TIMEOUT
    while not _is_whole(log.read_bytes(), rows):
        if time.monotonic() > until:
            raise OSError(f"the log {log} could not be written as a whole: the disk may be full")
        time.sleep(0.02)  # a finished run's last records reach the file a moment later


def _is_whole(data: bytes, rows: int) -> bool:
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made at import

    if len(data) >= 7 and data[:7] != _HEADER:
        return True  # the format of another version, which is not ours to judge
    try:
        kinds = [Record.FromString(record).WhichOneof("record_type") for record in _records(data)]
    except Exception:  # protobuf's own, whose module has no types
        return False
    return kinds[-1:] == ["exit"] and kinds.count("history") == rows


def _records(data: bytes) -> Iterator[bytes]:
    """Split a log into its records, which are in LevelDB's log format; ends where the log is torn."""
    at, parts = len(_HEADER), b""
    while at + 7 <= len(data):
        if (left := _BLOCK - at % _BLOCK) < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        part = data[at + 7 : at + 7 + size]
        if len(part) < size or kind not in (1, 2, 3, 4):
            return
        parts = part if kind in (1, 2) else parts + part
        if kind in (1, 4):
            yield parts
        at += 7 + size
