"""Scores: which weights are worth keeping. Pruning removes the survivors with the least score."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]


def large_final(initial: Tensor, final: Tensor) -> Tensor:
    """Return ``|w_f|``: magnitude pruning, as Frankle & Carbin do (1803.03635)."""
    return final.abs()


def small_final(initial: Tensor, final: Tensor) -> Tensor:
    """Return ``-|w_f|``."""
    return -final.abs()


def large_init(initial: Tensor, final: Tensor) -> Tensor:
    """Return ``|w_i|``: pruning that does not look at the training."""
    return initial.abs()


def small_init(initial: Tensor, final: Tensor) -> Tensor:
    """Return ``-|w_i|``."""
    return -initial.abs()


def large_init_large_final(initial: Tensor, final: Tensor) -> Tensor:
    """Return the lower of the ranks of ``|w_i|`` and of ``|w_f|``, from 0.

    What is kept is then large at both times, above a percentile that is common to both.
    """
    return torch.minimum(_ranks(initial.abs()), _ranks(final.abs()))


def small_init_small_final(initial: Tensor, final: Tensor) -> Tensor:
    """Return the lower of the ranks of ``-|w_i|`` and of ``-|w_f|``, from 0."""
    return torch.minimum(_ranks(-initial.abs()), _ranks(-final.abs()))


def magnitude_increase(initial: Tensor, final: Tensor) -> Tensor:
    """Return ``|w_f| - |w_i|``."""
    return final.abs() - initial.abs()


def movement(initial: Tensor, final: Tensor) -> Tensor:
    """Return ``|w_f - w_i|``."""
    return (final - initial).abs()


def large_final_same_sign(initial: Tensor, final: Tensor) -> Tensor:
    """Return ``|w_f|``, and 0 where the sign has changed."""
    return torch.where(initial.sign() == final.sign(), large_final(initial, final), 0.0)


def large_final_differ_sign(initial: Tensor, final: Tensor) -> Tensor:
    """Return ``|w_f|``, and 0 where the sign is what it was."""
    return torch.where(initial.sign() != final.sign(), large_final(initial, final), 0.0)


def magnitude_increase_same_sign(initial: Tensor, final: Tensor) -> Tensor:
    """Return ``|w_f| - |w_i|``, and 0 where the sign has changed: what has shrunk goes before those."""
    return torch.where(initial.sign() == final.sign(), magnitude_increase(initial, final), 0.0)


def magnitude_increase_differ_sign(initial: Tensor, final: Tensor) -> Tensor:
    """Return ``|w_f| - |w_i|``, and 0 where the sign is what it was: what has shrunk goes before those."""
    return torch.where(initial.sign() != final.sign(), magnitude_increase(initial, final), 0.0)


SCORES: dict[str, Score] = {
    "large_final": large_final,
    "magnitude": large_final,
    "small_final": small_final,
    "large_init": large_init,
    "small_init": small_init,
    "large_init_large_final": large_init_large_final,
    "small_init_small_final": small_init_small_final,
    "magnitude_increase": magnitude_increase,
    "movement": movement,
    "large_final_same_sign": large_final_same_sign,
    "large_final_differ_sign": large_final_differ_sign,
    "magnitude_increase_same_sign": magnitude_increase_same_sign,
    "magnitude_increase_differ_sign": magnitude_increase_differ_sign,
}
"""The criteria of Zhou, Lan, Liu, Yosinski, "Deconstructing Lottery Tickets" (1905.01067), by their names there.

Each maps the weights before training, w_i, and after it, w_f, two tensors of any one shape, to scores of that shape.
"""


def random_scores(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random score for each weight: the criterion ``"random"``.

    Args:
        like: Its shape and device are those of the scores.
        generator: Where they are drawn from, on its own device, so that a CPU's generator draws the same for a GPU.
    """
    # In float32 a large layer would have many ties.
    scores = torch.rand(like.shape, generator=generator, dtype=torch.float64, device=generator.device)
    return scores.to(like.device)


def _ranks(values: Tensor) -> Tensor:
    """Return for each value how many are below it, so that ties share a rank."""
    flat = values.flatten()
    ordered = flat.sort().values
    return torch.searchsorted(ordered, flat.contiguous()).view_as(values)
