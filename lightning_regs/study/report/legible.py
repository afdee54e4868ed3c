"""Texts of a run as they can be read, and data as JSON can hold it: a run may write anything into its files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

_LONGEST = 5000
# Fields that are drawings or files, not texts.
_DRAWINGS = ("svg", "claims_json")
# Control characters but tab and newline, marks without a width, marks that turn the direction of text, half characters.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\ud800-\udfff]"
)


def legible(value: Any, longest: int | None = _LONGEST) -> Any:
    r"""Write every text in plain data so that what is there can be seen, and nothing but that.

    Characters that are invisible, that turn the direction of the text around them, or that no file can hold become
    ``\u202e`` and the like.

    Args:
        value: A text, a number, None, or dataclasses, mappings, lists and tuples of them.
        longest: Characters after which a text is cut; None for never.

    Returns:
        The same data with other texts.
    """
    if isinstance(value, str):
        text = _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", value)
        return text if longest is None or len(text) <= longest else f"{text[:longest]} …"
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: legible(getattr(value, field.name), None if field.name in _DRAWINGS else longest)
            for field in fields(value)
        }
        return replace(value, **changed)
    if isinstance(value, Mapping):
        return {legible(key, longest): legible(entry, longest) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(legible(entry, longest) for entry in value)
    return value


def plain(value: Any) -> Any:
    """Turn data into what JSON can hold: dataclasses into objects without their drawings, tuples into lists.

    What is not a number becomes None, and an infinite number the text ``"inf"`` or ``"-inf"``.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.name not in _DRAWINGS]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value
