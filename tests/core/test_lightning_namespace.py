"""Which Lightning the package uses, in programs that import one, the other, both, or one too late."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_regs.core.lightning import NAMESPACE_ENV, NAMESPACES, choose

ROOT = Path(__file__).parents[2]
OLD, NEW = NAMESPACES

# A user's program up to its imports: a module, data, and a training that says how it went.
PROGRAM = """
import json, sys, warnings
{imports}
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

def train(pl):
    from lightning_regs import Cutout, Mixup

    class Lit(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
        def training_step(self, batch, batch_idx):
            x, y = batch
            holes.append(bool((x == 0).any()))
            return nn.functional.cross_entropy(self.net(x), y)
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    holes = []
    options = dict(max_epochs=1, accelerator="cpu", enable_checkpointing=False)
    data = DataLoader(TensorDataset(torch.rand(12, 3, 4, 4) + 0.1, torch.arange(12) % 3), batch_size=4)
    try:
        pl.Trainer(callbacks=[Mixup(), Cutout(length=2)], **options).fit(Lit(), data)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return holes

{body}
"""


# Each program runs in a process of its own. They are forked from one that has imported what both Lightnings import,
# because that takes most of the time, and neither of the two; and they end without taking all of it down again.
FORKS = """
import gc, json, os, sys, traceback
import torch, torchmetrics

folder, programs = sys.argv[1], json.load(sys.stdin)
assert not {names} & set(sys.modules)
gc.freeze()
for name, (program, variables) in programs.items():
    if os.fork() == 0:
        os.environ.update(variables)
        for stream, number in (("out", 1), ("err", 2)):
            os.dup2(os.open(os.path.join(folder, name + "." + stream), os.O_CREAT | os.O_WRONLY), number)
        code = 0
        try:
            exec(compile(program, name, "exec"), {{"__name__": "__main__"}})
        except SystemExit as end:
            code = int(end.code)
        except Exception:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.wait()[1]) in (0, 1)
"""

# Imports, body, and the choice that the environment makes.
PROGRAMS = {
    "new": (
        "import lightning.pytorch as pl",
        """
        trained = train(pl)
        from lightning_regs.core.lightning import NAMESPACE
        print(json.dumps([NAMESPACE, trained, "pytorch_lightning" in sys.modules]))
        """,
        None,
    ),
    "both": (
        "import lightning.pytorch, pytorch_lightning",
        """
        trained, refused = train(lightning.pytorch), train(pytorch_lightning)
        from lightning_regs.core.lightning import NAMESPACE
        print(json.dumps([NAMESPACE, trained, refused]))
        """,
        NEW,  # without it the other one would be chosen
    ),
    "late": (
        "from lightning_regs import Cutout, Mixup",
        """
        import lightning.pytorch as pl
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Cutout(), Mixup()
        caught = [[w.category.__name__, str(w.message)] for w in caught]
        print(json.dumps([caught, train(pl)]))
        """,
        None,
    ),
    "stranger": (
        "import pytorch_lightning as pl, lightning.pytorch as other",
        """
        from pytorch_lightning.demos.boring_classes import BoringModel

        def fit(module, *callbacks):
            options = dict(max_steps=1, accelerator="cpu", enable_checkpointing=False, callbacks=list(callbacks))
            pl.Trainer(**options).fit(module)

        stranger, said = other.Callback(), []
        assert not isinstance(stranger, pl.Callback)
        stranger.on_train_start = lambda *_: said.append("called")
        fit(BoringModel(), stranger)
        try:
            fit(type("Lit", (other.LightningModule,), {})())
        except TypeError:
            said.append("refused")
        print(json.dumps(said))
        """,
        None,
    ),
    "contracts": (
        "import pytest",
        f"""
        chosen = "test_keeps and (trains or bit_equal) and conv"
        sys.exit(pytest.main([{str(ROOT / "tests" / "contracts" / "test_contracts.py")!r}, "-q", "--tb=short",
                              "-p", "no:cacheprovider", "-p", "no:xdist", "-k", chosen]))
        """,
        NEW,
    ),
    "wrong name": ("from lightning_regs import Mixup", "", "pytorch-lightning"),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """What each program wrote last: to standard output, and to standard error."""
    folder = tmp_path_factory.mktemp("programs")
    programs = {
        name: (
            PROGRAM.format(imports=imports, body=textwrap.dedent(body)),
            {} if environment is None else {NAMESPACE_ENV: environment},
        )
        for name, (imports, body, environment) in PROGRAMS.items()
    }
    # One that is on its own must not inherit the choice of the process that tests it.
    variables = {key: value for key, value in os.environ.items() if key != NAMESPACE_ENV}
    variables["PYTHONPATH"] = str(ROOT)
    code = FORKS.format(names=set(NAMESPACES))
    subprocess.run(
        [sys.executable, "-c", code, str(folder)], input=json.dumps(programs), env=variables, text=True, check=True
    )

    def last(name: str) -> list[str]:
        texts = [(folder / f"{name}.{stream}").read_text() for stream in ("out", "err")]
        return [(text.splitlines() or [""])[-1] for text in texts]

    return last


@pytest.mark.parametrize(
    ("environment", "imported", "chosen"),
    [
        (None, [], OLD),
        (None, [OLD], OLD),
        (None, [NEW], NEW),
        (None, [OLD, NEW], OLD),
        ("", [NEW], NEW),
        (OLD, [NEW], OLD),
        (NEW, [], NEW),
        (NEW, [OLD, NEW], NEW),
    ],
)
def test_the_one_that_is_imported_unless_the_environment_says_otherwise(
    environment: str | None, imported: list[str], chosen: str
) -> None:
    assert choose(environment, imported) == chosen


def test_a_wrong_name_in_the_environment_is_named_with_the_right_ones() -> None:
    with pytest.raises(ValueError, match=f"^unknown {NAMESPACE_ENV} 'lightning'.* Known: {NEW}, {OLD}.$"):
        choose("lightning", [])


@pytest.mark.slow
def test_a_wrong_name_in_the_environment_stops_the_program_with_that_sentence(said: Callable[[str], list[str]]) -> None:
    _, error = said("wrong name")
    assert error.startswith(f"ValueError: unknown {NAMESPACE_ENV} 'pytorch-lightning'. Did you mean '{OLD}'?")


@pytest.mark.slow
def test_a_program_that_imported_lightning_pytorch_trains_with_it(said: Callable[[str], list[str]]) -> None:
    namespace, trained, loaded = json.loads(said("new")[0])
    assert namespace == NEW
    assert trained == [True] * 3
    assert not loaded  # the other one is not even imported


@pytest.mark.slow
def test_a_program_that_imported_both_trains_with_the_chosen_and_is_told_about_the_other(
    said: Callable[[str], list[str]],
) -> None:
    namespace, trained, refused = json.loads(said("both")[0])
    assert namespace == NEW
    assert trained == [True] * 3
    assert says_what_to_do(refused, of=OLD)


@pytest.mark.slow
def test_one_that_is_imported_too_late_is_warned_about_once_and_then_refused(
    said: Callable[[str], list[str]],
) -> None:
    caught, refused = json.loads(said("late")[0])
    assert len(caught) == 1
    assert caught[0][0] == "UserWarning"
    assert f"import {NEW} alone and before lightning_regs, or set {NAMESPACE_ENV}={NEW}" in caught[0][1]
    assert says_what_to_do(refused, of=NEW)


def says_what_to_do(refused: list[str], of: str) -> bool:
    """Whether the error is ours, names the method, and tells a program that uses the other Lightning how to go on."""
    kind, text = refused
    remedies = (f"import Lightning from {NEW if of == OLD else OLD}", f"set {NAMESPACE_ENV}={of}")
    return kind == "MisconfigurationException" and text.startswith("Mixup") and all(r in text for r in remedies)


@pytest.mark.slow
def test_a_part_of_the_contracts_holds_under_lightning_pytorch(said: Callable[[str], list[str]]) -> None:
    """Every method trains, acts and resumes bit-equal on a module, with Lightning from the other namespace."""
    last, error = said("contracts")
    assert re.match(r"\d+ passed, [^,]*deselected", last), last + error
    assert int(last.split()[0]) >= 2 * 9


@pytest.mark.slow
def test_a_trainer_takes_the_callbacks_of_the_other_lightning_without_a_word_but_not_its_modules(
    said: Callable[[str], list[str]],
) -> None:
    """If it refuses callbacks by itself, the check of the Trainer in ``Regularizer.setup`` (base.py) can go."""
    assert json.loads(said("stranger")[0]) == ["called", "refused"]
