"""The options of a configuration: what is made of them, and what refuses wrong ones before anything is loaded."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from lightning_regs.core.checks import call, check, seeds_apart
from lightning_regs.core.lightning import Callback, pl
from lightning_regs.core.names import unknown_name
from lightning_regs.data import ImageDataModule
from lightning_regs.regularizers import Regularizer
from lightning_regs.training.classifier import Classifier

C = TypeVar("C", bound=Callback)
T = TypeVar("T")


def check_options(config: Mapping[str, Any]) -> None:
    """Refuse a section that is not there, and an option that its class does not take."""
    for section, cls in (("model", Classifier), ("data", ImageDataModule), ("trainer", pl.Trainer)):
        options, known = config.get(section), inspect.signature(cls).parameters
        if not isinstance(options, Mapping):
            raise ValueError(
                f"a training has the sections model, data and trainer, each a mapping: {section} is {options!r}."
            )
        if unknown := [name for name in options if name not in known]:
            raise unknown_name(f"option of {section}", unknown[0], known)


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse what :func:`~lightning_regs.training.fit.fit` refuses of a configuration before it loads data.

    Nothing is loaded, and no network is built: whether the architecture goes with the data shows later.

    Raises:
        ValueError: If a section has an option that its class does not take, a name that is none, or a value that the
            option cannot have.
        TypeError: If a value is of another type.
    """
    check_options(config)
    apart, hints = seeds_apart(config), get_type_hints(pl.Trainer.__init__)
    for name, value in config["trainer"].items():
        check(f"trainer.{name}", value, hints[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run says it
        callbacks_in(config, 0)
        Classifier(**dict(config["model"]) | {"regularizers": regularizers_in(config, 0)}, seed=0, seeds=apart)
        ImageDataModule(**config["data"], seed=0, seeds=apart)


def regularizers_in(config: Mapping[str, Any], seed: int) -> list[Regularizer]:
    """Return the methods that a configuration has for its model."""
    found = config["model"].get("regularizers") or []
    return [make(one, Regularizer, seed, "regularizer", "lightning_regs.Mixup") for one in found]


def callbacks_in(config: Mapping[str, Any], seed: int) -> list[Callback]:
    """Return the callbacks that a configuration has for its Trainer."""
    found = config.get("callbacks") or []
    return [make(one, Callback, seed, "callback", "lightning_regs.WeightMask") for one in found]


def make(config: Mapping[str, Any], base: type[C], seed: int, kind: str, example: str) -> C:
    """Build an object of a configuration, which has it as LightningCLI does.

    That is ``{"class_path": "lightning_regs.Mixup", "init_args": {"alpha": 1.0}}``, or without ``init_args``. The seed
    is its, where it takes one and has none; ``kind``, in a word, and ``example``, a class path, are for messages.
    """
    path, options = config.get("class_path"), dict(config.get("init_args") or {})
    if not isinstance(path, str) or set(config) - {"class_path", "init_args"}:
        raise ValueError(f"a {kind} is written as class_path: {example} and init_args, got {config!r}.")
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no {kind} {path!r}: {error}; write it like {example}.") from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ValueError(f"{path!r} is no {kind}; write for example {example}.")
    if "seed" in inspect.signature(cls).parameters:
        options.setdefault("seed", seed)
    made: C = call(kind, cls, **options)
    return made


def section(config: Mapping[str, Any], name: str, cls: type[T]) -> T:
    """Make a task's own options of a section of a configuration, or refuse it."""
    made: T = call(name, cls, **config.get(name) or {})
    return made


def looks(look: Callable[[dict[str, Any]], object]) -> Callable[[T], T]:
    """Let a task say before any run starts what it refuses of a configuration, beside what each training does."""

    def give(task: T) -> T:
        setattr(task, "look", look)  # noqa: B010  # a function declares none
        return task

    return give
