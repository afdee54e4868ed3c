"""Checks of arguments, in one sentence that names the parameter and the value, by the parameters' annotations.

``alpha: Positive = 1.0`` declares a parameter, its type and its range at once. :func:`checked` makes a function or a
class check what it is called with; :mod:`~lightning_regs.core.hints` says what fits.
"""

from __future__ import annotations

import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from lightning_regs.core.hints import ANY, read
from lightning_regs.core.hints import Range as Range
from lightning_regs.core.hints import check as check
from lightning_regs.core.hints import shown as shown
from lightning_regs.core.names import unknown_name

Target = TypeVar("Target", bound=Callable[..., Any])
_PACKAGE = __name__.partition(".")[0]


class NoEffectWarning(UserWarning):
    """A method found nothing to act on."""


def warn(message: str, kind: type[Warning] = UserWarning) -> None:
    """Warn where the user's code called this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == _PACKAGE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, kind, stacklevel=level)


@dataclass(frozen=True)
class Shape:
    """The shape of a tensor, written behind its type: ``Annotated[Tensor, Shape("N D")]``.

    :func:`checked` wants a letter to be the same size wherever it is in a call. A number is that size, and ``...``
    stands for any further dimensions.
    """

    dims: str = "..."  # the dimensions, with spaces between them
    kind: str = ""  # which numbers it holds: `"floating-point"`, `"bool"`, or `"integer"`, which includes bool
    why: str = ""  # what to do about it, for the message

    def match(self, name: str, tensor: Any, sizes: dict[str, tuple[int, str]]) -> None:
        """Refuse a tensor of another kind or shape than its parameter's, or add its sizes to those of the call."""
        floating = tensor.dtype.is_floating_point
        kinds = {"floating-point": floating, "bool": str(tensor.dtype) == "torch.bool"}
        kinds["integer"] = not floating and not tensor.dtype.is_complex
        if self.kind and not kinds[self.kind]:
            raise TypeError(f"{name} must be {self.kind}, got {tensor.dtype}{self._remedy()}")
        dims, shape = self.dims.split(), tuple(tensor.shape)
        fixed = [dim for dim in dims if dim != "..."]
        right = len(shape) == len(fixed) if len(fixed) == len(dims) else len(shape) >= len(fixed)
        said = ""
        for dim, size in zip(fixed, shape) if right else ():  # noqa: B905
            wanted, where = (int(dim), name) if dim.isdigit() else sizes.setdefault(dim, (size, name))
            if size != wanted:
                right, said = False, "" if dim.isdigit() else f" with {dim} = {wanted}, as in {where}"
        if not right:
            written = f"({', '.join(dims)}{',' if len(dims) == 1 else ''})"
            raise ValueError(f"{name} must have the shape {written}{said}, got {shape}{self._remedy()}")

    def _remedy(self) -> str:
        return f"; {self.why}." if self.why else "."


def nonempty(name: str, value: Any) -> Any:
    """Return what holds something, or raise a ``ValueError``."""
    if not len(value):
        raise ValueError(f"{name} is empty; give at least one.")
    return value


def as_text(name: str, value: Any) -> str:
    """Return a path as text, which every checkpoint can hold."""
    return str(value)


NotNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(above=0)]
Share = Annotated[float, Range(0, 1)]
Probability = Annotated[float, Range(0, below=1, why="it is the probability of dropping")]
Number = Annotated[float, Range(infinite=True)]
Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0)]
Name = Annotated[str, nonempty]


def checked(target: Target) -> Target:
    """Make a function, or the constructor of a class, check its arguments by their annotations, as :func:`check` does.

    Defaults are not checked. What ``torch.compile`` compiles stays in one graph.
    """
    if isinstance(target, type):
        made = "__init__" if "__init__" in vars(target) else "__new__"
        function = vars(target)[made]
        wrapped = checked(getattr(function, "__func__", function))
        setattr(target, made, staticmethod(wrapped) if made == "__new__" else wrapped)
        return target

    known: list[_Arguments] = []
    # At once where it can be, as torch.compile could not look into it; later, where a type is defined further down.
    with suppress(NameError):
        known.append(_arguments(target))

    @wraps(target)
    def call(*args: Any, **options: Any) -> Any:
        if not known:
            known.append(_arguments(target))
        try:
            args, options = known[0].check(args, options)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{_owner(target, args, options)}{error}") from None
        return target(*args, **options)

    return call  # type: ignore[return-value]


def unchecked(function: Target) -> Target:
    """Return a checked function without its checks, for arguments that are known to be right, in every step."""
    bare: Target = getattr(function, "__wrapped__", function)
    return bare


def _owner(function: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    """Return what has a wrong argument, where it has a name: ``cell 'mlp': ``."""
    for place, name in enumerate(list(inspect.signature(function).parameters)[:2]):
        given = args[place] if place < len(args) else options.get(name)
        if name in ("id", "name") and isinstance(given, str):
            return f"{function.__qualname__.split('.')[0].lower()} {given!r}: "
    return ""


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a function as its annotations want them, where :func:`checked` would be in the way.

    Lightning looks at the frames of constructors. It takes their ``locals()``, before these have others; or those
    arguments of a call that are known before it.
    """
    function = inspect.unwrap(function)
    arguments = _arguments(function)
    names = inspect.signature(function).parameters
    return arguments.check((), {name: given[name] for name in names if name in given and name != "self"})[1]


class _Arguments(NamedTuple):
    """The checks of a function's parameters: those by position, those by name, and those of what is left."""

    places: tuple[str, ...]
    tests: dict[str, Callable[[str, Any], Any]]
    more: Callable[[str, Any], Any]
    named: Callable[[str, Any], Any]
    shapes: dict[str, Shape]

    def check(self, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call as the annotations want them."""
        tests, places, more = self.tests, self.places, self.more
        # Without strict=False, which the compiler of torch 2.7 does not trace.
        made = [tests[name](name, value) if name in tests else value for name, value in zip(places, args)]  # noqa: B905
        if len(args) > len(places):
            made += [more(f"argument {i + 1}", args[i]) for i in range(len(places), len(args))]
        for name, value in options.items():
            options[name] = tests[name](name, value) if name in tests else self.named(name, value)
        if self.shapes:
            sizes: dict[str, tuple[int, str]] = {}
            for name, shape in self.shapes.items():
                at = places.index(name) if name in places else len(made)
                value = made[at] if at < len(made) else options.get(name)
                if hasattr(value, "dtype"):
                    shape.match(name, value, sizes)
        return tuple(made), options


def _arguments(function: Callable[..., Any]) -> _Arguments:
    # What it returns is not checked, and may be of a type that only type checkers import.
    given = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    names = inspect.unwrap(function).__globals__
    hints = get_type_hints(types.SimpleNamespace(__annotations__=given), names, names, include_extras=True)
    parameters = inspect.signature(function).parameters
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    tests = {name: read(hints[name]) for name in parameters if name in hints}
    kinds = {parameter.kind: name for name, parameter in parameters.items()}
    more, named = (
        tests.pop(kinds.get(kind, ""), ANY).test
        for kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    )
    return _Arguments(
        tuple(name for name, parameter in parameters.items() if parameter.kind in by_place),
        {name: found.test for name, found in tests.items() if found is not ANY},
        more,
        named,
        {name: part for name in tests for part in _parts(hints[name]) if isinstance(part, Shape)},
    )


def _parts(hint: Any) -> Iterable[Any]:
    """Return what is written behind a type, in a union too."""
    if get_origin(hint) is Annotated:
        return hint.__metadata__ + tuple(_parts(hint.__origin__))  # type: ignore[no-any-return]
    unions = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else ()
    return [part for option in unions for part in _parts(option)]


# What a run draws for: initial weights; the order of the data, with augmentation, dropout and the draws of methods; the
# split, with subsets and corruption.
PURPOSES = ("weights", "order", "split")


def check_seeds(seeds: object) -> dict[str, int]:
    """Return the seeds that purposes have apart from the run's: ``{"weights": 0}``; of None, that none has one."""
    apart: dict[str, int] = dict(check("seeds", seeds, Mapping[str, Seed] | None) or {})
    for purpose in apart:
        if purpose not in PURPOSES:
            raise unknown_name("purpose of a seed", purpose, PURPOSES)
    return apart


def seeds_apart(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the seeds that a configuration sets apart from the run's, as :func:`check_seeds` does."""
    for section in ("data", "model"):
        if given := {"seed", "seeds", "replicas"}.intersection(config.get(section) or ()):
            raise ValueError(
                f"{section}.{min(given)} is set by the run; leave it out, and give what has another seed as seeds "
                "beside the sections, such as {'weights': 0}."
            )
    return check_seeds(config.get("seeds"))


def call(kind: str, cls: type[Any], /, *args: Any, **options: Any) -> Any:
    """Make one of a class whose name and options come from a configuration.

    Args:
        kind: What it is, as a noun: ``"optimizer"``.
        cls: The class.
        *args: What the configuration does not say; they come first.
        **options: What it says.
    """
    try:
        with suppress(NameError):  # what a class has imported for type checkers alone
            hints = get_type_hints(cls.__init__ if isinstance(cls, type) else cls)
            options = {name: check(name, value, hints.get(name, Any)) for name, value in options.items()}
        return cls(*args, **options)
    except (TypeError, ValueError) as error:
        accepted = ", ".join(list(inspect.signature(cls).parameters)[len(args) :])
        name, why = cls.__qualname__.rpartition("<locals>.")[2], str(error).rstrip(".")
        named = kind if name.startswith("_") else f"{kind} {name}"  # nobody has written a private name
        raise ValueError(f"{named} does not take {options!r}: {why}. It takes: {accepted}.") from error
