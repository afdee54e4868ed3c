"""Pruning in rounds: the protocol of the lottery ticket hypothesis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_regs.core.checks import Name, Whole, check, checked
from lightning_regs.core.names import check_glob, unknown_name
from lightning_regs.pruning.layers import Globs, matches, output_of, prunable, trained
from lightning_regs.pruning.masks import Generators, Mask, each, plain_names
from lightning_regs.pruning.prune import Groups, Rate, Scope, emptied, left_after, remove, survivors, warn_of_emptied
from lightning_regs.pruning.scores import SCORES, random_scores

Weights = Mapping[str, Tensor]
Shapes = Mapping[str, Sequence[int]]


@checked
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
        output_rate: The rate of the output layer, which is the last of the module's prunable weights, whether
            ``layers`` selects it or not. Default: what ``rates`` says of it, else half of ``rate``, as in the paper.
        scope: ``"layer"``, or ``"global"``: over all weights together, where one rate is for all.
        criterion: A key of :data:`~lightning_regs.pruning.scores.SCORES`, or ``"random"``. Default: magnitude after
            training.
        layers: What to prune, see :func:`prunable`. Default: all weights of linear and convolutional layers.
        output: Name of the output layer's weight, which ``layers`` may leave out: :meth:`of` says it.

    Raises:
        TypeError: If a rate is no number or ``layers`` no globs.
        ValueError: If a rate is outside (0, 1), a name unknown, or ``scope="global"`` is given several rates.
    """

    rate: Rate = 0.2
    rates: Mapping[str, Rate] = field(default_factory=dict)
    output_rate: Rate | None = None
    scope: Scope = "layer"
    criterion: str = "large_final"
    layers: Globs | None = None
    output: Name | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", dict(self.rates))
        if self.criterion not in SCORES and self.criterion != "random":
            raise unknown_name("criterion", self.criterion, [*SCORES, "random"])
        if self.scope == "global" and (self.rates or self.output_rate is not None):
            raise ValueError(
                "scope='global' compares all layers, so it has one rate; leave out `rates` and `output_rate`, use "
                "scope='layer', or leave layers unpruned with `layers`."
            )

    def of(self, module: nn.Module) -> Pruning:
        """Return the same for one module, which tells the output layer where ``layers`` may leave it out."""
        return self if self.layers is None else replace(self, output=output_of(module))

    def start(self, module: nn.Module, optimizers: Iterable[Optimizer] = ()) -> Mask:
        """Return the dense mask of the weights to prune: of those that are trained, or of all where none is.

        Args:
            module: The network.
            optimizers: What trains it, where that is known: a weight that none of them has is not pruned.

        Raises:
            ValueError: As :func:`prunable`; if a glob of ``rates`` matches nothing, or ``output_rate`` is given and
                ``layers`` leaves out the output; and as :meth:`check` of one round.
        """
        weights, known = trained(prunable(module, self.layers), optimizers), self.of(module)
        if self.output_rate is not None and known.output is not None and known.output not in weights:
            raise ValueError(
                f"output_rate={self.output_rate:g} is of the output layer's {known.output!r}, which `layers` leaves "
                "out; give no output_rate."
            )
        # By shapes, as on the meta device there is nothing to count.
        known.check({name: w.shape for name, w in weights.items()}, 1)
        return Mask.dense(weights)

    def next(
        self, mask: Mask, initial: Weights, final: Weights, generator: Generators | None = None, stacked: bool = False
    ) -> Mask:
        """Return the mask after one more round.

        Args:
            mask: What is there now.
            initial: The weights before training.
            final: The weights after it.
            generator: For ``criterion="random"``; of stacked networks one that all draw from in turn, or one each.
            stacked: Whether all of it is of R networks, see :meth:`Mask.stack`: each is pruned by itself.

        Raises:
            ValueError: If a weight is missing, of another shape or, in its score, NaN; or the generator is missing;
                and as :meth:`check`. If ``layers`` may leave out the output layer, and :meth:`of` has not found it.
        """
        return self.one_shot(mask, initial, final, 1, generator, stacked)

    def one_shot(
        self,
        mask: Mask,
        initial: Weights,
        final: Weights,
        levels: int,
        generator: Generators | None = None,
        stacked: bool = False,
    ) -> Mask:
        """Return the mask that has, from one pruning, exactly the counts that ``levels`` rounds would leave.

        ``levels`` is at least 0; the other arguments and the errors are those of :meth:`next`.
        """
        levels = check("levels", levels, Whole)
        mask.check(initial)
        mask.check(final)
        if self.criterion == "random" and generator is None:
            raise ValueError("Pruning(criterion='random') draws; give it a generator.")
        masks = mask.unstack() if stacked else [mask]
        generators = [None] * len(masks) if generator is None else each(generator, len(masks))
        pruned = []
        for r, (m, g) in enumerate(zip(masks, generators, strict=True)):
            before, after = (
                {n: state[key][r] if stacked else state[key] for n, key in plain_names(state).items() if n in mask}
                for state in (initial, final)
            )
            groups = self._groups(m)
            self._check_rounds(groups, m.counts, levels)
            pruned.append(remove(m, groups, partial(self._score, before, after, m, g), levels))
        if self.scope == "global":
            warn_of_emptied(n for one in zip(masks, pruned, strict=True) for n in emptied(*one))
        return Mask.stack(pruned) if stacked else pruned[0]

    def densities(self, weights: Shapes | Mask, levels: int) -> list[float]:
        """Return the P_m after 0, 1, ..., ``levels`` rounds: percent of the weights that are kept, by exact counts.

        For LeNet-300-100 that is 100, 80.0, 64.1, 51.3, ...

        Args:
            weights: Name -> shape of the weights to prune, in the order of the layers; or the mask to start from.
            levels: Number of rounds, at least 0.

        Raises:
            ValueError: If ``levels`` is negative, or a glob of ``rates`` matches nothing.
        """
        kept, groups = self._planned(weights, levels)
        total = weights.total if isinstance(weights, Mask) else sum(kept.values())
        counts = [(sum(kept[name] for name in names), rate) for names, rate in groups]
        return [100 * sum(left_after(count, rate, n) for count, rate in counts) / total for n in range(levels + 1)]

    def check(self, weights: Shapes | Mask, levels: int) -> None:
        """Refuse rounds of which one would remove no weight at all, or all that are compared with each other.

        With ``scope="global"`` a layer can be emptied by other rounds too; :meth:`next` warns when it is. The arguments
        are those of :meth:`densities`; of a stacked mask, check each of :meth:`Mask.unstack`.

        Raises:
            ValueError: As :meth:`densities`, and if there is such a round, naming it.
        """
        kept, groups = self._planned(weights, levels)
        self._check_rounds(groups, kept, levels)

    def _planned(self, weights: Shapes | Mask, levels: int) -> tuple[Mapping[str, int], Groups]:
        """Return how many weights are kept by name, and which are compared at which rate."""
        check("levels", levels, Whole)
        counts = weights.counts if isinstance(weights, Mask) else {n: math.prod(shape) for n, shape in weights.items()}
        return counts, self._groups(counts)

    def _score(
        self, before: Weights, after: Weights, mask: Mask, generator: torch.Generator | None, names: list[str]
    ) -> Tensor:
        """Return scores of the survivors that are compared, and of no others: a rank depends on the others."""
        trained = survivors(after, mask, names)
        if generator is not None and self.criterion == "random":
            return random_scores(trained, generator)
        return SCORES[self.criterion](survivors(before, mask, names).to(trained.device), trained)

    def _groups(self, names: Mapping[str, object]) -> Groups:
        """Return which weights are compared with each other, and their rate."""
        if self.scope == "global":
            return [(list(names), self.rate)]
        if self.layers is not None and self.output is None:
            raise ValueError(
                f"Pruning(layers={self.layers}) may leave out the output layer, whose rate is another, and does not "
                "know which it is; use pruning.of(module)."
            )
        output = list(names)[-1] if self.layers is None else self.output
        for glob in self.rates:
            check_glob(glob, list(names), "prunable weights", matches)
        found = []
        for name in names:
            usual = self.rate / 2 if name == output else self.rate
            rate = next((rate for glob, rate in self.rates.items() if matches(name, glob)), usual)
            if name == output and self.output_rate is not None:
                rate = self.output_rate
            found.append(([name], rate))
        return found

    def _check_rounds(self, groups: Groups, kept: Mapping[str, int], levels: int) -> None:
        left = [sum(kept[name] for name in names) for names, _ in groups]
        for number in range(1, levels + 1):
            before = left
            left = [left_after(count, rate, 1) for count, (_, rate) in zip(before, groups, strict=True)]
            for count, now, (names, rate) in zip(before, left, groups, strict=True):
                if count and not now:
                    whose = f"{names[0]!r}" if self.scope == "layer" else f"all {count} weights"
                    raise ValueError(
                        f"round {number} would leave nothing of {whose}: the rate {rate:g} of {count} weights rounds "
                        "to all of them; use a lower rate or fewer rounds, or choose `layers`."
                    )
            if left == before:
                raise ValueError(
                    f"round {number} would remove none of the {sum(left)} weights that are left, as each share rounds "
                    f"to none at rate={self.rate:g}; use a higher rate or fewer rounds."
                )
