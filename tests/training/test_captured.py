"""Steps that are captured as CUDA graphs, against the same steps one after another; on a CPU, through their memory."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from lightning_regs import (
    Classifier,
    Cutout,
    GradientPenalty,
    ImageDataModule,
    MaxNorm,
    Mixup,
    NormPenalty,
    WeightMask,
)
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.training import captured
from lightning_regs.training.captured import Captured

LABELS: dict[str, Any] = {"corruption": "partial_labels", "corruption_p": 0.5}
NORMED: dict[str, Any] = {"architecture": "small_inception", "architecture_args": {"width": 0.1}}


def by_epoch(name: str, **options: Any) -> dict[str, Any]:
    return {"schedule": {"name": name, **options}}


RISING: dict[str, Any] = {"max_lr": 0.01, "cycle_momentum": False}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "bf16 and clipping": {"trainer": {"precision": "bf16-mixed", "gradient_clip_val": 0.1}},
    "a rate by epoch": {"module": by_epoch("ExponentialLR", gamma=0.5), "trainer": {"max_epochs": 3}},
    "corrupted labels": {"data": LABELS},
    "batch norm": {"module": NORMED},
    "dropout": {"module": {"architecture_args": {"hidden": [5], "dropout": 0.5}}},
    "Adam": {"module": {"optimizer": {"name": "Adam", "lr": 0.01}}},
    "a rate by step": {"module": by_epoch("PolynomialLR", interval="step")},
    "Adam with a rate by step": {"module": {"optimizer": {"name": "AdamW"}} | by_epoch("OneCycleLR", **RISING)},
    "max-norm": {"module": {"regularizers": [MaxNorm(0.3)]}},
    "a penalty": {"module": {"regularizers": [NormPenalty(0.1)]}},
    "decay by a rate by step": {
        "module": {"regularizers": [NormPenalty(0.1, p=2, decoupled=True)]} | by_epoch("PolynomialLR", interval="step")
    },
    "samples that a method changes": {"module": {"regularizers": [Cutout(length=3, p=0.5)]}},
    "replicas": {"module": {"replicas": [1, 2]}, "data": {"replicas": [1, 2], **LABELS}},
    "a logger and validation": {"trainer": {"logger": CSVLogger, "log_every_n_steps": 5, "val_check_interval": 6}},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("images") / "noise.npz"
    x, y = rng.integers(0, 256, (98, 8, 8, 1), dtype=np.uint8), np.arange(98, dtype=np.uint8) % 3
    np.savez(path, x_train=x, y_train=y, x_test=x[:12], y_test=y[:12])
    return str(path)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each step that was taken since was a graph's; each graph's tensors are where it was captured."""
    taken: list[bool] = []

    def step(self: Captured, batch: Any, do: Any = Captured.step) -> Any:
        loss = do(self, batch)
        taken.append(self.last is not None)
        assert not taken[-1] or self.places == self._places()
        return loss

    def replay(self: captured._Static, batch: Any, others_between: bool, do: Any = captured._Static.replay) -> Any:
        weights = list(self.take.__self__.module.parameters())
        mine: Any = vars(self).get("after", [None])
        assert others_between or all(w.grad is gradient for w, gradient in zip(weights, mine, strict=True))
        loss = do(self, batch, others_between)
        self.after = [w.grad for w in weights]
        return loss

    monkeypatch.setattr(Captured, "step", step)
    monkeypatch.setattr(captured._Static, "replay", replay)
    return taken


class Losses(pl.Callback):
    """What it is given after each batch, kept."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.kept.append(outputs["loss"])


def train(
    images: str, folder: Path, graphs: bool, module: Any = None, data: Any = None, trainer: Any = None,
    callbacks: Any = (), ckpt: Any = None, cls: Any = ImageDataModule, kind: Any = Classifier,
) -> tuple[pl.Trainer, dict[str, Any]]:  # fmt: skip
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "max_epochs": 2} | (trainer or {})
    if options["logger"]:
        options["logger"] = options["logger"](folder)
    made = pl.Trainer(
        default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
        **options,
    )  # fmt: skip
    asked = {"cuda_graph": True} if graphs else {}
    arguments = {"architecture": "mlp", "architecture_args": {"hidden": [5]}, "seed": 1} | (module or {}) | asked
    served = cls(images, **({"batch_size": 8, "seed": 1, "val_split": 0.2, "random_flip": True} | (data or {})))
    made.fit(kind(**arguments), datamodule=served, ckpt_path=ckpt)
    made.save_checkpoint(folder / "end.ckpt")
    return made, torch.load(folder / "end.ckpt", weights_only=False)


def assert_same(found: Any, expected: Any, device: torch.device) -> None:
    exact = {"rtol": 0.0, "atol": 0.0} if device.type == "cpu" else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(found, expected, equal_nan=True, **exact)


@pytest.mark.parametrize("case", CASES)
def test_captured_steps_train_as_steps_one_after_another(
    case: str, images: str, tmp_path: Path, replays: list[bool], device: torch.device
) -> None:
    ends = []
    for graphs in (True, False):
        losses = Losses()
        ends.append((*train(images, tmp_path / str(graphs), graphs, callbacks=[losses], **CASES[case]), losses.kept))
    (ours, state, losses_), (theirs, expected, others) = ends
    # In each epoch batches of 8 and an odd last one, which with what logs and validates is Lightning's to take.
    assert len(replays) >= 12
    assert sum(replays) >= 5
    assert_same(state["state_dict"], expected["state_dict"], device)
    if not (
        case.startswith("Adam") and device.type == "cuda"
    ):  # whose steps are counted on the card, and so in the state
        assert_same(state["optimizer_states"], expected["optimizer_states"], device)
    assert state["loops"] == expected["loops"]
    assert_same(ours.callback_metrics, theirs.callback_metrics, device)
    assert_same(losses_, others, device)


@pytest.mark.slow
def test_a_training_resumed_in_the_middle_ends_as_an_uninterrupted_one(
    images: str, tmp_path: Path, device: torch.device
) -> None:
    every = partial(pl.callbacks.ModelCheckpoint, every_n_train_steps=6, save_top_k=-1)
    options: dict[str, Any] = {"trainer": {"enable_checkpointing": True, "max_epochs": 3}}
    train(images, tmp_path / "first", True, callbacks=[every()], **options)
    (middle,) = (tmp_path / "first").rglob("*step=12.ckpt")
    _, resumed = train(images, tmp_path / "second", True, callbacks=[every()], ckpt=middle, **options)
    _, whole = train(images, tmp_path / "whole", False, callbacks=[every()], **options)
    for part in ("state_dict", "optimizer_states", "loops"):
        assert_same(resumed[part], whole[part], device)


@pytest.mark.parametrize("data", [{}, LABELS, {"random_crop": True, "image_size": 6}])
def test_batches_that_nobody_sees_are_prepared_within_the_graph(
    data: Any, images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    held: list[torch.dtype] = []
    do = captured._Static.replay
    monkeypatch.setattr(
        captured._Static,
        "replay",
        lambda self, batch, *between: held.append(batch[0].dtype) or do(self, batch, *between),
    )
    options = {"data": {"random_flip": False, **data}}
    (_, state), (_, expected) = (train(images, tmp_path, graphs, **options) for graphs in (True, False))
    assert set(held) == {torch.float32 if "random_crop" in data else torch.uint8}
    assert_same(state["state_dict"], expected["state_dict"], device)


class Tuples(ImageDataModule):
    """Serves its batches otherwise, so that they are moved and prepared as Lightning does it."""

    def train_dataloader(self) -> Any:
        return DataLoader([tuple(batch) for batch in super().train_dataloader()], None, collate_fn=lambda batch: batch)


def test_batches_that_were_prepared_already_are_not_prepared_again(
    images: str, tmp_path: Path, replays: list[bool], device: torch.device
) -> None:
    options = {"data": {"random_flip": False, "normalize": "channels", "whiten": False}, "cls": Tuples}
    (_, state), (_, expected) = (train(images, tmp_path, graphs, **options) for graphs in (True, False))
    assert sum(replays) >= 5
    assert_same(state["state_dict"], expected["state_dict"], device)


class Averages(pl.Callback):
    """Puts other weights in the place of the net's, as a callback may."""

    def on_train_batch_end(self, trainer: Any, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step % 7 == 6:
            for p in pl_module.parameters():
                p.data = 0.5 * p.data


class Freezes(pl.Callback):
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        next(pl_module.parameters()).requires_grad_(trainer.current_epoch != 1)


class Forgets(pl.Callback):
    """Has the optimizer begin anew, as warm restarts do."""

    def on_train_batch_end(self, trainer: Any, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step % 9 == 7:
            trainer.optimizers[0].state.clear()


class Anneals(pl.Callback):
    """Changes numbers that a step reads in Python."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step % 9 == 7:
            trainer.gradient_clip_val *= 0.5
            pl_module.regularizers[0].value *= 0.5
            for layer in pl_module.modules():
                if isinstance(layer, nn.Dropout):
                    layer.p *= 0.5


@pytest.mark.parametrize("changes", [Averages, Freezes, Forgets, Anneals])
def test_a_graph_is_let_go_where_its_tensors_or_numbers_are_others_now(
    changes: Any, images: str, tmp_path: Path, replays: list[bool], device: torch.device
) -> None:
    def end(graphs: bool) -> Any:
        module = {"architecture_args": {"hidden": [5], "dropout": 0.2}, "regularizers": [MaxNorm(1.0)]}
        options = {"trainer": {"max_epochs": 4, "gradient_clip_val": 0.5}, "callbacks": [changes()]}
        return train(images, tmp_path / str(graphs), graphs, module, **options)[1]

    state = end(graphs=True)
    assert 5 <= sum(replays) < len(replays) - 6
    expected = end(graphs=False)
    assert_same(state["state_dict"], expected["state_dict"], device)


def test_after_a_step_as_ever_the_gradients_are_a_graphs_again(
    images: str, tmp_path: Path, replays: list[bool]
) -> None:
    """Who reads gradients after a batch finds those of this batch."""

    class Reads(pl.Callback):
        def __init__(self) -> None:
            self.norms: list[float] = []

        def on_train_batch_end(self, trainer: Any, pl_module: pl.LightningModule, *_: Any) -> None:
            self.norms.append(sum(float(p.grad.norm()) for p in pl_module.parameters() if p.grad is not None))

    found = []
    for graphs in (True, False):
        found.append(reads := Reads())
        train(images, tmp_path, graphs, callbacks=[reads], trainer={"max_epochs": 3})
    assert found[0].norms == pytest.approx(found[1].norms, rel=1e-4)


class Brightens(Classifier):
    """Prepares its batches where callbacks do too."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        batch[0] = batch[0] + 0.5


def test_a_hook_of_a_subclass_before_the_step_sees_batches_as_ever(
    images: str, tmp_path: Path, replays: list[bool], device: torch.device
) -> None:
    options: dict[str, Any] = {"data": {"random_flip": False}, "kind": Brightens}
    (_, state), (_, expected) = (train(images, tmp_path, graphs, **options) for graphs in (True, False))
    assert sum(replays) >= 5
    assert_same(state["state_dict"], expected["state_dict"], device)


class Hears(pl.Callback):
    def on_after_backward(self, *_: Any) -> None:
        pass


class Own(Classifier):
    def on_before_zero_grad(self, optimizer: Any) -> None:
        pass


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    net[1].register_forward_hook(lambda *_: None)
    return net


HOOKED: dict[str, Any] = {
    "architecture": hooked(), "architecture_args": None, "input_shape": (1, 8, 8), "num_classes": 3
}  # fmt: skip
LOOKAHEAD = {"name": "Lookahead", "base": {"name": "Adam"}}
DECAYS = {"optimizer": {"name": "AdamW", "weight_decay": [0.1, 0.2]}, "replicas": 2}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a callback": ({"callbacks": [Hears()]}, r"Hears.on_after_backward acts within it"),
    "a soft threshold": (
        {"callbacks": [NormPenalty(0.1, p=1, decoupled=True)]},
        r"NormPenalty\.on_before_optimizer_step",
    ),
    "a mask": ({"callbacks": [WeightMask(density=0.5)]}, r"WeightMask\.\w+ acts"),
    "own gradient": ({"module": {"regularizers": [GradientPenalty(0.1)]}}, "GradientPenalty makes the gradient"),
    "an optimizer": ({"module": {"optimizer": {"name": "Adagrad"}}}, "Adagrad counts its steps in Python"),
    "slow weights": ({"module": {"optimizer": LOOKAHEAD}}, "Lookahead counts"),
    "numbers of replicas": ({"module": DECAYS, "data": {"replicas": 2}}, "weight_decay is a list"),
    "accumulation": ({"trainer": {"accumulate_grad_batches": 2}}, "accumulate_grad_batches=2"),
    "a hook": ({"module": HOOKED}, r"network\.1 \(Linear\) has hooks"),
    "a profiler": ({"trainer": {"profiler": "simple"}}, "SimpleProfiler measures"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_python_does_within_a_step_is_refused_by_name(case: str, images: str, tmp_path: Path) -> None:
    options, said = REFUSED[case]
    with pytest.raises(MisconfigurationException, match=rf"cuda_graph=True captures whole steps, and .*(?:{said})"):
        train(images, tmp_path, True, **options)


def test_a_hook_of_a_subclass_is_refused_by_name(images: str, tmp_path: Path) -> None:
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, max_epochs=1, default_root_dir=tmp_path)
    with pytest.raises(MisconfigurationException, match=r"Own\.on_before_zero_grad is called within it"):
        trainer.fit(Own("mlp", cuda_graph=True), datamodule=ImageDataModule(images, batch_size=8))


def test_graphs_within_a_graph_are_refused() -> None:
    with pytest.raises(ValueError, match=r"compile='reduce-overhead' makes graphs of its own"):
        Classifier("mlp", compile="reduce-overhead", cuda_graph=True)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"module": {"regularizers": [Mixup()]}}, "labels that are mixtures"),
        (
            {"module": by_epoch("CosineAnnealingLR", interval="step") | {"optimizer": {"name": "RMSprop"}}},
            "new learning rate",
        ),
    ],
)
@pytest.mark.slow
def test_where_nothing_is_captured_that_is_said(options: Any, why: str, images: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=rf"captured none of the last 100 steps: they have .*{why}"):
        train(images, tmp_path, True, trainer={"max_epochs": 13}, **options)


def test_an_optimizer_reads_its_rates_from_tensors_and_then_has_its_own_again() -> None:
    """On a CPU the fused SGD reads them; a graph of it is the card's to test."""
    ends = []
    for in_tensors in (True, False):
        weight = torch.linspace(-1, 1, 5, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.3, momentum=0.9, weight_decay=0.1)
        rates, written = [torch.tensor(7.0)], copy.deepcopy(optimizer.param_groups[0] | {"params": None})
        for step in range(3):
            weight.grad = weight.detach() ** 2
            optimizer.param_groups[0]["lr"] = 0.3 / (step + 1)
            with captured.rates_on_card(optimizer.param_groups, rates) if in_tensors else nullcontext():
                rates[0].fill_(0.3 / (step + 1))
                optimizer.step()
        assert optimizer.param_groups[0] | {"params": None} == written | {"lr": 0.3 / 3}
        ends.append(weight.detach())
    torch.testing.assert_close(*ends)


@pytest.mark.slow
def test_a_training_in_which_something_is_due_at_each_step_is_told(images: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"captured none of the first 100 steps: .*raise log_every_n_steps"):
        train(images, tmp_path, True, trainer={"max_epochs": 11, "val_check_interval": 1})


class Step(Classifier):
    def __init__(self, cuda_graph: bool = False) -> None:  # of whose value Lightning makes a hyperparameter
        super().__init__("mlp", cuda_graph=True)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx)


def test_a_step_of_its_own_is_refused_by_name(images: str, tmp_path: Path) -> None:
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, max_epochs=1, default_root_dir=tmp_path)
    with pytest.raises(MisconfigurationException, match=r"Step\.training_step is called within it"):
        trainer.fit(Step(), datamodule=ImageDataModule(images, batch_size=8))


def test_a_cpu_goes_on_from_a_checkpoint_of_graphs(images: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"module": {"optimizer": {"name": "Adam"}}}
    train(images, tmp_path, False, **options)
    state = torch.load(tmp_path / "end.ckpt", weights_only=False)
    state["optimizer_states"][0]["param_groups"][0]["capturable"] = True  # as on a card
    torch.save(state, tmp_path / "card.ckpt")
    train(images, tmp_path, False, ckpt=tmp_path / "card.ckpt", **options, trainer={"max_epochs": 3})
