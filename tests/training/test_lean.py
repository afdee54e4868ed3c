"""Batches that are taken without Lightning's work between them, against Lightning's own loop: bit for bit."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial, partialmethod
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_regs import Classifier, Cutout, GradientPenalty, ImageDataModule, MaxNorm, Mixup, NormPenalty
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.training import lean

HOOKS = (
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_end", "on_validation_end", "on_train_epoch_end",
)  # fmt: skip


class Listener(pl.Callback):
    """What every hook saw, and the state in which it was called."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        for hook in HOOKS:
            setattr(self, hook, partial(self.hear, hook))

    def hear(self, hook: str, trainer: pl.Trainer, module: pl.LightningModule, *arguments: Any) -> None:
        loop: Any = trainer.fit_loop.epoch_loop
        counts = trainer.global_step, loop.batch_idx, loop._batches_that_stepped, loop.batch_progress.is_last_batch
        weights = sum(float(p.detach().double().sum()) for p in module.parameters())
        lr = [group["lr"] for o in trainer.optimizers for group in o.param_groups]
        seen = [
            str(a.detach() if isinstance(a, torch.Tensor) else a)
            for a in arguments
            if not isinstance(a, torch.optim.Optimizer)
        ]
        self.heard.append((hook, *counts, *loop.batch_progress.current.__dict__.values(), weights, lr, seen))


class Logging(pl.Callback):
    """Logs at each batch's end, as users' callbacks do."""

    def on_train_batch_end(self, trainer: Any, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        pl_module.log("seen", outputs["loss"], on_step=True, on_epoch=True, batch_size=8)


class Stop(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= 10


class Skips(Classifier):
    """Leaves out the rest of each epoch, as a hook may ask."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
        super().on_train_batch_start(batch, batch_idx)
        return -1 if batch_idx == 4 else None


class LogsWithin(Classifier):
    """Logs where the loss is made and where it is differentiated."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        if self.trainer.training:
            self.log("mean", logits.mean(), on_step=True, on_epoch=True, batch_size=8)
        return logits

    def backward(self, loss: torch.Tensor, *_: Any) -> None:
        self.log("differentiated", loss, on_step=True, batch_size=8)
        (2 * loss).backward()


class KeepsItsLoss(Classifier):
    """Has a loss whose backward pass needs it as it was; a hook changes it in place."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        loss = self.loss
        self.loss = lambda logits, y: torch.sqrt(loss(logits, y))

    def on_before_backward(self, loss: torch.Tensor) -> None:
        loss.mul_(2)


class OwnOptimizer(Classifier):
    """Has an optimizer that does not turn gradients on for its closure, wrapped already."""

    class Descent(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: Any) -> Any:  # type: ignore[override]
            loss = closure()
            for p in self.param_groups[0]["params"]:
                p.add_(p.grad, alpha=-0.1)
            return loss

    def configure_optimizers(self) -> Any:
        made = self.Descent(self.parameters(), lr=0.1)
        # From Python 3.12 on a protocol does not see what is handed on, and Lightning refuses its own wrapper.
        return made if sys.version_info >= (3, 12) else pl.core.optimizer.LightningOptimizer(made)


class Visits(pl.Callback):
    """Comes, is seen in the weights, and goes; brings another one."""

    def on_train_batch_end(self, trainer: Any, pl_module: pl.LightningModule, *_: Any) -> None:
        next(pl_module.parameters()).data.add_(0.01)
        if trainer.global_step == 2:
            trainer.callbacks.append(Logging())
            trainer.callbacks.remove(self)


class Changes(pl.Callback):
    """Sets what decides when something is due."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.val_check_batch = trainer.accumulate_grad_batches = 2
            trainer.log_every_n_steps = 1
            trainer.fit_loop.epoch_loop.max_steps = 5


class Wraps(pl.Callback):
    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        step = pl_module.training_step
        pl_module.training_step = lambda batch, batch_idx: (batch_idx % 3 and {"loss": step(batch, batch_idx)}) or None


class NoHook(pl.Callback):
    on_train_batch_end = None  # type: ignore[assignment]


def mock() -> Any:
    callback = MagicMock(spec=pl.Callback)
    callback.state_dict.return_value = {}
    return callback


class Strategy(pl.strategies.SingleDeviceStrategy):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        assert self.lightning_module is not None
        next(self.lightning_module.parameters()).data.add_(0.01)


class Own(Classifier):
    """Optimizes by itself, in a training_step of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self._loss("fit", batch))
        optimizer.step()


class Stream(IterableDataset[Any]):
    """Batches of noise, one of them None, fewer each epoch."""

    def __init__(self) -> None:
        self.number = 9

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(1)
        for i in range(self.number):
            yield None if i == 2 else [torch.rand(4, 8, 8, 1, generator=generator), torch.arange(4) % 3]


class Streamed(pl.LightningDataModule):
    input_shape, num_classes = (8, 8, 1), 3

    def train_dataloader(self) -> Any:
        stream = Stream()
        self.trainer.callbacks.append(pl.callbacks.LambdaCallback(  # type: ignore[union-attr, attr-defined]
            on_train_epoch_end=lambda *_: setattr(stream, "number", stream.number - 3)
        ))  # fmt: skip
        return DataLoader(stream, batch_size=None)


class Served(pl.LightningDataModule):
    """Ordinary batches, without a hook of its own."""

    input_shape, num_classes = (8, 8, 1), 3

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.linspace(0, 1, 30 * 64).view(30, 8, 8, 1), torch.arange(30) % 3), 5)


class Scales(Served):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [2 * batch[0], batch[1]]


class Moves(Classifier):
    """Prepares its batches itself."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] + 1, batch[1]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("images") / "noise.npz"
    x, y = rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8), np.arange(60, dtype=np.uint8) % 3
    np.savez(path, x_train=x, y_train=y, x_test=x[:12], y_test=y[:12])
    return str(path)


def train(
    images: str,
    folder: Path,
    callbacks: Any = (),
    module: Any = None,
    cls: Any = Classifier,
    ckpt: Any = None,
    data: Any = None,
    served: Any = None,
    **trainer: Any,
) -> tuple[Listener, dict[str, Any], pl.Trainer]:
    listener = Listener()
    arguments = {"architecture": "mlp", "architecture_args": {"hidden": [5]}, "seed": 1} | (module or {})
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "max_epochs": 2} | trainer
    made = pl.Trainer(
        default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[listener, *(callback() for callback in callbacks)], **options,
    )  # fmt: skip
    options = {"val_split": 0.2, "random_flip": True} | (data or {})
    datamodule = served() if served else ImageDataModule(images, batch_size=8, seed=1, **options)
    made.fit(cls(**arguments), datamodule=datamodule, ckpt_path=ckpt)
    path = folder / "end.ckpt"
    made.save_checkpoint(path)
    return listener, torch.load(path, weights_only=False), made


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


@pytest.fixture
def as_lightning(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(lean._Lean, "uneventful", lambda self, *_: 0)


def by_step(name: str, **options: Any) -> dict[str, Any]:
    return {"module": {"schedule": {"name": name, "interval": "step", **options}}}


def every(steps: int) -> Any:
    return partial(pl.callbacks.ModelCheckpoint, every_n_train_steps=steps, save_top_k=-1)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "bf16 and clipping": {"precision": "bf16-mixed", "gradient_clip_val": 0.1},
    "schedule by step": by_step("CosineAnnealingLR", T_max=9) | {"max_epochs": 3},
    "validation within": {"val_check_interval": 3},
    "validation by batches": {"val_check_interval": 4, "check_val_every_n_epoch": None},
    "max_steps": {"max_steps": 9, "max_epochs": -1},
    "fewer batches": {"limit_train_batches": 4},
    "accumulation": {"accumulate_grad_batches": 2},
    "schedule of accumulation": {"callbacks": [lambda: pl.callbacks.GradientAccumulationScheduler({0: 2, 1: 1})]},
    "checkpoints by step": {"callbacks": [every(4)], "enable_checkpointing": True},
    "a logger": {"logger": CSVLogger, "log_every_n_steps": 2, "callbacks": [Logging]},
    "a callback that logs": {"callbacks": [Logging]},
    "a callback that stops": {"callbacks": [Stop]},
    "averaged weights": {"callbacks": [pl.callbacks.EMAWeightAveraging]},
    "SWA": {"callbacks": [partial(pl.callbacks.StochasticWeightAveraging, 0.1, 1)], "max_epochs": 3},
    "methods": {"callbacks": [Cutout, lambda: Mixup(0.4), lambda: NormPenalty(0.1), lambda: MaxNorm(1.0)]},
    "gradient penalty": {"module": {"regularizers": [GradientPenalty(0.1)]}},
    "penalty beside": {"callbacks": [lambda: GradientPenalty(0.1)], "data": {"batch_repeats": 2}},
    "replicas": {"module": {"replicas": [1, 2]}, "data": {"replicas": [1, 2]}},
    "a hook that skips": {"cls": Skips},
    "profiler": {"profiler": pl.profilers.SimpleProfiler},
    "a stop is logged": {"logger": CSVLogger, "callbacks": [Logging, Stop], "min_epochs": 2},
    "logs within": {"cls": LogsWithin, "logger": CSVLogger, "log_every_n_steps": 2},
    "a loss changed in place": {"cls": KeepsItsLoss},
    "an optimizer of its own": {"cls": OwnOptimizer, "gradient_clip_val": 0.1},
    "callbacks that come and go": {"callbacks": [Visits]},
    "batch sizes are tried": {"callbacks": [lambda: pl.callbacks.BatchSizeFinder(max_trials=1, init_val=4), Logging]},
    "a Trainer that changes": {"callbacks": [Changes, Logging], "logger": CSVLogger, "max_epochs": 4},
    "a step that was wrapped": {"callbacks": [Wraps]},
    "callbacks that are none": {"callbacks": [mock, NoHook]},
    "a strategy's hook": {
        "strategy": lambda _: Strategy(torch.device("cuda:0" if torch.cuda.is_available() else "cpu"))
    },
    "manual optimization": {"cls": Own},
    "batches that end early": {"served": Streamed} | by_step("StepLR", step_size=2),
    "a DataModule that prepares": {"served": Scales},
    "a module that prepares": {"served": Served, "cls": Moves},
    "both prepare": {"served": Scales, "cls": Moves},
    "an epoch that ends early": {"served": Streamed, "module": {"schedule": {"name": "StepLR", "step_size": 1}}},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_every_hook_sees_what_it_sees_in_lightnings_loop(
    case: str, images: str, tmp_path: Path, as_lightning: Callable[[], None]
) -> None:
    found = []
    for name in ("lean", "lightning"):
        options = dict(CASES[case])
        for key in ("logger", "profiler", "strategy"):
            if key in options:
                options[key] = options[key](tmp_path / name)
        found.append(train(images, tmp_path / name, **options))
        as_lightning()
    (listener, state, ours_end), (theirs, expected, their_end) = found
    for ours, other in zip(listener.heard, theirs.heard, strict=True):
        assert ours == other
    for part in ("callbacks", "hparams_name"):
        state.pop(part), expected.pop(part)
    assert same(state, expected)
    metrics = [{name: float(value) for name, value in end.callback_metrics.items()} for end in (ours_end, their_end)]
    assert metrics[0] == metrics[1]
    logs = [sorted((tmp_path / name).rglob("metrics.csv")) for name in ("lean", "lightning")]
    assert [path.read_text() for path in logs[0]] == [path.read_text() for path in logs[1]]


@pytest.mark.slow
def test_a_training_resumed_in_the_middle_ends_as_an_uninterrupted_one(
    images: str, tmp_path: Path, as_lightning: Callable[[], None]
) -> None:
    options: dict[str, Any] = {"callbacks": [every(4)], "enable_checkpointing": True, "max_epochs": 3}
    train(images, tmp_path / "first", **options)
    (middle,) = (tmp_path / "first").rglob("*step=8.ckpt")
    _, resumed, _ = train(images, tmp_path / "second", ckpt=middle, **options)
    as_lightning()
    _, whole, _ = train(images, tmp_path / "whole", **options)
    assert all(same(resumed[part], whole[part]) for part in ("state_dict", "optimizer_states", "loops", "global_step"))


def test_lightning_itself_takes_only_what_something_is_due_at(
    images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    monkeypatch.setattr(lean._Lean, "batch", lambda self, f, do=lean._Lean.batch: taken.append("ours") or do(self, f))
    loop = pl.loops.training_epoch_loop._TrainingEpochLoop
    monkeypatch.setattr(loop, "advance", lambda self, f, do=loop.advance: taken.append("theirs") or do(self, f))
    train(images, tmp_path, max_epochs=1)
    assert taken == ["ours"] * 5 + ["theirs"]


@pytest.mark.parametrize(
    ("told_again", "every", "shown"),
    [
        pytest.param(0.0, 1, [1, 2, 3, 4, 5, 6, 7, 8] * 2, id="at-once"),
        pytest.param(1e9, 1, [8, 8], id="not-before-the-end"),
        pytest.param(1e9, 4, [0, 0, 0, 4, 4, 4, 4, 8] * 2, id="as-the-bar-counts"),
    ],
)
def test_a_progress_bar_is_told_now_and_then_and_at_an_epochs_end_shows_all(
    images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_again: float, every: int, shown: list[int]
) -> None:
    told: list[int] = []

    def tell(self: Any, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, do: Any) -> None:
        do(self, trainer, module, outputs, batch, batch_idx)
        told.append(self.train_progress_bar.n)

    bar = pl.callbacks.TQDMProgressBar
    monkeypatch.setattr(bar, "on_train_batch_end", partialmethod(tell, do=bar.on_train_batch_end))
    monkeypatch.setattr(lean, "_SHOWS_EVERY", told_again)
    trainer = pl.Trainer(max_epochs=2, callbacks=[bar(refresh_rate=every)], default_root_dir=tmp_path,
                         enable_checkpointing=False, enable_progress_bar=True)  # fmt: skip
    trainer.fit(Classifier("mlp"), datamodule=ImageDataModule(images, batch_size=8, seed=1))
    assert told == shown


def test_a_trainer_that_goes_on_with_another_module_takes_it_as_ever(images: str, tmp_path: Path) -> None:
    class Other(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log("each", loss, on_step=True)
            return loss

    _, _, trainer = train(images, tmp_path, max_epochs=1)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(Other("mlp"), datamodule=ImageDataModule(images, batch_size=8, seed=1))
    assert "each" in trainer.logged_metrics
    assert "advance" not in vars(trainer.fit_loop.epoch_loop)


def test_a_trainer_that_goes_on_with_loaders_does_not_prepare_batches_as_an_earlier_datamodule_did(
    images: str, tmp_path: Path, as_lightning: Callable[[], None]
) -> None:
    ends = []
    for _ in range(2):
        _, _, trainer = train(images, tmp_path, max_epochs=1, served=Scales)
        trainer.fit_loop.max_epochs = 2
        trainer.fit(trainer.lightning_module, Served().train_dataloader())
        ends.append(trainer.lightning_module.state_dict())
        as_lightning()
    assert same(*ends)


@pytest.mark.slow
def test_a_trainer_that_goes_on_without_us_lets_go_of_the_module(images: str, tmp_path: Path) -> None:
    class Plain(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = train(images, tmp_path, max_epochs=1)[2]
    module = weakref.ref(trainer.lightning_module)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(Plain(), DataLoader(torch.ones(8, 2)))  # type: ignore[arg-type]
    gc.collect()
    assert module() is None


def test_an_optimizer_that_takes_no_step_is_refused(images: str, tmp_path: Path) -> None:
    class Idle(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            pass

    class Own(Classifier):
        def configure_optimizers(self) -> Any:
            return Idle(self.parameters(), lr=0.1)

    with pytest.raises(MisconfigurationException, match="closure"):
        train(images, tmp_path, cls=Own)


@pytest.fixture
def eager_backend(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """torch.compile without a compiler: graphs are traced, guarded and run as they are."""
    traced: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        traced.append(graph)
        return graph.forward

    compile_ = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compile_(self, backend=backend, fullgraph=True))
    return traced


@pytest.mark.parametrize("replicas", [None, [1, 2]])
@pytest.mark.slow
def test_a_compiled_network_trains_the_same(
    replicas: Any, images: str, tmp_path: Path, eager_backend: list[Any]
) -> None:
    torch.compiler.reset()
    shared = {"replicas": replicas}
    _, plain, _ = train(images, tmp_path / "plain", module=shared, data=shared)
    assert not eager_backend
    _, state, _ = train(images, tmp_path / "compiled", module=shared | {"compile": True}, data=shared)
    assert eager_backend
    assert state["state_dict"].keys() == plain["state_dict"].keys()
    torch.testing.assert_close(state["state_dict"], plain["state_dict"])
    assert state["hyper_parameters"]["compile"] is True
    assert "compile" not in plain["hyper_parameters"]
    # A checkpoint of either goes on as the other.
    _, on, _ = train(
        images, tmp_path / "on", module=shared, data=shared, ckpt=tmp_path / "compiled" / "end.ckpt", max_epochs=3
    )
    _, whole, _ = train(images, tmp_path / "whole", module=shared, data=shared, max_epochs=3)
    torch.testing.assert_close(on["state_dict"], whole["state_dict"])


def test_what_cannot_be_compiled_says_so(images: str, tmp_path: Path, eager_backend: list[Any]) -> None:
    with pytest.raises(MisconfigurationException, match=r"compil"):
        train(images, tmp_path, module={"compile": True, "regularizers": [GradientPenalty(0.1)]})
    with pytest.raises(ValueError, match=r"unknown compile 'fast'.*reduce-overhead"):
        Classifier("mlp", compile="fast")  # type: ignore[arg-type]
