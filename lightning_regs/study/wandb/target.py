"""Where runs and reports go in Weights & Biases, and which names it takes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from lightning_regs.study.wandb.login import settings
from lightning_regs.study.wandb.record import PROJECT

_ENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
# What wandb refuses in a project's name, and what no name should have.
_PROJECT = re.compile(r"[^/\\#?%:\s\x00-\x1f\x7f](?:[^/\\#?%:\x00-\x1f\x7f]{0,126}[^/\\#?%:\s\x00-\x1f\x7f])?")
_ARGUMENT = "the argument"


@dataclass(frozen=True)
class Target:
    """A project in Weights & Biases.

    Args:
        entity: The user or team that owns it.
        project: Its name.

    Raises:
        ValueError: If one of them is no name that Weights & Biases takes.
    """

    entity: str
    project: str

    def __post_init__(self) -> None:
        check_entity(self.entity)
        check_project(self.project)

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``"ENTITY/PROJECT"``.

        Raises:
            ValueError: If it is something else.
        """
        entity, slash, project = text.partition("/")
        if not (entity and slash and project) or "/" in project:
            raise ValueError(f"{text!r} does not name a project of Weights & Biases; write it as ENTITY/PROJECT.")
        return cls(entity, project)

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}"


def check_entity(name: str, origin: str = _ARGUMENT) -> None:
    """Make sure that a name can be that of a user or a team.

    Args:
        name: The name.
        origin: Where it comes from, for the sentence that refuses it.

    Raises:
        ValueError: If it cannot.
    """
    if not _ENTITY.fullmatch(name):
        raise ValueError(
            f"{name!r}, from {origin}, is not an entity of Weights & Biases; give the name of a user or a team: "
            "letters, digits, '-', '_' and '.'."
        )


def check_project(name: str, origin: str = _ARGUMENT) -> None:
    """Make sure that a name can be that of a project; see :func:`check_entity`."""
    if not _PROJECT.fullmatch(name):
        raise ValueError(
            f"{name!r}, from {origin}, is not a project of Weights & Biases; give 1 to 128 characters without "
            "/ \\ # ? % : and without spaces at the ends."
        )


def destination(entity: str | None, project: str | None) -> tuple[str, str | None]:
    """Choose the W&B project and entity: what is asked for, else what wandb's variables and settings say.

    Returns:
        The project and the entity; None for the login's own.

    Raises:
        ValueError: If W&B does not take one of the names; the sentence says where it comes from.
    """
    chosen, origin = _choose("project", project)
    owner, whose = _choose("entity", entity)
    if chosen is not None:
        check_project(chosen, origin)
    if owner is not None:
        check_entity(owner, whose)
    return chosen or PROJECT, owner


def _choose(what: str, asked: str | None) -> tuple[str | None, str]:
    """Return the first name that is given, and where it comes from."""
    variable = f"WANDB_{what.upper()}"
    found = ((asked, _ARGUMENT), (os.environ.get(variable), variable), (settings().get(what), "wandb's settings"))
    return next(((name, origin) for name, origin in found if name), (None, ""))
