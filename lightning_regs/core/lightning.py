"""The Lightning that the user's program uses.

Lightning ships as ``pytorch_lightning`` and as ``lightning.pytorch``: the same code twice, whose classes do not mix.
The package takes the one that the program has imported, and ``pytorch_lightning`` when neither or both are;
``LIGHTNING_REGS_NAMESPACE`` overrides the choice. Every other module imports Lightning from here.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from lightning_regs.core.checks import warn
from lightning_regs.core.files import of_a_gpu
from lightning_regs.core.names import unknown_name

NAMESPACES = ("pytorch_lightning", "lightning.pytorch")
NAMESPACE_ENV = "LIGHTNING_REGS_NAMESPACE"


def choose(environment: str | None, imported: list[str]) -> str:
    """Choose the namespace by ``LIGHTNING_REGS_NAMESPACE``, else by which one the program has imported."""
    if environment:
        if environment not in NAMESPACES:
            raise unknown_name(NAMESPACE_ENV, environment, NAMESPACES)
        return environment
    return imported[0] if len(imported) == 1 else NAMESPACES[0]


_imported = [name for name in NAMESPACES if name in sys.modules]
_environment = os.environ.get(NAMESPACE_ENV)
_warned: list[str] = []
NAMESPACE = choose(_environment, _imported)
OTHER = next(name for name in NAMESPACES if name != NAMESPACE)

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from lightning_fabric.utilities.exceptions import MisconfigurationException
    from pytorch_lightning import Callback
    from pytorch_lightning.callbacks import Checkpoint
else:
    pl = importlib.import_module(NAMESPACE)
    MisconfigurationException = pl.utilities.exceptions.MisconfigurationException
    Checkpoint = pl.callbacks.Checkpoint
    Callback = pl.Callback

__all__ = ["NAMESPACE", "Callback", "Checkpoint", "MisconfigurationException", "pl"]


def lightning_cli() -> type[Any]:
    """Return ``LightningCLI``; imported when asked for, because it takes a second."""
    cls: type[Any] = importlib.import_module(f"{NAMESPACE}.cli").LightningCLI
    return cls


def how_to_mix() -> str:
    """Say what to do when the program's Trainer is of the other namespace."""
    return (
        f"lightning_regs uses {NAMESPACE} here, and {OTHER}'s classes do not mix with it: import Lightning from "
        f"{NAMESPACE}, or import {OTHER} alone and before lightning_regs, or set {NAMESPACE_ENV}={OTHER}"
    )


def check_trainer(name: str, trainer: object) -> None:
    """Refuse a Trainer that is not of the namespace in use."""
    if not isinstance(trainer, pl.Trainer):
        raise MisconfigurationException(
            f"{name} was given to a Trainer from {type(trainer).__module__}: {how_to_mix()}."
        )


def warn_if_other_came_later() -> None:
    """Warn a program that imported the other Lightning, and only that, after this package had to choose."""
    if not _environment and not _imported and OTHER in sys.modules and not _warned:
        _warned.append(OTHER)
        warn(f"{how_to_mix()}.")


def log_epoch(pl_module: pl.LightningModule, values: Mapping[str, Any]) -> None:
    """Log numbers of an epoch that each process has alike, by their names."""
    for name, value in values.items():
        # Lightning asks for a batch size where training_step fetches its batches; numbers of an epoch need none.
        pl_module.log(name, value, rank_zero_only=False, sync_dist=False, batch_size=1)


def replicas_of(module: Any) -> tuple[int, ...]:
    """Return the seeds of the nets that a module stacks, as ``Classifier(replicas=...)`` does; of one net none."""
    seeds = getattr(module, "replicas", None)
    return seeds if isinstance(seeds, tuple) else ()


def log_nets(pl_module: Any, prefix: str, values: Mapping[str, Tensor]) -> None:
    """Log numbers of an epoch, of replicas ``(R,)`` their means; each replica's own are left in ``replica_results``."""
    log_epoch(pl_module, {f"{prefix}/{name}": value.mean().float() for name, value in values.items()})
    if replicas := replicas_of(pl_module):
        each = [{name: float(value[i]) for name, value in values.items()} for i in range(len(replicas))]
        pl_module.replica_results[prefix] = each


# -- what Lightning keeps to itself, or says nothing of: each has a canary in tests/core/test_canaries.py --------------


def current_batch(trainer: pl.Trainer) -> int:
    """Return the number of the training batch that is being trained on, in its epoch; before the first one -1."""
    return int(trainer.fit_loop.epoch_loop.batch_idx)


def datamodule_of(trainer: pl.Trainer) -> Any:
    """Return the DataModule that serves the batches, if any; ``trainer.datamodule`` may be that of an earlier stage."""
    selector: Any = trainer._data_connector._datahook_selector  # None before the Trainer's first stage
    return selector.datamodule


def epochs_trained(trainer: pl.Trainer) -> int:
    """Return the epochs whose batches are behind; ``current_epoch`` lags behind this when a training resumes."""
    return int(vars(trainer.fit_loop.epoch_progress.current)["processed"])


def only_gathers_statistics(trainer: pl.Trainer) -> bool:
    """Whether this is an epoch for batch-norm statistics alone, which ``StochasticWeightAveraging`` adds."""
    return bool(trainer.fit_loop._skip_backward)


def has_static_graph(trainer: pl.Trainer) -> bool:
    """Whether ``DDPStrategy(static_graph=True)`` trains."""
    return bool(getattr(trainer.strategy, "_ddp_kwargs", {}).get("static_graph"))


def is_compiled(module: Any) -> bool:
    """Whether a module was compiled, by ``torch.compile(module)``, ``module.compile()`` or by Lightning."""
    # By name: importing torch._dynamo for its class takes longer than many a test run.
    traces = ("_compiler_ctx", "_compiled_call_impl")
    return type(module).__name__ == "OptimizedModule" or any(getattr(module, t, None) is not None for t in traces)


def replace_loss(
    trainer: pl.Trainer, make: Callable[[Any], Any], around: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Callable[[], None]:
    """Have every backward pass that Lightning makes start at what a function makes of the loss; return what undoes it.

    The loss in ``on_before_backward`` can be changed in place alone, and in manual optimization it is the user's own.
    The function takes the loss as it is differentiated: scaled, and divided by the number of accumulated batches. It
    and the backward pass are in the context that ``around`` returns.
    """
    plugin: Any = trainer.precision_plugin
    theirs = plugin.backward

    def backward(loss: Any, *args: Any, **options: Any) -> None:
        with around():
            theirs(make(loss), *args, **options)

    def undo() -> None:
        if vars(plugin).get("backward") is backward:
            del plugin.backward

    plugin.backward = backward
    return undo


def takes_its_batches(pl_module: Any) -> bool:
    """Whether ``training_step(self, dataloader_iter)`` fetches its batches, which no hook then sees."""
    return "dataloader_iter" in inspect.signature(pl_module.training_step).parameters


def check_whole_weights(name: str, trainer: pl.Trainer) -> None:
    """Refuse a strategy that cuts weights in pieces, for the method of this name."""
    sharded = (pl.strategies.FSDPStrategy, pl.strategies.DeepSpeedStrategy, pl.strategies.ModelParallelStrategy)
    if isinstance(trainer.strategy, sharded):
        raise MisconfigurationException(
            f"{name} needs whole weights, and {type(trainer.strategy).__name__} cuts them in pieces; use DDP."
        )


def check_forward(name: str, module: Any) -> None:
    """Refuse a module without a ``forward``, for what calls it on samples."""
    if type(module).forward is pl.LightningModule.forward:
        raise MisconfigurationException(
            f"{name} calls the module on samples, and {type(module).__name__} has no forward; give it one, such as "
            "`def forward(self, x): return self.net(x)`."
        )


def averaged_modules(trainer: pl.Trainer) -> list[Any]:
    """Return the averaged modules that Lightning's callbacks hold; they start as, or are loaded with, dense weights."""
    kinds = (pl.callbacks.StochasticWeightAveraging, getattr(pl.callbacks, "WeightAveraging", ()))
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    found = (getattr(callback, "_average_model", None) for callback in callbacks if isinstance(callback, kinds))
    return [a.module if isinstance(a, AveragedModel) else a for a in found if a is not None]


def combined_mode(loaders: Any) -> Any:
    """Return the mode of a ``CombinedLoader``: how long an epoch of several loaders is."""
    return loaders._mode


def while_restoring(error: BaseException) -> bool:
    """Whether what a checkpoint holds was wrong as Lightning restored it; not the disk, the memory or a GPU."""
    if isinstance(error, (OSError, MemoryError)) or of_a_gpu(error):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).name == "checkpoint_connector.py" for frame in frames)


def end_epoch(loop: dict[str, Any]) -> None:
    """Let a checkpoint of an epoch's end, by its ``loops["fit_loop"]``, go on with the next epoch.

    With ``max_steps`` Lightning takes a checkpoint of an epoch's end for one of its middle: it ends the epoch once
    more, with all hooks, and counts it twice.
    """
    for counts in (loop["epoch_progress"]["total"], loop["epoch_progress"]["current"]):
        counts["completed"] = counts["processed"]
    batches = loop["epoch_loop.batch_progress"]
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
