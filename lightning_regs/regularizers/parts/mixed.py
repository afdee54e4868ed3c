"""Tensors that are computed from labels which are mixtures, one value for each component."""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from lightning_regs.core.lightning import MisconfigurationException

Function = Callable[..., Any]


@dataclass(eq=False)
class Mixture:
    """What the labels of a batch have in common with all that is computed from them."""

    shares: tuple[float, ...]  # the weight of each component
    # For each loss that was differentiated, whether smoothing and sample weights are in it.
    differentiated: list[bool] = field(default_factory=list)
    lost: bool = False  # whether an autograd.Function gave what the heavier labels alone have
    read: bool = False  # whether they were read as numbers, or written into what no batch is, in time for a loss

    @property
    def heaviest(self) -> int:
        """The component that shows; of equal ones the first."""
        return max(range(len(self.shares)), key=self.shares.__getitem__)

    def mean(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the weighted mean of what each component gives."""
        if len(parts) == 1:
            return parts[0]
        weighted = zip(self.shares[1:], parts[1:], strict=True)
        return reduce(lambda mean, one: torch.add(mean, one[1], alpha=one[0]), weighted, self.shares[0] * parts[0])


class Mixed(Tensor):
    """A tensor that has a part for each component of a mixture, and shows the heaviest's or, of losses, their mean."""

    parts: tuple[Tensor, ...]  # what the tensor is by the labels of each component
    mixture: Mixture
    smoothing: float = 0.0  # that of a MixedTarget, as far as it is still to come, as
    sample_weights: Tensor | None = None
    classes: int = 0  # K of one-hot rows that are still to be smoothed; else 0
    averaged: bool = False  # whether it shows the mean of its parts
    apart: bool = False  # whether it shows another value than the heaviest part
    whole: bool = True  # whether no smoothing or sample weight was lost on the way
    labels: bool = False  # whether it is the labels themselves, or some of them

    def attach(self, parts: Sequence[Tensor], mixture: Mixture, **attributes: Any) -> Self:
        """Give the tensor its attributes, and return it."""
        self.parts, self.mixture = tuple(parts), mixture
        vars(self).update(attributes)
        self.apart |= self.averaged
        return self

    @property
    def has_extras(self) -> bool:
        """Whether smoothing or weights of samples are still to come."""
        return self.smoothing > 0 or self.sample_weights is not None

    def __iter__(self) -> Iterator[Any]:
        return iter(self.unbind(0))

    def __copy__(self) -> Any:
        return self[...]

    def __reduce_ex__(self, proto: Any) -> Any:
        # A mixture belongs to one step of a training; what is saved is what shows.
        plain: Any = self.as_subclass(Tensor)
        return plain.__reduce_ex__(proto)

    def _is_foreign(self) -> bool:
        """Become a plain tensor where an autograd.Function returned this, of which the parts have no gradient."""
        foreign = self.grad_fn is not None and all(part.grad_fn is None for part in self.parts)
        if foreign:
            if self.ndim or not self.averaged:
                self.mixture.lost = True
            else:  # a loss, of which what shows has the gradient of the mean
                self.mixture.differentiated.append(self.whole)
            self.__class__ = Tensor  # type: ignore[assignment]
        return foreign

    @classmethod
    def __torch_function__(
        cls, func: Function, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Apply a function of torch to each component; metrics and loggers see plain tensors."""
        options = kwargs or {}
        if torch.compiler.is_dynamo_compiling():
            return _compiled(cls, func, args, options)
        with torch._C.DisableTorchFunctionSubclass():
            if func is Tensor.detach and args[0].averaged and not args[0].ndim:
                return func(*args)  # what is logged belongs to no step any more
            if func in _ON_ITSELF or (getattr(func, "__name__", "") in _PROPERTIES and func not in _VIEWS):
                return func(*args, **options)
            mixed = [one for one in _tensors((args, options)) if isinstance(one, Mixed) and not one._is_foreign()]
            if func in _READS and args[0].labels and torch.is_grad_enabled() and not _is_read():
                args[0].mixture.read |= not args[0].mixture.differentiated
            if mixed and func not in _DIFFERENTIATE and not _is_read():
                return _write(func, args, options, mixed) if _writes(func) else _apply(func, args, options, mixed)
            for loss in mixed if func in _DIFFERENTIATE else ():
                loss.mixture.differentiated.append(loss.whole)
            with torch.enable_grad():
                args, options = _part(args), _part(options)
        # Outside: what a backward pass computes again has to see mixed tensors as the forward pass did.
        return func(*args, **options)


def _apply(func: Function, args: Sequence[Any], options: dict[str, Any], mixed: list[Mixed]) -> Any:
    """Return a function's result as a mixed tensor; what is no tensor as it follows from what shows."""
    kind, mixture, heaviest = type(mixed[0]), mixed[0].mixture, mixed[0].mixture.heaviest
    keeper = next((one for one in mixed if one.has_extras), None)
    of_losses, apart = any(one.averaged for one in mixed), any(one.apart for one in mixed)
    target = _bound(func, args, options)["target"] if keeper is not None and func in _LOSSES else None

    def part(i: int, smooth: bool = False) -> Any:
        own, own_options = (_part(value, mixture, i, smooth) for value in (args, options))
        if isinstance(target, Mixed):
            return _loss(func, target, _bound(func, own, own_options))
        return func(*own, **own_options)

    def joined(shown: Any, parts: Sequence[Any], column: int | None = None) -> Any:
        if not isinstance(shown, Tensor):
            return shown
        if args and isinstance(args[0], Mixed) and all(map(operator.is_, parts, args[0].parts)):
            return args[0]  # as .long() gives integers back
        averaged = of_losses or func in _LOSSES or any(one.requires_grad for one in parts)
        averaged = averaged and shown.is_floating_point()
        if averaged and all(one.shape == shown.shape for one in parts):
            shown = mixture.mean(parts)
        served = smooth or target is not None
        extras = {} if served or keeper is None else _kept(func, args, options, keeper, shown, column)
        whole = extras is not None and all(one.whole for one in mixed)
        whole &= target is None or not target.smoothing or len(mixed) < 2  # a margin in the logits is not smoothed
        labels = all(one.labels for one in mixed) and (func in MOVES or func in COPIES)
        how = {"averaged": averaged, "apart": apart or smooth, "whole": whole, "labels": labels} | (extras or {})
        return shown.as_subclass(kind).attach(parts, mixture, **how)

    first = part(heaviest)
    floats = isinstance(first, Tensor) and first.is_floating_point()
    smooth = floats and any(one.classes for one in mixed)  # one-hot rows that become probabilities
    shown = func(*args, **options) if apart and not (floats and of_losses) else first
    if not any(True for _ in _tensors(shown)):
        return shown
    parts = [first if i == heaviest and not smooth else part(i, smooth) for i in range(len(mixture.shares))]
    if isinstance(shown, Tensor):
        return joined(shown, parts)
    return type(shown)([joined(one, each, i) for i, (one, *each) in enumerate(zip(shown, *parts, strict=True))])


def _compiled(kind: type[Mixed], func: Function, args: Sequence[Any], options: dict[str, Any]) -> Any:
    """Let the compiler trace a mean loss, as one plain tensor, and leave all else to eager mode."""
    if func in _LOSSES:
        with torch._C.DisableTorchFunctionSubclass():
            bound = _bound(func, args, options)
            target: Any = bound["target"]
            if isinstance(target, Mixed) and not isinstance(bound["input"], Mixed) and bound["reduction"] != "none":
                target.mixture.differentiated.append(target.whole)
                return target.mixture.mean([_loss(func, target, bound | {"target": y}) for y in target.parts])
    return _eagerly(kind, func, args, options)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _eagerly(kind: type[Mixed], func: Function, args: Sequence[Any], options: dict[str, Any]) -> Any:
    return kind.__torch_function__(func, (), args, options)


def _write(func: Function, args: Sequence[Any], options: dict[str, Any], mixed: list[Mixed]) -> Any:
    """Let a function write into a tensor, which becomes a mixed one if its rows are those of the batch."""
    target, rest, plain = args[0], args[1:], not isinstance(args[0], Mixed)
    rows = {one.shape[0] for one in mixed if one.ndim}
    mixture = (mixed[0] if plain else target).mixture
    if plain:
        if not target.ndim or target.shape[0] not in rows or (target.is_leaf and target.requires_grad):
            mixture.read |= torch.is_grad_enabled() and any(one.labels for one in mixed)
            return func(*args, **options)
        target.__class__ = type(mixed[0])
        target.attach([target.as_subclass(Tensor).clone() for _ in mixture.shares], mixture)
    elif not target.averaged and any(one.requires_grad for one in _tensors((rest, options))):
        target.parts = tuple(one.clone() for one in target.parts)  # of which none is what shows any longer
    target.whole &= all(one.whole and not one.has_extras for one in mixed if one is not target)
    for i, own in enumerate(target.parts):
        func(own, *_part(rest, mixture, i), **_part(options, mixture, i))
    if target.averaged or (target.is_floating_point() and any(one.requires_grad for one in target.parts)):
        target.averaged = target.apart = True
        target.copy_(mixture.mean(target.parts))
    elif plain or any(one.apart for one in mixed):
        target.apart = any(one.apart for one in mixed)
        func(*args, **options)
    return target


def _part(value: Any, mixture: Mixture | None = None, i: int = 0, smooth: bool = False) -> Any:
    """Return arguments with a component's part in the place of each tensor of a mixture; of others what they show."""
    if isinstance(value, Mixed):
        if value.mixture is not mixture:
            return value.as_subclass(Tensor)
        return smoothed(value.parts[i], value.smoothing) if smooth and value.classes else value.parts[i]
    if type(value) in (list, tuple):
        return type(value)([_part(one, mixture, i, smooth) for one in value])
    return {name: _part(one, mixture, i, smooth) for name, one in value.items()} if type(value) is dict else value


def _kept(
    func: Function, args: Sequence[Any], options: dict[str, Any], keeper: Mixed, shown: Tensor, column: int | None
) -> dict[str, Any] | None:
    """Return the smoothing and weights that labels still have after a function moved them; None if they lost them."""
    weights = keeper.sample_weights
    if func is F.one_hot and weights is None:
        return {"smoothing": keeper.smoothing, "classes": shown.shape[-1]}
    if func not in MOVES and func not in COPIES:
        return None
    if weights is not None and func in COPIES:
        weights = weights.to(shown.device)
    elif weights is not None:
        moved: Any = [one.sample_weights for one in args[0]] if func in _CATS else weights
        made = func(moved, *args[1:], **options)
        weights = made if column is None else made[column]
    return {"smoothing": keeper.smoothing, "sample_weights": weights, "classes": keeper.classes}


def _loss(func: Function, target: Mixed, arguments: dict[str, Any]) -> Any:
    """Return the loss of one component, smoothed and weighed."""
    if target.smoothing:
        if arguments.get("label_smoothing"):
            raise MisconfigurationException(
                f"LabelSmoothing({target.smoothing:g}) and the loss's own label_smoothing="
                f"{arguments['label_smoothing']:g} would smooth twice; remove one of the two."
            )
        # On log-probabilities log_softmax is the identity, so the cross-entropy of them is the nll_loss, smoothed.
        func = F.cross_entropy
        arguments["label_smoothing"] = target.smoothing
    if target.sample_weights is None:
        return func(**arguments)
    reduction, labels = arguments.pop("reduction"), arguments["target"]
    losses: Tensor = func(**arguments, reduction="none")
    losses = losses * target.sample_weights.to(losses.dtype)
    if reduction != "mean":
        return losses.sum() if reduction == "sum" else losses
    # The mean of torch's losses is over the class weights of the labels that are not ignored.
    counted = labels != arguments["ignore_index"]
    class_weights: Tensor | None = arguments["weight"]
    counts = counted if class_weights is None else class_weights[labels.where(counted, 0)] * counted
    return losses.sum() / counts.sum()


def smoothed(rows: Tensor, smoothing: float) -> Tensor:
    """Return probabilities ``(..., K)``, mixed with the uniform distribution."""
    return (1 - smoothing) * rows + smoothing / rows.shape[-1] if smoothing else rows


def _bound(func: Function, args: Sequence[Any], options: dict[str, Any]) -> dict[str, Any]:
    return _LOSSES[func] | dict(zip(_LOSSES[func], args)) | options  # noqa: B905 (torch 2.7 compiles no strict=)


def _is_read() -> bool:
    """Whether a metric of torchmetrics is updated, or a value logged, which outlive the batch."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name != "training_step":
        if frame.f_globals.get("__name__") in _READERS.get(frame.f_code.co_name, ()):
            return True
        frame = frame.f_back
    return False


def _writes(func: Function) -> bool:
    name = getattr(func, "__name__", "")
    return name in _IN_PLACE or (name.endswith("_") and not name.endswith("__") and name not in _HARMLESS)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)


def _named(names: str) -> set[Any]:
    """Return the functions of these names, of tensors and of torch."""
    return {getattr(owner, name) for owner in (Tensor, torch) for name in names.split() if hasattr(owner, name)}


_LOSSES: dict[Any, dict[str, Any]] = {
    func: {name: parameter.default for name, parameter in inspect.signature(func).parameters.items()}
    for func in (F.cross_entropy, F.nll_loss)
}
_DIFFERENTIATE: set[Any] = {Tensor.backward, torch.autograd.backward, torch.autograd.grad}
_READS = _named("tolist numpy item __array__ __int__ __index__ __float__")
_ON_ITSELF = {Tensor.as_subclass, Tensor.register_hook, Tensor.retain_grad}
# Where values are read: names of functions, and their modules.
_METRICS, _LIGHTNING = ("torchmetrics.metric",), ("pytorch_lightning.core.module", "lightning.pytorch.core.module")
_READERS = {"wrapped_func": _METRICS, "forward": _METRICS, "log": _LIGHTNING}
_PROPERTIES = {"__get__", "__set__", "__delete__"}
_VIEWS = {getattr(Tensor, name).__get__ for name in ("data", "T", "mT", "real")}
_CATS = _named("cat concat concatenate stack")
MOVES = _CATS | _named(
    "__getitem__ view reshape flatten squeeze unsqueeze narrow flip ravel repeat repeat_interleave roll index_select "
    "split chunk unbind permute transpose movedim expand"
)
COPIES = _VIEWS | _named("to cuda cpu clone detach contiguous long pin_memory __deepcopy__")
_IN_PLACE = {f"__{name}__" for name in ("setitem", "iadd", "isub", "imul", "itruediv", "iand", "ior", "ixor", "imod")}
_HARMLESS = {"requires_grad_", "share_memory_"}
