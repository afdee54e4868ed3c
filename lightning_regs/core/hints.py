"""What an annotation says about a value, and one sentence where the value is otherwise.

- A number is an ``int``, a ``float``, or what stands for one of them: numpy's scalars, arrays and tensors without
  dimensions. True and False are no numbers, and 1 is no truth value; 2.0 and 2.7 are no whole numbers.
- A ``float`` is finite unless its :class:`Range` says otherwise, and never NaN; an ``int`` fits into 64 bits.
- Text is no sequence, a set neither; what can be read once, and a view of a mapping, are read into one. Sequences and
  mappings are checked with what they hold.
- What an annotation does not say (``Any``, what an iterable holds that can be read once) passes.
"""

from __future__ import annotations

import collections.abc as abc
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from lightning_regs.core.names import unknown_name

# What one of our sizes, counts or seeds can be: what torch holds.
_LONGEST = 2**63


@dataclass(frozen=True)
class Range:
    """The numbers that a parameter can be, written behind its type: ``Annotated[float, Range(0, below=1)]``."""

    low: float = -math.inf  # at least this
    high: float = math.inf  # at most this
    above: float | None = None  # more than this
    below: float | None = None  # less than this
    infinite: bool = False  # whether an end that is open lets infinity in
    missing: bool = False  # whether NaN stands for what is missing; elsewhere it is refused
    why: str = ""  # what the number is, for the message

    def __call__(self, name: str, number: Any) -> Any:
        """Return the number, or raise a ``ValueError`` where it is outside."""
        inside = self.low <= number <= self.high and (self.infinite or -math.inf < number < math.inf)
        inside = inside and (self.above is None or number > self.above) and (self.below is None or number < self.below)
        if inside or (self.missing and number != number):
            return number
        ends = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        said = [f"{end} {value:g}" for end, value in ends.items() if value is not None and abs(value) < _LONGEST]
        wanted = " and ".join(said) or ("a number" if self.infinite else "finite")
        raise ValueError(f"{name} must be {wanted}, got {shown(number)}{self.why and f': {self.why}'}.")


def shown(value: object) -> str:
    """Return a value as messages show it: on one line, and not long; of a tensor, the shape."""
    if getattr(value, "ndim", 0):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"  # type: ignore[attr-defined]
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 80 else f"{text[:77]}..."


def check(name: str, value: Any, hint: Any) -> Any:
    """Return the value of a parameter as its annotation wants it.

    Args:
        name: The parameter's.
        value: What was given.
        hint: A type or a union of them; ``Literal`` (one of whose values it has to be); or ``Annotated`` with functions
            of ``(name, value)`` that return the value, such as :class:`Range`, and with words for what it has to be.
    """
    return read(hint).test(name, value)


class Check(NamedTuple):
    """What an annotation wants: as a noun, by type alone, and altogether, which returns the value or raises."""

    what: str
    fits: Callable[[Any], bool]
    test: Callable[[str, Any], Any]


def read(hint: Any) -> Check:
    """Return the check that an annotation stands for."""
    origin, parts = get_origin(hint), get_args(hint)
    kind = origin or hint
    if origin is Annotated:
        return _annotated(hint.__origin__, hint.__metadata__)
    if origin in (Union, types.UnionType):
        return _union([read(part) for part in parts])
    if origin is Literal:
        return _literal(parts)
    if (plain := _PLAIN.get(kind)) is not None:
        return plain
    if isinstance(hint, TypeVar) and isinstance(hint.__bound__, type):
        return read(hint.__bound__)
    if not isinstance(kind, type) or kind in (object, Any):
        return ANY
    if kind is type:
        base = parts[0] if parts and isinstance(parts[0], type) else object
        return _instance(
            f"a subclass of {base.__name__}", lambda value: isinstance(value, type) and issubclass(value, base)
        )
    if kind.__module__ in ("builtins", "collections.abc") and parts:
        return _mapping(parts) if issubclass(kind, abc.Mapping) else _sequence(kind, parts)
    article = "an" if kind.__name__[0] in "AEIOUaeiou" else "a"
    return _instance(f"{article} {kind.__name__}", lambda value: isinstance(value, kind))


def _instance(what: str, fits: Callable[[Any], bool]) -> Check:
    """Return the check of a type alone."""

    def test(name: str, value: Any) -> Any:
        if fits(value):
            return value
        raise TypeError(f"{name} must be {what}, got {shown(value)}.")

    return Check(what, fits, test)


def _item(value: Any) -> Any:
    """Return the one value of what has no dimensions, such as numpy's scalars; anything else as it is."""
    return value.item() if not isinstance(value, _PLAIN_KINDS) and getattr(value, "ndim", None) == 0 else value


def _number(kind: type[Any]) -> Callable[[Any], bool]:
    """Return what tells whether a value is of a kind of numbers; True and False are a kind of their own."""
    return lambda value: isinstance(item := _item(value), kind) and isinstance(item, bool) is (kind is bool)


_fits_bool, _fits_int, _fits_float = _number(bool), _number(Integral), _number(Real)


def _bool(name: str, value: Any) -> bool:
    if not _fits_bool(value):
        raise TypeError(f"{name} must be True or False, got {shown(value)}.")
    return bool(value)


def _int(name: str, value: Any) -> int:
    if type(value) is not int:
        if not _fits_int(value):
            raise TypeError(f"{name} must be an integer, got {shown(value)}.")
        value = int(value)
    if not -_LONGEST <= value < _LONGEST:
        raise ValueError(f"{name} must fit into 64 bits, got {shown(value)}.")
    return value  # type: ignore[no-any-return]


def _float(name: str, value: Any) -> float:
    if isinstance(value, float):
        return value if type(value) is float else float(value)
    if not _fits_float(value):
        raise TypeError(f"{name} must be a number, got {shown(value)}.")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name} must be finite, got {shown(value)}.") from error


_PLAIN_KINDS = (int, float, str)
_ONCE = (abc.Iterator, abc.MappingView)  # what is read into a tuple where a sequence is wanted
_FINITE = Range()
ANY = Check("anything", lambda value: True, lambda name, value: value)
_SCALARS = {
    bool: Check("True or False", _fits_bool, _bool),
    int: Check("an integer", _fits_int, _int),
    float: Check("a number", _fits_float, lambda name, value: _FINITE(name, _float(name, value))),
}
_PLAIN: dict[Any, Check] = {
    **_SCALARS,
    str: _instance("text", lambda value: isinstance(value, str)),
    abc.Callable: _instance("a function", callable),
    types.NoneType: _instance("None", lambda value: value is None),
}


def _annotated(hint: Any, more: tuple[Any, ...]) -> Check:
    base = read(hint)
    tests = [part for part in more if callable(part)]
    first = _float if hint is float and any(isinstance(part, Range) for part in tests) else base.test
    if nouns := [part for part in more if isinstance(part, str)]:
        base, first = base._replace(what=nouns[0]), _said(nouns[0], first)
    if len(tests) == 1:
        (then,) = tests
        return base._replace(test=lambda name, value: then(name, first(name, value)))

    def test(name: str, value: Any) -> Any:
        value = first(name, value)
        for each in tests:
            value = each(name, value)
        return value

    return base._replace(test=test)


def _said(what: str, test: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Return the same test with words of its own for what a value has to be."""

    def said(name: str, value: Any) -> Any:
        try:
            return test(name, value)
        except TypeError:
            raise TypeError(f"{name} must be {what}, got {shown(value)}.") from None

    return said


def _literal(names: tuple[Any, ...]) -> Check:
    kind = str if isinstance(names[0], str) else Real
    listed = [repr(name) for name in names]
    what = " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)

    def fits(value: Any) -> bool:
        return isinstance(item := _item(value), kind) and not isinstance(item, bool)

    def test(name: str, value: Any) -> Any:
        if fits(value) and _item(value) in names:
            return names[names.index(_item(value))]
        if kind is str and len(names) > 1:
            raise unknown_name(name, value, names)
        raise (ValueError if fits(value) else TypeError)(f"{name} must be {what}, got {shown(value)}.")

    return Check(what, fits, test)


def _union(options: list[Check]) -> Check:
    if ANY in options:
        return ANY
    none = _PLAIN[types.NoneType]
    if none in options and len(options) == 2:
        (other,) = (option for option in options if option is not none)
        test = other.test
        return Check(
            f"{other.what} or None",
            lambda value: value is None or other.fits(value),
            lambda name, value: None if value is None else test(name, value),
        )
    whats = [option.what for option in options]
    # A tensor that is asked for is no number, though it may hold one.
    options = sorted(options, key=lambda option: option.what in [scalar.what for scalar in _SCALARS.values()])

    def any_of(name: str, value: Any) -> Any:
        wrong: Exception | None = None
        for option in options:
            if option.fits(value):
                try:
                    return option.test(name, value)
                except (TypeError, ValueError) as error:
                    wrong = wrong or error
        if wrong is not None:
            raise wrong
        raise TypeError(f"{name} must be {', '.join(whats[:-1])} or {whats[-1]}, got {shown(value)}.")

    return Check(" or ".join(whats), lambda value: any(option.fits(value) for option in options), any_of)


def _mapping(parts: tuple[Any, ...]) -> Check:
    keys, values = (read(part).test for part in parts)

    def test(name: str, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a mapping, got {shown(value)}.")
        made = {keys(f"a key of {name}", key): values(f"{name}[{key!r}]", part) for key, part in value.items()}
        return value if all(made[key] is part for key, part in value.items()) else made

    return Check("a mapping", lambda value: isinstance(value, Mapping), test)


def _sequence(kind: type[Any], parts: tuple[Any, ...]) -> Check:
    fixed = kind is tuple and Ellipsis not in parts
    tests = [read(part).test for part in parts if part is not Ellipsis]
    base = Sequence if issubclass(kind, Sequence) else kind
    what = f"{len(tests)} values" if fixed else f"{'an' if kind.__name__[0] in 'Ii' else 'a'} {kind.__name__.lower()}"

    def fits(value: Any) -> bool:
        ordered = base is Sequence and (getattr(value, "ndim", 0) == 1 or isinstance(value, _ONCE))
        return ordered or (isinstance(value, base) and not isinstance(value, str | bytes))

    def test(name: str, value: Any) -> Any:
        if not fits(value):
            remedy = f"; write ({value!r},)" if kind is tuple and isinstance(value, str) else ""
            raise TypeError(f"{name} must be {what}, got {shown(value)}{remedy}.")
        if base is Sequence and not isinstance(value, Sequence):
            value = value.tolist() if hasattr(value, "tolist") else tuple(value)
        if not isinstance(value, Sequence | abc.Set):
            return value
        if fixed and len(value) != len(tests):
            raise TypeError(f"{name} must be {what}, got {shown(value)}.")
        each = tests if fixed else tests * len(value)
        made = [test(f"{name}[{i}]", part) for i, (test, part) in enumerate(zip(each, value, strict=True))]
        if isinstance(value, abc.Set) or (
            all(new is old for new, old in zip(made, value, strict=True)) and (not fixed or isinstance(value, tuple))
        ):
            return value
        return tuple(made) if fixed or isinstance(value, tuple) else made

    return Check(what, fits, test)
