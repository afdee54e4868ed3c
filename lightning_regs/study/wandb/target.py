"""Where runs and reports go in Weights & Biases; what a login is, and whose, is wandb's own affair."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What wandb takes as a name of a user or team, and of a project: no mark of an address, and no space at an end.
_ENTITY = r"([A-Za-z0-9][A-Za-z0-9_.-]{0,127})"
_PROJECT = r"(?=[^\s])([^/\\#?%:\x00-\x1f\x7f]{1,128})(?<=[^\s])"


@dataclass(frozen=True)
class Target:
    """A project in Weights & Biases: the user or team that owns it (None: the login's own), its name, its server."""

    entity: str | None
    project: str
    server: str | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``"ENTITY/PROJECT"``."""
        names = re.fullmatch(f"{_ENTITY}/{_PROJECT}", text)
        if names is None:
            raise ValueError(
                f"{text!r} is no project of Weights & Biases; write it as ENTITY/PROJECT: a user or team of letters, "
                "digits, '-', '_' and '.', and a name without / \\ # ? % : and without spaces at its ends."
            )
        return cls(*names.groups())

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}"


def log_in() -> None:
    """Take the login that wandb finds; nobody is asked, and no server."""
    import wandb

    try:
        wandb.setup(wandb.Settings(mode="online", silent=True))  # whatever WANDB_MODE says of other programs
        found = wandb.login(prompt=False, verify=False)
    except Exception as error:  # a key that is none, settings that are damaged
        raise ValueError(f"the login to Weights & Biases cannot be used ({one_line(error)}); correct it") from error
    if not found:
        raise ValueError("Weights & Biases has no login here; log in with `wandb login`, or set WANDB_API_KEY")


def one_line(error: BaseException) -> str:
    """Write an error as one line without a full stop."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")
