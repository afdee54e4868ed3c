"""Initial weights by name, on any module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map

from lightning_regs.core import registry
from lightning_regs.core.batch import describe
from lightning_regs.core.checks import check, checked
from lightning_regs.core.global_rng import isolated
from lightning_regs.core.names import unknown_name
from lightning_regs.core.undisturbed import eager, every_layer_called, undisturbed
from lightning_regs.init.layers import LAYERS, Part, drawn, parts, put, weight_of

Rule = Callable[..., Any]


class Initialized(NamedTuple):
    """What an initialization did, by the names of parameters, in the module's order.

    Attributes:
        drawn: What the rule set.
        zeroed: Biases that are zero.
        skipped: What stays as it was, and why: another kind of layer, frozen, tied, lazy, or not used by the batch.
    """

    drawn: list[str]
    zeroed: list[str]
    skipped: dict[str, str]


def rules() -> dict[str, str]:
    """Return the name of each rule and where it is, as ``module:function``."""
    found = registry.functions(__package__ or "")
    return {name: f"{module}:{name}" for name, module in found.items() if name != "initialize"}


def rule_of(rule: str | Rule, options: Mapping[str, Any]) -> tuple[Rule, str]:
    """Return a rule, and what it is given: ``"weight"``, ``"layer"`` or ``"module"``; refuse wrong options."""
    if isinstance(rule, str) and rule not in rules():
        raise unknown_name("initialization", rule, rules())
    apply: Rule = registry.resolve(rules()[rule]) if isinstance(rule, str) else rule
    names = list(inspect.signature(apply).parameters)
    kind = names[0] if names and names[0] in ("layer", "module") else "weight"
    known = names[2 if kind == "weight" else 4 :]
    hints = get_type_hints(apply, include_extras=True) if isinstance(rule, str) else {}
    for option, value in options.items():
        if option not in known:
            raise unknown_name(f"option of the initialization {rule!r}:", option, known)
        check(option, value, hints.get(option, Any))
    return apply, kind


@checked
def initialize(
    module: nn.Module,
    rule: str | Rule | None,
    generator: torch.Generator | None = None,
    batch: Tensor | Sequence[Any] | Mapping[str, Any] | None = None,
    **options: Any,
) -> Initialized:
    """Set the weights of every linear and convolutional layer anew, by a rule, and their biases, mostly to zero.

    Everything else is left as it is: the scales of normalisation layers, embeddings, transposed convolutions, recurrent
    layers. A weight that several of these layers share is set once; one that they share with others, or that is
    frozen, stays. Under torch's weight norm the product is set, by its length and direction. The same generator gives
    the same weights on every device.

    Rules that look at data run the module on the batch in evaluation mode, without drawing from a global generator, and
    set each layer when it is first called: it sees what the layers before it, which are set already, make of the batch.
    An error leaves all weights as they were.

    Args:
        module: Changed in place.
        rule: A name, see :func:`rules`; None keeps what torch drew: uniform within 1 / sqrt(fan_in). Or a function
            ``(weight, generator)`` that sets a weight ``(out, in, ...)`` in place; or ``(layer, x, generator, last)``,
            where the first has this name, that sets a layer by what it sees in the batch.
        generator: Source of the draws; None takes torch's global one, as torch's own layers do.
        batch: For rules that look at data: what the module is called with, as a tensor, a sequence of arguments or a
            mapping of named ones.
        **options: Of the rule.

    Returns:
        The names of the parameters that were set by the rule, set to zero and left alone.

    Raises:
        ValueError: If the name or an option is unknown; if a rule that looks at data is given none, or one that looks
            at none some; if the module cannot take the batch; if there is nothing to set; if a rule cannot set a layer.
    """
    found = parts(module)
    if batch is not None and (rule is None or rule_of(rule, options)[1] == "weight"):
        raise ValueError(f"the rule {rule!r} looks at no data; leave batch out.")
    if rule is None:
        return Initialized([], [], {part.name: part.why or "the rule is None" for part in found})
    apply, kind = rule_of(rule, options)
    if kind != "weight" and batch is None:
        raise ValueError(
            f"the rule {rule!r} looks at a batch, and got none: initialize(module, {rule!r}, batch=x), or the callback "
            f"Initialization({rule!r}), which takes the first one of a training."
        )
    # Where weights are made for inference, they can be set in no other mode; elsewhere some rules differentiate.
    with torch.inference_mode(any(not is_lazy(p) and p.is_inference() for p in module.parameters())):
        if kind == "weight":
            left = _by_weights(found, apply, generator, options)
        else:
            before = [(p, p.detach().clone()) for p in module.parameters() if not is_lazy(p)]
            try:
                left = _by_data(module, batch, apply, kind, generator, options)
            except BaseException:
                with torch.no_grad():
                    for parameter, value in before:
                        parameter.copy_(value)
                raise
    done = Initialized([], [], {})
    for part in parts(module):  # nothing is lazy any more, and scalars are new
        path, layer = next(iter(part.layers.items()))
        why = part.why or next((left[p] for p in part.layers if p in left), "")
        if why and not (kind == "module" and part.key.startswith("fixup_")):
            done.skipped[part.name] = why
        elif part.key != "bias" or (kind != "weight" and bool(getattr(layer, part.key).any())):
            done.drawn.append(part.name)
        else:
            done.zeroed.append(part.name)
        done.skipped.update({f"{p}.{part.key}": f"tied to {part.name}" for p in part.layers if p != path and not why})
    if not done.drawn:
        reasons = (
            "; ".join(f"{name} is {why}" for name, why in list(done.skipped.items())[:4]) or "it has no parameters"
        )
        raise ValueError(f"{type(module).__name__} has nothing to initialize: {reasons}.")
    return done


def _by_weights(
    found: list[Part], draw: Rule, generator: torch.Generator | None, options: Mapping[str, Any]
) -> dict[str, str]:
    for part in (part for part in found if not part.why):
        layer: Any = next(iter(part.layers.values()))
        if part.key == "weight":
            put(layer, drawn(layer.weight, draw, generator, **options))
        else:
            with torch.no_grad():
                layer.bias.zero_()
    return {}


def _by_data(
    module: nn.Module, batch: Any, apply: Rule, kind: str, generator: torch.Generator | None, options: Mapping[str, Any]
) -> dict[str, str]:
    """Set each layer when it is first called, or the module as a whole; return why layers are left, by their paths."""
    order: list[nn.Module] = []
    try:
        with _hooked(module, lambda layer, *_: order.append(layer)):
            outputs = _run(module, batch, kind == "module")
    except Exception as error:
        what = f"of the shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else f"which is {describe(batch)}"
        raise ValueError(
            f"{type(module).__name__} cannot take the batch, {what} ({error}); give initialize what it is called with."
        ) from error
    weights = [part for part in parts(module) if part.key == "weight"]
    names = {layer: (path, part.name) for part in weights if not part.why for path, layer in part.layers.items()}
    first: dict[str, nn.Module] = {}
    for layer in order:
        if layer in names:
            first.setdefault(names[layer][1], layer)
    todo = {layer: names[layer][0] for layer in first.values()}
    left = {path: "not used by the batch" for path, name in names.values() if name not in first}
    layers = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, LAYERS)]
    left |= {path: "beside a weight that stays" for path, layer in layers if layer not in names}
    for layer in (layer for layer in {*order} & names.keys() if layer not in todo):
        put(layer, weight_of(layer))  # a tied weight is set with its first layer, each bias with its own
    if kind == "module":
        return left | apply(module, outputs, todo, generator, **options) if todo else left

    def act(layer: Any, args: Any, named: Any, _: Any) -> Any:
        if layer not in todo:
            return None
        path = todo.pop(layer)
        x = [*args, *named.values()][0]
        x = x if x.ndim >= layer.weight.ndim else x[None]  # one sample without a dimension for samples
        try:
            if not len(x) or not bool(x.isfinite().all()):
                raise ValueError("what it sees in this batch is empty, infinite or no number; give other samples.")
            complex_ = layer.weight.is_complex()
            why = "complex" if complex_ else apply(layer, x, generator, layer is order[-1], **options)
        except ValueError as error:
            raise ValueError(f"{path or type(layer).__name__}: {error}") from error
        left.update({path: why} if why else {})
        return layer.forward(*args, **named)

    with _hooked(module, act):
        _run(module, batch)
    return left | dict.fromkeys(todo.values(), "not called again, as the net goes another way by its weights")


@contextmanager
def _hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    layers = [layer for layer in module.modules() if isinstance(layer, LAYERS)]
    handles = [layer.register_forward_hook(hook, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(module: nn.Module, batch: Any, differentiate: bool = False) -> Any:
    """Call a module in evaluation mode, as Python runs it, with buffers and global random streams left as they were."""

    def fresh(x: Any) -> Any:
        floating = differentiate and isinstance(x, Tensor) and x.is_floating_point()
        # No leaf, which ReLU in place would refuse.
        return x.detach().clone().requires_grad_().clone() if floating else x

    batch = tree_map(fresh, batch)
    args, named = ([], batch) if isinstance(batch, Mapping) else ([batch] if isinstance(batch, Tensor) else batch, {})
    with (
        undisturbed(module, buffers=True),
        isolated(),
        every_layer_called(),
        eager(module),
        torch.set_grad_enabled(differentiate),
    ):
        return module(*args, **named)
