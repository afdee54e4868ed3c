"""A run resumed at an epoch's end sees what the uninterrupted run saw, bit for bit."""

from __future__ import annotations

import pytest
import torch
from recorder import Recorder, digits, trainer

OPTIONS = {"batch_size": 64, "image_size": 6, "random_crop": True, "random_flip": True, "random_rotation": 10.0}
OPTIONS |= {"corruption": "partial_labels", "corruption_p": 0.3, "val_split": 30}


@pytest.mark.parametrize("repeats", [1, 2])
def test_resumed_epochs_equal_uninterrupted_ones(tmp_path, repeats):
    def fit(epochs, checkpoint=None):
        torch.manual_seed(0 if checkpoint is None else 99)
        module, run = Recorder(36), trainer(max_epochs=epochs)
        run.fit(module, digits(batch_repeats=repeats, **OPTIONS), ckpt_path=checkpoint)
        return module, run

    whole, _ = fit(4)
    first, run = fit(2)
    run.save_checkpoint(tmp_path / "half.ckpt")
    second, _ = fit(4, tmp_path / "half.ckpt")
    seen = whole.seen["train"]
    assert len(seen) == 2 * len(second.seen["train"]) == 20 * repeats
    for batch, resumed in zip(seen, first.seen["train"] + second.seen["train"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, resumed, strict=True))
    assert torch.equal(whole.head.weight, second.head.weight)
    assert not torch.equal(seen[0][0], seen[5 * repeats][0])
