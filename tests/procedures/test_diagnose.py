"""Planted faults are named by the check that is for each, healthy modules are not cried at, and nothing is touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from test_range_test import equal, everything
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import diagnose
from lightning_regs.cli.parser import main

CPU = {"accelerator": "cpu"}
K = 4


def blobs(n: int = 240, noise: float = 0.6) -> tuple[Tensor, Tensor]:
    """Standardized points of eight dimensions around four centres, and which is whose."""
    g = torch.Generator().manual_seed(1)
    y = torch.randint(K, (n,), generator=g)
    x = torch.randn(K, 8, generator=g)[y] + noise * torch.randn(n, 8, generator=g)
    return (x - x.mean(0)) / x.std(0), y


def loader(*parts: Tensor, batch_size: int = 24, shuffle: bool = True) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*parts), batch_size, shuffle=shuffle, generator=torch.Generator().manual_seed(0))


class Net(pl.LightningModule):
    """Somebody's classifier of points, which a fault may change."""

    def __init__(self, fault: str = "", lr: float = 0.1) -> None:
        super().__init__()
        self.fault, self.lr = fault, lr
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second, self.last = nn.Linear(8, 24), nn.Linear(24, 24), nn.Linear(24, K)
        self.act = nn.ReLU()
        if fault == "frozen layer":
            self.second.requires_grad_(False)
        if fault == "exploding start":
            for p in self.parameters():
                p.data.mul_(6)
        if fault == "dead units":
            nn.init.constant_(self.second.bias, -9)

    def forward(self, x: Tensor) -> Any:
        h = self.act(self.first(x * (self.fault != "blind")))
        if self.fault == "detached":
            h = h + 0.3 * self.first(x).detach()
        if self.fault == "leak over the batch":
            h = h - h.mean(0)
        if self.fault == "eval-only dropout":
            h = F.dropout(h, 0.5, training=not self.training)
        return self.last(self.act(self.second(h)))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        z = self(x)
        if self.fault == "softmax before cross-entropy":
            z = z.softmax(1)
        loss = F.cross_entropy(z, y)
        self.log("loss", loss)
        return -loss if self.fault == "wrong loss sign" else loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=self.lr)


class Drawn(torch.utils.data.Dataset[Any]):
    """Draws noise from the operating system, which no seed reaches."""

    def __len__(self) -> int:
        return 240

    def __getitem__(self, i: int) -> Any:
        x, y = blobs()
        return x[i] + 0.1 * (int.from_bytes(os.urandom(2), "big") / 2**16), y[i]


X, Y = blobs()
SHUFFLED = Y[torch.randperm(240, generator=torch.Generator().manual_seed(5))]
WORDS = torch.randint(9, (240, 6), generator=torch.Generator().manual_seed(7))
SORTED = Y.argsort(stable=True)
FAULTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "wrong loss sign": ("loss_at_start overfit_one_batch", lambda: loader(X, Y)),
    "softmax before cross-entropy": ("loss_inputs overfit_one_batch", lambda: loader(X, Y)),
    "frozen layer": ("update_ratio", lambda: loader(X, Y)),
    "labels shuffled": ("labels", lambda: loader(X, SHUFFLED)),
    "leak over the batch": ("sample_leak", lambda: loader(X, Y)),
    "eval-only dropout": ("train_and_eval", lambda: loader(X, Y)),
    "exploding start": ("loss_at_start", lambda: loader(X, Y)),
    "inputs not normalized": ("input_scale loss_at_start", lambda: loader(50 + 30 * X, Y)),
}
MORE: dict[str, tuple[str, Callable[[], Any]]] = {  # which other checks notice as well
    "detached": ("gradients", lambda: loader(X, Y)),
    "dead units": ("units", lambda: loader(X, Y)),
    "blind": ("inputs_matter", lambda: loader(X, Y)),
    "sorted": ("data_order", lambda: loader(X[SORTED], Y[SORTED], shuffle=False)),
    "no seed": ("determinism", lambda: DataLoader(Drawn(), 24)),
    "rate": ("learning_rate", lambda: loader(X, Y)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
def test_a_planted_fault_is_named_by_the_check_that_is_for_it(fault: str) -> None:
    checks, data = FAULTS[fault]
    found = diagnose(Net(fault), data(), skip=["learning_rate"], trainer=CPU)
    assert [finding.name for finding in found.cried] == checks.split()
    assert all(finding.remedy and finding.sentence.endswith(".") for finding in found.cried)


@pytest.mark.parametrize("fault", MORE)
@pytest.mark.slow
def test_each_other_check_names_the_fault_that_it_is_for(fault: str) -> None:
    check, data = MORE[fault]
    skip = [] if fault == "rate" else ["learning_rate"]
    assert diagnose(Net(fault, lr=1e4 if fault == "rate" else 0.1), data(), skip=skip, trainer=CPU)[check].remedy


class Conv(pl.LightningModule):
    """A convolution with batch norm and dropout, its loss a module."""

    def __init__(self) -> None:
        super().__init__()
        head = nn.Dropout(0.2), nn.Flatten(), nn.Linear(6 * 9, K)
        self.net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2, 1), *head)
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.loss(self.net(batch[0]), batch[1])
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-3)


class Residual(Conv):
    """Branches that start at zero, in a batch that has the samples' numbers too, and a schedule with a warm-up."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.into, self.out = nn.ModuleList(), nn.Linear(8, 16), nn.Linear(16, K)
        for _ in range(4):
            self.net.append(nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)))
            nn.init.zeros_(self.net[-1][-1].weight)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y, _ = batch
        h = self.into(x)
        for branch in self.net:
            h = h + branch(h)
        return F.cross_entropy(self.out(h), y)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 3e-3)
        rise = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, step / 5))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rise, "interval": "step"}}


class Foreign(Net):
    """A batch that is a dict, two inputs, a loss made by hand, and outputs kept for the epoch's end."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def training_step(self, batch: Any) -> Any:
        z = self.last(self.act(self.second(F.relu(self.first(batch["left"] + batch["right"])))))
        loss = -z.log_softmax(-1)[range(len(z)), batch["label"]].mean()
        self.kept.append(loss.detach())
        self.log_dict({"loss": loss, "kept": len(self.kept)}, prog_bar=True)
        return {"loss": loss, "z": z.detach()}

    def on_train_epoch_end(self) -> None:
        torch.stack(self.kept).mean()
        self.kept.clear()


class Recurrent(Conv):
    """A regression of sequences by a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.out = nn.GRU(2, 12, batch_first=True), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.net(x)[1][0])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(self(batch[0]), batch[1])


def images() -> Tensor:
    return torch.cat([X, X, X, X, X[:, :4]], 1).view(-1, 1, 6, 6)


def as_dict(rows: Any) -> Any:
    x, y = torch.utils.data.default_collate(rows)
    return {"left": x / 2, "label": y, "right": x / 2, "names": [str(i) for i in range(len(x))]}


HEALTHY: dict[str, Callable[[], tuple[pl.LightningModule, Any]]] = {
    "mlp": lambda: (Net(), loader(X, Y)),
    "conv": lambda: (Conv(), loader(images(), Y)),
    "residual": lambda: (Residual(), loader(X, Y, torch.arange(240))),
    "foreign": lambda: (Foreign(), DataLoader(TensorDataset(X, Y), 24, shuffle=True, collate_fn=as_dict)),
    "recurrent": lambda: (Recurrent(), loader(X.view(-1, 4, 2), (X[:, :2] - X[:, 2:4]).mean(1, keepdim=True))),
}


@pytest.mark.parametrize("kind", HEALTHY)
@pytest.mark.slow
def test_a_healthy_module_is_not_cried_at(kind: str) -> None:
    torch.manual_seed(0)
    module, data = HEALTHY[kind]()
    found = diagnose(module, data, trainer=CPU)
    assert not found.cried, str(found)
    skipped = {finding.name for finding in found.findings if finding.verdict == "skipped"}
    assert skipped - {"learning_rate"} == set(
        {"foreign": "loss_inputs", "recurrent": "units data_order"}.get(kind, "").split()
    )


@pytest.mark.slow
def test_nothing_of_the_users_is_touched_bit_for_bit(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    pl.seed_everything(3)
    data, module = loader(images(), Y), Conv()
    trainer = pl.Trainer(**CPU, max_steps=3, enable_checkpointing=False)
    trainer.fit(module, data)
    module.net[1].eval()
    module.loss(module.net(images()), Y).backward()
    before, attributes = everything(module, trainer.optimizers[0], data), set(vars(module))
    found = diagnose(module, data, trainer=CPU)
    assert equal(everything(module, trainer.optimizers[0], data), before)
    assert set(vars(module)) == attributes
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert list(tmp_path.iterdir()) == []
    assert str(diagnose(module, data, trainer=CPU)) == str(found)


class Pair(Net):
    """Two optimizers, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            loss = F.cross_entropy(self(batch[0]), batch[1])
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def configure_optimizers(self) -> Any:
        first, second = list(self.first.parameters()), [*self.second.parameters(), *self.last.parameters()]
        return torch.optim.SGD(first, 0.1), torch.optim.SGD(second, 0.1)


def test_of_manual_optimization_it_says_which_checks_were_skipped_and_why() -> None:
    found = diagnose(Pair(), loader(X, Y), trainer=CPU)
    assert not found.cried, str(found)
    skipped = {f.name: f.sentence for f in found.findings if f.verdict == "skipped"}
    for name in ("loss_at_start", "loss_inputs", "gradients", "overfit_one_batch", "inputs_matter", "labels"):
        assert skipped.pop(name) == "Pair optimizes manually, and its training_step takes the steps by itself."
    assert list(skipped) == ["learning_rate"]
    assert "has no one optimizer" in skipped["learning_rate"]


def test_what_cannot_be_examined_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"unknown check 'leak'. Did you mean 'sample_leak'"):
        diagnose(Net(), loader(X, Y), skip=["leak"])
    with pytest.raises(ValueError, match="gave no batch; give a loader that is not empty"):
        diagnose(Net(), loader(X[:0], Y[:0], shuffle=False), trainer=CPU)
    with pytest.raises(ValueError, match="gave no batch; give a loader that is not empty"):
        diagnose(Net(), DataLoader(torch.utils.data.ChainDataset([]), 24), trainer=CPU)
    with pytest.raises(ValueError, match=r"'devices': 2}: diagnose works on one device"):
        diagnose(Net(), loader(X, Y), trainer=CPU | {"devices": 2})
    lazy = Net()
    lazy.first = nn.LazyLinear(24)
    with pytest.raises(ValueError, match=r"Net has lazy layers.*let a batch pass through it"):
        diagnose(lazy, loader(X, Y), trainer=CPU)
    with pytest.raises(ValueError, match="'max_epochs': ...}} is for diagnose itself to say".replace("}}", "}")):
        diagnose(Net(), loader(X, Y), trainer={"max_epochs": 3})


class Odd(Net):
    """Steps that go wrong in one way each."""

    def forward(self, x: Tensor) -> Any:
        return (super().forward(x), x) if self.fault == "nan of its own" else super().forward(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.fault == "logs only":
            self.log("loss", super().training_step(batch, batch_idx))
            return None
        if self.fault == "nan of its own":
            return self(batch[0])[0].log_softmax(1)[range(len(batch[1])), batch[1]].mean() * float("nan")
        if self.fault == "raises":
            raise RuntimeError("no such thing")
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.fault == "nan" else loss


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("logs only", "returns no loss"),
        ("raises", "no such thing"),
        ("nan", "nan, no number"),
        ("nan of its own", "nan, no number"),
    ],
)
def test_a_step_that_cannot_train_is_told_by_the_loss_at_start(fault: str, said: str) -> None:
    found = diagnose(Odd(fault), loader(X, Y), trainer=CPU)["loss_at_start"]
    assert found.verdict == "cry"
    assert said in found.sentence


def test_a_module_that_is_frozen_as_a_whole_is_told_by_its_steps() -> None:
    module = Net().requires_grad_(False)
    module.configure_optimizers = lambda: torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)  # type: ignore
    found = diagnose(module, loader(X, Y), trainer=CPU)["update_ratio"]
    assert found.verdict == "cry"
    assert "does not require grad" in found.sentence


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_a_page(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"model": {"architecture": "mlp", "architecture_args": {"hidden": [16]}}, "data": {"source": "digits"}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config | {"trainer": CPU}))
    assert main(["doctor", "own.yaml", "--page", "pages", "--skip", "learning_rate"]) == 0
    said = capsys.readouterr().out
    assert "0 of 14 checks cried; skipped: learning_rate." in said
    page = (tmp_path / "pages" / "doctor-Classifier.html").read_text()
    assert page.count("<figure ") == 13
    assert main(["doctor", "own.yaml", "--skip", "labls"]) == 2
    assert "unknown check 'labls'" in capsys.readouterr().err


FOREIGN = """
import torch
from pytorch_lightning import LightningModule
from torch.utils.data import DataLoader, TensorDataset


class Mine(LightningModule):
    def __init__(self, width: int = 8):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Tanh(), torch.nn.Linear(width, 2))

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.net(batch[0]).softmax(1), batch[1])

    def train_dataloader(self):
        x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=20, shuffle=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""


@pytest.mark.slow
def test_the_command_examines_a_module_of_the_users_and_its_exit_status_says_that_it_cried(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "mine_for_doctor.py").write_text(FOREIGN)
    config = {"model": {"class_path": "mine_for_doctor.Mine", "init_args": {"width": 16}}, "trainer": CPU}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    assert main(["doctor", "own.yaml", "--page", "pages"]) == 1
    said = capsys.readouterr().out
    assert "loss_inputs" in said.splitlines()[-2]
    assert max(map(len, said.splitlines())) <= 80


class Stream(torch.utils.data.IterableDataset[Any]):
    """Samples whose number is not known."""

    def __iter__(self) -> Any:
        for i in torch.randperm(240).tolist():
            yield X[i], Y[i]


class Words(pl.LightningModule):
    """A language model, whose outputs are of each word."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.net, self.out = nn.Embedding(9, 8), nn.GRU(8, 16, batch_first=True), nn.Linear(16, 9)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        z = self.out(self.net(self.words(batch[0][:, :-1]))[0])
        return F.cross_entropy(z.flatten(0, 1), batch[0][:, 1:].flatten())

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-2)


def kind(step: Any, optimizer: Any = torch.optim.SGD, **layers: nn.Module) -> pl.LightningModule:
    """Return a module of this step."""
    own = {"training_step": step, "configure_optimizers": lambda self: optimizer(self.parameters(), lr=0.1)}
    module = type("Own", (pl.LightningModule,), own)()
    for name, layer in layers.items():
        module.add_module(name, layer)
    return module


def contrast(self: Any, batch: Any) -> Tensor:
    a, b = (F.normalize(self.net(x), dim=1) for x in batch)
    return F.cross_entropy(5 * a @ b.T, torch.arange(len(a)))


def two_classes(self: Any, batch: Any) -> Tensor:
    return F.binary_cross_entropy_with_logits(self.net(batch[0])[:, 0], (batch[1] > 1).float())


def bag_of_words(self: Any, batch: Any) -> Tensor:
    return F.cross_entropy(self.out(self.bag(batch[0])), batch[1])


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 8))


class Asks(Net):
    """Asks for its logger and what its own hook has set."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.size = len(batch[0])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.logger.experiment.add_scalar("size", self.size, self.global_step)  # type: ignore[union-attr]
        return super().training_step(batch, batch_idx)


class Line(Net):
    """A line whose weights are a vector."""

    def __init__(self) -> None:
        pl.LightningModule.__init__(self)
        self.lr, self.w = 0.05, nn.Parameter(torch.ones(8))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(batch[0] @ self.w, batch[1])


UNUSUAL: dict[str, Callable[[], tuple[pl.LightningModule, Any]]] = {
    "asks": lambda: (Asks(), loader(X, Y)),
    "vector": lambda: (Line(), loader(X, X @ torch.arange(8.0))),
    "a last batch of one": lambda: (Net(), loader(X[:97], Y[:97])),
    "bag of words": lambda: (
        kind(bag_of_words, torch.optim.Adam, bag=nn.EmbeddingBag(9, 16), out=nn.Linear(16, 2)),
        loader(WORDS, (WORDS.float().mean(1) > 4).long()),
    ),
    "stream": lambda: (Net(), DataLoader(Stream(), 24)),
    "language": lambda: (Words(), loader((torch.arange(7) + torch.arange(240)[:, None]) % 9)),
    "closure": lambda: (
        kind(lambda self, b: F.cross_entropy(self.net(b[0]), b[1]), torch.optim.LBFGS, net=small()),
        loader(X, Y),
    ),
    "contrastive": lambda: (kind(contrast, net=small()), loader(X, X + 0.05 * X.roll(1, 0))),
    "labels made in the step, in float32": lambda: (kind(two_classes, net=small()), loader(X, Y)),
    "autoencoder": lambda: (kind(lambda self, b: F.mse_loss(self.net(b[0]), b[0]), net=small()), loader(X, Y)),
    "noise, and few parameters": lambda: (
        kind(lambda self, b: F.mse_loss(self.net(b[0]), b[1]), net=nn.Linear(8, 1)),
        loader(X, X[:, :1] + torch.randn(240, 1, generator=torch.Generator().manual_seed(2))),
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_not_cried_at(name: str) -> None:
    torch.manual_seed(0)
    module, data = UNUSUAL[name]()
    found = diagnose(module, data, skip=["learning_rate"], trainer=CPU)
    assert not found.cried, str(found)
    assert not [f for f in found.findings if f.sentence.startswith("It could not be made")], str(found)
