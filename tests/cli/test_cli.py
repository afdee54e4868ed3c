import argparse
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_regs import __version__
from lightning_regs.cli import parser
from lightning_regs.cli.parser import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["reproduce", "--help"]])
@pytest.mark.slow
def test_what_needs_no_torch_does_not_import_it(arguments: list[str]) -> None:
    code = (
        "import sys; from lightning_regs.cli.parser import main\n"
        "import lightning_regs.study.run.progress, lightning_regs.study.run.runner\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pytorch_lightning', 'matplotlib', 'pandas', 'scipy.stats', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_command_leads_to_its_function() -> None:
    [commands] = [part for part in parser._parser()._actions if isinstance(part, argparse._SubParsersAction)]
    places = {name: made.get_default("run") for name, made in commands.choices.items()}
    assert {name for name, place in places.items() if place is None} == set(parser.LIGHTNING_COMMANDS)
    for module, _, function in (place.partition(":") for place in places.values() if place):
        assert callable(getattr(importlib.import_module(f"lightning_regs.cli.{module}"), function))


def test_a_bare_command_is_help_and_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (([], "usage: lightning-regs"), (["--version"], f"lightning-regs {__version__}\n")):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
        assert capsys.readouterr().out.startswith(said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "zang2017"], "unknown paper 'zang2017'. Did you mean 'zhang2017'?"),
        (["reproduce", "zhang2017", "--scale", "quik"], "unknown scale 'quik'. Did you mean 'quick'?"),
        (["reproduce", "zhang2017", "--cells", "mlp-1x512/true-label"], "Did you mean 'mlp-1x512/true-labels'?"),
        (["report", "zang2017"], "Did you mean 'zhang2017'?"),
        (["reproduce", "zhang2017", "--cells", "theory"], "no cell is 'theory', and 6 are 'theory/*'; give that,"),
        (["reproduc", "zhang2017"], "unknown command 'reproduc'. Did you mean 'reproduce'?"),
        (["list", "--scael", "quick"], "unknown option '--scael'. Did you mean '--scale'?"),
        (["reproduce", "zhang2017", "--wandb", "ofline"], "choice of --wandb 'ofline'. Did you mean 'offline'?"),
        (["list", "zhang2017", "--scale", "quik"], "unknown scale 'quik'. Did you mean 'quick'?"),
    ],
)
def test_unknown_names_are_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    extra = ["--runs", str(tmp_path)] if arguments[0] == "reproduce" else []
    assert main([*arguments, *extra]) == 2
    said, error = capsys.readouterr()
    assert (said, message in error) == ("", True)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--seeds", "0"], ["--seeds", "a"], ["--jobs", "0"], ["--jobs", "two"], ["--seeds", ","]]
)
def test_illegal_numbers_are_refused_by_the_parser(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["reproduce", "zhang2017", *arguments])
    assert arguments[1] in capsys.readouterr().err
