"""What every regularization method is."""

from __future__ import annotations

from pytorch_lightning import Callback


class Regularizer(Callback):
    """A regularization method as a Lightning callback.

    Passed to ``Trainer(callbacks=[...])`` it acts on any LightningModule whose batches are the list ``[x, y]``. Passed
    to ``Classifier(regularizers=[...])`` it is the same object: the module hands it to the trainer. A subclass acts at
    exactly one hook, and keeps what it must remember over a restart in ``state_dict`` as plain types and tensors.
    """
