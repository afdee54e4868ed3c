"""Pruning: which of the surviving weights go in a round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lightning_regs._names import unknown_name
from lightning_regs.pruning.layers import check_globs, check_matches, matches, prunable
from lightning_regs.pruning.masks import Generators, Mask, each, plain_names, random_mask
from lightning_regs.pruning.scores import SCORES, random_scores

__all__ = ["Pruning", "prunable", "prune", "random_mask"]

SCOPES = ("layer", "global")


def prune(scores: Mapping[str, Tensor], mask: Mask, rate: float | Mapping[str, float], scope: str = "layer") -> Mask:
    """Remove the survivors with the least score.

    Per layer, or over all layers together, ``round(rate * kept)`` of them go (Python's ``round``). Among equal scores
    the one that comes first goes first: in the mask's order of names, then by flat index. What is pruned stays so.

    Args:
        scores: A tensor for each of the mask's names, of its shape.
        mask: What is there now.
        rate: Share of the survivors to remove, in (0, 1); or one for each of some names, the others staying as they
            are (``scope="layer"`` only).
        scope: ``"layer"`` or ``"global"``.

    Raises:
        TypeError: If a rate is no number.
        ValueError: If a rate is outside, a name unknown, a shape another, or the score of a survivor NaN.
    """
    _check_scope(scope)
    mask.check(scores)
    if isinstance(rate, Mapping):
        if scope == "global":
            raise ValueError("scope='global' compares all layers, so it has one rate; give a number or scope='layer'.")
        for name in rate:
            if name not in mask:
                raise unknown_name("weight", name, mask)
    elif scope == "global":
        return _remove(mask, scores, [(list(mask), _to_remove(mask.kept, _check_rate("rate", rate)))])
    rates = rate if isinstance(rate, Mapping) else dict.fromkeys(mask, rate)
    groups = [([n], _to_remove(mask.counts[n], _check_rate(f"the rate of {n!r}", r))) for n, r in rates.items()]
    return _remove(mask, scores, groups)


@dataclass(frozen=True)
class Pruning:
    r"""What a round of pruning removes, in the protocol of Frankle & Carbin (1803.03635) unless told otherwise.

    Each round removes :math:`\mathrm{round}(r \cdot \mathrm{kept})` of a layer's surviving weights, those with the
    least score, so that after n rounds about :math:`(1 - r)^n` are left; ties go as in :func:`prune`.

    Layer by layer is what the paper does for dense nets and small conv nets; deep nets, whose layers differ much in
    size, keep their accuracy to lower densities with ``scope="global"``. Without retraining in between
    (:meth:`one_shot`) small subnetworks come out worse.

    Args:
        rate: r, in (0, 1). Default 0.2.
        rates: Glob of parameter or module names -> the rate of these layers; the first that matches counts. For the
            paper's Conv-2: ``{"*conv*": 0.1}``.
        output_rate: The rate of the output layer, which is the last of the prunable weights. Default: what ``rates``
            says of it, else half of ``rate``, as in the paper.
        scope: ``"layer"``, or ``"global"``: over all weights together, where one rate is for all.
        criterion: A key of :data:`~lightning_regs.pruning.scores.SCORES`, or ``"random"``. Default: magnitude after
            training.
        layers: What to prune, see :func:`prunable`. Default: all weights of linear and convolutional layers.

    Raises:
        TypeError: If a rate is no number or ``layers`` no globs.
        ValueError: If a rate is outside (0, 1), a name unknown, or ``scope="global"`` is given several rates.
    """

    rate: float = 0.2
    rates: Mapping[str, float] = field(default_factory=dict)
    output_rate: float | None = None
    scope: str = "layer"
    criterion: str = "large_final"
    layers: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        _check_rate("rate", self.rate)
        _check_scope(self.scope)
        if self.criterion not in SCORES and self.criterion != "random":
            raise unknown_name("criterion", self.criterion, [*SCORES, "random"])
        object.__setattr__(self, "rates", dict(self.rates))
        for glob, rate in self.rates.items():
            _check_rate(f"the rate of {glob!r}", rate)
        if self.output_rate is not None:
            _check_rate("output_rate", self.output_rate)
        if self.layers is not None:
            object.__setattr__(self, "layers", check_globs(self.layers))
        if self.scope == "global" and (self.rates or self.output_rate is not None):
            raise ValueError(
                "scope='global' compares all layers, so it has one rate; leave out `rates` and `output_rate`, use "
                "scope='layer', or leave layers unpruned with `layers`."
            )

    def start(self, module: nn.Module) -> Mask:
        """Return the dense mask of the weights to prune.

        Raises:
            ValueError: As :func:`prunable`, and if a glob of ``rates`` matches nothing.
        """
        mask = Mask.dense(prunable(module, self.layers))
        self._groups(mask)
        return mask

    def next(
        self,
        mask: Mask,
        initial: Mapping[str, Tensor],
        final: Mapping[str, Tensor],
        generator: Generators | None = None,
        stacked: bool = False,
    ) -> Mask:
        """Return the mask after one more round.

        Args:
            mask: What is there now.
            initial: The weights before training, for example a ``state_dict``.
            final: The weights after it.
            generator: For ``criterion="random"``, as in :func:`random_mask`.
            stacked: Whether all of it is of R networks, see :meth:`Mask.stack`: each is pruned by itself.

        Raises:
            ValueError: If a weight is missing, of another shape or, in its score, NaN; or the generator is missing.
        """
        return self.one_shot(mask, initial, final, 1, generator, stacked)

    def one_shot(
        self,
        mask: Mask,
        initial: Mapping[str, Tensor],
        final: Mapping[str, Tensor],
        levels: int,
        generator: Generators | None = None,
        stacked: bool = False,
    ) -> Mask:
        """Return the mask that has, from one pruning, exactly the counts that ``levels`` rounds would leave.

        Args:
            mask: What is there now, usually all.
            initial: See :meth:`next`.
            final: See :meth:`next`.
            levels: Number of rounds, at least 0.
            generator: See :meth:`next`.
            stacked: See :meth:`next`.

        Raises:
            ValueError: As :meth:`next`, or if ``levels`` is no whole number of at least 0.
        """
        _check_levels(levels)
        mask.check(initial)
        mask.check(final)
        masks = mask.unstack() if stacked else [mask]
        generators = [None] * len(masks) if generator is None else each(generator, len(masks))
        before, after = (
            {name: state[key].detach() for name, key in plain_names(state).items() if name in mask}
            for state in (initial, final)
        )
        if not stacked:
            return self._prune(mask, before, after, levels, generators[0])
        return Mask.stack(
            [
                self._prune(m, {n: w[r] for n, w in before.items()}, {n: w[r] for n, w in after.items()}, levels, g)
                for r, (m, g) in enumerate(zip(masks, generators, strict=True))
            ]
        )

    def densities(self, weights: Mapping[str, Sequence[int]] | Mask, levels: int) -> list[float]:
        """Return the P_m after 0, 1, ..., ``levels`` rounds: percent of the weights that are kept, by exact counts.

        For LeNet-300-100 that is 100, 80.0, 64.1, 51.3, ...

        Args:
            weights: Name -> shape, in the order of the layers; or the mask to start from.
            levels: Number of rounds, at least 0.

        Raises:
            ValueError: If ``levels`` is negative, or a glob of ``rates`` matches nothing.
        """
        _check_levels(levels)
        if isinstance(weights, Mask):
            kept, total = weights.counts, weights.total
        else:
            kept = {name: math.prod(shape) for name, shape in weights.items()}
            total = sum(kept.values())
        groups = [(sum(kept[name] for name in names), rate) for names, rate in self._groups(kept)]
        return [100 * sum(_left(count, rate, n) for count, rate in groups) / total for n in range(levels + 1)]

    def _prune(
        self,
        mask: Mask,
        initial: Mapping[str, Tensor],
        final: Mapping[str, Tensor],
        levels: int,
        generator: torch.Generator | None,
    ) -> Mask:
        groups, scores = [], {}
        for names, rate in self._groups(mask):
            kept = [mask[name].to(final[name].device) for name in names]
            before = torch.cat([initial[n].to(final[n].device)[m] for n, m in zip(names, kept, strict=True)])
            after = torch.cat([final[n][m] for n, m in zip(names, kept, strict=True)])
            # Of the survivors alone, and of all that are compared together: a rank depends on the others.
            values = self._score(before, after, generator)
            for name, m, part in zip(names, kept, torch.split(values, [int(m.sum()) for m in kept]), strict=True):
                scores[name] = torch.zeros(m.shape, dtype=part.dtype, device=part.device).masked_scatter_(m, part)
            groups.append((names, len(after) - _left(len(after), rate, levels)))
        return _remove(mask, scores, groups)

    def _score(self, initial: Tensor, final: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.criterion != "random":
            return SCORES[self.criterion](initial, final)
        if generator is None:
            raise ValueError("Pruning(criterion='random') draws; give it a generator.")
        return random_scores(final, generator)

    def _groups(self, names: Mapping[str, object]) -> list[tuple[list[str], float]]:
        """Return which weights are compared with each other, and their rate."""
        if self.scope == "global":
            return [(list(names), self.rate)]
        for glob in self.rates:
            check_matches(glob, list(names))
        rates = dict.fromkeys(names, self.rate)
        output = next(reversed(rates))
        rates[output] = self.rate / 2
        for name in names:
            rates[name] = next((rate for glob, rate in self.rates.items() if matches(glob, name)), rates[name])
        if self.output_rate is not None:
            rates[output] = self.output_rate
        return [([name], rate) for name, rate in rates.items()]


def _remove(mask: Mask, scores: Mapping[str, Tensor], groups: Sequence[tuple[list[str], int]]) -> Mask:
    """Remove from each group of names a number of survivors, those with the least score."""
    found = plain_names(scores)
    masks = dict(mask)
    for names, number in groups:
        kept = [mask[name].flatten().to(scores[found[name]].device) for name in names]
        values = [scores[found[name]].detach().flatten()[m] for name, m in zip(names, kept, strict=True)]
        for name, value in zip(names, values, strict=True):
            if value.isnan().any():
                raise ValueError(f"{name!r} has a weight with the score NaN; prune a network that has not diverged.")
        # Adding 0 makes -0 to 0, so that a sort by bits takes them for equal too.
        order = torch.cat(values).add(0).sort(stable=True).indices
        stays = torch.ones(len(order), dtype=torch.bool, device=order.device)
        stays[order[:number]] = False
        for name, m, part in zip(names, kept, torch.split(stays, [len(v) for v in values]), strict=True):
            left = torch.zeros_like(m).masked_scatter_(m, part)
            masks[name] = left.view(mask[name].shape).to(mask[name].device)
    return Mask(masks)


def _to_remove(kept: int, rate: float) -> int:
    return round(rate * kept)


def _left(kept: int, rate: float, levels: int) -> int:
    for _ in range(levels):
        kept -= _to_remove(kept, rate)
    return kept


def _check_rate(name: str, rate: float) -> float:
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise TypeError(f"{name} must be a number, got {rate!r}.")
    if not 0 < rate < 1:
        raise ValueError(
            f"{name} must be above 0 and below 1, got {rate}: it is the share of the surviving weights that a round "
            "removes."
        )
    return float(rate)


def _check_scope(scope: str) -> None:
    if scope not in SCOPES:
        raise unknown_name("scope", scope, SCOPES)


def _check_levels(levels: int) -> None:
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 0:
        raise ValueError(f"levels must be a whole number of at least 0, got {levels!r}.")
