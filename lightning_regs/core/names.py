"""One way to say that a name is unknown: name it, suggest the nearest, list the rest where they are few."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence

GRADIENT_MODEL = "gradient_model"  # the child that SyntheticGradients lends a layer while it trains; no part of a net
_MANY = 60  # names; of more only the nearest are listed
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def uncompiled(name: str) -> str:
    """Return the name of a parameter, buffer or module without what ``torch.compile`` puts into it."""
    return name.replace("_orig_mod.", "")


def unknown_name(kind: str, name: object, options: Iterable[str]) -> ValueError:
    """Build the error for a name that is not among the options: it names the value, the nearest option and all options.

    ``kind`` is what the name should have named, as a noun: ``"data set"``. Of more than 60 options few are listed.
    """
    known = sorted(options)
    return ValueError(f"unknown {kind} {name!r}.{did_you_mean(name, known)} Known: {few(name, known)}.")


def did_you_mean(name: object, options: Iterable[str]) -> str:
    """Ask whether the nearest of the options was meant, in a sentence behind a space; empty where none is near."""
    return "".join(f" Did you mean {near!r}?" for near in nearest(name, options, 1, 0.5))


def few(name: object, options: Sequence[str]) -> str:
    """Return the options in a list, where they are more than 60 the five nearest to a name and how many there are."""
    shown = [*nearest(name, options, 5), f"{len(options)} in all"] if len(options) > _MANY else options
    return ", ".join(shown) or "none"


def nearest(name: object, options: Iterable[str], number: int = 3, alike: float = 0.0) -> list[str]:
    """Return the nearest options to a name or glob, as many at most, of those that are as much alike, 0 to 1."""
    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(str(name).lower().replace("*", ""), by_lower, number, alike)
    return [by_lower[near] for near in found]


def check_glob(
    glob: str, names: Sequence[str], kind: str, matches: Callable[[str, str], bool] = fnmatch.fnmatchcase
) -> None:
    """Refuse a glob that names none of these things of a kind with a ``ValueError`` that suggests the nearest."""
    if not any(matches(name, glob) for name in names):
        near = ", ".join(nearest(glob, names)) or "none"
        raise ValueError(f"the glob {glob!r} matches none of the {len(names)} {kind}; near ones: {near}.")


def writable(text: str) -> bool:
    """Tell whether every file can hold a text: half characters are in no encoding, and NUL ends a table's line."""
    return _UNWRITABLE.search(text) is None
