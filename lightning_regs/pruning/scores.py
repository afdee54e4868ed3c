"""Scores: which weights are worth keeping. Pruning removes the survivors with the least score."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]


def _increase(initial: Tensor, final: Tensor) -> Tensor:
    return final.abs() - initial.abs()


def _same_sign(initial: Tensor, final: Tensor) -> Tensor:
    return initial.sign() == final.sign()


def _ranks(values: Tensor) -> Tensor:
    """Return for each value how many are below it, so that ties share a rank."""
    flat = values.flatten()
    return torch.searchsorted(flat.sort().values, flat.contiguous()).view_as(values)


SCORES: dict[str, Score] = {
    "large_final": lambda initial, final: final.abs(),
    "magnitude": lambda initial, final: final.abs(),
    "small_final": lambda initial, final: -final.abs(),
    "large_init": lambda initial, final: initial.abs(),
    "small_init": lambda initial, final: -initial.abs(),
    # The lower of two ranks: what is kept is large (small) at both times, above a percentile that is common to both.
    "large_init_large_final": lambda initial, final: torch.minimum(_ranks(initial.abs()), _ranks(final.abs())),
    "small_init_small_final": lambda initial, final: torch.minimum(_ranks(-initial.abs()), _ranks(-final.abs())),
    "magnitude_increase": _increase,
    "movement": lambda initial, final: (final - initial).abs(),
    # 0 for the other signs; of an increase, what has shrunk goes before those.
    "large_final_same_sign": lambda i, f: torch.where(_same_sign(i, f), f.abs(), 0.0),
    "large_final_differ_sign": lambda i, f: torch.where(_same_sign(i, f), 0.0, f.abs()),
    "magnitude_increase_same_sign": lambda i, f: torch.where(_same_sign(i, f), _increase(i, f), 0.0),
    "magnitude_increase_differ_sign": lambda i, f: torch.where(_same_sign(i, f), 0.0, _increase(i, f)),
}
"""The criteria of Zhou, Lan, Liu, Yosinski, "Deconstructing Lottery Tickets" (1905.01067), by their names there.

Each maps the weights before training and after it, two tensors of any one shape, to scores of that shape.
``large_final``, which is ``magnitude``, is what Frankle & Carbin (1803.03635) do; ``large_init`` and ``small_init`` do
not look at the training.
"""


def random_scores(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random score for each weight, on its device: the criterion ``"random"``.

    They are drawn on the generator's own device, so that a CPU's draws the same for a GPU.
    """
    # In float32 a large layer would have many ties.
    scores = torch.rand(like.shape, generator=generator, dtype=torch.float64, device=generator.device)
    return scores.to(like.device)
