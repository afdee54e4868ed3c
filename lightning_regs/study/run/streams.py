"""Standard streams that are closed, that nobody reads any more, or that have no room: none of it ends a command."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any


def fill_closed() -> None:
    """Open the null device under the numbers of closed standard streams.

    The next file that is opened would get such a number, and be written over by a process that redirects its output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free


def forgive() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` streams that write what they can and never raise.

    Letters that a stream's encoding does not have become question marks. Streams that are no files of the process, as
    in a test, stay as they are otherwise.
    """
    fill_closed()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed when the process began
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            if type(getattr(stream.buffer, "raw", stream.buffer)) is io.FileIO:  # without `raw` it is unbuffered
                buffer = io.BufferedWriter(_Forgiving(stream.fileno(), "wb", closefd=False))
                by_lines = stream.line_buffering or stream.write_through
                stream = io.TextIOWrapper(buffer, stream.encoding, line_buffering=by_lines)
                setattr(sys, name, stream)
            stream.reconfigure(errors="replace")


def lost() -> str | None:
    """Say why a standard stream did not take what was written, if that is more than that its reader has left."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        raw = getattr(getattr(stream, "buffer", None), "raw", None)
        if isinstance(raw, _Forgiving):
            stream.flush()
            if raw.failure is not None and raw.failure.errno not in (errno.EPIPE, errno.EIO):
                return f"{name} could not be written ({raw.failure.strerror})"
    return None


class _Forgiving(io.FileIO):
    """A file whose first failure to write is kept and not raised."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes
