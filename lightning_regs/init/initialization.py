"""Initial weights by the first batch of a training: a callback for any LightningModule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core import rng
from lightning_regs.core.batch import LABELS, SAMPLES, Keys, describe, take
from lightning_regs.core.checks import Name, Seed, check_arguments, warn
from lightning_regs.core.lightning import (
    Callback,
    MisconfigurationException,
    check_forward,
    check_trainer,
    check_whole_weights,
    pl,
)
from lightning_regs.init.initialize import Initialized, initialize, rule_of


class Initialization(Callback):
    """Sets the initial weights of any LightningModule by a rule, before its first step, by its first training batch.

    Rules are those of :func:`~lightning_regs.init.initialize`, with or without data. The module is called on the
    samples of the batch, as callbacks before this one have left it; take a batch of some hundred samples, of
    several classes: one whose labels are all equal is warned of. A training that goes on from a checkpoint keeps its
    weights. In several processes all have the weights that the first has.
    Each net of ``Classifier(replicas=...)`` is set by its own batch and seed, as if it were alone.

    Does not help: where normalization layers set the scale anyway. Does not compose with a callback that looks at the
    weights before the first batch and says so as ``sees_initial_weights``: a ``WeightMask``, or ``WeightNorms``, which
    measures from there; nor with FSDP or DeepSpeed.

    Example:
        ``Trainer(callbacks=[Initialization("lsuv")])``, or in a configuration ``class_path:
        lightning_regs.Initialization`` with ``init_args: {rule: normal, options: {std: 0.4}}``.

    Args:
        rule: Its name.
        options: Its options.
        seed: Of the draws, where the module has no ``weight_seeds``; default: what ``seed_everything`` was given, or 0.
        batch: The keys of samples and labels in a batch, where they are not ``[x, y]`` or usual names.

    Attributes:
        initialized: What was set and what was not, see :class:`~lightning_regs.init.Initialized`; before, None.

    Raises:
        ValueError: At construction, if the rule or an option is unknown, or the rule would add parameters; at the first
            batch, if the rule cannot set the module's weights by it.
        MisconfigurationException: If the Trainer cuts weights in pieces or has such a callback, the module has no
            ``forward`` for a rule that looks at data, or the batch has no samples that are known.
    """

    def __init__(
        self, rule: Name, options: Mapping[str, Any] | None = None, seed: Seed | None = None, batch: Keys = None
    ) -> None:
        given = check_arguments(Initialization.__init__, locals())
        self.rule, self.options, self.seed, self.batch = rule, dict(options or {}), given["seed"], given["batch"]
        _, self._kind = rule_of(rule, self.options)
        self.initialized: Initialized | None = None
        if rule == "fixup" and self.options.get("scalars", True):
            raise ValueError(
                "rule='fixup' adds scalars to the net, and at the first batch its optimizer has been made; initialize "
                "the net before, initialize(net, 'fixup', batch=x), or give options={'scalars': False}."
            )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin anew, where no checkpoint follows; refuse a Trainer or a module that the rule is not for."""
        check_trainer(type(self).__name__, trainer)
        if stage == "fit":
            check_whole_weights(type(self).__name__, trainer)
            if self._kind != "weight":
                check_forward(f"Initialization({self.rule!r})", pl_module)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if why := getattr(callback, "sees_initial_weights", ""):
                    raise MisconfigurationException(
                        f"Initialization({self.rule!r}) sets all weights at the first batch, when "
                        f"{type(callback).__name__} {why}; initialize the module before the training: "
                        "initialize(module, rule, batch=x)."
                    )
            self.initialized = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the weights before the first step."""
        if self.initialized is not None:
            return
        if trainer.global_step:
            why = "as they come from a checkpoint or an earlier fit"
            warn(f"Initialization({self.rule!r}) leaves the weights as they are, {why}.")
            self.initialized = Initialized([], [], {})
            return
        done: Any = None
        if trainer.is_global_zero:
            try:
                done = self._initialize(pl_module, batch)
            except Exception as error:
                done = error
        if trainer.world_size > 1:
            first = {name: p.detach().cpu() for name, p in pl_module.named_parameters()}
            done, first = trainer.strategy.broadcast((done, first))
            with torch.no_grad():
                for name, parameter in pl_module.named_parameters():
                    parameter.copy_(first[name])
        if isinstance(done, Exception):
            raise done
        self.initialized = done

    def _initialize(self, pl_module: pl.LightningModule, batch: Any) -> Initialized:
        """Set the module, or each of its replicas; return what was set, of replicas of the last."""
        x = self._samples(batch) if self._kind != "weight" else None
        stack: Any = next((part for part in pl_module.modules() if hasattr(part, "network_of")), None)
        if x is not None and self.rule != "fixup":
            self._look_at_labels(batch, x.shape[: 1 if stack is None else 2])
        seeds: Sequence[int] = getattr(pl_module, "weight_seeds", None) or [rng.run_seed(self.seed)]
        sources = [rng.generator(seed, "initialization") for seed in seeds]
        if stack is None:
            return initialize(pl_module, self.rule, sources[0], x, **self.options)
        for i in range(stack.replicas):
            net = stack.network_of(i)
            done = initialize(net, self.rule, sources[i], None if x is None else x[i], **self.options)
            for name, value in stack.state_dict().items():
                value[i].copy_(net.state_dict()[name])
        return done

    def state_dict(self) -> dict[str, Any]:
        """Return what was set."""
        return {} if self.initialized is None else self.initialized._asdict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it: what was set is not set again."""
        self.initialized = Initialized(**state_dict) if state_dict else None

    def _samples(self, batch: Any) -> Tensor:
        parts = list(batch) if isinstance(batch, tuple) else batch
        names: list[Any] = [self.batch[0]] if self.batch else [0, *SAMPLES]
        found = parts if isinstance(parts, Tensor) else next((x for n in names if (x := take(parts, n)) is not None), 0)
        if not isinstance(found, Tensor):
            raise MisconfigurationException(
                f"Initialization({self.rule!r}) looks at the samples of a batch, and this one is {describe(batch)}, in "
                'which they are not known; say where they are by Initialization(batch=("image", "label")) or (0, 1).'
            )
        return found

    def _look_at_labels(self, batch: Any, before: torch.Size) -> None:
        """Warn of samples of one class, whose scales are not those of the data; labels are of the shape ``before``."""
        parts = list(batch) if isinstance(batch, tuple) else batch
        names: list[Any] = [self.batch[1]] if self.batch else [1, *LABELS]
        found = [take(parts, name) for name in names]
        y = next((y for y in found if isinstance(y, Tensor) and y.shape == before and not y.is_floating_point()), None)
        if y is None or before[-1] < 2 or int(y.min()) < 0 or not bool((y == y[..., :1]).all(-1).any()):
            return
        warn(
            f"Initialization({self.rule!r}) looks at the first batch, and all {before[-1]} samples of this one have "
            "one label; let the loader shuffle, or take a larger batch, as the scales would be those of one class."
        )
