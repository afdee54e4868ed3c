"""With what else a Trainer and a module can be: Classifier, precision, accumulation, workers, processes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from ticket_cases import LitNet, Made, adam, all_weights, assert_same, dataset, search, shuffled
from torch.utils.data import DataLoader, DistributedSampler

from lightning_regs import Classifier, ImageDataModule, Mixup, NormPenalty
from lightning_regs.core.lightning import pl
from lightning_regs.procedures.tickets import Tickets


class Watch(pl.Callback):
    """Writes down the weights and the batch of each step."""

    def __init__(self, name: str, seen: dict[str, list[Any]]) -> None:
        self.seen = seen.setdefault(name, [])

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, i: int) -> None:
        state = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.seen.append((trainer.current_epoch, i, batch[0].double().sum().item(), state))


def classifier(seed: int) -> Classifier:
    return Classifier(
        "mlp",
        {"hidden": [16], "dropout": 0.2},
        optimizer={"name": "Adam", "lr": 0.01},
        schedule={"name": "CosineAnnealingLR", "interval": "step"},
        regularizers=[Mixup(alpha=0.5, seed=seed), NormPenalty(1e-4)],
        seed=seed,
    )


@pytest.mark.parametrize(
    ("rewind_to", "trainer"),
    [
        ("0it", {"max_epochs": 2}),
        ("2it", {"max_steps": 9, "precision": "bf16-mixed"}),
        ("1ep", {"max_steps": 9, "precision": "bf16-mixed"}),
        ("2it", {"max_epochs": 2, "accumulate_grad_batches": 2, "gradient_clip_val": 0.1}),
    ],
    ids=["plain", "bf16", "bf16 epoch", "accumulated"],
)
@pytest.mark.slow
def test_classifier(rewind_to: str, trainer: Any, tmp_path: Path) -> None:
    data = ImageDataModule("digits", batch_size=256)
    seen: dict[str, list[Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tickets = search(
            tmp_path,
            classifier,
            data,
            rewind_to=rewind_to,
            trainer=trainer,
            test=True,
            callbacks=lambda name: [Watch(name, seen)],
            controls=["reinitialise"],
        )
    dense = seen["level_00"]
    for level in (1, 2):
        ticket = tickets.level(level)
        steps = seen[ticket.name]
        first = dense[len(dense) - len(steps)]
        assert [step[:3] for step in steps] == [step[:3] for step in dense[-len(steps) :]]
        assert_same(dict(steps[0][3]), ticket.mask.apply(first[3]))
        assert all((step[3][name][~kept] == 0).all() for step in steps for name, kept in ticket.mask.items())
    assert len(seen["level_01"]) < len(dense) or rewind_to == "0it"
    assert [step[:3] for step in seen["level_01-reinitialise-1"]] == [step[:3] for step in dense]
    assert 0 < tickets[1].metrics["test/acc"] <= 100


def test_fp16_with_a_scaler_of_each_level_own(tmp_path: Path) -> None:
    scales: list[float] = []

    class Scale(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            scales.append(trainer.precision_plugin.scaler.get_scale())  # type: ignore[attr-defined]

    plugin = pl.plugins.MixedPrecision(
        "16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**4, growth_interval=2)
    )
    options = {"max_epochs": 2, "plugins": [plugin]}
    tickets = search(tmp_path, rewind_to="5it", trainer=options, callbacks=lambda name: [Scale()])
    assert scales == [2.0**4, 2.0**6, 2.0**6]  # grown twice in five steps, and that belongs to the point
    assert all((tickets[2].weights()[name][~kept] == 0).all() for name, kept in tickets[2].mask.items())


@pytest.mark.parametrize("rewind_to", ["3it", "1ep"])
@pytest.mark.slow
def test_workers(rewind_to: str, tmp_path: Path) -> None:
    def loaders() -> DataLoader[Any]:
        data = dataset()
        return DataLoader(data, 16, sampler=DistributedSampler(data, 1, 0, seed=5), num_workers=1)

    made = Made()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search(tmp_path, made, loaders, levels=1, rewind_to=rewind_to, trainer={"max_epochs": 2})
    dense, ticket = made.trained
    assert ticket.seen == dense.seen[4 if rewind_to == "1ep" else 3 :]


class Compiled(LitNet):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.net = torch.compile(self.net, backend="eager")  # type: ignore[assignment]


@pytest.mark.slow
def test_compiled(tmp_path: Path) -> None:
    plain = search(tmp_path / "plain", levels=1)
    compiled = search(tmp_path / "compiled", Compiled, levels=1)
    assert plain[1].mask == compiled[1].mask
    for name, value in plain[1].weights().items():
        assert torch.allclose(value, compiled[1].weights()[name.replace("net.", "net._orig_mod.")])


class Stacked(LitNet):
    """Two networks of one shape, each with its rows of a batch."""

    replicas = (0, 1)

    def __init__(self) -> None:
        super().__init__(optimizer=adam)
        self.net = torch.nn.Linear(8, 4)  # type: ignore[assignment]
        apart = [LitNet(seed).net[0].weight.detach()[:4] for seed in self.replicas]
        self.net.weight = torch.nn.Parameter(torch.stack(apart))  # type: ignore[assignment]
        self.net.bias = None  # type: ignore[assignment]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        logits = torch.einsum("ni,rci->rnc", batch[0], self.net.weight)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[1].repeat(2))

    validation_step = None  # type: ignore[assignment]


@pytest.mark.slow
def test_stacked_networks_are_pruned_each_by_itself(tmp_path: Path) -> None:
    tickets = search(tmp_path, Stacked, controls=["random_mask", "sign-constant", "one-shot-frozen"])
    for one in tickets:
        weights, mask = one.weights()["net.weight"], one.mask["net.weight"]
        assert mask.shape == (2, 4, 8)
        left = {0: 32, 1: 29, 2: 26}[one.level]  # 10 % of 32, then of 29
        assert mask.sum((1, 2)).tolist() == [left, left]
        assert (weights[~mask] == 0).all() or one.kind == "one-shot-frozen"
        if one.kind == "sign-constant":
            first = tickets.weights(0, "initial")["net.weight"]
            sigma = torch.stack([w.std() for w in first])[:, None, None]
            assert torch.allclose(one.weights("rewind")["net.weight"], first.sign() * sigma * mask)
    final, kept = tickets[0].weights()["net.weight"].abs(), tickets.level(1).mask["net.weight"]
    for r in range(2):
        assert final[r][~kept[r]].max() <= final[r][kept[r]].min()


class Seen(pl.Callback):
    """Writes down what each process saw."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        path = Path(f"{self.path}-{trainer.global_rank}.json")
        path.write_text(json.dumps(pl_module.seen))  # type: ignore[arg-type]


@pytest.mark.parametrize("rewind_to", ["2it", "1ep"])
@pytest.mark.slow
def test_two_processes(rewind_to: str, tmp_path: Path) -> None:
    def two(**options: Any) -> Tickets:
        trainer = {"max_epochs": 2, "accelerator": "cpu", "devices": 2, "strategy": "ddp_fork"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return search(
                tmp_path / "tickets",
                lambda seed: LitNet(seed, dropout=0.2),
                shuffled,
                levels=1,
                rewind_to=rewind_to,
                trainer=trainer,
                test=True,
                callbacks=lambda name: [Seen(tmp_path / name)],
            )

    tickets = two()
    dense, ticket = tickets
    assert ticket.metrics["iterations"] == 8
    assert_same(ticket.weights("rewind"), ticket.mask.apply(dense.weights("rewind")))
    assert all((ticket.weights()[name][~kept] == 0).all() for name, kept in ticket.mask.items())
    assert "test_acc" in ticket.metrics
    seen = [[json.loads((tmp_path / f"{one.name}-{rank}.json").read_text()) for rank in (0, 1)] for one in tickets]
    steps = {"2it": 2, "1ep": 4}[rewind_to]
    assert [len(s) for s in seen[0]] == [8, 8]
    assert seen[1] == [process[steps:] for process in seen[0]]
    assert not {step[3] for step in seen[1][0]} & {step[3] for step in seen[1][1]}  # dropout of their own
    before = all_weights(tickets)
    assert_same(all_weights(two()), before)
