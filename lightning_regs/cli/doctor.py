"""What the command ``doctor`` does: a table and a page of what is wrong with a configuration."""

from __future__ import annotations

import argparse

from rich.console import Console

from lightning_regs import diagnose
from lightning_regs.cli.common import make_folder, short, show
from lightning_regs.cli.training import load
from lightning_regs.core.runs import Store
from lightning_regs.study.report.report import write_diagnosis
from lightning_regs.study.report.terminal import print_diagnosis


def doctor(options: argparse.Namespace) -> int:
    """Examine what a configuration trains; return 1 where something is wrong."""
    folder = options.page or Store(options.runs).root / "doctor"
    make_folder(folder)
    module, data, trainer = load(options.config)
    console = Console(highlight=False)
    with console.status(f"examining {type(module).__name__}"):
        found = diagnose(module, data, skip=options.skip, trainer=trainer, seed=options.seed)
    print_diagnosis(found, console)
    page = write_diagnosis(found, folder, str(options.config))
    print(f"Page: {short(page)}")
    if options.open:
        show(page)
    return int(bool(found.cried))
