"""One way to say that a name is unknown: name it, suggest the nearest, list the rest."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def unknown_name(kind: str, name: object, options: Iterable[str]) -> ValueError:
    """Build the error for a name that is not among the options: it names the value, the nearest option and all options.

    ``kind`` is what the name should have named, as a noun: ``"data set"``.
    """
    known = sorted(options)
    return ValueError(f"unknown {kind} {name!r}.{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}.")


def did_you_mean(name: object, options: Iterable[str]) -> str:
    """Ask whether the nearest of the options was meant, in a sentence behind a space; empty where none is near."""
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f" Did you mean {by_lower[near[0]]!r}?" if near else ""


def writable(text: str) -> bool:
    """Tell whether every file can hold a text: half characters are in no encoding, and NUL ends a table's line."""
    return _UNWRITABLE.search(text) is None
