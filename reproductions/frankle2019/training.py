"""The task of cells that prune: one level of one treatment, alone or stacked with others."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_regs.analysis import distance_travelled, error_barrier
from lightning_regs.core import rng
from lightning_regs.core.checks import seeds_apart
from lightning_regs.core.lightning import pl
from lightning_regs.core.runs import RunContext
from lightning_regs.data import ImageDataModule
from lightning_regs.procedures.level import LevelState, State, handed_on
from lightning_regs.procedures.splits import correct, measure
from lightning_regs.procedures.starts import TWIN, Given, Start, held, make_start
from lightning_regs.pruning import Pruning
from lightning_regs.training.classifier import Classifier
from lightning_regs.training.fit import Trained, evaluate, fit_stack, initial_network, shared, stackable
from lightning_regs.training.recorder import Recorder

# Positions on the line between two runs: enough for a barrier, whose maximum is flat.
POINTS = 11
# Names of random streams are part of the rows that were drawn from them.
_STREAM = "frankle2019"


class OrderedData(ImageDataModule):
    """The data with an order of training that each replica has a seed of its own for."""

    orders: tuple[int, ...]

    def _seeds(self, purpose: str) -> tuple[int, ...]:
        return self.orders if purpose == "order" else super()._seeds(purpose)


class BestWeights(Recorder):
    """Measures the validation loss every so many iterations, keeps each net's weights at its least, writes its curve.

    It counts iterations itself, those between validations (``every``) and those to the end: a training that validates
    by steps does not go on where it was (pytorch-lightning 2.6.6 adds a batch). The Trainer's end comes no earlier.

    Attributes:
        best: Of each net, with a dimension of nets in front: the least validation ``loss``, the ``accuracy`` in percent
            and the ``step`` there, and the weights by their names.
        at_start: Each net's test accuracy before training, in percent.
    """

    def __init__(self, runs: Sequence[RunContext], every: int, iterations: int) -> None:
        super().__init__(runs)
        self.every, self.iterations = every, iterations
        self.best: dict[str, Tensor] = {}
        self.at_start = torch.empty(0)

    def state_dict(self) -> dict[str, Any]:
        """Return everything."""
        return super().state_dict() | {"best": self.best, "at_start": self.at_start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        super().load_state_dict(state_dict)
        self.best, self.at_start = state_dict["best"], state_dict["at_start"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the first weights, for a net whose loss is never a number, and their test accuracy."""
        assert isinstance(pl_module, Classifier)
        if not self.best:
            self.at_start = measure(trainer, pl_module, "test")[1]
            never = torch.full_like(self.at_start, math.inf), torch.full_like(self.at_start, math.nan)
            self.best = {name: value.clone() for name, value in _now(pl_module, *never, 0).items()}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure, and compare with the best so far; end the training after its last iteration."""
        if trainer.global_step >= self.iterations:
            trainer.should_stop = True
        if trainer.global_step % self.every:
            return
        assert isinstance(pl_module, Classifier)
        loss, accuracy = measure(trainer, pl_module, "val")
        better = (loss < self.best["loss"]).nonzero().squeeze(1)
        for name, value in _now(pl_module, loss, accuracy, trainer.global_step).items() if len(better) else ():
            self.best[name] = self.best[name].to(value.device)
            self.best[name][better.to(value.device)] = value[better.to(value.device)]
        rows = zip(loss.tolist(), accuracy.tolist(), strict=True)
        self.record([{"step": trainer.global_step, "val_loss": own, "val_acc": right} for own, right in rows])
        text = f"validation loss {loss.mean():.3g}, {accuracy.mean():.1f} %"
        self.runs[0].progress(trainer.global_step, self.iterations, text)


def _now(module: Classifier, loss: Tensor, accuracy: Tensor, step: int) -> dict[str, Tensor]:
    """Return what there is to keep of each net now, with a dimension of nets in front."""
    assert module.network is not None
    weights = {name: v if module.replicas else v[None] for name, v in module.network.state_dict().items()}
    return weights | {"loss": loss, "accuracy": accuracy, "step": torch.full_like(loss, step, dtype=torch.long)}


@stackable
def level(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train one level of one treatment, or several as replicas of one net.

    Args:
        configs: ``{"model": ..., "data": ..., "trainer": ...}`` as for :func:`~lightning_regs.training.fit.fit`;
            ``"iterations"``, the length of the training, and ``"every"``, those between two validations; ``"pruning"``:
            arguments of :class:`~lightning_regs.pruning.Pruning`; and ``"treatment"``: ``{"kind": ..., "level":
            ...}``, one of :data:`~lightning_regs.procedures.starts.TREATMENTS` after so many rounds of pruning.
        runs: The engine's. ``run.inputs`` holds the levels that the treatment needs, by the names of their cells,
            which end in ``/KIND/LEVEL``: for most the ticket of the level before. An interrupted run goes on from its
            last saved epoch.

    Returns:
        ``p_m`` (percent of weights kept) and ``kept``; ``stop_iteration``, ``stop_val_loss``, ``stop_val_acc`` and
        ``test_acc_stop``: where the validation loss was least, and the test accuracy of the weights there;
        ``train_acc``, ``val_acc``, ``test_acc``, ``train_loss``, ``val_loss``, ``test_loss`` after the last iteration;
        ``start_test_acc`` before the first. Of a ticket ``moved_kept`` and ``moved_pruned``: mean distance that weights
        went in the training of the dense net, those in its mask and the others; of a twin ``barrier``: the error in
        percent on the line between it and the run that it is the twin of.

    Raises:
        ValueError: If the configurations differ in more than the treatment.
    """
    config, kinds = shared(configs, "treatment"), [str(own["treatment"]["kind"]) for own in configs]
    seeds, apart = [run.seed for run in runs], seeds_apart(config)
    data = OrderedData(**config["data"], seed=seeds[0], replicas=seeds if len(runs) > 1 else None, seeds=apart)
    orders = [apart.get("order", seed) for seed in seeds]
    twins = [rng.derive_seed(order, f"{_STREAM} twin") for order in orders]
    data.orders = tuple(b if kind.endswith(TWIN) else a for kind, a, b in zip(kinds, orders, twins, strict=True))
    data.prepare_data()
    data.setup()
    networks, given, starts = zip(*map(partial(_start, data), configs, runs), strict=True)
    recorder = BestWeights(runs, int(config["every"]), int(config["iterations"]))
    samples = len(data.dataset("train"))
    epochs = math.ceil(config["iterations"] / math.ceil(samples / data.batch_size))
    config["trainer"] = config["trainer"] | {"max_epochs": epochs, "limit_val_batches": 0}
    found = fit_stack(config, runs, [recorder, held(starts)], networks, data)
    rows = _rows(found, recorder)
    for kind, run, trained, row, its, start in zip(kinds, runs, found, rows, given, starts, strict=True):
        final = trained.state()
        row |= {"p_m": 100 * start.mask.density, "kept": float(start.mask.kept)}
        if kind == "ticket" and (dense := its.levels.get(("ticket", 0))) is not None:
            moved = distance_travelled(dense.initial, dense.final, start.mask).overall
            row |= {"moved_kept": moved.kept.mean, "moved_pruned": moved.pruned.mean}
        if kind.endswith(TWIN):
            twin = its.levels[kind.removesuffix(TWIN), its.level].final
            row["barrier"] = error_barrier(partial(_error, trained.network(), data), twin, final, POINTS).barrier
        # A ticket starts where the dense net did, and a twin where that of which it is one: all else is not handed on.
        own = start.weights if re.fullmatch(r"ticket|reinit-\d+", kind) else {}
        initial = own if kind == "ticket" else {}
        if kind == "continued":
            initial = next(iter(its.levels.values())).initial
        LevelState(initial, own, final, start.mask, {"of": run.folder.name}).save(run.folder)
        run.epochs = config["iterations"] * config["data"]["batch_size"] / samples
    # Of a stack it is large, and the levels hold what others need.
    found[0].checkpoint.unlink(missing_ok=True)
    return rows


def _start(data: ImageDataModule, config: Mapping[str, Any], run: RunContext) -> tuple[nn.Module, Given, Start]:
    """Return the network of a run as it starts, what its start is made from, and its start."""
    kind, number = str(config["treatment"]["kind"]), int(config["treatment"]["level"])
    seed, pruning = seeds_apart(config).get("weights", run.seed), Pruning(**config["pruning"])

    def fresh(draw: int) -> State:
        at = rng.derive_seed(seed, f"{_STREAM} reinitialisation", draw) if draw else seed
        return {name: value.clone() for name, value in initial_network(config["model"], data, at).state_dict().items()}

    levels = {}
    for name, state in handed_on(run).items():
        _, other, rounds = name.rsplit("/", 2)
        levels[other, int(rounds)] = state
    network, draws = initial_network(config["model"], data, seed), rng.generator(seed, f"{_STREAM} {kind}", number)
    given = Given(number, pruning, pruning.start(network), fresh, draws, levels)
    start = make_start(kind, given)
    network.load_state_dict(start.weights if start.frozen else start.mask.apply(start.weights))
    return network, given, start


def _rows(found: Sequence[Trained], recorder: BestWeights) -> list[dict[str, float]]:
    """Return what each net reaches before, at its least validation loss, and at the end."""
    first, best, rows = found[0], recorder.best, []
    network = first.module.network
    assert network is not None
    end = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict({name: best[name] if first.module.replicas else best[name][0] for name in end})
    at_stop = evaluate(first.trainer, first.module, first.data, "test")
    network.load_state_dict(end)
    for i, trained in enumerate(found):
        loss, accuracy, step = (best[name][i].item() for name in ("loss", "accuracy", "step"))
        row = {"stop_iteration": step or math.nan, "stop_val_loss": loss if step else math.nan}
        row |= {"stop_val_acc": accuracy, "test_acc_stop": at_stop[i]["acc"]}
        rows.append(trained.metrics | row | {"start_test_acc": recorder.at_start[i].item()})
    return rows


def _error(network: nn.Module, data: ImageDataModule, state: State) -> float:
    network.load_state_dict(state)
    right = correct(network, data, "test")
    return 100 * int((~right).sum()) / len(right)
