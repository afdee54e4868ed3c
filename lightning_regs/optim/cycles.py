"""Learning rates that fall over and over again: in cycles, stepped once an iteration."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_regs.core.checks import Count, checked


def cycle_ends(total_steps: int, cycles: int, growth: int = 1) -> list[int]:
    """Return after how many iterations each cycle ends, if there are enough; see :class:`CosineCyclesLR`."""
    few = cycles <= (total_steps if growth == 1 else total_steps.bit_length() + 1)  # else sums would take for ever
    first = math.ceil(total_steps / sum(growth**i for i in range(cycles))) if few else 1
    ends = [*accumulate(first * growth**i for i in range(cycles - 1)), total_steps] if few else []
    if sorted(set(ends)) != ends or not few:
        raise ValueError(
            f"{total_steps} iterations are over before cycle {cycles} begins, as each takes a whole number of them and "
            f"the first {first}; use fewer cycles, or train for longer."
        )
    return ends


class CosineCyclesLR(LRScheduler):
    r"""Let the rate fall from the optimizer's own to zero along half a cosine, again and again.

    Huang et al. 2017, arXiv:1704.00109, Equation 2, for iteration t from 1, of T in all, in M cycles:
    :math:`\alpha(t) = \frac{\alpha_0}{2} (\cos \frac{\pi \, mod(t - 1, \lceil T/M \rceil)}{\lceil T/M \rceil} + 1)`.
    With ``growth`` each cycle is so many times as long as the one before it: :math:`T_{mult}` of Loshchilov & Hutter
    2017, arXiv:1608.03983, whose :math:`T_0` then is :math:`\lceil T / \sum_i growth^i \rceil`.

    Step it once an iteration: by epochs the rate would not come near zero. What does not divide makes the last cycle
    end earlier than the others, by fewer iterations than there are cycles where all are as long.

    Args:
        optimizer: Whose rates fall; each group from its own.
        total_steps: T, the iterations of the whole training; in a configuration it is filled in.
        cycles: M.
        growth: How many times as long as the one before each cycle is.
        last_epoch: Iterations done; -1 for none, as in torch.

    Attributes:
        ends: After how many iterations each cycle ends.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If one is outside its range, or the iterations do not suffice for so many cycles.
    """

    @checked
    def __init__(
        self, optimizer: Optimizer, total_steps: Count, cycles: Count = 1, growth: Count = 1, last_epoch: int = -1
    ) -> None:
        self.ends = cycle_ends(total_steps, cycles, growth)
        self.growth = growth
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Return the rate of the next iteration, for each group."""
        cycle = min(bisect_right(self.ends, self.last_epoch), len(self.ends) - 1)
        start, length = self.ends[cycle - 1] if cycle else 0, self.ends[0] * self.growth**cycle
        done = min((self.last_epoch - start) / length, 1)
        return [float(base) * self.factor(done) for base in self.base_lrs]

    def factor(self, done: float) -> float:
        """Return what share of the first rate is left when this share of a cycle is done, both in [0, 1]."""
        return (math.cos(math.pi * done) + 1) / 2


class StepCyclesLR(CosineCyclesLR):
    """Divide the rate by 10 after half and by 10 again after three quarters of each cycle; else as CosineCyclesLR.

    With one cycle it is the usual schedule on CIFAR-10, as of He et al. 2016, arXiv:1512.03385.
    """

    def factor(self, done: float) -> float:
        """Return what share of the first rate is left when this share of a cycle is done, both in [0, 1]."""
        return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
