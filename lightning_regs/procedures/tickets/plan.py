"""Which trainings a search consists of, and the checks of what was asked for."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lightning_regs.core.names import unknown_name
from lightning_regs.procedures.tickets.time import Time

Method = Literal["weight_rewinding", "lr_rewinding", "fine_tuning"]
METHODS: tuple[str, ...] = get_args(Method)
CONTROLS = ("reinitialise", "random_mask")
_QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
_LENGTH = ("max_epochs", "max_steps", "min_epochs", "min_steps")
_MADE_ANEW = {
    "callbacks": "callbacks=lambda level: [...]",
    "logger": "logger=lambda level: CSVLogger('logs', name=level)",
}


@dataclass(frozen=True)
class Control:
    """A training to compare a ticket with.

    Args:
        kind: ``"reinitialise"``: the ticket's mask on a fresh draw of the weights, trained from the beginning to the
            end. ``"random_mask"``: as many weights in each layer at random places, from where the levels rewind to.
        repeats: Number of draws, at least 1.
        levels: The levels that have it, each at least 1; default: all.

    Raises:
        ValueError: If the kind is unknown, or a number less than 1.
    """

    kind: str
    repeats: int = 1
    levels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in CONTROLS:
            raise unknown_name("control", self.kind, CONTROLS)
        for number in (self.repeats, *(self.levels or ())):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"repeats and levels of a control are whole numbers of at least 1, got {number!r}.")

    @classmethod
    def parse(cls, text: str | Control) -> Control:
        """Read ``"reinitialise"`` or ``"reinitialise:3"``.

        Raises:
            TypeError: If it is neither a text nor a Control.
            ValueError: If it is written otherwise, or the kind unknown.
        """
        if isinstance(text, Control):
            return text
        if not isinstance(text, str):
            raise TypeError(f"a control is written like 'reinitialise:3', got {text!r}.")
        kind, colon, number = text.partition(":")
        if colon and not re.fullmatch(r"\d+", number):
            raise ValueError(f"a control is written like 'reinitialise:3', got {text!r}.")
        return cls(kind, int(number) if colon else 1)


@dataclass(frozen=True)
class Training:
    """One training of a search.

    Attributes:
        level: Rounds of pruning before it.
        kind: ``"dense"``, ``"ticket"`` or a control.
        repeat: Which draw of the control, from 1; 0 for others.
        one_shot: Whether the mask comes from one pruning of the dense net.
    """

    level: int
    kind: str
    repeat: int = 0
    one_shot: bool = False

    @property
    def name(self) -> str:
        """The folder: ``level_03``, ``level_03-reinitialise-1``, ``level_03-one_shot``."""
        parts = [f"level_{self.level:02d}"]
        if self.one_shot and self.level:
            parts.append("one_shot")
        if self.repeat:
            parts.append(f"{self.kind}-{self.repeat}")
        return "-".join(parts)

    @property
    def mask_from(self) -> str:
        """The folder of the dense net or ticket whose pruning, or whose mask, this one has."""
        if self.repeat:
            return Training(self.level, "ticket", 0, self.one_shot).name
        return Training(0 if self.one_shot else self.level - 1, "ticket").name


def trainings(levels: int, one_shot: bool, controls: Sequence[Control]) -> Iterator[Training]:
    """Yield the trainings in the order in which they depend on each other."""
    yield Training(0, "dense")
    for level in [levels] if one_shot else range(1, levels + 1):
        yield Training(level, "ticket", 0, one_shot)
        for control in controls:
            if control.levels is None or level in control.levels:
                for repeat in range(1, control.repeats + 1):
                    yield Training(level, control.kind, repeat, one_shot)


def check_search(levels: int, method: str, fine_tune: Time | None, one_shot: bool, controls: Sequence[Control]) -> None:
    """Refuse a search that makes no sense.

    Raises:
        ValueError: In one sentence.
    """
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
        raise ValueError(f"levels must be a whole number of at least 1 round of pruning, got {levels!r}.")
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if (method == "fine_tuning") != (fine_tune is not None):
        raise ValueError(
            "method='fine_tuning' trains for so long at the last learning rate: give fine_tune='10ep' with it, and "
            f"only with it; got method={method!r} and fine_tune={None if fine_tune is None else str(fine_tune)!r}."
        )
    if fine_tune is not None and fine_tune.value == 0:
        raise ValueError("fine_tune is a length of at least one epoch or iteration, got 0.")
    kinds = [control.kind for control in controls]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ValueError(f"the control {kind!r} is given twice; give it once, with its number of repeats.")
    for control in controls:
        run = {levels} if one_shot else set(range(1, levels + 1))
        for level in set(control.levels or ()) - run:
            raise ValueError(f"the control {control.kind!r} is for level {level}, which is not among {sorted(run)}.")


def check_trainer(options: Mapping[str, Any], rewind_to: Time) -> None:
    """Refuse options that are not for a Trainer made anew at each level, and a point after the end.

    Raises:
        ValueError: In one sentence.
    """
    for name, instead in _MADE_ANEW.items():
        if options.get(name) not in (None, False, True):
            raise ValueError(
                f"trainer={{{name!r}: ...}} would be one object for all levels, and each level has its own Trainer; "
                f"give find_ticket(..., {instead}), which is called for each."
            )
    if not {"max_epochs", "max_steps", "max_time"} & set(options):
        raise ValueError("trainer says nothing of the length of training; add for example {'max_epochs': 5}.")
    for name, unit in (("max_epochs", "ep"), ("max_steps", "it")):
        end = options.get(name)
        if rewind_to.unit == unit and isinstance(end, int) and 0 <= end <= rewind_to.value:
            raise ValueError(
                f"rewind_to={str(rewind_to)!r} is not before the end of training, which is at {name}={end}; choose an "
                "earlier point, or train for longer."
            )


def trainer_options(options: Mapping[str, Any], length: Time | None) -> dict[str, Any]:
    """Return the options of the Trainer of one level, in copies.

    Args:
        options: As they were given to ``find_ticket``.
        length: How long the level trains; None for what the options say.
    """
    # Strategies and plugins keep the Trainer that they were given to.
    found = _QUIET | copy.deepcopy(dict(options))
    for name in ("callbacks", "enable_checkpointing"):
        found.pop(name, None)
    if length is None:
        return found
    found = {name: value for name, value in found.items() if name not in _LENGTH}
    if length.unit == "ep":
        return found | {"max_epochs": length.value}
    return found | {"max_steps": length.value, "max_epochs": -1}
