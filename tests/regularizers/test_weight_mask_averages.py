"""WeightMask together with callbacks that put averages of the weights into the module."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import Plain, fit, images
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.pruning import Mask
from lightning_regs.regularizers import NoEffectWarning, WeightMask

EMA, SWA, Mean = (
    pl.callbacks.EMAWeightAveraging,
    pl.callbacks.StochasticWeightAveraging,
    pl.callbacks.WeightAveraging,
)
NAME = "network.1.weight"


class Validates(Plain):
    """Counts, in each validation batch, the pruned weights that are not zero."""

    def __init__(self, mask: Mask | None = None, network: nn.Module | None = None) -> None:
        super().__init__(network)
        self.mask = mask
        self.wrong: list[int] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if self.mask is not None and not self.trainer.sanity_checking:
            self.wrong.append(nonzero(self.state_dict(), self.mask))

    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*images()), batch_size=4)


class Dense(pl.Callback):
    """An averager of somebody else: has the initial weights in the module in validation, and in the end."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.state = {name: w.clone() for name, w in pl_module.state_dict().items()}

    def swap(self, module: Any) -> None:
        current = {name: w.clone() for name, w in module.state_dict().items()}
        module.load_state_dict(self.state)
        self.state = current

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.before = {name: w.clone() for name, w in pl_module.state_dict().items()}
            self.swap(pl_module)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.swap(pl_module)
            assert all(torch.equal(self.before[name], w) for name, w in pl_module.state_dict().items())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.state = {name: torch.full_like(w, 3.0) for name, w in self.state.items()}
        self.swap(pl_module)


def nonzero(state: dict[str, Tensor], mask: Mask) -> int:
    return sum(int((state[name][~kept] != 0).sum()) for name, kept in mask.items())


def train(model: pl.LightningModule, callbacks: list[Any], epochs: int, start: Path | None = None) -> pl.Trainer:
    saves = any(isinstance(callback, pl.callbacks.ModelCheckpoint) for callback in callbacks)
    trainer = pl.Trainer(max_epochs=epochs, callbacks=callbacks, enable_checkpointing=saves)
    trainer.fit(model, DataLoader(TensorDataset(*images()), batch_size=4), ckpt_path=start, weights_only=True)
    return trainer


def some_mask() -> Mask:
    g = torch.Generator().manual_seed(3)
    return Mask({name: torch.rand(shape, generator=g) < 0.4 for name, shape in ((NAME, (8, 108)),)})


# torch 2.7 saves a function, which is not loaded with weights_only=True, Lightning's default too.
SWA_CAN_BE_LOADED = hasattr(torch.optim.swa_utils.SWALR, "_set_anneal_func")
AVERAGES: dict[str, Callable[[], pl.Callback]] = {
    "mean": Mean,
    "ema": lambda: EMA(decay=0.5),
    "ema later": lambda: EMA(decay=0.5, update_starting_at_step=3),
    "ema never": lambda: EMA(update_starting_at_step=70),
    "swa": lambda: SWA(swa_lrs=0.05, swa_epoch_start=2),
    "swa never": lambda: SWA(swa_lrs=0.05, swa_epoch_start=9),
    "other": Dense,
}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("average", list(AVERAGES))
def test_averages_are_masked_in_validation_and_in_the_end(average: str, first: bool, tmp_path: Path) -> None:
    mask = some_mask()
    model, methods = Validates(mask), [WeightMask(mask), AVERAGES[average]()]
    every = pl.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, save_last=True, every_n_train_steps=1)
    train(model, [*methods[:: -1 if first else 1], every], 3)
    assert len(model.wrong) >= 3
    assert sum(model.wrong) == 0
    assert nonzero(model.state_dict(), mask) == 0
    assert (model.get_parameter(NAME)[mask[NAME]] != 0).all()
    saved = [torch.load(path, weights_only=SWA_CAN_BE_LOADED) for path in tmp_path.glob("*.ckpt")]
    assert len(saved) > 3
    assert average == "other" or all(nonzero(checkpoint["state_dict"], mask) == 0 for checkpoint in saved)


def test_the_average_is_that_of_the_masked_weights() -> None:
    class Watch(pl.Callback):
        average: Tensor | None = None

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            w = pl_module.get_parameter(NAME).detach().cpu()
            self.average = w.clone() if self.average is None else 0.7 * self.average + 0.3 * w

    mask, watch = some_mask(), Watch()
    model = Validates(mask)
    fit(model, [WeightMask(mask), EMA(decay=0.7), watch], max_epochs=3)
    assert watch.average is not None
    torch.testing.assert_close(model.get_parameter(NAME).detach(), watch.average)


@pytest.mark.parametrize("average", ["ema", "swa", "ema never"])
@pytest.mark.parametrize("first", [False, True])
def test_an_average_of_dense_weights_from_a_checkpoint(average: str, first: bool, tmp_path: Path) -> None:
    # As when a ticket is rewound.
    if average == "swa" and not SWA_CAN_BE_LOADED:
        pytest.skip("what this torch saves of StochasticWeightAveraging, Lightning cannot load")
    save = pl.callbacks.ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1)
    train(Validates(), [AVERAGES[average](), save], 4)
    mask = some_mask()
    model, methods = Validates(mask), [WeightMask(mask), AVERAGES[average]()]
    trainer = train(model, methods[:: -1 if first else 1], 4, tmp_path / "step=6.ckpt")
    assert trainer.global_step == 8
    assert model.wrong
    assert sum(model.wrong) == 0
    assert nonzero(model.state_dict(), mask) == 0


def test_other_modules_that_a_callback_holds_are_let_be() -> None:
    class Teacher(pl.Callback):
        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            self._average_model = copy.deepcopy(pl_module)

    mask, teacher = some_mask(), Teacher()
    model = Validates(mask)
    start = copy.deepcopy(model.state_dict())
    fit(model, [teacher, WeightMask(mask)])
    assert all(torch.equal(start[name], w) for name, w in teacher._average_model.state_dict().items())


def test_after_the_training_weights_are_the_users() -> None:
    mask = some_mask()
    model, method = Validates(mask), WeightMask(mask)
    trainer = fit(model, [method])
    with torch.no_grad():
        model.get_parameter(NAME).fill_(1.0)
    trainer.validate(model, verbose=False)
    assert model.wrong[-1] == int((~mask[NAME]).sum())
    assert not method._held


# -- masks that are none ---------------------------------------------------------------------------------------------


def test_a_density_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match=r"density=1e-06. would keep nothing of the 896 weights"):
        fit(Plain(), [WeightMask(density=1e-6)])
    with pytest.raises(MisconfigurationException, match=r"density=0\.01. would keep nothing of 'network\.3\.weight'"):
        fit(Plain(), [WeightMask(density=0.01, scope="layer")])
    method = WeightMask(density=0.01, scope="layer", layers="network.1")
    fit(Plain(), [method])
    assert method.mask is not None
    assert method.mask.kept == 9


def test_a_layer_that_global_pruning_empties_is_named() -> None:
    model = Plain()
    with torch.no_grad():
        model.get_parameter("network.3.weight").mul_(1e-3)
    with pytest.warns(UserWarning, match=r"nothing is left of 'network\.3\.weight'"):
        fit(model, [WeightMask(density=0.1)])


def test_a_density_that_prunes_nothing_is_said() -> None:
    with pytest.warns(NoEffectWarning, match=r"density=0\.9999 .* nothing is pruned"):
        fit(Plain(), [WeightMask(density=0.9999)])
