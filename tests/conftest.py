import gc
import os
from collections.abc import Iterator

import pytest
import torch

# Tests run side by side in several processes; threads that wait for each other's cores would only slow them.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
os.environ["WANDB_MODE"] = "disabled"  # what tests log there, they say so


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A run within this process takes all cores, and leaves torch with them."""
    yield
    torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Leave what is imported out of garbage collection, which then happens often enough for Lightning's trainings.

    A Trainer and its module refer to each other, so that only a full collection frees them; Python puts it off until
    there are a quarter as many new objects as old ones, and half a million are imported.
    """
    gc.collect()
    gc.freeze()
    gc.collect()


def pytest_unconfigure() -> None:
    """Some libraries complain about what is left of them when Python ends."""
    gc.unfreeze()
