"""Targets that are mixtures of labels, in a form that a module written for class indices trains on unmodified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_regs.core.batch import check_indices
from lightning_regs.core.checks import Range, Shape, Share, checked, unchecked
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.regularizers.parts.mixed import COPIES, MOVES, Function, Mixed, Mixture, smoothed

__all__ = ["MixedTarget", "mix_targets"]

Component = tuple[Tensor, float]
Labels = Annotated[Tensor, Shape("N ...")]
Partners = Annotated[Tensor, Shape("N", "integer")]
_KEEP = MOVES | COPIES | {Tensor.int, Tensor.short, Tensor.byte, Tensor.char, Tensor.type}


@checked
class MixedTarget(Mixed):
    r"""The labels of a batch whose samples each belong to several classes, and what is computed from them.

    As a tensor it holds the heavier label of each sample: accuracies, confusion matrices and whatever else reads class
    indices see that one. Functions of torch are applied to the labels of each component apart, so that a loss L that
    is made of such functions becomes :math:`\sum_c w_c L(y_c)`, whatever it is made of; its gradient too. A metric of
    torchmetrics sees plain tensors, of the heavier labels, and so does what leaves torch (``tolist``, NumPy,
    ``torch.jit``).

    Label smoothing s, :math:`\sum_c w_c [(1 - s) \, \delta_{y_c} + s / K]`, is in ``F.cross_entropy`` and
    ``F.nll_loss`` (and the layers that call them), and in what ``F.one_hot`` gives, once that is floating point;
    weights of samples are in the two losses. Of a loss that uses the labels otherwise it is known that it lacks them.

    Attributes:
        parts: What the tensor is by the labels of each component.
        smoothing: Label smoothing s in [0, 1) that is still to come.
        sample_weights: Factors of the per-sample losses before their mean, of the labels' shape; None for ones.

    Args:
        components: (labels ``(N, ...)``, weight) pairs; the weights sum to 1. Of equal weights the first is the
            heavier.
        smoothing: As above.
        sample_weights: As above.

    Raises:
        TypeError: If the labels are floating point.
        ValueError: If there is no component, the labels have several shapes, or the weights do not sum to 1.
    """

    @staticmethod
    def __new__(
        cls: type[MixedTarget],
        components: Annotated[Sequence[tuple[Tensor, Share]], "(labels, weight) pairs, the weights in [0, 1]"],
        smoothing: Annotated[float, Range(0, below=1)] = 0.0,
        sample_weights: Tensor | None = None,
    ) -> MixedTarget:
        """Make the tensor of heavier labels and attach the mixture to it."""
        if not components:
            raise ValueError("a mixed target needs at least one (labels, weight) component.")
        for labels, _ in components:
            if labels.is_floating_point():
                raise TypeError(
                    f"a mixed target takes class indices, got {labels.dtype} of shape {tuple(labels.shape)}."
                )
            if labels.shape != components[0][0].shape:
                raise ValueError(
                    f"the components of a mixed target have labels of one shape, got {tuple(components[0][0].shape)} "
                    f"and {tuple(labels.shape)}."
                )
        if abs(sum(weight for _, weight in components) - 1) > 1e-3:
            weights = [weight for _, weight in components]
            raise ValueError(f"the weights of a mixed target sum to 1, got {weights}; divide them by their sum.")
        plain = [labels.as_subclass(Tensor).detach() for labels, _ in components]
        parts = [labels if labels.dtype == torch.bool else labels.long() for labels in plain]
        mixture = Mixture(tuple(weight for _, weight in components))
        made = parts[mixture.heaviest].as_subclass(cls)
        return made.attach(parts, mixture, smoothing=smoothing, sample_weights=sample_weights, labels=True)

    @property
    def components(self) -> tuple[Component, ...]:
        """The (labels, weight) pairs."""
        return tuple(zip(self.parts, self.mixture.shares, strict=True))

    @property
    def is_mixed(self) -> bool:
        """Whether a sample can belong to several classes; smoothing does not count."""
        return len(self.parts) > 1

    @property
    def was_seen(self) -> bool:
        """Whether a loss that depends on it was differentiated."""
        return bool(self.mixture.differentiated)

    @property
    def was_seen_whole(self) -> bool:
        """Whether, besides, every such loss is of the whole mixture, its smoothing and weights of samples."""
        return self.was_seen and all(self.mixture.differentiated) and not self.mixture.lost

    def probabilities(self, num_classes: int) -> Tensor:
        """Return the mixture of class indices as float32 ``(N, ..., num_classes)``."""
        parts = [F.one_hot(y.long(), num_classes).float() for y in self.parts]
        return smoothed(self.mixture.mean(parts), self.smoothing)

    def with_extras(self, smoothing: float | None = None, sample_weights: Tensor | None = None) -> MixedTarget:
        """Return the same labels, to be smoothed or weighed."""
        smoothing = self.smoothing if smoothing is None else smoothing
        weights = self.sample_weights if sample_weights is None else sample_weights
        made = self.as_subclass(MixedTarget)
        return made.attach(self.parts, self.mixture, smoothing=smoothing, sample_weights=weights, labels=True)


class MixedValues(Tensor):
    """Float targets that were averaged; the labels of their mixture where someone takes them for class numbers.

    The mean of the classes 0 and 8 is no class 4: what makes integers of these makes a :class:`MixedTarget`.
    """

    components: tuple[Component, ...]

    def attach(self, components: Sequence[Component]) -> MixedValues:
        """Give the tensor its components, and return it."""
        self.components = tuple(components)
        return self

    def __reduce_ex__(self, proto: Any) -> Any:
        plain: Any = self.as_subclass(Tensor)
        return plain.__reduce_ex__(proto)

    @classmethod
    def __torch_function__(
        cls, func: Function, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Apply a function of torch to the mean; what only moves or converts it, to the components too."""
        options, values = kwargs or {}, args[0] if args else None
        with torch._C.DisableTorchFunctionSubclass():
            made = func(*args, **options)
            if func not in _KEEP or not isinstance(values, MixedValues) or not isinstance(made, Tensor):
                return made
            found = [(func(one, *args[1:], **options), share) for one, share in values.components]
        return made.as_subclass(MixedValues).attach(found) if made.is_floating_point() else MixedTarget(found)


@checked
def mix_targets(y: Labels, lam: Share, permutation: Partners) -> Tensor:
    r"""Mix each target with that of a partner: :math:`\lambda y + (1 - \lambda) y_{permutation}`.

    Args:
        y: Class indices ``(N, ...)``, a :class:`MixedTarget`, or float targets ``(N, ...)`` (probabilities,
            regression).
        lam: Weight of the own target, in [0, 1].
        permutation: Index of each sample's partner, ``(N,)``.

    Returns:
        A :class:`MixedTarget` for labels; for float targets their mean, of the same shape, as :class:`MixedValues`.

    Raises:
        MisconfigurationException: If the samples of a mixed target weigh differently in the loss.
    """
    check_indices("permutation", permutation, len(y))
    permutation = permutation.to(y.device)
    known = y.components if isinstance(y, MixedTarget | MixedValues) else ((y, 1.0),)
    mixed = [(labels, lam * weight) for labels, weight in known]
    mixed += [(labels[permutation], (1 - lam) * weight) for labels, weight in known]
    if y.is_floating_point():
        return torch.lerp(y[permutation], y, lam).as_subclass(MixedValues).attach(mixed)
    if isinstance(y, MixedTarget) and y.sample_weights is not None:
        raise MisconfigurationException(
            "samples with different weights in the loss cannot be mixed; put the method that weighs them "
            "(AdversarialTraining) after the one that mixes them."
        )
    return _made(mixed, y.smoothing if isinstance(y, MixedTarget) else 0.0)


def _made(components: Sequence[Component], smoothing: float = 0.0) -> MixedTarget:
    """Make a mixed target in a step, of what is known to be right."""
    return unchecked(MixedTarget.__new__)(MixedTarget, components, smoothing)


def as_mixed(y: Tensor) -> MixedTarget:
    """Return class indices as a mixed target of one component, and a mixed target as it is."""
    return y if isinstance(y, MixedTarget) else _made([(y, 1.0)])


def count_odd_rows(y: Tensor) -> Tensor:
    """Return how many of ``(N, K, ...)`` float labels are no probabilities over K, ``(1,)``."""
    odd = (y < 0).any(1) | ((y.sum(1, dtype=torch.float32) - 1).abs() > 1e-2)
    return odd.sum().view(1)
