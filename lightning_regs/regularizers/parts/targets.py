"""Targets that are mixtures of labels, in a form that a module written for class indices trains on unmodified."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_regs.core.lightning import MisconfigurationException

__all__ = ["MixedTarget", "mix_targets"]

Component = tuple[Tensor, float]


class MixedTarget(Tensor):
    r"""The labels of a batch whose samples each belong to several classes.

    As a tensor it holds the heavier label of each sample, int64 ``(N,)``: accuracies, confusion matrices and whatever
    else takes class indices see that one. The losses of torch see the mixture
    :math:`\sum_c w_c [(1 - s) \, \delta_{y_c} + s / K]`: with it as target, ``F.cross_entropy`` and ``F.nll_loss``
    (and the layers that call them) return :math:`\sum_c w_c \, loss(input, y_c)` with label smoothing s, which without
    class weights is the loss of the mixed one-hot target, and ``F.one_hot`` returns the mixed probabilities
    ``(N, K)``. Slices, repetitions and copies of it are mixed targets too; it cannot be changed in place.

    Attributes:
        components: (labels ``(N,)``, weight) pairs; the weights sum to 1. Of equal weights the first is the heavier.
        smoothing: Label smoothing s in [0, 1).
        sample_weights: ``(N,)`` factors of the per-sample losses before their mean; None for ones.

    Args:
        components: As above.
        smoothing: As above.
        sample_weights: As above.

    Raises:
        TypeError: If the labels are not class indices.
        ValueError: If there is no component.
    """

    components: tuple[Component, ...]
    smoothing: float
    sample_weights: Tensor | None
    _seen: list[str]

    @staticmethod
    def __new__(
        cls: type[MixedTarget],
        components: Sequence[Component],
        smoothing: float = 0.0,
        sample_weights: Tensor | None = None,
    ) -> MixedTarget:
        """Make the tensor of heavier labels and attach the mixture to it."""
        if not components:
            raise ValueError("a mixed target needs at least one (labels, weight) component.")
        for labels, _ in components:
            if labels.is_floating_point() or labels.ndim != 1:
                raise TypeError(
                    f"a mixed target takes class indices (N,), got {labels.dtype} of shape {tuple(labels.shape)}."
                )
        plain = tuple((_plain(labels).long(), float(weight)) for labels, weight in components)
        heavier = max(plain, key=lambda component: component[1])[0]
        target: MixedTarget = heavier.detach().as_subclass(cls)
        target.components = plain
        target.smoothing = float(smoothing)
        target.sample_weights = sample_weights
        target._seen = []
        return target

    @property
    def is_mixed(self) -> bool:
        """Whether a sample can belong to several classes; smoothing does not count."""
        return len(self.components) > 1

    @property
    def was_seen(self) -> bool:
        """Whether a loss has asked for the mixture."""
        return bool(self._seen)

    def probabilities(self, num_classes: int) -> Tensor:
        """Return the mixture as float32 ``(N, num_classes)``."""
        rows = sum(weight * _plain_one_hot(labels, num_classes) for labels, weight in self.components)
        assert isinstance(rows, Tensor)
        return (1 - self.smoothing) * rows + self.smoothing / num_classes

    def derive(self, function: Callable[[Tensor], Any]) -> Any:
        """Return the target with a function applied to each component's labels and to the sample weights.

        Where it returns several tensors for one, so does this.
        """
        labels = [function(y) for y, _ in self.components]
        weights = None if self.sample_weights is None else function(self.sample_weights)
        if isinstance(labels[0], Tensor):
            return self._with(labels, weights)
        per_part = [None] * len(labels[0]) if weights is None else weights
        return tuple(self._with(part, own) for part, own in zip(zip(*labels, strict=True), per_part, strict=True))

    def _with(self, labels: Sequence[Tensor], sample_weights: Tensor | None) -> MixedTarget:
        shares = [share for _, share in self.components]
        mixed = MixedTarget(list(zip(labels, shares, strict=True)), self.smoothing, sample_weights)
        mixed._seen = self._seen
        return mixed

    def __deepcopy__(self, memo: dict[int, Any]) -> MixedTarget:
        copied: MixedTarget = self.derive(torch.clone)
        return copied

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Give losses the mixture, copies and slices the whole target, and everything else the heavier labels."""
        options = dict(kwargs or {})
        if func in _LOSSES:
            bound = inspect.signature(func).bind(*args, **options)
            if isinstance(bound.arguments["target"], MixedTarget):
                return _mixed_loss(func, bound)
        if func is F.one_hot:
            target = args[0] if args else options.get("tensor", options.get("input"))
            if isinstance(target, MixedTarget):
                return _one_hot(target, *args[1:], **options)
        source: Any = args[0] if args else None
        if isinstance(source, MixedTarget):
            _check_not_in_place(func)
        elif func in _CATS and _alike(source):
            return _cat(func, list(source), args[1:], options)
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **options)
        if isinstance(source, MixedTarget):
            if func in _SLICES and (not isinstance(result, Tensor) or result.ndim == 1):
                return source.derive(lambda t: func(t, *args[1:], **options))
            if func in _COPIES and not result.is_floating_point():
                return source.derive(lambda t: t.to(result.device))
        return result


def mix_targets(y: Tensor, lam: float, permutation: Tensor) -> Tensor:
    r"""Mix each target with that of a partner: :math:`\lambda y + (1 - \lambda) y_{permutation}`.

    Args:
        y: Class indices ``(N,)``, a :class:`MixedTarget`, or float targets ``(N, ...)`` (probabilities, regression).
        lam: Weight of the own target, in [0, 1].
        permutation: Index of each sample's partner, ``(N,)``.

    Returns:
        A :class:`MixedTarget` for labels; for float targets their mixture, of the same shape.

    Raises:
        ValueError: If labels have more than one dimension.
        MisconfigurationException: If the samples of a mixed target weigh differently in the loss.
    """
    permutation = permutation.to(y.device)
    if y.is_floating_point():
        return torch.lerp(y[permutation], y, lam)
    if y.ndim != 1:
        raise ValueError(
            f"labels have to be class indices (N,) to be mixed, got {y.dtype} of shape {tuple(y.shape)}; "
            "give labels of other shapes as float probabilities."
        )
    if not isinstance(y, MixedTarget):
        return MixedTarget([(y, lam), (y[permutation], 1 - lam)])
    if y.sample_weights is not None:
        raise MisconfigurationException(
            "samples with different weights in the loss cannot be mixed; put the method that weighs them "
            "(AdversarialTraining) after the one that mixes them."
        )
    own = [(labels, lam * weight) for labels, weight in y.components]
    partners = [(labels[permutation], (1 - lam) * weight) for labels, weight in y.components]
    return MixedTarget([*own, *partners], y.smoothing)


def as_mixed(y: Tensor) -> MixedTarget:
    """Return class indices ``(N,)`` as a mixed target of one component, and a mixed target as it is."""
    return y if isinstance(y, MixedTarget) else MixedTarget([(y, 1.0)])


def _mixed_loss(func: Callable[..., Tensor], bound: inspect.BoundArguments) -> Tensor:
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    target: MixedTarget = arguments.pop("target")
    logits: Tensor = arguments.pop("input")
    target._seen.append(func.__name__)
    if target.smoothing:
        if arguments.get("label_smoothing"):
            raise MisconfigurationException(
                f"LabelSmoothing({target.smoothing:g}) and the loss's own label_smoothing="
                f"{arguments['label_smoothing']:g} would smooth twice; remove one of the two."
            )
        # On log-probabilities log_softmax is the identity, so the cross-entropy of them is the nll_loss, smoothed.
        func = F.cross_entropy
        arguments["label_smoothing"] = target.smoothing
    if target.sample_weights is not None:
        func = partial(_weighted_loss, func, target.sample_weights)
    loss = sum(share * func(logits, labels, **arguments) for labels, share in target.components)
    assert isinstance(loss, Tensor)
    return loss


def _weighted_loss(
    func: Callable[..., Tensor], sample_weights: Tensor, logits: Tensor, labels: Tensor, **arguments: Any
) -> Tensor:
    reduction = arguments.pop("reduction")
    losses: Tensor = func(logits, labels, **arguments, reduction="none")
    losses = losses * sample_weights.to(losses.dtype)
    if reduction != "mean":
        return losses.sum() if reduction == "sum" else losses
    # The mean of torch's losses is over the class weights of the labels that are not ignored.
    counted = labels != arguments["ignore_index"]
    class_weights: Tensor | None = arguments["weight"]
    counts = counted if class_weights is None else class_weights[labels.where(counted, 0)] * counted
    mean: Tensor = losses.sum() / counts.sum()
    return mean


def _check_not_in_place(func: Callable[..., Any]) -> None:
    name = getattr(func, "__name__", "")
    in_place = name in _IN_PLACE or (name.endswith("_") and not name.endswith("__") and name not in _HARMLESS)
    if in_place:
        raise MisconfigurationException(
            f"the labels of this batch were mixed or smoothed, and {name} would change the heavier label of a sample "
            "alone; change labels in the data set or in on_after_batch_transfer, which come before the methods."
        )


def _alike(parts: Any) -> bool:
    if not parts or not all(isinstance(part, MixedTarget) for part in parts):
        return False
    return len({(tuple(w for _, w in p.components), p.smoothing, p.sample_weights is None) for p in parts}) == 1


def _cat(func: Callable[..., Tensor], parts: list[MixedTarget], args: Sequence[Any], options: Any) -> MixedTarget:
    labels = [[y for y, _ in part.components] for part in parts]
    weights = [part.sample_weights for part in parts if part.sample_weights is not None]
    joined = [func(list(component), *args, **options) for component in zip(*labels, strict=True)]
    return parts[0]._with(joined, func(weights, *args, **options) if weights else None)


def _one_hot(target: MixedTarget, num_classes: int = -1, **_: Any) -> Tensor:
    if target.sample_weights is not None:
        raise MisconfigurationException(
            "the samples of this batch weigh differently in the loss, which F.one_hot cannot say; use "
            "AdversarialTraining(clean_weight=0.5), or a cross-entropy of torch as the loss."
        )
    target._seen.append("one_hot")
    if num_classes < 0:
        num_classes = 1 + max(int(labels.max()) for labels, _ in target.components)
    return target.probabilities(num_classes)


def _plain(labels: Tensor) -> Tensor:
    return labels.as_subclass(Tensor) if isinstance(labels, MixedTarget) else labels


def _plain_one_hot(labels: Tensor, num_classes: int) -> Tensor:
    return F.one_hot(_plain(labels), num_classes).float()


def _named(names: str) -> set[Any]:
    """Return the functions of these names, of tensors and of torch."""
    return {getattr(owner, name) for owner in (Tensor, torch) for name in names.split() if hasattr(owner, name)}


_LOSSES: set[Any] = {F.cross_entropy, F.nll_loss}
_SLICES = _named(
    "__getitem__ view reshape flatten squeeze narrow flip ravel repeat repeat_interleave roll index_select"
)
_SLICES |= _named("split chunk")
_COPIES = _named("to cuda cpu clone detach contiguous long pin_memory")
_CATS = _named("cat concat concatenate")
_IN_PLACE = {f"__{name}__" for name in ("setitem", "iadd", "isub", "imul", "iand", "ior", "ixor", "ifloordiv", "imod")}
_HARMLESS = {"requires_grad_", "share_memory_"}
