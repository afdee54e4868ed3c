"""The command that searches the best configuration of a space."""

from __future__ import annotations

import argparse
import math
import shlex
import sys

from lightning_regs.cli.common import columns, make_folder, short, show
from lightning_regs.core.metrics import ACCURACY
from lightning_regs.core.runs import Store
from lightning_regs.study.report.report import write_report
from lightning_regs.study.run.progress import Reporter
from lightning_regs.study.trials.search import search as run
from lightning_regs.study.trials.space import read_space

_SHOWN = 10


def search(options: argparse.Namespace) -> int:
    """Search, or go on with a search; print the best trials, and where the page and the winner's configuration are."""
    store = Store(options.runs)
    page_folder = options.page or store.root / "results"
    make_folder(page_folder)
    names = ("trials", "sampler", "metric", "seeds", "seed", "together", "prune", "stack", "jobs", "executor",
             "address")  # fmt: skip
    asked = {name: getattr(options, name) for name in names}
    if options.jobs == 1 and not options.executor:
        asked["jobs"] = 0  # as each group would start a process of its own
    command = shlex.join(["lightning-regs", *sys.argv[1:]])
    with Reporter() as reporter:
        found = run(options.config, read_space(options.space), runs_dir=store.root, on_event=reporter, command=command,
                    **asked)  # fmt: skip
    sign = -1 if options.metric.endswith(ACCURACY) else 1
    best = sorted(found.trials, key=lambda one: (one.stopped, math.isnan(one.value), sign * one.value))
    lines = [("trial", options.metric, "")]
    lines += [(one.cell, f"{one.value:.4g}", "stopped early" if one.stopped else "") for one in best[:_SHOWN]]
    if found.best is not None:
        print(f"\nThe best of {len(found.trials)} trials, on held-out training data:\n{columns(lines)}\n")
    else:
        print(f"No trial is complete with a number for {options.metric}: there is no best one.")
    if found.outcome.failed:
        print(f"{len(found.outcome.failed)} runs of the last group failed; the page has the errors.")
    print(f"Page: {short(page := write_report(found.paper, found.outcome.csv.parent, page_folder, store))}")
    if found.config is not None:
        print(f"The best configuration: lightning-regs fit --config {short(found.config)}")
    if options.open:
        show(page)
    return found.outcome.exit_code or int(found.best is None)
