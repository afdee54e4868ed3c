from __future__ import annotations

import pytest
import wandb_server
from wandb_lab import Lab, isolate


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """Give the papers of this folder, and no login of the developer's."""
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def lab(tmp_path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def server(monkeypatch):
    server = wandb_server.start()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", wandb_server.KEY)
    yield server
    server.shutdown()
    server.server_close()
