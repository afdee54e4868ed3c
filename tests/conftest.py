import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run side by side in several processes; threads that wait for each other's cores would only slow them."""
    torch.set_num_threads(1)
