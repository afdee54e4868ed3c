"""Texts of a run as they can be read, and data as JSON can hold it: a run may write anything into its files."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

_LONGEST = 5000
# Fields that are no texts, and not among the data: drawings, and what was read.
_LEFT_OUT = ("svg", "drawing", "found")
# Control characters but tab and newline, marks without a width, marks that turn the direction of text, half characters.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\ud800-\udfff]"
)


def legible(value: Any, longest: int | None = _LONGEST) -> Any:
    r"""Write every text in plain data so that what is there can be seen, and nothing but that.

    Characters that are invisible, that turn the direction of the text around them, or that no file can hold become
    ``\u202e`` and the like; a text is cut after the ``longest`` number of them. A part of the texts, numbers,
    dataclasses, mappings, lists and tuples in which no text changes is the very object that was given.
    """
    if isinstance(value, str):
        if value.isascii() and value.isprintable() and (longest is None or len(value) <= longest):
            return value
        text = _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", value)
        return text if longest is None or len(text) <= longest else f"{text[:longest]} …"
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, Mapping):
        entries = {legible(key, longest): legible(entry, longest) for key, entry in value.items()}
        return value if _same(entries, value) else entries
    if isinstance(value, (list, tuple)):
        listed = [legible(entry, longest) for entry in value]
        return value if all(map(operator.is_, listed, value)) else type(value)(listed)
    if is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        changed = {name: entry if name in _LEFT_OUT else legible(entry, longest) for name, entry in given.items()}
        return value if _same(changed, given) else replace(value, **changed)
    return value


def plain(value: Any) -> Any:
    """Turn data into what JSON can hold: dataclasses into objects without drawings, tuples into lists.

    What is not a number becomes None, and an infinite number the text ``"inf"`` or ``"-inf"``.
    """

    def entries(each: Any) -> dict[str, Any]:
        return {field.name: getattr(each, field.name) for field in fields(each) if field.name not in _LEFT_OUT}

    numbers = {"NaN": None, "Infinity": "inf", "-Infinity": "-inf"}
    return json.loads(json.dumps(value, default=entries), parse_constant=numbers.get)


def _same(entries: Mapping[Any, Any], given: Mapping[Any, Any]) -> bool:
    """Tell whether entries are the very objects that were given, of which a large report then has no copy."""
    pairs = ((*entries, *entries.values()), (*given, *given.values()))
    return len(entries) == len(given) and all(map(operator.is_, *pairs))
