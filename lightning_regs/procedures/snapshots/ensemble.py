"""Several trained nets as one: the mean of their probabilities, and how far each number of them gets."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_regs.core.checks import Count, checked
from lightning_regs.core.files import DamagedFileError
from lightning_regs.procedures.level import read, weights_in
from lightning_regs.pruning.gates import gates_missing

NAME = "snapshot-{:03d}.pt"
PATTERN = "snapshot-[0-9]*.pt"


class Ensemble(nn.Module):
    """The mean of the softmax outputs of several nets, each with weights and batch norm statistics of its own.

    Shapes: whatever one of them takes, to ``(N, K)``: the LOGARITHM of the mean probabilities, so that it stands where
    a net's logits do: ``softmax`` of them gives the mean probabilities back, ``cross_entropy`` their loss. It costs one
    forward pass of each.

    Args:
        members: Nets whose ``forward`` gives logits ``(N, K)``, in the order of training; put into evaluation mode.

    Raises:
        ValueError: If there are none.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble is of at least one net; give the snapshots of a training.")
        self.members = nn.ModuleList(members).eval()

    def train(self, mode: bool = True) -> Ensemble:
        """Stay in evaluation mode, as part of a module that trains too."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logarithms of the mean probabilities, ``(N, K)``."""
        return self.probabilities(x).clamp_min(torch.finfo(torch.float32).tiny).log()

    def probabilities(self, x: Tensor) -> Tensor:
        """Return the mean probabilities, ``(N, K)``; of copies of one net they are exactly that net's."""
        mean = self._one(0, x)
        for i in range(1, len(self.members)):
            mean = torch.lerp(mean, self._one(i, x), 1 / (i + 1))
        return mean

    def each(self, x: Tensor) -> Tensor:
        """Return the probabilities of each net by itself, ``(M, N, K)``."""
        return torch.stack([self._one(i, x) for i in range(len(self.members))])

    @checked
    def last(self, number: Count) -> Ensemble:
        """Return the ensemble of the last so many nets; it shares them.

        Raises:
            ValueError: If there are not so many.
        """
        if number > len(self.members):
            raise ValueError(f"there are {len(self.members)} snapshots and not {number}; take at most those.")
        return Ensemble(list(self.members)[-number:])

    def _one(self, number: int, x: Tensor) -> Tensor:
        logits: object = self.members[number](x)
        fits = isinstance(logits, Tensor) and logits.ndim in (2, 3) and logits.is_floating_point()
        if not isinstance(logits, Tensor) or not fits or logits.shape[-1] == 1:
            found = f"{logits.dtype} of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits)
            raise TypeError(
                f"{type(self.members[number]).__name__}.forward gives {found}, and an ensemble averages the softmax of "
                "logits (N, K) of at least 2 classes; let forward return them (two logits for a yes or no)."
            )
        return logits.float().softmax(-1)


def load_ensemble(snapshots: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], module: nn.Module) -> Ensemble:
    """Make the ensemble of what a training left, for prediction.

    Example:
        ``load_ensemble("snapshots", Net())(images).argmax(1)``

    Args:
        snapshots: The folder of a :class:`~lightning_regs.SnapshotEnsemble`, or paths of its files, or of a Trainer's
            checkpoints of this module, such as those of independent trainings.
        module: A module of the same architecture, for instance untrained; it is copied and stays as it is.

    Returns:
        The ensemble of all of them, in evaluation mode; ``.last(m)`` is that of the last m.

    Raises:
        ValueError: If there are none, or one is of another architecture.
        DamagedFileError: If one is missing or damaged.
        TypeError: If ``module`` is no module, or cannot be copied.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be an nn.Module to load weights into, got {module!r}; give an instance of it.")
    if isinstance(snapshots, (str, os.PathLike)):
        folder = Path(snapshots).expanduser()
        paths = sorted(folder.glob(PATTERN)) if folder.is_dir() else [folder]
        if not paths:
            raise ValueError(f"there are no snapshots in {folder}; give the folder that SnapshotEnsemble wrote to.")
    else:
        paths = [Path(path).expanduser() for path in snapshots]
    members = []
    for path in paths:
        try:
            state = weights_in(read(path))
        except (KeyError, DamagedFileError) as error:
            why = "it has no weights by the name of 'state_dict', as snapshots and a Trainer's checkpoints do"
            said = f"{path} is damaged ({why})" if isinstance(error, KeyError) else error
            raise DamagedFileError(f"{said}; train again, or leave it out") from error
        try:
            members.append(copy.deepcopy(module))
        except (RuntimeError, TypeError) as error:
            raise TypeError(
                f"an ensemble is of copies of {type(module).__name__}, which cannot be copied ({error}); give a new "
                "one, or let it keep what it keeps of a step detached."
            ) from error
        try:
            members[-1].load_state_dict(state)
        except RuntimeError as error:
            why = str(error).partition("\n")[2].split("\n")[0].strip()
            raise ValueError(
                f"{path} is of another architecture than this {type(module).__name__} ({why}); all members of an "
                f"ensemble are, so give the module that was trained.{gates_missing(module, state)}"
            ) from error
    return Ensemble(members)


def scores(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return what the last m of M nets reach together on a batch, for every m, to be summed over batches.

    Of probabilities ``(M, ..., N, K)`` and class indices ``(..., N)`` it is ``(..., M, 2 + M)``: how often the mean of
    the last m is wrong, how often each net, and the products of centred softmax outputs of each two.
    """
    order = torch.arange(1, len(probabilities) + 1, device=labels.device).view(-1, *[1] * (probabilities.ndim - 1))
    means = probabilities.flip(0).cumsum(0) / order
    wrong = [(some.argmax(-1) != labels).sum(-1).movedim(0, -1) for some in (means, probabilities)]
    centred = (probabilities - 1 / probabilities.shape[-1]).movedim(0, -3).flatten(-2).double()
    return torch.cat([torch.stack(wrong, -1).double(), centred @ centred.mT], -1)


def columns(sums: Tensor, number: float) -> dict[str, float]:
    """Return the columns of a row: of one replica's sums of :func:`scores`, ``(M, 2 + M)``, over so many samples."""
    together, alone = (100 * sums[:, :2] / number).T.tolist()
    row = {f"error_m{m}": value for m, value in enumerate(together, 1)}
    row |= {f"error_snapshot{i}": value for i, value in enumerate(alone, 1)}
    norms = sums[:, 2:].diagonal().sqrt()
    pairs = sums[:, 2:] / norms.outer(norms)
    others = ~torch.eye(len(pairs), dtype=torch.bool)
    return row | {"softmax_correlation": pairs[others].mean().item() if len(pairs) > 1 else math.nan}
