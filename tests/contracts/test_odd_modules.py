"""Methods that act on batches, on losses and batches as people have them: each works, warns or refuses.

W: it trains, on the loss that the method promises (a closed form in plain torch); v: it says once what it could not do;
R: it refuses, with the sentence.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAUROC

from lightning_regs import AdversarialTraining, CutMix, Cutout, LabelSmoothing, Mixup
from lightning_regs.core.checks import NoEffectWarning
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.regularizers.parts.targets import MixedTarget

N, K, SIDE = 8, 4, 6
METHODS: dict[str, Callable[[], Any]] = {
    "Mixup": lambda: Mixup(seed=0),
    "CutMix": lambda: CutMix(seed=0),
    "LabelSmoothing": LabelSmoothing,
    "Cutout": Cutout,
    "AdversarialTraining": AdversarialTraining,
}


def focal(z: Tensor, y: Tensor) -> Tensor:
    log_p = z.log_softmax(1)
    p = log_p.gather(1, y.unsqueeze(1)).squeeze(1).exp()
    return ((1 - p) ** 2 * F.nll_loss(log_p, y, reduction="none")).mean()


def multi_label(z: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(z, y.float())


@dataclass(frozen=True)
class Odd:
    """A loss, targets and a form of batch, with what each method does there: in the order of ``METHODS``."""

    loss: Callable[[Tensor, Tensor], Tensor]
    labels: Callable[[torch.Generator], Tensor]
    outcomes: str
    maps: bool = False
    as_dict: bool = False


def classes(*shape: int) -> Callable[[torch.Generator], Tensor]:
    return lambda g: torch.randint(K, (N, *shape), generator=g)


ODD = {
    "partly torch's loss": Odd(focal, classes(), "WWvWW"),
    "dict batch": Odd(F.cross_entropy, classes(), "WWWWW", as_dict=True),
    "labels (N, 1)": Odd(lambda z, y: F.cross_entropy(z, y.squeeze(1)), classes(1), "WWWWW"),
    "segmentation": Odd(F.cross_entropy, classes(SIDE, SIDE), "WWWWW", maps=True),
    "dense values": Odd(F.mse_loss, lambda g: torch.randn(N, K, SIDE, SIDE, generator=g), "WWRWR", maps=True),
    "several labels": Odd(multi_label, lambda g: torch.randint(2, (N, K), generator=g), "WWRWR"),
    "several labels as floats": Odd(multi_label, lambda g: torch.randint(2, (N, K), generator=g).float(), "WWRWR"),
    "regression": Odd(F.mse_loss, lambda g: torch.randn(N, K, generator=g), "WWRWR"),
    "autoencoder": Odd(lambda z, y: z.square().mean(), classes(), "vvvWW"),
    "labels as numbers": Odd(lambda z, y: F.cross_entropy(z, torch.tensor(y.tolist())), classes(), "vvvWW"),
}


class Module(pl.LightningModule):
    """Computes the loss of a case, and a metric with thresholds where labels are classes."""

    def __init__(self, odd: Odd) -> None:
        super().__init__()
        torch.manual_seed(0)
        flat = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, K))
        self.odd, self.net = odd, nn.Conv2d(1, K, 1) if odd.maps else flat
        self.metric, self.expected = (MulticlassAUROC(K, thresholds=5) for _ in range(2))
        self.seen: list[tuple[Tensor, Any, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.net(x)
        return z

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = (batch["image"], batch["label"]) if self.odd.as_dict else batch
        z = self(x)
        if not y.is_floating_point() and y.ndim == 1:
            self.metric.update(z.softmax(1), y)
            self.expected.update(z.softmax(1), torch.tensor(y.tolist()))
        loss = self.odd.loss(z, y)
        self.log("loss", loss)
        self.seen.append((x, y, loss.detach()))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Rows(Dataset[Any]):
    """The samples of a case."""

    def __init__(self, odd: Odd) -> None:
        g = torch.Generator().manual_seed(3)
        self.x, self.y, self.odd = torch.rand(N, 1, SIDE, SIDE, generator=g), odd.labels(g), odd

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        return {"image": self.x[i], "label": self.y[i], "id": str(i)} if self.odd.as_dict else (self.x[i], self.y[i])


def promised(odd: Odd, x: Tensor, y: Any) -> Tensor:
    """The loss of the samples, with the mixture of the losses of each component's labels, in plain torch."""
    z = Module(odd)(x)
    if not isinstance(y, MixedTarget):
        return odd.loss(z, y)
    loss: Any = sum(share * odd.loss(z, labels) for labels, share in y.components)
    if not y.smoothing:
        return loss
    shape = y.shape[1:]
    every: Any = sum(odd.loss(z, torch.full((N, *shape), k)) for k in range(K))
    smoothed: Tensor = (1 - y.smoothing) * loss + y.smoothing / K * every
    return smoothed


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("method", METHODS)
def test_works_warns_or_refuses(method: str, name: str) -> None:
    odd = ODD[name]
    outcome, module = odd.outcomes[list(METHODS).index(method)], Module(odd)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[METHODS[method]()],
    )  # fmt: skip
    data = DataLoader(Rows(odd), batch_size=N)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if outcome == "R":
            with pytest.raises(MisconfigurationException, match=rf"{method} .*\b(pass|leave|smooth|give) "):
                trainer.fit(module, data)
            return
        trainer.fit(module, data)
    told = [str(w.message) for w in caught if issubclass(w.category, NoEffectWarning)]
    ((x, y, loss),) = module.seen
    assert not torch.equal(x, data.dataset.x) or method == "LabelSmoothing"  # type: ignore[attr-defined]
    if module.metric.update_count:
        assert torch.equal(module.metric.compute(), module.expected.compute())
    if outcome == "v":
        assert len(told) == 1
        assert re.match(rf"{method} (had no effect on the loss|mixed samples and labels): |{method} mixed", told[0])
        return
    assert not told
    torch.testing.assert_close(loss, promised(odd, x, y).detach())
    assert type(trainer.callback_metrics["loss"]) is Tensor
