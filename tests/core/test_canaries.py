"""What Lightning (and torch) do today and this package works around, one test each.

A failure after an upgrade is news, not a bug: each docstring says which workaround of ours can go, and where it is.
That two processes average their penalised gradients is checked where it is used: tests/contracts/test_contracts.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_regs.core.lightning import (
    Checkpoint,
    MisconfigurationException,
    averaged_modules,
    combined_mode,
    current_batch,
    datamodule_of,
    end_epoch,
    epochs_trained,
    has_static_graph,
    is_compiled,
    only_gathers_statistics,
    pl,
    replace_loss,
    while_restoring,
)

SCALE = 1024.0


class Net(pl.LightningModule):
    """A linear classifier whose hooks the tests replace."""

    def __init__(self, manual: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.automatic_optimization = not manual
        self.first_loss: float | None = None

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self.layer(x), y)
        if self.first_loss is None:
            self.first_loss = float(loss)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        if self.automatic_optimization:
            return self.loss(batch)
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()
        return None

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


class Hook(pl.Callback):
    """Calls a function at one hook, with what the hook is given after the trainer and the module."""

    def __init__(self, name: str, function: Callable[..., None]) -> None:
        setattr(self, name, lambda trainer, pl_module, *rest: function(*rest))


def loader(**options: Any) -> DataLoader[Any]:
    g = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(8, 3, generator=g), torch.randint(2, (8,), generator=g))
    return DataLoader(data, batch_size=2, **options)


def fit(module: pl.LightningModule, *callbacks: pl.Callback, ckpt_path: Path | None = None, **options: Any) -> Any:
    options = {"max_epochs": 1, "accelerator": "cpu", "enable_checkpointing": False} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(callbacks=list(callbacks), **options)
        trainer.fit(module, loader(), ckpt_path=ckpt_path)
    return trainer


def half() -> pl.plugins.MixedPrecision:
    return pl.plugins.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=SCALE))


def vector(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


# -- batches ---------------------------------------------------------------------------------------------------------


def test_the_default_collate_gives_a_list_that_a_callback_can_change() -> None:
    """If batches become tuples, ``Regularizer.pair`` (base.py) and all batch methods need another way in."""
    batch = next(iter(loader()))
    assert type(batch) is list
    seen: list[float] = []

    class Sees(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            seen.append(float(batch[0].sum()))
            return super().training_step(batch, batch_idx)

    def blank(batch: Any, batch_idx: int) -> None:
        batch[0] = torch.full_like(batch[0], 2.0)

    fit(Sees(), Hook("on_train_batch_start", blank))
    assert seen == [12.0] * 4


def test_accuracy_does_not_understand_soft_targets() -> None:
    """If it takes the likeliest class, ``MixedTarget`` (parts/targets.py) need not look like class indices."""
    soft = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.8, 0.2]])
    logits = -3 * soft  # of the other class each
    assert MulticlassAccuracy(2)(logits, soft.argmax(1)) == 0
    try:
        accuracy = MulticlassAccuracy(2)(logits, soft)
    except (RuntimeError, ValueError):
        return
    assert accuracy != 0


# -- the loss in on_before_backward ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({}, 1.0),
        ({"accumulate_grad_batches": 4}, 0.25),
        ({"plugins": "half"}, SCALE),
        ({"plugins": "half", "accumulate_grad_batches": 4}, SCALE / 4),
    ],
    ids=str,
)
def test_the_loss_arrives_divided_and_scaled(options: dict[str, Any], factor: float) -> None:
    """If it arrives as it is, ``loss_scale`` (scaling.py) and the division (gradient_penalty.py) can go."""
    options = {key: half() if value == "half" else value for key, value in options.items()}
    losses: list[float] = []
    module = Net()
    fit(module, Hook("on_before_backward", lambda loss: losses.append(float(loss))), **options)
    assert module.first_loss is not None
    assert losses[0] == pytest.approx(factor * module.first_loss, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "weight"), [({}, 1.0), ({"accumulate_grad_batches": 2}, 2.0), ({"plugins": "half"}, 1 / SCALE)], ids=str
)
def test_what_is_added_to_the_loss_is_neither_divided_nor_scaled(options: dict[str, Any], weight: float) -> None:
    """If additions are treated like the loss, the factors in ``GradientPenalty.penalised`` can go."""

    def first_step(add: float) -> Tensor:
        torch.manual_seed(0)
        module = Net()
        steps: list[Tensor] = []

        def penalise(loss: Tensor) -> None:
            loss.add_(add * module.layer.bias.sum())

        plugins = {"plugins": half()} if "plugins" in options else {}
        hooks = (
            Hook("on_before_backward", penalise),
            Hook("on_train_batch_end", lambda *_: steps.append(vector(module))),
        )
        fit(module, *hooks, **(options | plugins))
        return steps[options.get("accumulate_grad_batches", 1) - 1]

    difference = first_step(0.0) - first_step(1.0)
    assert difference[-2:].tolist() == pytest.approx([0.1 * weight] * 2, rel=1e-2)


# -- order of the hooks ----------------------------------------------------------------------------------------------


def test_gradients_are_unscaled_and_not_yet_clipped_before_the_optimizers_step() -> None:
    """If not, ``NormPenalty`` (norm_penalty.py) and ``DrivenStep.clip`` (steps.py) belong elsewhere."""
    norms: list[float] = []

    def look(optimizer: torch.optim.Optimizer) -> None:
        norms.append(torch.cat([p.grad.flatten() for p in optimizer.param_groups[0]["params"]]).norm().item())

    for plugins in ({}, {"plugins": half()}):
        torch.manual_seed(0)
        fit(Net(), Hook("on_before_optimizer_step", look), gradient_clip_val=1e-3, limit_train_batches=1, **plugins)
    assert norms[0] > 0.01
    assert norms[1] == pytest.approx(norms[0], rel=0.01)


def test_a_plain_callbacks_epoch_end_runs_before_the_modules_and_a_checkpoints_after() -> None:
    """If plain callbacks run last, ``EpochRecorder`` (study/train.py) need not be a ``Checkpoint``."""
    order: list[str] = []

    class Says(Net):
        def on_train_epoch_end(self) -> None:
            order.append("module")

    class Saves(Checkpoint):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            order.append("checkpoint")

    fit(Says(), Saves(), Hook("on_train_epoch_end", lambda: order.append("plain")), enable_checkpointing=True)
    assert order == ["plain", "module", "checkpoint"]


# -- manual optimization ---------------------------------------------------------------------------------------------


def test_schedules_are_not_stepped_in_manual_optimization() -> None:
    """If they are, ``DrivenStep._step_schedules`` (steps.py) has to go, or they step twice."""
    rates = [fit(Net(manual), max_epochs=2).optimizers[0].param_groups[0]["lr"] for manual in (False, True)]
    assert rates == [0.025, 0.1]


@pytest.mark.parametrize("flag", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}], ids=str)
def test_two_flags_are_refused_in_manual_optimization(flag: dict[str, Any]) -> None:
    """If they work, ``GradientPenalty``'s arguments of that name and ``DrivenStep.check`` can go."""
    with pytest.raises(MisconfigurationException, match="manual optimization"):
        fit(Net(manual=True), **flag)


def test_clipping_before_the_step_acts_on_scaled_gradients_in_manual_optimization() -> None:
    """If it acts on unscaled ones, ``Classifier.on_before_optimizer_step`` may clip right after the backward pass."""
    norms: list[float] = []

    class Clips(Net):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            self.clip_gradients(optimizer, gradient_clip_val=0.1, gradient_clip_algorithm="norm")
            optimizer.step()

        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            norms.append(torch.cat([p.grad.flatten() for p in self.parameters()]).norm().item())

    fit(Clips(manual=True))
    fit(Clips(manual=True), plugins=half())
    assert norms[0] == pytest.approx(0.1, rel=1e-3)
    assert norms[4] == pytest.approx(0.1 / SCALE, rel=1e-2)  # too short by the scale


def test_global_step_counts_the_steps_of_lightnings_own_optimizers() -> None:
    """If it counts batches, ``DrivenStep.training_step`` (steps.py) is free in how often it steps."""

    class Steps(Net):
        def __init__(self, inner: bool, times: int) -> None:
            super().__init__(manual=True)
            self.inner, self.times = inner, times

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer: Any = self.optimizers()
            for _ in range(self.times):
                (optimizer.optimizer if self.inner else optimizer).step()

    assert fit(Steps(inner=False, times=1)).global_step == 4
    assert fit(Steps(inner=False, times=2)).global_step == 8
    assert fit(Steps(inner=True, times=1)).global_step == 0


def test_the_length_of_a_manual_training_counts_a_step_a_batch() -> None:
    """If Lightning knows the number of steps, the count of batches a step in ``Step.length`` (steps.py) can go."""
    lengths: list[float] = []

    class Asks(Net):
        def configure_optimizers(self) -> Any:
            lengths.append(self.trainer.estimated_stepping_batches)
            return super().configure_optimizers()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            return super().training_step(batch, batch_idx) if batch_idx % 2 else None

    assert fit(Asks(manual=True)).global_step == 2
    assert lengths == [4]


# -- precision -------------------------------------------------------------------------------------------------------


def test_autocast_gives_a_stale_forward_after_a_change_in_place() -> None:
    """If torch notices the change, ``torch.clear_autocast_cache()`` in rows.py can go."""
    layer, x = nn.Linear(3, 2), torch.ones(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        before = layer(x)
        with torch.no_grad():
            layer.weight.add_(1.0)
        assert torch.equal(layer(x), before)
        torch.clear_autocast_cache()
        assert not torch.equal(layer(x), before)


def test_a_training_step_runs_with_the_autocast_cache_off() -> None:
    """If it is on again, the differences of gradients rest on ``torch.clear_autocast_cache()`` (rows.py) alone."""
    enabled: list[bool] = []

    class Looks(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            assert torch.is_autocast_enabled("cpu")
            enabled.append(torch.is_autocast_cache_enabled())
            return super().training_step(batch, batch_idx)

    fit(Looks(), precision="bf16-mixed")
    assert enabled == [False] * 4


@pytest.mark.slow
def test_a_compiled_module_cannot_be_differentiated_twice() -> None:
    """If it can, ``GradientPenalty(estimator="exact")`` need not refuse compiled modules (gradient_penalty.py)."""
    layer = nn.Linear(3, 2)
    loss = torch.compile(layer, backend="aot_eager")(torch.ones(1, 3)).square().sum()
    (gradient,) = torch.autograd.grad(loss, [layer.weight], create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        gradient.square().sum().backward()


# -- restarts --------------------------------------------------------------------------------------------------------


class Dropout(Net):
    def loss(self, batch: Any) -> Tensor:
        return super().loss([F.dropout(batch[0], 0.5), batch[1]])


class KeepsRandomState(pl.Callback):
    """Saves torch's generator at an epoch's end, and restores it at one of three places."""

    def __init__(self, where: str) -> None:
        self.state: Tensor | None = None
        if where != "load_state_dict":
            setattr(self, where, self.restore)
        self.at_once = where == "load_state_dict"

    def state_dict(self) -> dict[str, Any]:
        return {"rng": torch.get_rng_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.state = state_dict["rng"]
        if self.at_once:
            self.restore()

    def restore(self, *_: Any) -> None:
        if self.state is not None:
            torch.set_rng_state(self.state)
            self.state = None


@pytest.mark.parametrize(
    ("callback", "equal"),
    [
        (None, False),
        ("on_train_start", False),
        ("on_train_epoch_start", False),
        ("load_state_dict", True),
    ],
)
def test_lightning_saves_no_random_state_and_most_hooks_are_too_late_for_it(
    tmp_path: Path, callback: str | None, equal: bool
) -> None:
    """If it saves it, ``Classifier.on_train_batch_start`` (classifier.py) need not seed the global generator."""

    def run(epochs: int, **options: Any) -> tuple[Dropout, Any]:
        torch.manual_seed(0)
        module = Dropout()
        callbacks = [KeepsRandomState(callback)] if callback else []
        return module, fit(module, *callbacks, max_epochs=epochs, **options)

    whole, _ = run(2)
    run(1)[1].save_checkpoint(tmp_path / "half.ckpt")
    assert "rng" not in str(torch.load(tmp_path / "half.ckpt", weights_only=True)["loops"])
    resumed, _ = run(2, ckpt_path=tmp_path / "half.ckpt")
    assert torch.equal(vector(whole), vector(resumed)) is equal


def test_a_loader_draws_its_seed_after_the_epochs_start_but_before_it_in_a_resumed_epoch(tmp_path: Path) -> None:
    """If the order is one, ``Classifier`` may seed in ``on_train_epoch_start`` (classifier.py)."""

    def random_in_last_epoch(epochs: int, **options: Any) -> float:
        found: list[float] = []
        seed = Hook("on_train_epoch_start", lambda: torch.manual_seed(0))
        draw = Hook("on_train_batch_start", lambda batch, i: found.append(torch.rand(1).item()) if i == 0 else None)
        trainer = fit(Net(), seed, draw, max_epochs=epochs, **options)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return found[-1]

    first, second = random_in_last_epoch(1), random_in_last_epoch(2)
    resumed = random_in_last_epoch(2, ckpt_path=tmp_path / "1.ckpt")
    assert first == resumed != second


# -- names that Lightning keeps to itself: what lightning_regs/core/lightning.py says of them still holds --------------


def test_the_current_batch_is_known_during_a_step_and_at_a_transfer_not_yet() -> None:
    """``current_batch``, for draws of methods on gradients, and plus one for augmentation (data/datamodule.py)."""
    seen: list[tuple[str, int]] = []

    class Says(Net):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            seen.append(("transfer", current_batch(self.trainer)))
            return batch

    module = Says()
    fit(module, Hook("on_before_optimizer_step", lambda *_: seen.append(("step", current_batch(module.trainer)))))
    assert seen == [pair for i in range(4) for pair in (("transfer", i - 1), ("step", i))]


def test_the_datamodule_is_that_of_the_stage() -> None:
    """``datamodule_of`` (lean.py, and who asks a DataModule for its options)."""
    found: list[Any] = []
    data = pl.LightningDataModule.from_datasets(TensorDataset(torch.ones(8, 3), torch.ones(8, dtype=torch.long)))
    module = Net()
    trainer = fit(module, Hook("on_train_start", lambda: found.append(datamodule_of(module.trainer))))
    for given in ({"datamodule": data}, {"train_dataloaders": data.train_dataloader()}):
        trainer.fit_loop.max_epochs += 1
        trainer.fit(module, **given)
    assert found == [None, data, None]
    assert trainer.datamodule is data


def test_averaging_gathers_statistics_in_an_epoch_without_steps_and_keeps_its_module() -> None:
    """``only_gathers_statistics`` (steps.py) and ``averaged_modules`` (zeroing.py)."""
    gathers: list[bool] = []
    module = Net()
    module.layer = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    hook = Hook("on_train_batch_start", lambda *_: gathers.append(only_gathers_statistics(module.trainer)))
    averaging = pl.callbacks.StochasticWeightAveraging(0.01, swa_epoch_start=1, annealing_epochs=1)
    trainer = fit(module, averaging, hook, max_epochs=3)
    assert gathers == [False] * 12 + [True] * 4
    (average,) = averaged_modules(trainer)
    assert average is not module
    assert [p.shape for p in average.parameters()] == [p.shape for p in module.parameters()]
    (average,) = averaged_modules(fit(Net(), pl.callbacks.EMAWeightAveraging(decay=0.5)))
    assert isinstance(average, Net)


def test_a_static_graph_can_be_told() -> None:
    """``has_static_graph`` (gradient_penalty.py)."""
    for static in (False, True):
        strategy = pl.strategies.DDPStrategy(static_graph=static, process_group_backend="gloo")
        trainer = pl.Trainer(accelerator="cpu", devices=1, strategy=strategy)
        assert has_static_graph(trainer) is static
    assert not has_static_graph(pl.Trainer(accelerator="cpu"))


def test_compiled_modules_can_be_told() -> None:
    """``is_compiled``, for all three ways to compile (second_order.py)."""
    assert not is_compiled(Net())
    assert is_compiled(torch.compile(Net()))
    in_place = Net()
    in_place.compile()
    assert is_compiled(in_place)
    assert is_compiled(pl.utilities.compile.from_compiled(torch.compile(Net())))


def test_epochs_trained_are_known_when_a_training_resumes(tmp_path: Path) -> None:
    """``epochs_trained`` (procedures)."""
    seen: list[int] = []
    module = Net()
    save = Hook("on_train_epoch_end", lambda: module.trainer.save_checkpoint(tmp_path / "one.ckpt"))
    fit(module, save)
    resumed = Net()
    look = Hook("on_train_batch_start", lambda batch, i: seen.append(epochs_trained(resumed.trainer)))
    fit(resumed, look, max_epochs=3, ckpt_path=tmp_path / "one.ckpt")
    assert seen == [1] * 4 + [2] * 4
    assert epochs_trained(resumed.trainer) == 3


def test_what_a_checkpoint_does_to_a_training_is_told_from_what_the_training_does(tmp_path: Path) -> None:
    """``while_restoring`` (training/fit.py) can go if Lightning says which of the two it was."""
    module = Net()
    fit(module, Hook("on_train_epoch_end", lambda: module.trainer.save_checkpoint(tmp_path / "one.ckpt")))
    other = Net()
    other.layer = nn.Linear(3, 5)
    with pytest.raises(RuntimeError, match="size mismatch") as misfit:
        fit(other, max_epochs=2, ckpt_path=tmp_path / "one.ckpt")

    def fails(batch: Any, i: int) -> None:
        raise RuntimeError("of mine")

    with pytest.raises(RuntimeError, match="of mine") as own:
        fit(Net(), Hook("on_train_batch_start", fails), max_epochs=2, ckpt_path=tmp_path / "one.ckpt")
    assert while_restoring(misfit.value)
    assert not while_restoring(own.value)
    # What torch makes of a copy to a GPU that fails is no other type than that.
    why = "Error(s) in loading state_dict for Net:\n\twhile copying an exception occurred : ('CUDA error: unknown',)."
    for error in (RuntimeError(why), RuntimeError("CUDA out of memory. Tried to allocate 2 MiB."), OSError()):
        assert not while_restoring(error.with_traceback(misfit.value.__traceback__))


@pytest.mark.parametrize("ended", [False, True])
def test_an_epochs_end_is_taken_for_its_middle_where_steps_are_limited(tmp_path: Path, ended: bool) -> None:
    """``end_epoch`` (training/checkpoints.py) can go if the first of the two ends each epoch where it should, too."""
    options: dict[str, Any] = {"max_epochs": -1, "max_steps": 12}
    module = Net()

    def save() -> None:
        if module.trainer.current_epoch == 0:
            module.trainer.save_checkpoint(tmp_path / "one.ckpt")

    fit(module, Hook("on_train_epoch_end", save), **options)
    checkpoint = torch.load(tmp_path / "one.ckpt", weights_only=True)
    if ended:
        end_epoch(checkpoint["loops"]["fit_loop"])
    torch.save(checkpoint, tmp_path / "two.ckpt")
    ends: list[int] = []
    resumed = Net()
    look = Hook("on_train_epoch_end", lambda: ends.append(resumed.global_step))
    fit(resumed, look, ckpt_path=tmp_path / "two.ckpt", **options)
    assert (ends == [8, 12]) is ended


def test_a_combined_loader_keeps_its_mode() -> None:
    """``combined_mode`` (procedures)."""
    loaders = {"a": loader(), "b": loader()}
    for mode in ("max_size", "min_size", "sequential"):
        assert combined_mode(pl.utilities.CombinedLoader(loaders, mode)) == mode


@pytest.mark.parametrize("manual", [False, True])
def test_a_backward_pass_starts_at_what_is_made_of_the_loss_which_stays(manual: bool) -> None:
    """If ``on_before_backward`` may return a loss, ``replace_loss`` (core/lightning.py) can go."""
    seen: list[Tensor] = []

    class Twice(Net):
        def loss(self, batch: Any) -> Tensor:
            seen.append(super().loss(batch))
            return seen[-1]

    ends = []
    for factor in (1.0, 2.0):
        torch.manual_seed(0)
        module = Twice(manual)
        undo: list[Callable[[], None]] = []
        replace = Hook("on_train_start", lambda: None)
        replace.on_train_start = lambda trainer, _, f=factor, u=undo: u.append(  # type: ignore[method-assign, misc]
            replace_loss(trainer, lambda loss: f * loss)
        )
        trainer = fit(module, replace, limit_train_batches=1)
        undo[0]()
        assert "backward" not in vars(trainer.precision_plugin)
        torch.manual_seed(0)
        ends.append(vector(module) - vector(Net()))
    torch.testing.assert_close(ends[1], 2 * ends[0])
    assert seen[0].item() == seen[1].item()
