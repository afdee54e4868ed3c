"""What a search trains, leaves and returns."""

from __future__ import annotations

import copy
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ticket_cases import WEIGHTS, LitNet, Made, adam, all_weights, assert_same, by_epoch, search, sgd, shuffled
from torch.utils.data import DataLoader, IterableDataset

from lightning_regs.core.lightning import pl
from lightning_regs.procedures.plan import CONTROLS
from lightning_regs.procedures.tickets import Control, find_ticket
from lightning_regs.pruning import Pruning


@pytest.mark.parametrize(("rewind_to", "optimizer"), [("0it", adam), ("3it", sgd), ("3it", adam), ("1ep", sgd)])
@pytest.mark.slow
def test_rewound_weights_are_the_saved_ones_and_pruned_ones_zero_at_every_step(
    rewind_to: str, optimizer: Any, tmp_path: Path
) -> None:
    made = Made(optimizer=optimizer, dropout=0.2)
    tickets = search(tmp_path, made, shuffled, levels=5, rewind_to=rewind_to, trainer={"max_epochs": 2})
    dense, *levels = made.trained
    k = {"1ep": 7}.get(rewind_to) or int(rewind_to[:-2])
    saved = dense.states[k]
    assert_same(tickets[0].weights("rewind"), saved)
    assert_same(tickets[0].weights("initial"), dense.states[0])
    assert len(levels) == 5
    for module, ticket in zip(levels, tickets[1:], strict=True):
        started = module.states[0]
        assert_same(ticket.weights("rewind"), started)
        for name, value in saved.items():
            kept = ticket.mask.get(name, torch.ones_like(value, dtype=torch.bool))
            assert torch.equal(started[name][kept], value[kept])
        for state in [*module.states, ticket.weights()]:
            assert all((state[name][~kept] == 0).all() for name, kept in ticket.mask.items())
        moved = ticket.weights()
        assert all((moved[name][kept] != started[name][kept]).any() for name, kept in ticket.mask.items())
    assert tickets[5].mask.kept < tickets[2].mask.kept < tickets[1].mask.kept < tickets[0].mask.kept


@pytest.mark.parametrize(
    ("rewind_to", "accumulate", "val_check_interval"),
    [
        *(("0it", 1, None), ("2it", 1, None), ("7it", 1, None), ("1ep", 1, None)),
        *(("2it", 1, 2), ("5it", 1, 2), ("2it", 2, None), ("1ep", 2, None)),
    ],
)
@pytest.mark.slow
def test_levels_see_the_batches_and_draws_that_the_dense_net_saw_from_there_on(
    rewind_to: str, accumulate: int, val_check_interval: int | None, tmp_path: Path
) -> None:
    made = Made(dropout=0.2)
    options: dict[str, Any] = {"max_epochs": 3, "accumulate_grad_batches": accumulate, "gradient_clip_val": 1.0}
    options["val_check_interval"] = val_check_interval
    search(tmp_path, made, shuffled, levels=2, rewind_to=rewind_to, trainer=options)
    dense, *levels = made.trained
    per_epoch = {1: 7, 2: 4}[accumulate]  # of 7 batches, the last alone where two make a step
    steps = per_epoch if rewind_to == "1ep" else int(rewind_to[:-2])
    epoch, step = divmod(steps, per_epoch)
    batches = 7 * epoch + accumulate * step
    assert len(dense.seen) == 21
    assert len({seen[2] for seen in dense.seen}) == 21
    for module in levels:
        assert module.seen == dense.seen[batches:]


class Asking(LitNet):
    """Asks for the number of steps before Lightning knows where it goes on."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@pytest.mark.parametrize("rewind_to", ["3it", "9it", "1ep"])
def test_a_module_that_asks_for_the_number_of_steps(rewind_to: str, tmp_path: Path) -> None:
    modules: list[Asking] = []

    def make(seed: int) -> Asking:
        modules.append(Asking(seed, dropout=0.2))
        return modules[-1]

    search(tmp_path, make, shuffled, levels=1, rewind_to=rewind_to)
    first = 7 if rewind_to == "1ep" else int(rewind_to[:-2])
    assert modules[2].seen == modules[1].seen[first:]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(shuffled()[0])


class Drawing(torch.utils.data.Dataset[Any]):
    """Augments with every global stream."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, i: int) -> Any:
        noise = torch.rand(8) + np.random.rand() + random.random()  # noqa: NPY002
        return i + noise, i % 4


@pytest.mark.parametrize("rewind_to", ["3it", "1ep"])
@pytest.mark.parametrize("kind", ["no length", "augmented", "own generator", "weighted"])
def test_the_order_is_found_again_with_loaders_of_many_kinds(kind: str, rewind_to: str, tmp_path: Path) -> None:
    data = Drawing()

    def loaders() -> DataLoader[Any]:
        if kind == "no length":
            return DataLoader(Endless(), batch_size=None)
        if kind == "augmented":
            return DataLoader(data, batch_size=6, shuffle=True)
        if kind == "own generator":
            return DataLoader(data, batch_size=6, shuffle=True, generator=torch.Generator().manual_seed(9))
        return DataLoader(data, 6, sampler=torch.utils.data.WeightedRandomSampler(torch.ones(24).tolist(), 24))

    made = Made()
    search(tmp_path, made, loaders, levels=1, rewind_to=rewind_to, trainer={"max_epochs": 2})
    dense, ticket = made.trained
    start = len(dense.seen) // 2 if rewind_to == "1ep" else 3
    assert ticket.seen == dense.seen[start:]


@pytest.mark.slow
def test_controls(tmp_path: Path) -> None:
    controls = ("reinitialise:2", Control("random_mask", levels=(2,)))
    made = Made()
    tickets = search(tmp_path, made, controls=controls, rewind_to="2it")
    assert [one.name for one in tickets] == [
        *("level_00", "level_01", "level_01-reinitialise-1", "level_01-reinitialise-2"),
        *("level_02", "level_02-reinitialise-1", "level_02-reinitialise-2", "level_02-random_mask-1"),
    ]
    first, second = (tickets.level(2, "reinitialise", repeat) for repeat in (1, 2))
    ticket, drawn = tickets.level(2), tickets.level(2, "random_mask")
    assert first.mask == second.mask == ticket.mask
    initial = tickets.weights(0, "initial")
    for a, b in [(first.weights("initial"), second.weights("initial")), (first.weights("initial"), initial)]:
        assert not torch.equal(a["net.0.weight"], b["net.0.weight"])
    assert_same(first.weights("rewind"), first.mask.apply(first.weights("initial")))
    assert len(made.trained[5].seen) == 12  # fresh weights train from the beginning
    assert_same(made.trained[5].states[0], first.weights("rewind"))
    assert drawn.mask.counts == ticket.mask.counts
    assert drawn.mask != ticket.mask
    assert_same(drawn.weights("rewind"), drawn.mask.apply(tickets.weights(0, "rewind")))
    assert made.trained[7].seen == made.trained[0].seen[2:]


@pytest.mark.parametrize("rewind_to", ["0it", "2it"])
@pytest.mark.slow
def test_every_treatment_is_a_control(rewind_to: str, tmp_path: Path) -> None:
    kinds = [kind for kind in CONTROLS if kind not in ("reinitialise", "random_mask")] + ["noise-0.5"]
    assert {"twin", "sign-reinit", "reshuffle", "small-init", "one-shot-frozen-grown"} < set(kinds)
    made = Made(optimizer=adam)
    controls = [Control(kind, levels=(2,)) for kind in kinds]
    tickets = search(tmp_path, made, shuffled, rewind_to=rewind_to, controls=controls, trainer={"max_epochs": 1})
    ticket, trained = tickets.level(2), dict(zip([one.name for one in tickets], made.trained, strict=True))
    dense, start = made.trained[0], ticket.weights("rewind")
    for kind in kinds:
        one = tickets.level(2, kind)
        begun, final = one.weights("rewind"), one.weights()
        assert_same(trained[one.name].states[0], begun)
        assert one.mask.counts == ticket.mask.counts
        batches = [step[:3] for step in trained[one.name].seen]
        assert (batches == [step[:3] for step in dense.seen[int(rewind_to[:-2]) :]]) == (kind != "twin")
        for name, kept in one.mask.items():
            assert torch.equal(final[name][~kept], begun[name][~kept])  # zero, or frozen
            assert bool(begun[name][~kept].any()) == ("frozen" in kind)
            if "sign" in kind:
                assert torch.equal(begun[name][kept].sign(), start[name][kept].sign())
        if kind != "twin" and "one-shot" not in kind:  # which may find the same
            assert not torch.equal(begun["net.0.weight"], start["net.0.weight"])
    assert_same(tickets.level(2, "twin").weights("rewind"), start)


@pytest.mark.slow
def test_one_shot_has_the_counts_of_the_rounds_and_shares_the_dense_net(tmp_path: Path) -> None:
    rounds = search(tmp_path, Made(), levels=3)
    made = Made()
    tickets = search(tmp_path, made, levels=3, one_shot=True)
    assert [one.name for one in tickets] == ["level_00", "level_03-one_shot"]
    assert len(made.trained) == 1
    assert tickets[1].mask.counts == rounds[3].mask.counts
    weight = rounds.weights(0)["net.0.weight"].abs()
    kept = tickets[1].mask["net.0.weight"]
    assert weight[kept].min() >= weight[~kept].max()


@pytest.mark.slow
def test_a_complete_search_trains_nothing_and_one_of_more_levels_goes_on(tmp_path: Path) -> None:
    before = all_weights(search(tmp_path, Made(), levels=1))
    again, more = Made(), Made()
    assert_same(all_weights(search(tmp_path, again, levels=1)), before)
    assert not again.trained
    tickets = search(tmp_path, more, levels=2)
    assert len(more.trained) == 1
    assert len(tickets) == 3


@pytest.mark.slow
def test_results(tmp_path: Path) -> None:
    tickets = search(tmp_path, LitNet, shuffled, test=True, controls=["random_mask"])
    for one in tickets:
        losses = {row["step"]: row["val_loss"] for row in one.curve}
        assert list(losses) == [7, 14, 21]
        best = min(losses, key=losses.__getitem__)
        assert one.metrics["early_stopping_iteration"] == best
        assert one.metrics["early_stopping/val_loss"] == losses[best]
        assert one.metrics["val_loss"] == losses[21]
        assert one.metrics["iterations"] == 21
        state, (x, y) = one.weights(), next(iter(shuffled()[2]))
        module = LitNet()
        module.load_state_dict(state)
        accuracy = (module.eval().net(x).argmax(1) == y).float().mean()
        assert one.metrics["test_acc"] == pytest.approx(float(accuracy))
        assert one.density == one.mask.density
    table = tickets.table().splitlines()
    assert table[0].split() == [
        "level",
        "weights",
        "%",
        "val_loss",
        "iterations",
        "early_stopping_iteration",
        "test_acc",
    ]
    assert [line.split()[0] for line in table[1:]] == [one.name for one in tickets]
    assert table[1].split()[1] == "100.0"
    assert tickets.table(["test_acc"]).splitlines()[0].split() == ["level", "weights", "%", "test_acc"]
    assert [one.name for one in tickets.of_kind("dense", "ticket")] == ["level_00", "level_01", "level_02"]
    assert tickets[:2] == (tickets[0], tickets[1])
    with pytest.raises(ValueError, match=r"no ticket of level 7; there are level_00, level_01"):
        tickets.level(7)
    with pytest.raises(ValueError, match="unknown state 'last'"):
        tickets.weights(1, "last")  # type: ignore[arg-type]


@pytest.mark.slow
def test_pruning_decides_what_goes(tmp_path: Path) -> None:
    pruning = Pruning(rate=0.5, scope="global", layers=["net.0", "net.3"])
    tickets = search(tmp_path, pruning=pruning)
    assert list(tickets[1].mask) == list(WEIGHTS[:2])
    assert [one.mask.kept for one in tickets] == [320, 160, 80]


@pytest.mark.slow
def test_callbacks_and_loggers_are_made_for_each_level(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    class Steps(pl.Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            seen.append((self.name, trainer.global_step))

    search(
        tmp_path / "tickets",
        callbacks=lambda level: [Steps(level)],
        logger=lambda level: pl.loggers.CSVLogger(tmp_path, name="logs", version=level),
        trainer={"max_epochs": 2, "log_every_n_steps": 1},
    )
    assert seen == [(f"level_0{n}", 8) for n in range(3)]
    for n in range(3):
        assert "val_loss" in (tmp_path / "logs" / f"level_0{n}" / "metrics.csv").read_text()


def test_the_callers_random_streams_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    search(tmp_path, levels=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]
    assert os.environ["PL_GLOBAL_SEED"] == "7"


@pytest.mark.slow
def test_the_result_depends_on_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    class Plain(LitNet):
        """Draws its weights from the global stream, as most modules do."""

        def __init__(self) -> None:
            super().__init__(int(torch.randint(1000, ())))

    found = []
    for number, seed in enumerate([0, 0, 1]):
        torch.manual_seed(number)
        found.append(all_weights(search(tmp_path / str(number), Plain, shuffled, seed=seed, levels=1)))
    assert_same(found[0], found[1])
    assert not torch.equal(found[0]["level_01 final net.0.weight"], found[2]["level_01 final net.0.weight"])


class Splitting(pl.LightningDataModule):
    """Draws its split when it is set up, from the global stream."""

    def __init__(self, size: int = 10) -> None:
        super().__init__()
        self.size = size

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.train, self.val = torch.utils.data.random_split(shuffled()[0].dataset, [40, 24])

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, self.size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, 24)


@pytest.mark.parametrize("data", [Splitting(), Splitting], ids=["object", "class"])
@pytest.mark.slow
def test_every_level_and_control_has_the_split_and_order_of_the_dense_net(data: Any, tmp_path: Path) -> None:
    made = Made()
    search(tmp_path, made, data, levels=1, controls=["reinitialise"])
    dense, ticket, control = ([batch[:3] for batch in module.seen] for module in made.trained)
    assert dense == ticket == control
    again = Made()
    search(tmp_path, again, data, levels=1, controls=["reinitialise"])
    assert not again.trained


def test_loaders_of_the_module_itself(tmp_path: Path) -> None:
    class Whole(LitNet):
        def train_dataloader(self) -> Any:
            return {"a": shuffled()[0], "b": shuffled()[0]}

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch["a"], batch_idx)
            self.seen.append((0, 0, float(batch["b"][0].sum()), 0.0))
            return loss

    made: list[Whole] = []

    def make(seed: int) -> Whole:
        made.append(Whole(seed))
        return made[-1]

    find_ticket(make, folder=tmp_path, levels=1, rewind_to="3it", trainer={"max_epochs": 2})
    assert made[2].seen == made[1].seen[6:]


class Distils(LitNet):
    """Has a teacher that is frozen, and an average that no optimizer has."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.teacher, self.average = copy.deepcopy(self.net).requires_grad_(False), copy.deepcopy(self.net)

    def configure_optimizers(self) -> Any:
        return sgd(self.net.parameters())


def test_teachers_and_averages_are_not_pruned(tmp_path: Path) -> None:
    told = r"find_ticket prunes among 368 of .*: no optimizer trains 'teacher.0.weight' and 5"
    with pytest.warns(UserWarning, match=told):
        tickets = find_ticket(Distils, by_epoch, folder=tmp_path, trainer={"max_epochs": 1}, levels=2)
    assert {tuple(level.mask) for level in tickets} == {WEIGHTS}
    # The output of what is trained is pruned at half the rate, not the teacher's.
    assert tickets[1].mask.counts == {"net.0.weight": 102, "net.3.weight": 154, "net.6.weight": 43}
    dense, last = tickets[0].weights(), tickets[-1].weights()
    for name in dense:
        if name.startswith(("teacher", "average")):
            assert torch.equal(last[name], dense[name])


class StepsByItself(LitNet):
    """Takes its steps by the optimizer's own step, of which Lightning knows nothing."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.automatic_optimization = False

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.optimizer.step()


@pytest.mark.parametrize("method", ["weight_rewinding", "lr_rewinding", "fine_tuning"])
def test_steps_past_lightning_leave_pruned_weights_at_zero(method: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {} if method != "fine_tuning" else {"fine_tune": "1ep"}
    tickets = find_ticket(
        StepsByItself, by_epoch, folder=tmp_path, trainer={"max_epochs": 1}, levels=2, method=method, **options
    )
    for level in tickets:
        for name, kept in level.mask.items():
            assert torch.equal(level.weights()[name] != 0, kept)
    assert not torch.equal(tickets[0].weights()[WEIGHTS[0]], tickets[0].weights("rewind")[WEIGHTS[0]])
