"""Where a training is, the random streams that belong there, and whether a method acts there."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache, cached_property
from typing import Any, get_type_hints

import torch

from lightning_regs.core import rng
from lightning_regs.core.batch import Keys
from lightning_regs.core.checks import Count, Seed, Share, Whole
from lightning_regs.core.lightning import pl

# Parameter -> what it may be, its default, and what the docstring says of it.
GIVEN: dict[str, tuple[Any, Any, str]] = {
    "batch": (Keys, None, ""),
    "seed": (Seed | None, None, "Seed of these draws; default: what ``seed_everything`` was given, else 0."),
    "p": (Share, 1.0, "Probability of acting on a batch, in [0, 1]; drawn anew for each, alike in all processes."),
    "from_epoch": (Whole, 0, "The first epoch in which it acts, from 0."),
    "until_epoch": (Count | None, None, "The first epoch in which it acts no more; None: it acts to the end."),
}


@dataclass(frozen=True)
class Moment:
    """Where a training is, and the draws that belong there.

    Attributes:
        trainer: The Trainer.
        module: The LightningModule that is trained.
        epoch: From 0.
        batch: From 0 in each epoch; repeats of a batch are one.
        rank: The process's; 0 in all of them for what acts on gradients and weights, which have to stay equal.
        seed: The method's.
        name: The method's.
    """

    trainer: pl.Trainer
    module: pl.LightningModule
    epoch: int
    batch: int
    rank: int
    seed: int
    name: str

    @property
    def step(self) -> int:
        """Optimizer steps taken so far."""
        return self.trainer.global_step

    @cached_property
    def generator(self) -> torch.Generator:
        """The CPU generator that belongs to (seed, class, epoch, batch, rank)."""
        return self.stream()

    def stream(self, purpose: str = "", device: torch.device | str = "cpu") -> torch.Generator:
        """Return a generator apart from :attr:`generator`, where a method needs several or one on a device."""
        return torch.Generator(device=device).manual_seed(self.seed_of(purpose))

    def seed_of(self, purpose: str = "") -> int:
        """Return the seed of :meth:`stream`."""
        name = f"{self.name}.{purpose}" if purpose else self.name
        return rng.derive_seed(self.seed, name, self.epoch, self.batch, self.rank)


def give(cls: Any, on_batches: bool, keys: bool) -> None:
    """Declare these parameters of a method on batches, by keyword only; a seed that is the only one, by place too.

    One that the class has declared with a meaning of its own, where no base has it, keeps that: ``cls.kept`` names it.

    Args:
        cls: The method's class, before it is a dataclass.
        on_batches: Whether it has an ``on_batch``.
        keys: Whether it changes batches in whatever way; then it has ``batch``.
    """
    names: dict[str, tuple[Any, Any, str]] = GIVEN if on_batches else {"batch": GIVEN["batch"]} if keys else {}
    inherited, own = declared(cls), cls.__annotations__
    if not inherited and not own:
        own["seed"], cls.seed = Seed | None, None
    cls.kept |= own.keys() & names.keys() - inherited.keys() - {"batch", "seed"}
    for name, (hint, default, _) in names.items():
        if name not in inherited and name not in cls.kept and not (name == "seed" and name in own):
            own[name] = hint
            setattr(cls, name, field(default=default, kw_only=True))
    head, args, tail = (vars(cls).get("__doc__") or "").partition("    Args:\n")
    if args:
        entries, gap, rest = tail.partition("\n\n")
        more = [
            f"        {name}: {text}\n"
            for name, (_, _, text) in names.items()
            if text and f"    {name}: " not in entries
        ]
        cls.__doc__ = f"{head}{args}{entries.rstrip()}\n{''.join(more)}{gap[1:]}{rest}" + ("" if gap else "    ")


def declared(cls: Any) -> dict[str, tuple[Any, ...]]:
    """Return the declared parameters, and the examples of each."""
    return {f.name: f.metadata.get("examples", ()) for f in fields(cls)} if is_dataclass(cls) else {}


@cache
def hints(cls: Any) -> dict[str, Any]:
    """Return what the declared parameters may be."""
    return get_type_hints(cls, include_extras=True)


def check_order(method: Any) -> None:
    """Refuse a method that would act in no epoch.

    Raises:
        ValueError: If it would.
    """
    first, end = _of(method, "from_epoch"), _of(method, "until_epoch")
    if end is not None and end <= first:
        raise ValueError(
            f"{type(method).__name__}(from_epoch={first}, until_epoch={end}) acts in no epoch, as it stops before "
            f"epoch {end}; give an until_epoch of at least {first + 1}."
        )


def come(method: Any, at: Moment) -> bool:
    """Tell whether the method acts on this batch; nothing is drawn where it acts on all."""
    end, chance = _of(method, "until_epoch"), _of(method, "p")
    if not _of(method, "from_epoch") <= at.epoch < (math.inf if end is None else end):
        return False
    # One draw for all processes: where one attacks its batch, the others would wait for it.
    return bool(chance == 1 or random.Random(replace(at, rank=0).seed_of("p")).random() < chance)  # noqa: S311


def _of(method: Any, name: str) -> Any:
    default = GIVEN[name][1]
    return default if name in method.kept else getattr(method, name, default)
