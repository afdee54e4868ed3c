"""The command ``lightning-regs``: list, reproduce and report papers; fit, validate and test with Lightning's CLI."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_regs.study.paper import Paper
    from lightning_regs.study.store import Store
    from lightning_regs.study.worker import Event

LIGHTNING_COMMANDS = ("fit", "validate", "test", "predict")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the console script's entry point.

    Args:
        argv: Arguments without the program's name; default: those of the process.

    Returns:
        The exit status: 0 when all went well, 1 when a run failed, 2 when the request makes no sense, 130 when
        interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in LIGHTNING_COMMANDS:
            return lightning(arguments)
        options = _parser().parse_args(arguments)
        status: int = options.run(options)
    except (ValueError, FileNotFoundError) as error:
        return _refuse(error)
    except KeyboardInterrupt:
        _say("lightning-regs: stopped; repeat the command to go on.")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader, such as `head`, has seen enough
        return 0
    except OSError as error:
        _say(f"lightning-regs: {error}; what was finished is kept, repeat the command to go on.")
        return 1
    except Exception as error:
        # Lightning's word for a ValueError, known by its name: importing it would cost seconds.
        if type(error).__name__ != "MisconfigurationException":
            raise
        return _refuse(error)
    return status


def lightning(arguments: list[str]) -> int:
    """Run Lightning's CLI with our Classifier and ImageDataModule."""
    import logging
    import warnings

    from lightning_regs import Classifier, ImageDataModule
    from lightning_regs._lightning import NAMESPACE, lightning_cli

    logging.getLogger(NAMESPACE).setLevel(logging.INFO)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    lightning_cli()(
        Classifier,
        ImageDataModule,
        args=None if arguments == sys.argv[1:] else arguments,  # Lightning warns where it is given both
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-regs",
        description="Why neural networks generalise: reproductions of papers, and training with regularizers.",
        epilog="fit, validate, test and predict are Lightning's: lightning-regs fit --config configs/FILE.yaml. "
        "Data sets are looked up under LIGHTNING_REGS_DATA (default: data/).",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="list the papers, their scales and what was found so far")
    command.set_defaults(run=_list)

    command = commands.add_parser(
        "reproduce", help="run a paper's experiments, or go on with them, and print its claims with a verdict each"
    )
    command.add_argument("paper", help="for example zhang2017; see `lightning-regs list`")
    command.add_argument("--scale", default="quick", help="quick (default), standard, paper, or another of the paper's")
    command.add_argument("--cells", action="append", metavar="GLOB", help="only these cells; may be repeated")
    command.add_argument("--seeds", type=_seeds, metavar="N|A,B,..", help="so many seeds, or just these")
    command.add_argument("--jobs", type=_positive, metavar="N", help="cells at once, the cores divided among them")
    command.add_argument(
        "--replicas", type=_positive, metavar="N", help="runs of a stack trained together at most, 1 for each alone"
    )
    command.add_argument(
        "--runs", type=Path, metavar="DIR", help="where runs live (default: LIGHTNING_REGS_RUNS or runs/)"
    )
    command.add_argument("--results", type=Path, metavar="DIR", help="where the table goes (default: beside the paper)")
    command.add_argument("--page", type=Path, metavar="DIR", help="where the HTML page goes (default: RUNS/report)")
    command.add_argument("--open", action="store_true", help="show the page in a browser")
    command.add_argument(
        "--wandb",
        choices=("offline", "online", "off"),
        help="log every run to Weights & Biases: now, into the run folders for `lightning-regs sync`, or not at all "
        "(default: online with a W&B login, offline without)",
    )
    command.set_defaults(run=_reproduce)

    command = commands.add_parser("report", help="write the HTML pages from the results that are there")
    command.add_argument("paper", nargs="*", help="default: every paper")
    command.add_argument(
        "--results", type=Path, metavar="DIR", help="the results of one paper (default: beside the paper)"
    )
    command.add_argument(
        "--runs", type=Path, metavar="DIR", help="where runs live (default: LIGHTNING_REGS_RUNS or runs/)"
    )
    command.add_argument("--page", type=Path, metavar="DIR", help="where the pages go (default: RUNS/report)")
    command.add_argument("--cards", action="store_true", help="also renew the generated parts of the README files")
    command.add_argument("--open", action="store_true", help="show the page in a browser")
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
    command.set_defaults(run=_report)

    command = commands.add_parser("sync", help="upload finished runs that were logged to Weights & Biases offline")
    command.add_argument("paper", nargs="*", help="default: every paper")
    command.add_argument(
        "--runs", type=Path, metavar="DIR", help="where runs live (default: LIGHTNING_REGS_RUNS or runs/)"
    )
    command.add_argument("--wandb", metavar="ENTITY/PROJECT", help="upload there instead of where they were logged for")
    command.set_defaults(run=_sync)

    for name in LIGHTNING_COMMANDS:  # handled before this parser; listed here for --help
        commands.add_parser(name, help=f"Lightning's {name}: --config configs/FILE.yaml", add_help=False)
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
    sys.stderr.write(f"{text}\n")


def _list(options: argparse.Namespace) -> int:
    from lightning_regs.study.paper import find_papers, load_paper

    papers = [load_paper(name) for name in find_papers()]
    if not papers:
        raise ValueError("there is no reproductions/ folder here; run this in a checkout or set LIGHTNING_REGS_PAPERS.")
    for paper in papers:
        print(f"{paper.id}  {paper.title} ({paper.authors}, {paper.year})")
        for scale in paper.scales:
            runs = sum(cell.seeds or scale.seeds for cell in scale.cells)
            print(f"  {scale.name:9}{len(scale.cells):3} cells {runs:4} runs  {_found(paper, scale.name)}")
            print(textwrap.fill(scale.description, 78, initial_indent=" " * 11, subsequent_indent=" " * 11))
    return 0


def _found(paper: Paper, scale: str) -> str:
    from lightning_regs.study.claims import VERDICTS
    from lightning_regs.study.ledger import default_results

    path = default_results(paper) / f"{scale}.claims.json"
    try:
        verdicts = [claim["verdict"] for claim in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError):
        return "not run yet"
    counts = {name: verdicts.count(name) for name in VERDICTS}
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)


def _reproduce(options: argparse.Namespace) -> int:
    from lightning_regs.study.paper import load_paper
    from lightning_regs.study.progress import Reporter
    from lightning_regs.study.report import write_report
    from lightning_regs.study.runner import reproduce
    from lightning_regs.study.store import Store
    from lightning_regs.study.terminal import print_claims
    from lightning_regs.study.wandb_log import Writer, default_mode

    paper = load_paper(options.paper)
    store = Store(options.runs)
    reporter = Reporter()

    def say(text: str) -> None:
        reporter.console.print(text, markup=False, soft_wrap=True)

    with Writer(options.wandb or default_mode(), store.root, paper, options.scale, say=say) as log:
        with reporter:

            def on_event(event: Event) -> None:
                log(event)
                reporter(event)

            outcome = reproduce(
                paper,
                options.scale,
                options.cells,
                options.seeds,
                options.jobs,
                store.root,
                options.results,
                on_event,
                replicas=options.replicas,
            )
        log.results(outcome)  # before the page is made, so that both are made at once
        within = [claim for claim in outcome.claims if claim.verdict != "out of reach"]
        print_claims(within)
        if beyond := len(outcome.claims) - len(within):
            print(f"{beyond} more claims are out of reach at this scale; the page says why.")
        page = write_report(paper, outcome.csv.parent, options.page or store.root / "report", store)
        if outcome.csv.exists():
            print(f"\nRows: {_short(outcome.csv)}")
        print(f"Page: {_short(page)}")
        if options.open:
            _open(page)
    return outcome.exit_code


def _report(options: argparse.Namespace) -> int:
    from lightning_regs.study.config import checkout
    from lightning_regs.study.ledger import default_results
    from lightning_regs.study.paper import find_papers, load_paper
    from lightning_regs.study.report import write_index, write_report
    from lightning_regs.study.store import Store

    papers = [load_paper(name) for name in options.paper or find_papers()]
    if options.results is not None and len(papers) != 1:
        raise ValueError(f"--results {options.results} holds the results of one paper; name that paper: report PAPER.")
    if options.results is not None and not options.results.exists():
        raise ValueError(f"--results {options.results}: there is no such folder; leave it out for the paper's own.")
    store = Store(options.runs)
    folder = options.page or store.root / "report"
    if options.wandb is not None or options.dry_run is not None:
        _report_to_wandb(options, papers, store, folder)
        return 0
    pages = [write_report(paper, options.results or default_results(paper), folder, store) for paper in papers]
    index = write_index(folder)
    for page in [index, *pages]:
        print(_short(page))
    if options.cards:
        from lightning_regs.study.card import update

        cards = [paper.folder / "README.md" for paper in papers if paper.folder]
        if (root := checkout()) is not None:
            cards.append(root / "README.md")
        for card in cards:
            if card.is_file() and update(card, None if card.parent == root else papers):
                print(_short(card))
    if options.open:
        _open(pages[0] if len(pages) == 1 else index)
    return 0


def _report_to_wandb(options: argparse.Namespace, papers: list[Paper], store: Store, folder: Path) -> None:
    from lightning_regs.study.ledger import default_results
    from lightning_regs.study.specification import specify
    from lightning_regs.study.wandb_report import Target, publish, write_json

    target = Target.parse(options.wandb) if options.wandb else None
    file = options.dry_run if options.dry_run != Path() else None
    if file is not None and len(papers) != 1:
        raise ValueError(f"--dry-run {file} is one file for {len(papers)} papers; name one paper, or give no FILE.")
    for paper in papers:
        specification = specify(paper, options.results or default_results(paper), store)
        if options.dry_run is not None:
            print(_short(write_json(specification, target, file or folder / f"{paper.id}.wandb.json")))
        else:
            assert target is not None
            print(publish(specification, target))


def _sync(options: argparse.Namespace) -> int:
    from lightning_regs.study.paper import load_paper
    from lightning_regs.study.store import Store
    from lightning_regs.study.wandb_report import Target
    from lightning_regs.study.wandb_sync import sync

    papers = [load_paper(name).id for name in options.paper] or None
    target = Target.parse(options.wandb) if options.wandb else None
    where = (target.entity, target.project) if target else (None, None)
    return sync(Store(options.runs).root, papers, *where)


def _short(path: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def _open(page: Path) -> None:
    """Show a page where there is a screen; say nothing where there is none, as its path has been printed."""
    import webbrowser

    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.absolute().as_uri())
