"""The folder of one level: what it was made from, what it holds, and whether it is whole."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.files import whole
from lightning_regs.core.lightning import MisconfigurationException

CONFIG, COMPLETE = "config.json", "complete.json"
INITIAL, REWIND, MASK, FINAL, OPTIMIZER = "initial.pt", "rewind.ckpt", "mask.pt", "final.pt", "optimizer.pt"
CURVE, METRICS, LAST = "curve.json", "metrics.json", "last.ckpt"
_WRITTEN = "written.json"  # digests of the files of a level that is not complete
_RESULTS = (INITIAL, REWIND, MASK, FINAL, OPTIMIZER, CURVE, METRICS)

_CALLER = 5  # of find_ticket, from LevelFolder.ready


class DamagedFile(Exception):
    """A file of a level cannot be read; the message names it."""


class LevelFolder:
    """A level on disk. It is complete when ``complete.json`` is there, which is written last.

    Args:
        path: The folder; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def complete(self) -> bool:
        """Whether the level is finished, damage aside."""
        return (self.path / COMPLETE).exists()

    def has(self, name: str) -> bool:
        """Whether the file is there."""
        return (self.path / name).exists()

    # -- files -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give the path to write a file to; it is there when the block ends well, and its digest is known."""
        with whole(self.path / name) as part:
            yield part
            # Before the file takes its place: wherever this is interrupted, the digest of what is there is known.
            written = self._written()
            now = _digest(self.path / name) if self.has(name) else None
            old = [now] if now in written.get(name, ()) else []
            self.save_json(_WRITTEN, written | {name: [*old, _digest(part)]})

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Write tensors and plain types."""
        with self.writing(name) as part:
            torch.save(dict(state), part)

    def load(self, name: str) -> dict[str, Any]:
        """Read what :meth:`save` or a Trainer wrote, on the CPU.

        Raises:
            DamagedFile: If it is missing or damaged.
            MisconfigurationException: If it holds objects that are not read, as they could run code.
        """
        return self.read(self.path / name, self.path / name)

    @staticmethod
    def read(file: Path, path: Path) -> dict[str, Any]:
        """Read a file that is, or will be, at ``path``; raises as :meth:`load`."""
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if "Unsupported" in str(error) or "GLOBAL" in str(error):
                raise MisconfigurationException(
                    f"{path} holds more than tensors and plain types: let state_dict() and on_save_checkpoint() of "
                    f"your callbacks, module and data give nothing else. ({str(error).splitlines()[0]})"
                ) from error
            raise DamagedFile(f"{path} is damaged ({error})") from error
        except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
            raise DamagedFile(f"{path} is damaged ({error})") from error
        if not isinstance(state, dict):
            raise DamagedFile(f"{path} is damaged (it holds {type(state).__name__})")
        return state

    def save_json(self, name: str, value: Any) -> None:
        """Write plain types."""
        with whole(self.path / name) as part:
            part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

    def load_json(self, name: str) -> dict[str, Any]:
        """Read what :meth:`save_json` wrote.

        Raises:
            DamagedFile: If it is missing or damaged.
        """
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedFile(f"{path} is damaged ({error})") from error
        if not isinstance(value, dict):
            raise DamagedFile(f"{path} is damaged (it holds no object)")
        return value

    # -- the level as a whole ----------------------------------------------------------------------------------------

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write what the level is made from."""
        self.save_json(CONFIG, config)

    def finish(self) -> None:
        """Mark the level as complete, and drop what only an interrupted one needs."""
        self.save_json(COMPLETE, {name: _digest(self.path / name) for name in _RESULTS if self.has(name)})
        for name in (LAST, _WRITTEN):
            (self.path / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the level; what others put into its folder stays."""
        for name in (COMPLETE, LAST, *_RESULTS, CONFIG, _WRITTEN):
            (self.path / name).unlink(missing_ok=True)

    def digests(self, *names: str) -> dict[str, str]:
        """Return the digests of files of a complete level, for the configuration of those made from it."""
        known = self.load_json(COMPLETE)
        return {f"{self.path.name}/{name}": known[name] for name in names if name in known}

    def damage(self) -> str | None:
        """Name a file of a complete level that is not as it was written, or return None."""
        try:
            digests = self.load_json(COMPLETE)
        except DamagedFile as error:
            return str(error)
        for name, digest in digests.items():
            path = self.path / name
            if not path.exists():
                return f"{path} is missing"
            if _digest(path) != digest:
                return f"{path} is damaged (its content is not what was written)"
        return None

    def ready(self, config: Mapping[str, Any], *, remove: bool = True) -> bool:
        """Whether the level is complete, whole and of this configuration; remove it where it has to be redone.

        Args:
            config: ``settings``, ``start`` and ``inputs`` of the level as asked for now.
            remove: Whether this process may remove files.

        Returns:
            False for a level that has to be trained, or trained on.

        Raises:
            ValueError: If the folder holds a level of other settings.
        """
        if not any(self.has(name) for name in (COMPLETE, LAST, FINAL)):
            return False  # no epoch was trained, so that nothing is lost, whatever its configuration was
        reason: str | None
        try:
            theirs = self.load_json(CONFIG)
        except DamagedFile as error:
            reason = str(error)
        else:
            self._refuse_others(theirs.get("settings", {}), config["settings"])
            changed = [n for n, d in config["inputs"].items() if theirs.get("inputs", {}).get(n) != d]
            reason = f"{self.path} was made from another {changed[0]}" if changed else None
            if reason is None and self.complete:
                reason = self.damage()
        if reason is not None:
            warnings.warn(f"{reason}; the level is redone.", UserWarning, stacklevel=_CALLER)
            if remove:
                self.clear()
            return False
        return self.complete

    def resumable(self, *needed: str) -> bool:
        """Whether the interrupted level can go on from its last epoch, which needs these files; else it starts over."""
        if not self.has(LAST):
            return False
        try:
            digests = self.load_json(_WRITTEN)
            for name in dict.fromkeys([LAST, *needed, *({REWIND} & digests.keys())]):
                if self.has(name) and _digest(self.path / name) not in digests.get(name, ()):
                    raise DamagedFile(f"{self.path / name} is damaged (its content is not what was written)")
                self.load(name)
        except (DamagedFile, MisconfigurationException) as error:
            warnings.warn(f"{error}; the level starts over.", UserWarning, stacklevel=_CALLER + 1)
            return False
        return True

    def _written(self) -> dict[str, Any]:
        try:
            return self.load_json(_WRITTEN)
        except DamagedFile:
            return {}

    def _refuse_others(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        differences = list(_differences(theirs, json.loads(json.dumps(ours))))
        if differences:
            name, old, new = differences[0]
            more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
            raise ValueError(
                f"{self.path} holds a level of another configuration: {name} was {_short(old)} and is now "
                f"{_short(new)}{more}; use another folder, or delete this one."
            )


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and any(map(_is_dict, new)):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{name}.{number}")
    elif old != new and not (old != old and new != new):
        yield name, old, new


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            total.update(block)
    return total.hexdigest()


def weights_in(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights that training goes on with, of a Trainer's checkpoint or of a ``state_dict`` itself."""
    # Where weights are averaged, Lightning gives the average the usual name, for those who only load that.
    for name in ("current_model_state", "state_dict"):
        if isinstance(found := state.get(name), dict):
            return found
    return dict(state)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other searches out of a folder; the lock ends with the process, however that ends.

    Raises:
        RuntimeError: If another search is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"another search for tickets is at work in {folder}; wait for it, or use another folder."
            ) from None
        yield
