"""The command ``lightning-regs``: list, freeze, reproduce and report papers; Lightning's fit, validate, test."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from lightning_regs import __version__
from lightning_regs.core.names import unknown_name
from lightning_regs.study.run.streams import forgive, lost

LIGHTNING_COMMANDS = ("fit", "validate", "test", "predict")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the console script's entry point.

    Returns:
        The exit status: 0 when all went well, 1 when a run failed, 2 when the request makes no sense, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Looking for garbage in all of torch would take the end of the program a second; triton would tell of what is left.
    atexit.register(lambda: gc.freeze() if "triton" not in sys.modules else None)
    forgive()
    status = _run(arguments)
    if (why := lost()) is not None:
        _say(f"lightning-regs: {why}; the rest was done.")
        return status or 1
    return status


def _run(arguments: list[str]) -> int:
    try:
        if arguments and arguments[0] in LIGHTNING_COMMANDS:
            from lightning_regs.cli.training import run  # which imports torch

            return run(arguments)
        options = _parser().parse_args(arguments or ["--help"])
        module, _, name = options.run.partition(":")  # imported only when it is asked for
        status: int = getattr(importlib.import_module(f"lightning_regs.cli.{module}"), name)(options)
    except (ValueError, FileNotFoundError) as error:
        return _refuse(error)
    except KeyboardInterrupt:
        _say("lightning-regs: stopped; repeat the command to go on.")
        return 130
    except OSError as error:
        _say(f"lightning-regs: {error}; what was finished is kept, repeat the command to go on.")
        return 1
    except Exception as error:
        # Lightning's word for a ValueError, known by its name: importing it would cost seconds.
        if type(error).__name__ != "MisconfigurationException":
            raise
        return _refuse(error)
    return status


class _Parser(argparse.ArgumentParser):
    """Refuses a mistyped command, option or choice in one sentence that suggests the nearest."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, left = super().parse_known_args(args, namespace)
        if wrong := next((each for each in left if each.startswith("--")), None):
            raise unknown_name("option", wrong.partition("=")[0], {*re.findall(r"--[\w-]+", self.format_help())})
        return found, left

    def error(self, message: str) -> NoReturn:
        if found := re.fullmatch(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message):
            kind = "command" if found[1] == "COMMAND" else f"choice of {found[1]}"
            raise unknown_name(kind, found[2], re.findall(r"[\w-]+", found[3]))
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lightning-regs",
        description="Why neural networks generalise: reproductions of papers, and training with regularizers.",
        epilog="fit, validate, test and predict are Lightning's: lightning-regs fit --config configs/FILE.yaml. "
        "Data sets are looked up under LIGHTNING_REGS_DATA (default: data/).",
    )
    parser.add_argument("--version", action="version", version=f"lightning-regs {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    runs = _Parser(add_help=False)
    runs.add_argument(
        "--runs", type=Path, metavar="DIR", help="where runs live (default: LIGHTNING_REGS_RUNS or runs/)"
    )
    one = _Parser(add_help=False)
    one.add_argument("paper", help="for example zhang2017; see `lightning-regs list`")
    pages = _Parser(add_help=False)
    pages.add_argument("--page", type=Path, metavar="DIR", help="where the HTML pages go (default: in RUNS)")
    pages.add_argument("--open", action="store_true", help="show the page in a browser")

    def add(name: str, run: str, says: str, *parents: _Parser) -> Any:
        made = subparsers.add_parser(name, parents=parents, help=says)
        made.set_defaults(run=run)
        return made

    says = "list the papers, their scales and what was found so far; of one paper its cells"
    command = add("list", "listing:list_papers", says, runs)
    command.add_argument("paper", nargs="?", help="the paper whose cells are listed, with seeds, done and planned")
    command.add_argument("--scale", help="only this scale (default: all)")

    says = "run a paper's experiments, or go on with them, and print its claims with a verdict each"
    command = add("reproduce", "commands:reproduce", says, one, runs, pages)
    command.add_argument("--scale", default="quick", help="quick (default), standard, paper, or another of the paper's")
    command.add_argument("--cells", action="append", metavar="GLOB", help="only these cells; may be repeated")
    command.add_argument("--seeds", type=_seeds, metavar="N|A,B,..", help="so many seeds, or just these")
    command.add_argument("--jobs", type=_positive, metavar="N", help="cells at once; the cores are divided among them")
    command.add_argument("--executor", help="local (default), or ray: the machines of a Ray cluster")
    command.add_argument("--address", metavar="HOST:PORT", help="of the Ray cluster (default: one on this machine)")
    command.add_argument("--cpus", type=_positive, metavar="N", help="cores of each run on the cluster (default: 1)")
    command.add_argument(
        "--gpus", type=float, metavar="F", help="GPUs of each run on the cluster, or the share of one, such as 0.25"
    )
    command.add_argument(
        "--replicas", type=_positive, metavar="N", help="runs of a stack trained together at most, 1 for each alone"
    )
    command.add_argument(
        "--wandb",
        choices=("offline", "online", "off"),
        help="log finished runs to Weights & Biases: into their folders (default), on its server, or not at all",
    )
    command.add_argument(
        "--results", type=Path, metavar="DIR", help="where the tables go (default: RUNS/results/PAPER, yours alone)"
    )
    command.add_argument(
        "--commit-results", action="store_true", help="write the tables beside the paper, where they are committed"
    )
    command.add_argument("--force", action="store_true", help="measure the chosen cells anew where they are complete")
    command.add_argument(
        "--dry-run", action="store_true", help="only say what would run, and how long it took where it was measured"
    )

    says = "search a space for the best configuration on held-out data; needs the extra lightning-regs[search]"
    command = add("search", "search:search", says, runs, pages)
    command.add_argument("config", help="a configuration that holds out data.val_split, such as mixup2018/digits-mlp")
    command.add_argument(
        "--space", action="append", required=True, metavar="YAML",
        help="a file, or such as 'model.optimizer.lr: {low: 0.001, high: 1, log: true}'; may be repeated",
    )  # fmt: skip
    command.add_argument("--trials", type=_positive, metavar="N", help="budget (default: 20, or all of a grid)")
    command.add_argument("--sampler", choices=("tpe", "random", "grid"), default="tpe", help="default: tpe")
    command.add_argument("--metric", default="val_error", help="what chooses: val_error (default), val_acc, val_loss")
    command.add_argument(
        "--seeds", type=_positive, default=1, metavar="N", help="runs a trial, of which the mean counts"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the sampler (default: 0)")
    command.add_argument("--together", type=_positive, default=4, metavar="N", help="trials asked at once (default: 4)")
    command.add_argument("--prune", action="store_true", help="stop trainings that are behind the median of others")
    command.add_argument("--stack", action="store_true", help="train trials together that differ in rates alone")
    command.add_argument("--jobs", type=_positive, metavar="N", help="runs at once; the cores are divided among them")
    command.add_argument("--executor", help="local (default), or ray: the machines of a Ray cluster")
    command.add_argument("--address", metavar="HOST:PORT", help="of the Ray cluster (default: one on this machine)")

    says = "show your rows of a paper beside the committed ones, cell by cell, and the verdicts of both"
    command = add("compare", "listing:compare", says, one, runs)
    command.add_argument("--scale", help="only this scale (default: all that both have)")
    command.add_argument("--results", type=Path, metavar="DIR", help="where yours are (default: RUNS/results/PAPER)")

    says = "write the weights of a run as a safetensors file, with a model card"
    command = add("export", "export:export", says, one, runs)
    command.add_argument("--cell", required=True, metavar="NAME", help="see `lightning-regs list PAPER`")
    command.add_argument("--scale", default="quick", help="quick (default), standard, paper, or another of the paper's")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    command.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of model.safetensors and README.md (default: PAPER-CELL-SEED)",
    )

    says = "write down what a paper's claims are and how many seeds are planned, before anything is run"
    command = add("freeze", "commands:freeze", says, one, runs)
    command.add_argument("--scale", help="only this scale (default: all)")
    command.add_argument("--reason", metavar="TEXT", help="why claims were added or changed after their rows")

    command = add("report", "commands:report", "write the HTML pages from the results that are there", runs, pages)
    command.add_argument("paper", nargs="*", help="default: every paper")
    command.add_argument("--results", type=Path, metavar="DIR", help="tables, as RUNS/results/PAPER (default: PAPER's)")
    command.add_argument(
        "--cards", action="store_true", help="also renew the claims beside the rows, and the README files"
    )
    command.add_argument(
        "--wandb",
        metavar="ENTITY/PROJECT",
        help="write a Weights & Biases report there instead; needs the extra lightning-regs[reports] and a login",
    )
    command.add_argument(
        "--dry-run",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FILE",
        help="write the Weights & Biases report as JSON, without a server (default FILE: PAGE/PAPER.wandb.json)",
    )

    says = "examine a configuration before it is trained: what is wrong with module, data and loss, and what to do"
    command = add("doctor", "doctor:doctor", says, runs, pages)
    command.add_argument("config", type=Path, help="a YAML file with model, data and trainer, of any class")
    command.add_argument("--skip", action="append", default=[], metavar="CHECK", help="leave a check out; repeatable")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn (default: 0)")

    command = add("sync", "commands:sync", "upload to Weights & Biases what is finished and not there yet", runs)
    command.add_argument("paper", nargs="*", help="default: every paper")
    command.add_argument("--wandb", metavar="ENTITY/PROJECT", help="where to (default: WANDB_ENTITY, WANDB_PROJECT)")

    for name in LIGHTNING_COMMANDS:  # handled before this parser; listed here for --help
        subparsers.add_parser(name, help=f"Lightning's {name}: --config configs/FILE.yaml", add_help=False)
    return parser


def _positive(text: str) -> int:
    value = int(text) if text.lstrip("-").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return value


def _seeds(text: str) -> int | list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of seeds (3) nor a list of them (0,1,2 or 5,)")
    return [int(part) for part in parts] if "," in text else _positive(text)


def _refuse(error: Exception) -> int:
    """Say in one sentence what is wrong with a request; with LIGHTNING_REGS_TRACEBACK set, show where as well."""
    if os.environ.get("LIGHTNING_REGS_TRACEBACK"):
        raise error
    _say(f"lightning-regs: {error}")
    return 2


def _say(text: str) -> None:
    from lightning_regs.study.report.legible import legible

    sys.stderr.write(f"{legible(text)}\n")
