"""What a level hands on, and the folder of one that ``find_ticket`` and its like train."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core import files
from lightning_regs.core.checks import shown, warn
from lightning_regs.core.files import DamagedFileError, whole
from lightning_regs.core.identity import canonical, digest, identity
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.core.runs import RunContext
from lightning_regs.pruning import Mask
from lightning_regs.training.checkpoints import check_owner

State = dict[str, Tensor]
LEVEL, CONFIG, CURVES, REWIND, LAST = "level.pt", "config.json", "curves.csv", "rewind.ckpt", "last.ckpt"


@dataclass(frozen=True)
class LevelState:
    """What a level hands on to others, empty where nothing needs it; tensors by their names in the user's module."""

    initial: State  # the weights of the dense net before any training
    start: State  # those that this level was trained from, before its mask
    final: State  # those after training
    mask: Mask  # which of the prunable weights were trained
    facts: dict[str, Any] = field(default_factory=dict)  # what else is known, as plain types and tensors

    @property
    def digest(self) -> str:
        """The hash of its tensors."""
        parts = {"initial": self.initial, "start": self.start, "final": self.final, "mask": self.mask}
        return digest({f"{part}/{name}": value for part, state in parts.items() for name, value in state.items()})

    def save(self, folder: Path) -> None:
        """Write it to a level's folder, as a whole or not at all."""
        states = {"initial": self.initial, "start": self.start, "final": self.final, "facts": self.facts}
        with whole(folder / LEVEL) as part:
            # Most of a level's tensors are another's too: ``torch.save`` writes shared storage once.
            torch.save(states | {"mask": self.mask.state_dict()}, part)

    @classmethod
    def load(cls, folder: Path, of: str | None = None) -> LevelState:
        """Read it from a level's folder, or raise a DamagedFileError; where ``of`` is given, it has to be its owner."""
        state = read(folder / LEVEL)
        try:
            mask, facts = Mask(state["mask"]), state.get("facts", {})
            if of not in (None, facts.get("of", of)):  # levels of earlier versions do not say
                raise DamagedFileError(f"{folder / LEVEL} is damaged (it is of another level)")
            return cls(state["initial"], state["start"], state["final"], mask, facts)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{folder / LEVEL} is damaged ({error!r})") from error


def first_process() -> bool:
    """Whether this process is the one that writes and removes files."""
    return bool(getattr(pl.utilities.rank_zero_only, "rank", 0) == 0)


class LevelFolder:
    """The folder of a level, which is complete when what it was tested with is among the facts of its state.

    What reads its files raises a DamagedFileError where one is missing, damaged or another level's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, name: str) -> bool:
        """Whether the file is there."""
        return (self.path / name).exists()

    def begin(self, made_from: Mapping[str, Any]) -> None:
        """Empty the folder, and write what the level is made from; what others put there stays."""
        for name in (LEVEL, LAST, REWIND, CURVES, CONFIG):
            (self.path / name).unlink(missing_ok=True)
        if made_from:
            files.atomic_write(self.path / CONFIG, json.dumps(made_from, indent=1) + "\n")

    def finish(self, tested: Mapping[str, float]) -> None:
        """Write what the level was tested with, which completes it, and drop what only an interrupted one needs."""
        state = LevelState.load(self.path)
        facts = {"tested": dict(tested), "curves": self._curves()}
        replace(state, facts=state.facts | facts).save(self.path)
        files.sweep(self.path)
        (self.path / LAST).unlink(missing_ok=True)

    def state(self) -> LevelState:
        """Read what the level hands on, so far."""
        return LevelState.load(self.path, self.owner)

    def checkpoint(self, name: str) -> dict[str, Any]:
        """Read a checkpoint of the level's training; see :func:`read`."""
        checkpoint = read(self.path / name)
        check_owner(checkpoint, self.path / name, self.owner)
        return checkpoint

    @property
    def owner(self) -> str:
        """The hash of what the level was made from, by which its files are known."""
        return identity(canonical(self.made_from()))

    def made_from(self) -> dict[str, Any]:
        """Read what the level was made from."""
        try:
            value = json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
            return {name: dict(value[name]) for name in ("settings", "objects", "sources", "inputs")}
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise DamagedFileError(f"{self.path / CONFIG} is damaged ({error!r})") from error

    def ready(self, made_from: Mapping[str, Any], needed: Sequence[str] = ()) -> bool:
        """Whether the level is complete, whole, of this making and with the checkpoints that are needed.

        Where it has to be redone, the first process empties the folder; one of other settings or objects is refused.
        """
        interrupted, state, reason = self.has(LAST), None, None
        try:
            state = self.state() if self.has(LEVEL) else None
        except (DamagedFileError, MisconfigurationException) as error:
            reason = None if interrupted else str(error)
        complete = state is not None and "tested" in state.facts
        if not (complete or interrupted or reason):
            return False  # no epoch was trained, so that nothing is lost, whatever it was made from
        kept = ""
        try:
            outdated = self._outdated(self.made_from(), json.loads(json.dumps(made_from)))
            if outdated is not None:
                kept = f", and what it was is kept in {self._aside.name}" if complete else ""
            elif complete and state is not None:
                for name in needed:
                    self.checkpoint(name)
                if state.facts["curves"] != self._curves():
                    raise DamagedFileError(f"{self.path / CURVES} is damaged (it is not as it was written)")
            reason = outdated or reason
        except (DamagedFileError, MisconfigurationException) as error:
            reason = str(error)
        if reason is not None:
            warn(f"{reason}; the level is redone{kept}.")
        if first_process() and reason is not None:
            if kept:
                self.path.rename(self._aside)
            self.begin({})
        elif first_process() and complete:  # what a kill at its end left
            files.sweep(self.path)
            (self.path / LAST).unlink(missing_ok=True)
        return reason is None and complete

    @property
    def _aside(self) -> Path:
        names = (self.path.with_name(f"{self.path.name}.old-{number}") for number in itertools.count(1))
        return next(name for name in names if not name.exists())

    def _curves(self) -> str | None:
        return files.digest(self.path / CURVES) if self.has(CURVES) else None

    def _outdated(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
        self._refuse_others(theirs["settings"], ours["settings"])
        old, new = theirs["sources"], ours["sources"]
        comparable = old.keys() & new.keys() if old.get("python") == new["python"] else set()
        if not comparable:
            warn(
                f"the levels in {self.path.parent} were made with Python {old.get('python')}; whether the code of the "
                "module has changed since is not known, and they count as its own."
            )
        changed = sorted(name for name in comparable if old[name] != new[name])
        if code := [name for name in changed if new[name][:1] != "="]:
            return f"{self.path} was made when the code of {code[0]} was another"
        # A number that the code names may be one of these, and they say better what it is.
        self._refuse_others(theirs["objects"], ours["objects"])
        both = {**old, **new}
        if comparable and (other := sorted(name for name in old.keys() ^ new.keys() if both[name][:1] != "=")):
            return f"{self.path} was made {'with' if other[0] in old else 'without'} the code of {other[0]}"
        if changed:
            return f"{self.path} was made with {changed[0]} {old[changed[0]]}"
        for name, value in ours["inputs"].items():
            if theirs["inputs"].get(name) != value:
                return f"{self.path} was made from another {name}"
        return None

    def _refuse_others(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        differences = list(_differences(theirs, ours))
        if differences:
            name, old, new = differences[0]
            more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
            raise ValueError(
                f"{self.path} holds a level of another configuration: {name} was {shown(old)} and is now "
                f"{shown(new)}{more}; use another folder, or delete this one."
            )


def handed_on(run: RunContext) -> dict[str, LevelState]:
    """Return what the runs that a run of a cell needs have handed on, by the names of their cells.

    Raises:
        ValueError: If the file of one is missing, damaged or another run's, which this run cannot mend.
    """
    found = {}
    for name, folder in run.inputs.items():
        try:
            found[name] = LevelState.load(folder, folder.name)
        except DamagedFileError as error:
            raise ValueError(f"{error}; remove its folder, so that the level is trained again.") from error
    return found


def read(path: Path) -> dict[str, Any]:
    """Read what ``torch.save`` or a Trainer wrote, on the CPU; refuse objects, as they could run code."""
    try:
        return files.load(path)
    except pickle.UnpicklingError as error:
        raise MisconfigurationException(
            f"{path} holds more than tensors and plain types: let state_dict() and on_save_checkpoint() of "
            f"your callbacks, module and data give nothing else. ({str(error).splitlines()[0]})"
        ) from error


def weights_in(checkpoint: Mapping[str, Any]) -> State:
    """Return the weights that training goes on with, of a Trainer's checkpoint."""
    # Where weights are averaged, Lightning gives the average the usual name, for those who only load that.
    state: State = checkpoint.get("current_model_state") or checkpoint["state_dict"]
    return state


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and dict in map(type, new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{name}.{number}")
    elif old != new:
        yield name, old, new
