import os
import signal
from collections.abc import Iterator

import pytest
import torch

# Tests run side by side in several processes; threads that wait for each other's cores would only slow them.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a script starts tests in the background
os.environ["WANDB_MODE"] = "disabled"  # what tests log there, they say so


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A run within this process takes all cores, and leaves torch with them."""
    yield
    torch.set_num_threads(1)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cpu")
