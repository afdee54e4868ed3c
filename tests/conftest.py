import atexit
import functools
import gc
import importlib.metadata
import os
import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

DEVICE = os.environ.get("LIGHTNING_REGS_TEST_DEVICE", "cpu")
# The rooms whose tests run on a GPU too. What the others test, such as files, tables and processes, knows no device.
ON_A_GPU = ("analysis", "contracts", "init", "layers", "models", "optim", "pruning", "regularizers", "training")
os.environ["PL_TRAINER_ACCELERATOR"] = DEVICE  # of every Trainer that names none, in processes that tests start too
# Nor does one log, draw a bar or print a table that is not asked to.
os.environ |= {f"PL_TRAINER_{name}": "False" for name in ("LOGGER", "ENABLE_PROGRESS_BAR", "ENABLE_MODEL_SUMMARY")}
if DEVICE == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
else:
    os.environ["PL_TRAINER_DETERMINISTIC"] = "warn"  # or no training equals another one bit for bit
    torch.backends.cudnn.allow_tf32 = False

# The same examples in each run, lest chance stops an unrelated change; `--hypothesis-profile default` draws new ones.
settings.register_profile("repeatable", derandomize=True, database=None)
settings.load_profile("repeatable")

# Each Trainer asks all installed packages whether they add callbacks, and each seed has its whole stack written down
# for devices that no test here starts: together a third of what a small training takes.
importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)
if DEVICE == "cpu":
    for backend in (torch.cuda, torch.xpu, torch.mtia):
        backend.manual_seed_all = lambda seed: None

os.fsync = lambda file: None  # no test cuts the power

# Tests run side by side in several processes; threads that wait for each other's cores would only slow them.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a script starts tests in the background
os.environ["WANDB_MODE"] = "disabled"  # what tests log there, they say so
os.environ["WANDB_ERROR_REPORTING"] = "false"  # of itself to its makers, for whom it would wait


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A run within this process takes all cores, and leaves torch with them."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_seed() -> Iterator[None]:
    """Lightning writes a seed down where other trainings find it, those of tests that follow."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    yield
    os.environ.pop("PL_GLOBAL_SEED", None)
    os.environ.update({} if seed is None else {"PL_GLOBAL_SEED": seed})


@pytest.fixture
def device() -> torch.device:
    """The device that the suite runs on."""
    return torch.device(DEVICE)


def pytest_sessionstart(session: pytest.Session) -> None:
    if DEVICE not in ("cpu", "cuda"):
        raise pytest.UsageError(f"LIGHTNING_REGS_TEST_DEVICE is cpu or cuda, got {DEVICE!r}.")
    if DEVICE == "cuda" and not (session.config.option.collectonly or torch.cuda.is_available()):
        raise pytest.UsageError("LIGHTNING_REGS_TEST_DEVICE=cuda, and torch finds no CUDA device here: take it away.")


def pytest_collection_finish() -> None:
    """What is there by now stays: no test, process that it forks, or end of a process has to look for garbage in it."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.freeze)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a GPU leave out what stays on the CPU, above all what forks; pytest prints how many run and how many not."""
    if DEVICE == "cpu":
        return

    def stays(item: pytest.Item) -> bool:
        room = item.path.relative_to(config.rootpath / "tests").parts[0]
        forks = "two_processes" in getattr(item, "fixturenames", ())
        return room not in ON_A_GPU or forks or item.get_closest_marker("cpu") is not None

    config.hook.pytest_deselected(items=[item for item in items if stays(item)])
    items[:] = [item for item in items if not stays(item)]
