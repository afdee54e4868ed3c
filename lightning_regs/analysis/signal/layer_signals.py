"""What a net does to signals: outputs, saturation, dead units and gradients of each layer, and layer Jacobians."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_regs.analysis._points import one_number
from lightning_regs.analysis.signal._hooks import ACTIVATIONS, WEIGHTED, called, flatness, watched
from lightning_regs.core.batch import Keys, read
from lightning_regs.core.checks import Shape, checked, nonempty
from lightning_regs.core.lightning import Callback, check_forward, log_nets, pl, replicas_of
from lightning_regs.pruning.layers import Globs

Loss = Callable[[Tensor, Tensor], Tensor]
Samples = Annotated[Tensor, Shape("N ...", "floating-point"), nonempty]
Inputs = Annotated[Tensor, Shape("N ..."), nonempty]
# Numbers in the Jacobians of a pair of layers: 1 GiB in float32.
_ROOM = 2**28


class Signal(NamedTuple):
    """What one layer's outputs are on a batch; NaN where it does not apply.

    Attributes:
        mean: Of all outputs.
        deviation: Standard deviation of all outputs, of samples and units together.
        saturation: Of an activation of torch's: outputs in percent where its slope is below 5 % of its steepest.
        dead: Of such: units in percent whose slope is zero for every sample. A unit is a channel of a map
            (N, C, H, W) or (N, C, D, H, W), else an output of a sample.
        gradient: Root mean square of the gradient of a sample's loss with respect to the outputs.
        weights: Norm of the gradient of the batch's loss with respect to the layer's own weights and biases.
    """

    mean: float
    deviation: float
    saturation: float
    dead: float
    gradient: float
    weights: float


@checked
def layer_outputs(module: nn.Module, x: Inputs, layers: Globs | None = None) -> dict[str, Tensor]:
    """Return the outputs of layers by name, in the order of their calls: those of a second call are ``NAME#2``.

    Of a layer that returns several, such as an LSTM or an attention, it is the first.

    The module stays as it was, bit for bit: parameters, their ``grad``, buffers, torch's random streams. It computes in
    the mode that it is in: in training mode batch norm takes the batch's statistics, and dropout draws.

    Args:
        module: Any; called with ``x`` alone.
        x: Samples ``(N, ...)``, as it sees them; whole numbers, such as those of words, too.
        layers: Globs of names; None for torch's activations and its linear and convolutional layers.

    Raises:
        ValueError: If it has no such layer, or calls none of them.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str, layer: nn.Module, before: Tensor, out: Tensor) -> None:
        found[name] = out.detach().clone()

    with watched(module, x, layers, ACTIVATIONS + WEIGHTED, keep), torch.no_grad():
        module(x)
    return called(found, module)


@checked
def layer_signals(
    module: nn.Module, x: Inputs, y: Tensor | None = None, layers: Globs | None = None, loss: Loss = F.cross_entropy
) -> dict[str, Signal]:
    """Measure what each layer does to a batch and to its gradients; names, mode and errors are as in `layer_outputs`.

    Glorot & Bengio 2010 (AISTATS) watch these to tell initializations apart.

    Args:
        module: Any; called with ``x`` alone.
        x: As there.
        y: Their targets; None measures no gradients.
        layers: As there.
        loss: Mean loss of the module's outputs and ``y``.
    """
    measured: dict[str, list[float]] = {}
    owners: dict[str, nn.Module] = {}

    def see(name: str, layer: nn.Module, before: Tensor, out: Tensor) -> None:
        deviation, mean = torch.std_mean(out.detach().double(), correction=0)
        measured[name] = [float(mean), float(deviation), *flatness(layer, before), torch.nan, torch.nan]
        owners[name] = layer
        if y is not None and out.requires_grad:
            hook: Any = out.register_hook  # not typed in torch
            hook(lambda g: measured[name].__setitem__(4, len(x) * float(g.double().square().mean().sqrt())))

    with watched(module, x, layers, ACTIVATIONS + WEIGHTED, see), torch.set_grad_enabled(y is not None):
        entry = x.detach().clone().requires_grad_(y is not None and x.is_floating_point())
        outputs = module(entry)
        if y is not None:
            parameters = [p for p in module.parameters() if p.requires_grad]
            value = one_number(loss(outputs, y.clone() if y.is_inference() else y))
            ends = [entry] * entry.requires_grad + parameters
            gradients = torch.autograd.grad(value, ends, allow_unused=True)
            by = {id(p): g for p, g in zip(ends, gradients, strict=True) if g is not None}
            for name, layer in owners.items():
                own = [by[id(p)].double().square().sum() for p in layer.parameters() if id(p) in by]
                measured[name][5] = float(torch.stack(own).sum().sqrt()) if own else torch.nan
    return {name: Signal(*values) for name, values in called(measured, module).items()}


@checked
def layer_jacobians(module: nn.Module, x: Samples, layers: Globs | None = None) -> dict[str, Tensor]:
    r"""Return the singular values of :math:`\partial z_{i+1} / \partial z_i` between layers, for each sample.

    Glorot & Bengio 2010: their mean is how much a layer shrinks a step into a random direction. A layer of n tanh
    units near zero, of weights with variance s / n, has :math:`\frac{8}{3 \pi} \sqrt{s}` for large n.

    Args:
        module: Any in which no sample changes another's outputs; batch norm has to be in evaluation mode.
        x: A few samples ``(N, ...)``, as it sees them.
        layers: Globs of names; None for torch's activations.

    Returns:
        Values ``(N, min(inputs, outputs))``, the largest first, by the name of the later layer of each two that follow
        each other; of layers side by side there is no Jacobian.

    Raises:
        ValueError: As `layer_outputs`; if one layer is called alone, or if the Jacobians of two have more than 2^28
            numbers.
    """
    outs: dict[str, Tensor] = {}
    with (
        watched(module, x, layers, ACTIVATIONS, lambda name, _, __, out: outs.update({name: out})),
        torch.enable_grad(),
    ):
        module(x.detach().clone().requires_grad_())
        found: dict[str, Tensor] = {}
        for (first, a), (name, b) in pairwise(called(outs, module).items()):
            size, units = a[0].numel(), b[0].numel()
            if len(x) * size * units > _ROOM:
                raise ValueError(
                    f"the Jacobians from {first} to {name} have {len(x)} x {units} x {size} numbers, more than 2^28; "
                    "give fewer samples, or layers of fewer units."
                )
            whole = torch.eye(units, dtype=b.dtype, device=b.device)
            (rows,) = torch.autograd.grad(
                b.flatten(1).sum(0), a, whole, retain_graph=True, is_grads_batched=True, allow_unused=True
            )
            if rows is not None:
                found[name] = torch.linalg.svdvals(rows.flatten(2).transpose(0, 1).float())
    if len(outs) < 2:
        raise ValueError(f"a Jacobian is between two layers, and only {', '.join(outs)} was called; name others.")
    return found


class LayerSignals(Callback):
    """Logs what `layer_signals` measures after each epoch, as ``signal/deviation/LAYER``, ``signal/dead/LAYER``, ...

    On any LightningModule, in training mode, always on the first training batch, up to 256 samples of it, which is
    saved with the training: a resumed one goes on measuring on it. Gradients are those of the Classifier's loss; of
    other modules those of the cross-entropy, where labels are whole numbers, and else none. Of
    ``Classifier(replicas=...)`` means over nets are logged, and each one's own is in ``replica_results``.

    Attributes:
        start: What was measured before the first step, of each net ``(R,)``, by ``deviation/LAYER`` and the like.
        last: The same after the last epoch that has ended.
        batch: Samples and labels.

    Args:
        layers: Globs of names, see `layer_outputs`.
        batch: Keys of samples and labels in a batch; None: where the usual ones are.

    Raises:
        MisconfigurationException: If the module has no ``forward``, or the batch no samples and labels that are known.
    """

    @checked
    def __init__(self, layers: Globs | None = None, batch: Keys = None) -> None:
        self.layers, self.keys = layers, batch
        self.start: dict[str, Tensor] = {}
        self.last: dict[str, Tensor] = {}
        self.batch: list[Any] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin anew, where no checkpoint follows; refuse a module that cannot be called on samples."""
        check_forward("LayerSignals", pl_module)
        if stage == "fit" and not trainer.global_step:
            self.start, self.last, self.batch = {}, {}, []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the first batch, and measure what the net does before it has learned."""
        if self.batch:
            return
        known = isinstance(batch, tuple) and self.keys is None
        pair = batch if known else read(batch, self.keys, type(self).__name__)
        rows = (slice(None), slice(256)) if replicas_of(pl_module) else slice(256)
        self.batch = [part[rows].detach().clone() if isinstance(part, Tensor) else None for part in pair[:2]]
        self.start = self._measured(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure and log."""
        self.last = self._measured(trainer, pl_module)
        log_nets(pl_module, "signal", self.last)

    def state_dict(self) -> dict[str, Any]:
        """Return the batch, and what was measured at the start."""
        return {"batch": self.batch, "start": self.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them."""
        self.batch, self.start = list(state_dict["batch"]), dict(state_dict["start"])

    def measure(self, net: nn.Module, x: Tensor, y: Tensor | None, loss: Loss) -> dict[str, float]:
        """Return what is measured of one net on the batch, by name; a subclass may measure something else.

        Args:
            net: The module, or of replicas a copy of each one's network in turn.
            x: Its samples.
            y: Their targets, where there are such.
            loss: Mean loss of outputs and targets.
        """
        found = layer_signals(net, x, y, self.layers, loss)
        return {f"{key}/{n}": v for n, signal in found.items() for key, v in signal._asdict().items() if v == v}

    def _measured(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Tensor]:
        own: Any = module
        x, y = (None if part is None else part.to(module.device) for part in self.batch)
        assert x is not None
        loss = own.loss if hasattr(own, "replicas") else F.cross_entropy
        with trainer.precision_plugin.forward_context():
            if not replicas_of(own):
                y = None if y is not None and y.is_floating_point() and not hasattr(own, "replicas") else y
                rows = [self.measure(module, x, y, loss)]
            else:
                nets = (own.network.network_of(i) for i in range(len(x)))
                found = [self.measure(n, x[i], None if y is None else y[i], loss) for i, n in enumerate(nets)]
                rows = [{name.replace("/", "/network.", 1): v for name, v in row.items()} for row in found]
        shared = [name for name in rows[0] if all(name in row for row in rows)]
        return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in shared}
