"""Files that are there as a whole or not at all, and folders that one process holds at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import secrets
import shutil
import socket
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_PART = re.compile(r"\..+?\.(?:(?P<host>[A-Za-z0-9]*)-(?P<pid>\d+)\.)?[0-9a-f]{16}\.part")
_NO_GPU_MEMORY = (
    "CUDA out of memory", "CUDA error: out of memory", "CUDA driver error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_ALLOC_FAILED", "CUDNN_STATUS_NOT_INITIALIZED",
    "DEVICE_ALLOCATION_FAILED",
)  # fmt: skip
_OF_A_GPU = ("CUDA error: ", "CUDA driver error: ", "cuDNN error: ", "NCCL error")
_ABANDONED = 7 * 24 * 3600.0  # seconds after which a part of another machine has no writer any more
_swept: set[Path] = set()  # folders that this process has looked through


@contextlib.contextmanager
def whole(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give the path to write to; what was written takes the place of ``path`` when the block ends well.

    A reader finds the old content or the new, whenever the process or the machine stops. Where the block or the disk
    fails, the old content is still there, and nothing else is left behind; what is left where the process is killed,
    the next one that writes into the folder removes. Of several that write the same file at once, in whatever
    processes and on whatever machines, the last one wins.

    Args:
        path: The file; its folder is made where it is missing.
        durable: Whether it must survive a power cut right after the block.

    Raises:
        OSError: If it cannot be written.
    """
    part = _part(path)
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


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of ``path`` and what it held when the block ends well.

    A reader finds the old folder, none for a moment, or the new one, and never a mixture; see :func:`whole`.
    """
    part, old = _part(path), _part(path)
    try:
        part.mkdir()
        yield part
        with contextlib.suppress(FileNotFoundError):
            path.rename(old)
        part.rename(path)
    finally:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)


def _part(path: Path) -> Path:
    """Return a new name beside a file or folder, where its next content is put together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _swept:
        _swept.add(path.parent)
        sweep(path.parent)
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.{secrets.token_hex(8)}.part")


def pack(folder: Path) -> bytes:
    """Return the files below a folder as an archive that knows their checksums; without locks and parts of files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", strict_timestamps=False) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "lock" and not _PART.fullmatch(path.name):
                archive.write(path, path.relative_to(folder).as_posix())
    return content.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Write the files of an archive that :func:`pack` made into a folder, which is made where it is missing.

    Raises:
        DamagedFileError: If the archive is not as it was made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            archive.extractall(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise DamagedFileError(f"what came for {folder} is damaged ({error})") from error


def atomic_write(path: Path, text: str, durable: bool = True) -> None:
    """Write a text as a :func:`whole` file, in UTF-8 and with its line ends as they are."""
    with whole(path, durable=durable) as part:
        part.write_text(text, encoding="utf-8", newline="")


def renew(path: Path, text: str) -> bool:
    """Write a text as :func:`atomic_write` does, unless the file holds it already; tell whether it was written."""
    content = text.encode()
    if path.exists() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return False
    atomic_write(path, text)
    return True


def sweep(folder: Path) -> None:
    """Remove the parts of files and folders in a folder whose writers are no more."""
    with contextlib.suppress(OSError):
        for part in folder.glob(".*.part"):
            found = _PART.fullmatch(part.name)
            if found and not _at_work(found["host"], int(found["pid"] or 0), part):
                shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)


def _at_work(host: str | None, pid: int, part: Path) -> bool:
    """Tell whether the writer of a part may still be there; a part without a process is of an earlier version."""
    if host is not None and host != _host():
        return time.time() - part.stat().st_mtime < _ABANDONED
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid or os.getpid(), 0)
        except ProcessLookupError:
            return False
    return pid > 0


def _host() -> str:
    return re.sub("[^A-Za-z0-9]", "", socket.gethostname())[:20]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            total.update(block)
    return total.hexdigest()


@contextlib.contextmanager
def lock(folder: Path, waiting: Callable[[int | None], object] | None = None, file: str = "lock") -> Iterator[None]:
    """Hold a folder alone, among all processes on this machine; it is made where it is missing.

    The kernel drops the lock when its process ends in whatever way, so a file left behind does no harm.

    Args:
        folder: The folder.
        waiting: Called once, with the holder's process id when it is known, if another process has the lock. Where it
            raises, nobody waits.
        file: Name of the lock's file in the folder; ``""`` locks the folder itself and leaves no file behind.
    """
    path = folder / file
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, (os.O_RDWR | os.O_CREAT if file else os.O_RDONLY) | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    holder = os.pread(handle, 20, 0).strip() if file else b""
                    waiting(int(holder) if holder.isdigit() else None)
                waiting = None
                fcntl.flock(handle, fcntl.LOCK_EX)
            # The folder may have been deleted meanwhile: then the lock is held on a file that nobody else sees.
            if _same_file(handle, path):
                if file:
                    with contextlib.suppress(OSError):
                        os.ftruncate(handle, 0)
                        os.pwrite(handle, str(os.getpid()).encode(), 0)
                yield
                return
        finally:
            os.close(handle)


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def out_of_gpu_memory(error: BaseException) -> bool:
    """Tell whether an error means that a GPU's memory did not suffice, by names and words: torch is not imported.

    Where the allocator is not asked, as for a context, a graph or a library's workspace, it is no ``OutOfMemoryError``.
    """
    return any(
        any(cls.__name__ == "OutOfMemoryError" for cls in type(cause).__mro__)
        or (isinstance(cause, RuntimeError) and any(words in str(cause) for words in _NO_GPU_MEMORY))
        for cause in causes(error)
    )


def of_a_gpu(error: BaseException) -> bool:
    """Tell whether an error is a GPU's, and not of what it was asked to compute; such may come from an earlier call."""
    said = any(words in str(cause) for cause in causes(error) for words in _OF_A_GPU)
    return said or out_of_gpu_memory(error)


def disk_full(error: BaseException, folder: Path) -> bool:
    """Tell whether an error means that the disk of a folder that was written to is full.

    ``torch.save`` reports that as a RuntimeError, so an error of this type counts when the disk has no room left.
    """
    if any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in causes(error)):
        return True
    with contextlib.suppress(OSError):
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return isinstance(error, (RuntimeError, OSError)) and shutil.disk_usage(folder).free < 2**16
    return False


class DamagedFileError(Exception):
    """A file cannot be read, or is not as it was written; the message names it."""


def check_saved(path: Path) -> None:
    """Check what ``torch.save`` wrote: a zip archive, whose checksums torch does not look at when it reads.

    Raises:
        DamagedFileError: If it is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch compresses nothing; what is longer than its file would fill the memory.
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise DamagedFileError(f"{path} is damaged (it would unfold to more than is in it)")
            changed = archive.testzip()
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedFileError(f"{path} is damaged ({error})") from error
    if changed is not None:
        raise DamagedFileError(f"{path} is damaged ({changed} is not as it was written)")


def load(path: Path) -> dict[str, Any]:
    """Read, onto the CPU, what ``torch.save`` wrote: a mapping of tensors and plain types, whose objects run no code.

    Raises:
        DamagedFileError: If it is missing or damaged, or holds something else.
        UnpicklingError: If it is whole, and holds objects of other types.
    """
    import torch

    check_saved(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, ValueError, KeyError, RuntimeError) as error:
        raise DamagedFileError(f"{path} is damaged ({error})") from error
    if not isinstance(state, dict):
        raise DamagedFileError(f"{path} is damaged (it holds {type(state).__name__})")
    return state
