"""Which levels a search for tickets consists of, and what each of them starts from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_regs.core.checks import Count, checked, warn
from lightning_regs.core.identity import digest
from lightning_regs.core.lightning import MisconfigurationException, pl, replicas_of
from lightning_regs.core.names import unknown_name
from lightning_regs.core.rng import derive_seed, generator
from lightning_regs.optim.length import Time
from lightning_regs.procedures.driver import Driver
from lightning_regs.procedures.ends import Inputs, Stage
from lightning_regs.procedures.level import LevelState, State
from lightning_regs.procedures.objects import is_overridden
from lightning_regs.procedures.starts import TREATMENTS, Given, Start, make_start
from lightning_regs.pruning import Mask, Pruning
from lightning_regs.pruning.layers import left_alone

Method = Literal["weight_rewinding", "lr_rewinding", "fine_tuning"]
DENSE = "level_00"
# Control -> treatment, where the names differ; and treatments that are chains, or have a number.
_NAMED = {"reinitialise": "reinit-1", "random_mask": "random", "twin": "ticket-twin"}
_OTHERS = ("continued", "continued-reset", "noise", "random", "reinit", "ticket")
CONTROLS = {name: name for name in TREATMENTS if name not in _OTHERS} | _NAMED


@checked
@dataclass(frozen=True)
class Control:
    """A training to compare a ticket with.

    Args:
        kind: ``"reinitialise"``: the ticket's mask on a fresh draw of the weights, trained from the beginning to the
            end. All others train from where the levels rewind to: ``"random_mask"``: as many weights in each layer at
            random places; ``"twin"``: the ticket again, with other batches and draws; or one of
            :data:`~lightning_regs.procedures.starts.TREATMENTS`, such as ``"noise-0.5"``, ``"sign-reinit"``,
            ``"reshuffle"``, ``"small-init"``, ``"one-shot"`` or ``"one-shot-frozen"``.
        repeats: Number of draws, at least 1.
        levels: The levels that have it, each at least 1; default: all.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If the kind is unknown, or a number less than 1.
    """

    kind: str
    repeats: Count = 1
    levels: tuple[Count, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in CONTROLS and not re.fullmatch(r"noise-\d+(\.\d+)?", self.kind):
            raise unknown_name("control", self.kind, [*CONTROLS, "noise-0.5"])

    @classmethod
    @checked
    def parse(cls, text: WrittenControl) -> Control:
        """Read ``"reinitialise"`` or ``"reinitialise:3"``.

        Raises:
            TypeError: If it is neither a text nor a Control.
            ValueError: If it is written otherwise, or the kind unknown.
        """
        if isinstance(text, Control):
            return text
        kind, colon, number = text.partition(":")
        if colon and not re.fullmatch(r"\d+", number):
            raise ValueError(f"a control is written like 'reinitialise:3', got {text!r}.")
        return cls(kind, int(number) if colon else 1)


WrittenControl = Annotated[str | Control, "a control written like 'reinitialise:3'"]


@dataclass(frozen=True)
class Plan:
    """What a search for tickets trains; ``find_ticket`` documents the arguments, and what is refused."""

    levels: int
    rewind_to: Time
    method: str
    pruning: Pruning
    one_shot: bool
    controls: tuple[Control, ...]
    fine_tune: Time | None
    seed: int

    def __post_init__(self) -> None:
        levels, length = self.levels, self.fine_tune
        if (self.method == "fine_tuning") != (length is not None):
            raise ValueError(
                "method='fine_tuning' trains for so long at the last learning rate: give fine_tune='10ep' with it, and "
                f"only with it; got method={self.method!r} and fine_tune={None if length is None else str(length)!r}."
            )
        if length is not None and length.value == 0:
            raise ValueError("fine_tune is a length of at least one epoch or iteration, got 0.")
        run = {levels} if self.one_shot else set(range(1, levels + 1))
        kinds = [control.kind for control in self.controls]
        for control in self.controls:
            if kinds.count(control.kind) > 1:
                raise ValueError(
                    f"the control {control.kind!r} is given twice; give it once, with its number of repeats."
                )
            for level in set(control.levels or ()) - run:
                raise ValueError(
                    f"the control {control.kind!r} is for level {level}, which is not among {sorted(run)}."
                )

    def check(self, driver: Driver, module: pl.LightningModule) -> None:
        """Refuse, before anything is trained, what the Trainer's options or a module as it is made tell."""
        for name, unit in (("max_epochs", "ep"), ("max_steps", "it")):
            end = driver.trainer.get(name)
            if self.rewind_to.unit == unit and isinstance(end, int) and 0 <= end <= self.rewind_to.value:
                raise ValueError(
                    f"rewind_to={str(self.rewind_to)!r} is not before the end of training, which is at {name}={end}; "
                    "choose an earlier point, or train for longer."
                )
        if is_overridden("configure_model", module):
            return  # what it prunes is built later
        self._everything(module)
        if any(control.kind == "reinitialise" for control in self.controls) and not is_overridden("setup", module):
            again = driver.make(self._redrawn(1, 1))[1]
            _check_drawn_anew(again.state_dict(), digest(module.state_dict()))

    # -- the levels --------------------------------------------------------------------------------------------------

    def stages(self) -> Iterator[Stage]:
        """Yield the levels, each after those that it needs."""
        hands_on = self.method != "weight_rewinding"
        point = self.rewind_to if self.rewind_to.value else None
        yield self._stage(DENSE, 0, "dense", 0, start=self._dense, point=point, keeps=hands_on)
        for level in [self.levels] if self.one_shot else range(1, self.levels + 1):
            name = f"level_{level:02d}{'-one_shot' if self.one_shot else ''}"
            before = DENSE if self.one_shot or level == 1 else f"level_{level - 1:02d}"
            trained: dict[str, Any] = {
                "rewinds": DENSE if point is not None and self.method != "fine_tuning" else None,
                "carries": before if hands_on else None,
                "length": self.fine_tune,
            }
            start, needs = partial(self._ticket, level, before), tuple(dict.fromkeys((before, DENSE)))
            yield self._stage(name, level, "ticket", 0, start=start, needs=needs, keeps=hands_on, **trained)
            for control in self.controls:
                for repeat in range(1, control.repeats + 1) if level in (control.levels or [level]) else ():
                    yield self._control(name, level, control.kind, repeat, trained)

    def _control(self, ticket: str, level: int, kind: str, repeat: int, trained: dict[str, Any]) -> Stage:
        options: dict[str, Any] = {"rewinds": DENSE if self.rewind_to.value else None}
        if kind == "reinitialise":
            options = {"seed": self._redrawn(level, repeat)}
        elif kind == "twin":
            options = trained | {"order": derive_seed(self.seed, kind, level, repeat) % 2**31}
        start = partial(self._controlled, ticket, level, kind, repeat)
        name, needs = f"{ticket}-{kind}-{repeat}", (ticket, DENSE)
        return self._stage(name, level, kind, repeat, start=start, needs=needs, **options)

    def _stage(self, name: str, level: int, kind: str, repeat: int, **options: Any) -> Stage:
        pruning = asdict(self.pruning)
        settings = {
            "level": level,
            "kind": kind,
            "repeat": repeat,
            "seed": self.seed,
            "method": self.method,
            "rewind_to": str(self.rewind_to),
            "fine_tune": None if self.fine_tune is None else str(self.fine_tune),
            "pruning": pruning if level else {"layers": pruning["layers"]},
        }
        return Stage(name, settings, **({"seed": self.seed, "order": self.seed} | options))

    def _redrawn(self, level: int, repeat: int) -> int:
        return derive_seed(self.seed, "reinitialise", level, repeat) % 2**31

    # -- what they start from ----------------------------------------------------------------------------------------

    def _everything(self, module: pl.LightningModule, optimizers: Sequence[Optimizer] = ()) -> Mask:
        mask = self.pruning.start(module, optimizers)
        # Of stacked networks the first, as they have the same shapes.
        self.pruning.of(module).check(mask.unstack()[0] if replicas_of(module) else mask, self.levels)
        return mask

    def _dense(self, module: pl.LightningModule, own: State, inputs: Inputs) -> Start:
        optimizers = module.trainer.optimizers
        mask = self._everything(module, optimizers).to("cpu")
        if self.pruning.layers is None and (left := left_alone(module, mask, optimizers)):
            warn(f"find_ticket prunes among {left}; say with Pruning(layers=...) what to prune, and this is not said.")
        return Start(own, mask)

    def _ticket(self, level: int, before: str, module: pl.LightningModule, own: State, inputs: Inputs) -> Start:
        dense, last = inputs[DENSE], inputs[before]
        seeds, rounds = replicas_of(module), level if self.one_shot else 1
        draws = [generator(seed, "ticket", level, 0) for seed in seeds or (self.seed,)]
        pruning = self.pruning.of(module)
        mask = pruning.one_shot(last.mask, dense.initial, last.final, rounds, draws, bool(seeds))
        return Start(dense.start if self.method == "weight_rewinding" else last.final, mask)

    def _controlled(
        self, ticket: str, level: int, kind: str, repeat: int, module: pl.LightningModule, own: State, inputs: Inputs
    ) -> Start:
        dense, theirs, pruning = inputs[DENSE], inputs[ticket], self.pruning.of(module)
        if kind == "reinitialise":
            _check_drawn_anew(own, digest(dense.initial))
            return Start(own, theirs.mask)

        def start_of(seed: int, everything: Mask, kept: Mask, own: Callable[[State], State] = dict) -> Start:
            initial, goes_back_to = own(dense.initial), own(theirs.start if kind == "twin" else dense.start)
            levels = {
                ("ticket", 0): LevelState(initial, own(dense.start), own(dense.final), everything),
                ("ticket", level): LevelState({}, goes_back_to, {}, kept),
            }
            draws = generator(seed, kind, level, repeat)
            given = Given(level, pruning, everything, lambda _: initial, draws, levels)
            return make_start(CONTROLS.get(kind, kind), given)

        if not (seeds := replicas_of(module)):
            return start_of(self.seed, dense.mask, theirs.mask)
        own_of = [lambda state, r=r: {name: state[name][r] for name in dense.mask} for r in range(len(seeds))]
        starts = list(map(start_of, seeds, dense.mask.unstack(), theirs.mask.unstack(), own_of))
        changed = {name: torch.stack([one.weights[name] for one in starts]) for name in dense.mask}
        return Start(dense.start | changed, Mask.stack([one.mask for one in starts]), starts[0].frozen)


def _check_drawn_anew(own: Mapping[str, Tensor], initial: str) -> None:
    """Refuse weights of a reinitialisation that are those of the first level, whose hash this is."""
    if digest(own) == initial:
        raise MisconfigurationException(
            "the module's factory made the same weights again with another seed, so this would be the ticket and no "
            "reinitialisation; let it have a parameter `seed` and draw the weights from that."
        )
