"""A whole training step as one CUDA graph: what is captured, what is refused, and the steps between.

Launching the kernels of a small net takes longer than running them. A graph is launched at once: PyTorch, "CUDA
Graphs", docs.pytorch.org/docs/stable/notes/cuda.html.
"""

from __future__ import annotations

import gc
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim import optimizer as hooks_of_all

from lightning_regs.core.batch import notes, with_notes
from lightning_regs.core.checks import NoEffectWarning
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.optim.around import Around
from lightning_regs.optim.per_replica import replica_numbers
from lightning_regs.regularizers import Acts, Regularizer

# Hooks that come within a step, and so would be called once for all steps.
WITHIN = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
_OWN = (
    "training_step",
    "configure_gradient_clipping",
    "clip_gradients",
    "optimizer_step",
    "optimizer_zero_grad",
    "backward",
)
_EAGER = 3  # steps of a kind that are taken as ever first: libraries choose their kernels in them
_KEPT = 2  # graphs, the newest: as of a batch with and one without a note
# What can read its learning rate on the card, so that one graph serves a schedule that changes it at each step.
_READS_RATES = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)

TOLD = 100  # steps without a graph

Batch = Sequence[Tensor]
Take = Callable[[Any, bool], Tensor]


def check_captured(trainer: Any, module: Any, hears: Callable[[Any, str, type], bool]) -> None:
    """Let the optimizer count its steps on a card, where it can, and refuse steps in which Python has something to do.

    ``hears`` tells whether an object has a hook of its own, and not that of a base class.
    """
    for optimizer in trainer.optimizers:
        # Without graphs only where a checkpoint of graphs says so: the weights may be on a CPU now.
        groups = [group for group in optimizer.param_groups if "capturable" in group]
        for group in (group for group in groups if module.cuda_graph or group["capturable"]):
            group["capturable"] = group["params"][0].is_cuda
            for weight in group["params"]:
                if isinstance(step := optimizer.state.get(weight, {}).get("step"), Tensor):  # of a checkpoint
                    optimizer.state[weight]["step"] = step.to(weight.device)
    for reason in _in_python(trainer, module, hears) if module.cuda_graph else ():
        raise MisconfigurationException(f"cuda_graph=True captures whole steps, and {reason}, or cuda_graph.")


def _in_python(trainer: Any, module: Any, hears: Callable[[Any, str, type], bool]) -> Iterator[str]:
    """Yield what a training has in Python within its steps, each as a clause with its remedy."""
    if "training_step" in vars(module):
        yield "its training_step was wrapped; leave that out"
    if not isinstance(trainer.profiler, pl.profilers.PassThroughProfiler):
        yield f"{type(trainer.profiler).__name__} measures what is within it; leave the profiler out"
    if type(trainer.strategy) is not pl.strategies.SingleDeviceStrategy:
        yield f"{type(trainer.strategy).__name__} trains in more than one process or place; use one device"
    if type(trainer.precision_plugin) not in (pl.plugins.Precision, pl.plugins.MixedPrecision):
        yield f"{type(trainer.precision_plugin).__name__} acts in Python; use 32-true or bf16-mixed"
    if "backward" in vars(trainer.precision_plugin):
        yield "a method changes the loss that is differentiated; leave it out"
    if getattr(trainer.precision_plugin, "scaler", None):
        yield f"the scaled losses of {trainer.precision} are looked at in each step; use bf16-mixed"
    if trainer.accumulate_grad_batches != 1:
        yield f"accumulate_grad_batches={trainer.accumulate_grad_batches} makes a step of several batches; use 1"
    if not module.automatic_optimization:
        yield f"{type(module.driver).__name__} makes the gradient in its own way; leave the method out"
    ours = [c for c in trainer.callbacks if isinstance(c, Regularizer)]
    methods = [c for c in ours if c.acts is Acts.BATCH or c.in_graph]
    for callback in trainer.callbacks:
        base = Regularizer if callback in methods else pl.Callback
        if heard := [hook for hook in WITHIN if hears(callback, hook, base)]:
            yield f"{type(callback).__name__}.{heard[0]} acts within it; leave the callback out"
    for hook in (*WITHIN, *_OWN):
        if hears(module, hook, class_of_ours(module)):
            yield f"{type(module).__name__}.{hook} is called within it; leave the method out"
    for optimizer in trainer.optimizers:
        name = type(optimizer).__name__
        for listed in replica_numbers(module.optimizer_config):
            yield f"{listed} is a list, which has Python act beside each step; give one number"
        ready = type(optimizer) is torch.optim.SGD or all("capturable" in group for group in optimizer.param_groups)
        if isinstance(optimizer, Around) or not ready:
            yield f"{name} counts its steps in Python; use SGD, or one of torch's that is capturable, as Adam"
        if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
            yield f"{name} has hooks that act at each step; leave them out"
    own = [method.at_steps for method in methods]
    everywhere = (
        *hooks_of_all._global_optimizer_pre_hooks.values(),
        *hooks_of_all._global_optimizer_post_hooks.values(),
    )
    if any(getattr(hook, "__self__", None) not in own for hook in everywhere):
        yield "a method or a callback acts at each step of every optimizer; leave it out"
    for name, part in module.network.named_modules():
        hooks = part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks
        if any(hooks):
            yield f"network.{name} ({type(part).__name__}) has hooks in Python; leave them out"
    for name, weight in module.network.named_parameters():
        if weight._backward_hooks or weight._post_accumulate_grad_hooks:
            yield f"network.{name} has a hook on its gradient; leave it out"


def class_of_ours(module: Any) -> type:
    """Return the class of this package that a module is of, or that its own is made of."""
    return next(cls for cls in type(module).__mro__ if cls.__module__.startswith("lightning_regs."))


class Captured:
    """Steps of one training that are taken as graphs where they are alike, and as ever where they are not.

    A graph belongs to what it was captured with: batches of one shape and type, tensors at their place in memory, the
    numbers of layers (their mode, a dropout's p), of methods and of clipping, and the optimizer's, but for a learning
    rate that it can read on the card. A step of another kind is taken as ever, and captured once several have come. On
    a CPU nothing is captured; the batches still pass through the memory that a graph would read. ``take`` takes an
    optimizer step on a batch, counts it in the Trainer where asked to, and returns its loss; ``count`` counts one.
    """

    def __init__(self, trainer: Any, module: Any, take: Take, count: Callable[[], None]) -> None:
        self.trainer, self.module, self.take, self.count = trainer, module, take, count
        self.aside: Any = torch.cuda.Stream() if trainer.strategy.root_device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.graphs: dict[Hashable, _Static] = {}
        self.seen: Counter[Hashable] = Counter()
        self.places: Hashable = None
        self.last: _Static | None = None
        self.watched = False  # whether hooks come between steps, which may change what a graph was captured with
        self.as_ever = 0  # steps since the last graph, up to the warning

    def look(self) -> None:
        """Let go of all graphs where a tensor that they use has moved, or a number that they have is another.

        To be called where others had the occasion: between epochs, and after callbacks.
        """
        self.last = None  # gradients may be others', too
        if self.places != (found := self._places()):
            self.places = found
            self.clear()

    def step(self, batch: Any) -> Tensor:
        """Take one optimizer step; return its loss, which the next one may overwrite."""
        if self.watched and self.places != self._places():
            self.look()
        key = self._key(batch)
        graph = self.graphs.get(key)
        if graph is None:
            self.seen[key] += 1
            if key is None or self.seen[key] <= _EAGER:
                self.last = None
                self._note_as_ever(key)
                with self._beside():
                    return self.take(batch, True)
            if len(self.graphs) >= _KEPT:
                self.clear()
            graph = _Static(batch, self.take)
            if self.aside is not None:
                graph = _Graph(batch, self.take, self.aside, self.trainer.optimizers[0])
            self.graphs[key] = graph
            self.places = self._places()  # with what an optimizer makes in its first steps
        loss = graph.replay(batch, self.last is not graph)
        self.last, self.as_ever = graph, 0
        self.count()
        self.module.stages["fit"].counted()
        return loss

    def clear(self) -> None:
        """Let go of all graphs."""
        self.graphs.clear()
        self.seen.clear()
        self.last = None

    def _note_as_ever(self, key: Hashable) -> None:
        self.as_ever += 1
        if self.as_ever == TOLD:
            numbers = "have a new learning rate, momentum, shape or memory each; SGD and Adam can change the rate"
            why = numbers if key else "have labels that are mixtures in Python"
            text = f"cuda_graph=True captured none of the last {TOLD} steps: they {why}."
            warnings.warn(text, NoEffectWarning, stacklevel=2)

    def _key(self, batch: Any) -> Hashable:
        """Return what a graph depends on; None for what is known only in Python, as the shares of mixed labels are."""
        if type(batch) is not list or len(batch) < 2 or not all(type(part) is Tensor for part in batch):
            return None
        tensors = tuple((t.shape, t.dtype, t.stride()) for t in _tensors(batch))
        optimizer = self.trainer.optimizers[0]
        apart = {"params", "lr"} if type(optimizer) in _READS_RATES else {"params"}
        numbers = tuple(
            (name, id(value) if isinstance(value, Tensor) else value if isinstance(value, Hashable) else str(value))
            for group in optimizer.param_groups for name, value in group.items() if name not in apart
        )  # fmt: skip
        return tensors, tuple(notes(batch[1])), numbers

    def _places(self) -> Hashable:
        trainer, network, metrics = self.trainer, self.module.network, self.module.stages["fit"]
        states = (value for state in trainer.optimizers[0].state.values() for value in state.values())
        held = (value for value in states if isinstance(value, Tensor))
        tensors = tuple(t.data_ptr() for t in (*network.buffers(), *held, metrics.loss_sum, metrics.counts))
        weights = tuple((weight.data_ptr(), weight.requires_grad) for weight in network.parameters())
        parts = *network.modules(), *(c for c in trainer.callbacks if isinstance(c, Regularizer) and c.in_graph)
        numbers = tuple(n for part in parts for n in vars(part).values() if type(n) in (bool, int, float))
        return tensors, weights, numbers, (trainer.gradient_clip_val, trainer.gradient_clip_algorithm)

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Do something on the stream of the graphs: what autograd keeps of its first pass belongs to a stream."""
        if self.aside is None:
            yield
            return
        current = torch.cuda.current_stream()
        self.aside.wait_stream(current)
        with torch.cuda.stream(self.aside):
            yield
        current.wait_stream(self.aside)


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    return *batch, *notes(batch[1]).values()


class _Static:
    """A step on batches that are copied to one place in memory."""

    def __init__(self, batch: Batch, take: Take) -> None:
        self.batch = [part.clone() for part in batch]
        with_notes(self.batch[1], {name: note.clone() for name, note in notes(batch[1]).items()})
        self.held, self.take = _tensors(self.batch), take

    def replay(self, batch: Batch, others_between: bool) -> Tensor:
        """Take the step on a batch; after ``others_between`` gradients are elsewhere."""
        for own, given in zip(self.held, _tensors(batch), strict=True):
            own.copy_(given)
        return self.run(others_between)

    def run(self, others_between: bool) -> Tensor:
        return self.take(self.batch, False)


@contextmanager
def rates_on_card(groups: Sequence[dict[str, Any]], rates: Sequence[Tensor]) -> Iterator[None]:
    """Have an optimizer read the learning rates of its groups from tensors, for as long as its step is captured."""
    before = [dict(group) for group in groups]
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
        if "capturable" not in group:  # SGD, of whose ways only the fused one leaves the tensor where it is
            group["fused"], group["foreach"] = True, False
    try:
        yield
    finally:
        for group, held in zip(groups, before, strict=True):
            group.update(held)


class _Graph(_Static):
    """The same as a CUDA graph, which is captured at once and then replayed."""

    def __init__(self, batch: Batch, take: Take, stream: Any, optimizer: Optimizer) -> None:
        super().__init__(batch, take)
        self.graph = torch.cuda.CUDAGraph()
        self.groups = optimizer.param_groups if type(optimizer) in _READS_RATES else []
        # A rate that is a tensor already is where its owner changes it.
        self.groups = [group for group in self.groups if not isinstance(group["lr"], Tensor)]
        self.rates = [torch.tensor(group["lr"], device=batch[0].device) for group in self.groups]
        self.filled = [group["lr"] for group in self.groups]
        torch.cuda.synchronize()
        collects = gc.isenabled()
        gc.disable()  # what is freed within a capture may ask the device, which ends it
        try:
            # Not torch.cuda.graph, which collects garbage and empties the allocator's cache each time.
            with torch.cuda.stream(stream), rates_on_card(self.groups, self.rates):
                self.graph.capture_begin(capture_error_mode="thread_local")
                try:
                    self.loss = take(self.batch, False)
                finally:
                    self.graph.capture_end()
        except Exception as error:
            raise MisconfigurationException(
                f"cuda_graph=True could not capture the training step ({' '.join(str(error).split())[:200]}); leave "
                "cuda_graph out."
            ) from error
        finally:
            if collects:
                gc.enable()
        weights = (weight for group in optimizer.param_groups for weight in group["params"])
        self.gradients = [(weight, weight.grad) for weight in weights if weight.grad is not None]

    def run(self, others_between: bool) -> Tensor:
        if others_between:
            for weight, gradient in self.gradients:
                weight.grad = gradient
        for i, group in enumerate(self.groups):
            if group["lr"] != self.filled[i]:
                self.rates[i].fill_(group["lr"])
                self.filled[i] = group["lr"]
        self.graph.replay()
        return self.loss
