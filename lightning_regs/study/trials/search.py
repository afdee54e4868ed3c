"""Search for the best configuration of a space: ask Optuna, train the trials as cells, tell it what they gave."""

from __future__ import annotations

import datetime
import importlib.util
import itertools
import math
import os
import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from lightning_regs.core.checks import Count, Name, Seed, checked
from lightning_regs.core.files import atomic_write
from lightning_regs.core.identity import canonical, identity, plain
from lightning_regs.core.metrics import ACCURACY, ERROR, Family, Metric
from lightning_regs.core.names import unknown_name
from lightning_regs.core.runs import Store
from lightning_regs.optim.per_replica import NUMBERS
from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.config import override, resolve
from lightning_regs.study.paper.figure import Figure
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.run.events import Event
from lightning_regs.study.run.executors.queue import Executor
from lightning_regs.study.run.runner import Outcome, reproduce
from lightning_regs.study.trials import pictures
from lightning_regs.study.trials.space import Space, check_known
from lightning_regs.study.trials.trial import held_out, medians

if TYPE_CHECKING:
    from optuna.study import Study

Sampler = Literal["grid", "random", "tpe"]
SCALE, TRIAL = "search", "lightning_regs.study.trials.trial:trial"
_HELD_OUT = re.compile(r"val_\w+")
_FAMILY = Family("Trials", (
    Metric("val_acc", "Held-out accuracy", "%"), Metric("val_loss", "Held-out loss"),
    Metric("train_acc", "Train accuracy", "%"), Metric("train_loss", "Train loss"),
    Metric("stopped", "Stopped early"),
), shown=5)  # fmt: skip


@dataclass(frozen=True)
class Tried:
    """A trial.

    Attributes:
        cell: Name of its cell.
        settings: What was varied, by path.
        value: Mean of the metric over seeds; NaN where a run failed or the metric is no number.
        stopped: Whether it was stopped early, as it was behind; it is never the best.
    """

    cell: str
    settings: dict[str, Any]
    value: float
    stopped: bool = False


@dataclass
class Found:
    """What :func:`search` found.

    Attributes:
        paper: The search as a paper, whose page :func:`~lightning_regs.study.report.report.write_report` writes.
        trials: What was tried, in order.
        best: The best complete trial; None where there is none.
        config: The file of its configuration, for ``lightning-regs fit --config``; None where there is none.
        outcome: The last outcome of the engine: rows, and why nothing more was run.
    """

    paper: Paper
    outcome: Outcome
    trials: list[Tried] = field(default_factory=list)
    best: Tried | None = None
    config: Path | None = None


@checked
def search(
    config: str | os.PathLike[str] | Mapping[str, Any],
    space: Mapping[str, Any],
    *,
    trials: Count | None = None,
    sampler: Sampler = "tpe",
    metric: Name = "val_error",
    seeds: Count = 1,
    seed: Seed = 0,
    together: Count = 4,
    prune: bool = False,
    stack: bool = False,
    jobs: int | None = None,
    runs_dir: str | os.PathLike[str] | None = None,
    on_event: Callable[[Event], None] | None = None,
    executor: Executor | str | None = None,
    address: str | None = None,
    command: str = "lightning_regs.study.search(...)",
) -> Found:
    """Train configurations of a space and find the best by held-out training data; test data play no part.

    A trial is a cell, and its runs are named by what they compute. A search that was killed is repeated: it asks for
    the same trials again, finds their runs in the store, and goes on to the end that it would have had. It does not
    depend on how many processes there are, as trials are asked for in groups.

    Args:
        config: The configuration, as :func:`~lightning_regs.study.resolve` takes it, or resolved. It holds out training
            data with ``data.val_split``.
        space: Dotted path -> choices or range, see :class:`~lightning_regs.study.trials.space.Space`. A list of one
            value sets it, such as ``data.val_split: [0.1]``.
        trials: The budget. Default: 20, or all combinations of a grid.
        sampler: ``"tpe"`` (Bergstra et al. 2011, Optuna's), ``"random"``, or ``"grid"``: all combinations, in order.
        metric: What chooses: ``"val_error"``, ``"val_acc"``, ``"val_loss"``, or another of held-out data; accuracies
            are to be large and all else small.
        seeds: Training runs a trial, whose mean counts.
        seed: Seed of the sampler.
        together: Trials that are asked for at once, and can run at once; a part of the plan, as TPE chooses them
            without each other's results.
        prune: Whether to stop a training whose best number so far is worse than the median of earlier trials (Golovin
            et al. 2017). Needs validation after each epoch, and one seed.
        stack: Whether trials of one group that differ in numbers of the optimizer alone are trained as replicas.
        jobs: As :func:`~lightning_regs.study.reproduce` has it, and so are the four below.
        runs_dir: Where runs live.
        on_event: Receives every event.
        executor: What carries out the runs.
        address: Of a Ray cluster.
        command: What the page says to repeat.

    Returns:
        What was found. A run that fails is a trial without a value, and is not raised.

    Raises:
        ValueError: If the space, a path or the metric is unknown, trainings refuse a value, no training data are held
            out, the configuration names a LightningModule or DataModule of one's own, options do not go together, or
            Optuna is not installed: ``pip install "lightning-regs[search]"``.
    """
    _check_installed()
    base = dict(config) if isinstance(config, Mapping) else resolve(config)
    name = "config" if isinstance(config, Mapping) else Path(config).with_suffix("").as_posix().removeprefix("configs/")
    for section in ("model", "data"):
        if own := (base.get(section) or {}).get("class_path"):
            raise ValueError(
                f"a search trains the package's Classifier on its ImageDataModule, and {section} is {own}; write the "
                "arguments of these without a class_path, or search a module of your own with Optuna from Python."
            )
    space = plain(space, "space")
    fixed = {path: what[0] for path, what in space.items() if isinstance(what, list) and len(what) == 1}
    for path in fixed:
        check_known(path, base)
    for path, part in itertools.permutations(space, 2):
        if part.startswith(f"{path}.") and (path not in fixed or part in fixed):
            raise ValueError(
                f"the space has {path} and its part {part}, and one would undo the other; give one of them."
            )
    base = override(base, fixed)
    _check(base, metric, seeds, prune, stack)
    tried = Space({path: what for path, what in space.items() if path not in fixed}, base)
    for path in {"data.val_split", "data.monitor_test"} & set(tried.given):
        raise ValueError(f"{path} says what a search chooses by, and cannot vary; set it, by a list of one value.")
    tried.check_values(base)
    every = tried.combinations() if sampler == "grid" else []
    if sampler == "grid":
        trials = min(trials or len(every), len(every))
    plan = {"config": base, "space": list(tried.given.items()), "sampler": sampler, "metric": metric, "seed": seed,
            "seeds": seeds, "together": together, "prune": prune,
            "trials": "grid" if sampler == "grid" else None}  # fmt: skip
    made = _Search(name, base, tried, trials or 20, metric, seeds, prune, stack, command,
                   identity(canonical(plan))[:8])  # fmt: skip
    study = _study(sampler, seed, made.largest)
    for params in every:
        study.enqueue_trial(params)
    store = Store(runs_dir)
    options: dict[str, Any] = {"jobs": jobs, "runs_dir": runs_dir, "on_event": on_event, "executor": executor,
                               "address": address}  # fmt: skip
    found = Found(made.paper(study), Outcome(made.paper(study), SCALE, Path(), Path(), Path()))
    while len(found.trials) < made.trials:
        group = [study.ask(tried.distributions) for _ in range(min(together, made.trials - len(found.trials)))]
        names = [made.add(trial.number, tried.settings(trial.params)) for trial in group]
        found.paper = made.paper(study)
        found.outcome = reproduce(found.paper, SCALE, names, seeds, **options)
        if found.outcome.interrupted or found.outcome.stopped:
            break
        for trial, cell in zip(group, names, strict=True):
            found.trials.append(one := made.tried(cell, found.outcome, store))
            state = "PRUNED" if one.stopped else "COMPLETE" if math.isfinite(one.value) else "FAIL"
            study.tell(trial, one.value if state == "COMPLETE" else None, state=_state(state))
    complete = [one for one in found.trials if not one.stopped and math.isfinite(one.value)]
    if complete:
        found.best = (max if made.largest else min)(complete, key=lambda one: one.value)
        found.config = store.results(found.paper.id) / "best.yaml"
        text = yaml.safe_dump(override(base, found.best.settings), sort_keys=False)
        atomic_write(found.config, f"# {found.best.cell} of {found.paper.id}: {metric} {found.best.value:.6g}\n{text}")
    return found


def _check(config: Mapping[str, Any], metric: str, seeds: int, prune: bool, stack: bool) -> None:
    from lightning_regs.training.options import check_options

    data = config.get("data") or {}
    check_options(config)
    if not _HELD_OUT.fullmatch(metric):
        raise ValueError(f"metric {metric!r} is not of held-out training data; give val_error, val_acc or val_loss.")
    if not data.get("val_split") or data.get("monitor_test"):
        raise ValueError("a search chooses by held-out training data, and the configuration holds none out; set "
                         "data.val_split, such as 0.1, and leave data.monitor_test out.")  # fmt: skip
    if prune and (seeds > 1 or stack):
        raise ValueError(
            f"prune stops single trainings, and seeds={seeds} and stack={stack} have several in a trial or a process; "
            "give it one seed and no stack."
        )


class _Search:
    """The cells of a search, and the search as a paper."""

    def __init__(
        self, name: str, config: dict[str, Any], space: Space, trials: int, metric: str, seeds: int, prune: bool,
        stack: bool, command: str, mark: str,
    ) -> None:  # fmt: skip
        self.config, self.space, self.trials, self.metric = config, space, trials, metric
        self.seeds, self.prune, self.stack = seeds, prune, stack
        self.largest = metric.endswith(ACCURACY)
        self.id = f"search-{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-.')}-{mark}"
        self.name, self.command = name, command
        self.cells: dict[str, Cell] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self._curves: list[list[float]] = []

    def add(self, number: int, settings: dict[str, Any]) -> str:
        """Make the cell of a trial, and return its name."""
        told = ", ".join(f"{path.rpartition('.')[2]} {_short(value)}" for path, value in settings.items())
        name = f"{number:03d}: {told}"
        config = override(self.config, settings)
        if self.prune:
            config["stop"] = {"metric": self.metric, "medians": medians(self._curves, self.largest),
                              "largest": self.largest}  # fmt: skip
        others = {path: value for path, value in settings.items() if path.rpartition(".")[2] not in NUMBERS}
        self.cells[name] = Cell(name, TRIAL, config, stack=canonical(others) if self.stack else None)
        self.settings[name] = settings
        return name

    def tried(self, cell: str, outcome: Outcome, store: Store) -> Tried:
        """Read what a trial gave, and keep its curve for those to come."""
        rows = [row for row in outcome.rows if row.cell == cell and row.current]
        names = {name for row in rows for name in row.metrics if _HELD_OUT.fullmatch(name)}
        names |= {name.replace(ACCURACY, ERROR) for name in names}
        if rows and self.metric not in names:
            raise unknown_name("metric", self.metric, names)
        failed = len(rows) < self.seeds
        stopped = any(row.metrics.get("stopped") for row in rows)
        if self.prune and rows and not stopped:
            self._curves.append([held_out(point, self.metric) for point in store.run(rows[0].run).curves()])
        value = math.nan if failed else statistics.fmean(held_out(row.metrics, self.metric) for row in rows)
        return Tried(cell, self.settings[cell], value, stopped)

    def paper(self, study: Study) -> Paper:
        """Return the search as a paper: its cells so far and its figures."""
        space = "; ".join(f"{path}: {_told(what)}" for path, what in self.space.given.items())
        how = f"chosen by {self.metric} on held-out training data; test data were not looked at"
        budget = f"A budget of {self.trials} trials, seeds of each: {self.seeds}"
        scale = Scale(SCALE, budget, tuple(self.cells.values()),
                      seeds=self.seeds, replicas=64 if self.stack else 1)  # fmt: skip
        drawn = {"course": "The course of the search", "parallel": "What was tried", "importances": "What mattered"}
        figures = (Figure(id, title, draw=partial(_draw, id, study, self.metric)) for id, title in drawn.items())
        return Paper(
            self.id, f"Search of {self.name}", "lightning-regs search", datetime.date.today().year, "", (scale,),
            figures=tuple(figures), metrics=(_FAMILY,), summary=f"Space: {space}. Trials are {how}.",
            command=self.command,
        )  # fmt: skip


def _draw(id: str, study: Study, metric: str, *_: object) -> Any:
    return getattr(pictures, id)(study, metric)


def _check_installed() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise ValueError('a search needs Optuna, which is not installed: pip install "lightning-regs[search]".')


def _study(sampler: str, seed: int, largest: bool) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kind = optuna.samplers.TPESampler if sampler == "tpe" else optuna.samplers.RandomSampler
    return optuna.create_study(sampler=kind(seed=seed), direction="maximize" if largest else "minimize")


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def _told(what: Any) -> str:
    if isinstance(what, Mapping):
        return f"{_short(what['low'])} to {_short(what['high'])}{', logarithmic' if what.get('log') else ''}"
    return ", ".join(map(_short, what))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else canonical(value).strip('"')
