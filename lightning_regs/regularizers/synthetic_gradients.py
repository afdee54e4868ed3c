"""Synthetic gradients: layers learn by gradients that small models predict, before the rest of the net has run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from lightning_regs.core.batch import Keys, check_indices, describe, find_keys, take
from lightning_regs.core.checks import Count, Positive, Seed, Shape, checked, unchecked
from lightning_regs.core.lightning import (
    MisconfigurationException,
    averaged_modules,
    check_whole_weights,
    is_compiled,
    only_gathers_statistics,
    pl,
)
from lightning_regs.core.names import GRADIENT_MODEL, few
from lightning_regs.core.rng import derive_seed
from lightning_regs.pruning.layers import Globs
from lightning_regs.regularizers.base import Acts, Regularizer
from lightning_regs.regularizers.gradient_penalty import GradientPenalty
from lightning_regs.regularizers.parts.double_backward import outside_autocast
from lightning_regs.regularizers.parts.gradient_model import GradientModel
from lightning_regs.regularizers.parts.scaling import scale_of, scaler_of
from lightning_regs.regularizers.parts.stepping import calls_its_closure_once, parameters_of
from lightning_regs.regularizers.parts.targets import as_mixed

__all__ = ["SyntheticGradients", "synthetic_gradient"]

_WIDTHS = ("out_features", "out_channels", "num_features")  # what torch's layers call the number of their units
Units = Annotated[Tensor, Shape("N C ...", "floating-point")]


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, units: Tensor, predicted: Tensor, scale: float | Tensor) -> Tensor:
        ctx.save_for_backward(predicted)
        ctx.scale = scale
        return units.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (predicted,) = ctx.saved_tensors
        wide, samples = torch.promote_types(predicted.dtype, torch.float32), len(predicted)
        scaled = predicted.to(wide) * ctx.scale
        return scaled / samples, (scaled - gradient.to(wide) * samples) / predicted[:, 0].numel(), None


@checked
def synthetic_gradient(units: Units, predicted: Units, scale: Positive | Tensor = 1.0) -> Tensor:
    r"""Return units that send back a predicted gradient in the place of the true one, from which it learns.

    Jaderberg et al. 2017, arXiv:1608.05343, section 2. What comes before ``units`` has the gradient
    :math:`\hat\delta / N`, and ``predicted`` that of :math:`\frac12 \lVert \hat\delta - \delta \rVert^2`, the mean over
    samples and places, with :math:`\delta` the true gradient of each sample's loss, N times that of their mean.

    Args:
        units: ``(N, C, ...)``.
        predicted: :math:`\hat\delta`, of that shape, made of ``units.detach()``; another is refused.
        scale: What the mean loss is multiplied by before it is differentiated.
    """
    if units.shape != predicted.shape:
        raise ValueError(f"units of shape {tuple(units.shape)} have gradients alike, got {tuple(predicted.shape)}.")
    return _Cut.apply(units, predicted, scale)  # type: ignore[no-any-return]


class SyntheticGradients(Regularizer, acts=Acts.GRADIENTS):
    r"""Decoupled neural interfaces (Jaderberg et al. 2017, arXiv:1608.05343): layers learn by predicted gradients.

    Behind each chosen layer the gradient that comes back is replaced by what a small model predicts from the layer's
    output, :math:`\hat\delta = M(h)`, and M is fitted to the one that came, by squared error; the loss reaches the last
    part of the net alone. With ``unlocked=True`` each part takes its step as soon as it has run, before the rest has;
    otherwise all step together, by the same gradients, under all that automatic optimization has::

        Trainer(callbacks=[SyntheticGradients(kind="cdni", num_classes=10)]).fit(module, data)

    The models see each place of a map by itself. While a training runs they are in the module and its optimizer, but in
    no ``state_dict``: checkpoints keep them with this callback, and what is not resumed begins with new ones.

    Does not help: accuracy, which falls with depth where labels are not seen, nor the time of one device. Under SGD at
    a large rate the models diverge; take Adam. Not with :class:`GradientPenalty`, replicas, compiled modules, layers
    that run twice in a batch, FSDP or DeepSpeed; ``unlocked`` with methods on batches alone, and no way around a part.

    Args:
        after: Names of classes (``"ReLU"``) or globs of names of layers whose gradients are predicted; they are as wide
            as the layer with weights before them. Default: torch's activations.
        kind: ``"dni"`` sees units, ``"cdni"`` the label too; with ``"none"`` no gradient goes back.
        num_classes: Number of classes that ``"cdni"`` sees.
        hidden: Widths of the models' hidden layers, with batch norm and ReLU; the paper has ``[1024, 1024]`` for DNI.
        unlocked: Whether parts step at once: in one process, without float16, accumulation and clipping.
        seed: Seed of the models' first weights; default: what ``seed_everything`` was given, else 0.
        batch: Where ``"cdni"`` finds labels: ``("image", "label")`` or ``(0, 1)``.

    Raises:
        ValueError: At construction, if a number is out of range, or arguments do not go with the kind.
        MisconfigurationException: When the Trainer starts, if there is no such layer, no optimizer trains the models,
            or the Trainer does what ``unlocked`` cannot; in training, if units or labels are of another shape.
    """

    after: Globs | None = None
    kind: Literal["dni", "cdni", "none"] = "dni"
    num_classes: Count | None = None
    hidden: Annotated[Sequence[Count], "widths of at least 1, such as [1024]"] = ()
    unlocked: bool = False
    seed: Seed | None = None
    batch: Keys = None
    twice = "both would predict gradients of the same net; use one, with all layers in `after`"

    def __post_init__(self) -> None:
        """Check what the parameters say together."""
        super().__post_init__()
        if (self.kind == "cdni") != (self.num_classes is not None):
            raise ValueError(f"num_classes={self.num_classes} and kind={self.kind!r}: give both, kind='cdni', or none.")
        if self.kind == "none" and self.hidden:
            raise ValueError(f"hidden={list(self.hidden)} is of models, which kind='none' has none of; leave it out.")
        self._layers, self._before = dict[str, nn.Module](), dict[str, list[nn.Module]]()
        self._models, self._hooks, self._ran = dict[str, GradientModel](), list[Any](), set[str]()
        self._batch: Any = None

    @classmethod
    def variants(cls) -> list[Regularizer]:
        """Return a linear model of units, and a deeper one that sees labels."""
        return [cls(), cls(kind="cdni", num_classes=4, hidden=[5])]

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Refuse what differentiates gradients, and beside steps of parts what acts at whole steps."""
        if isinstance(other, GradientPenalty) or other.drives:
            return "what it would differentiate is a predicted gradient, of no loss; leave one of the two out"
        if self.unlocked and other.acts is not Acts.BATCH:
            return f"parts step by themselves, and {type(other).__name__} acts at whole steps; use unlocked=False"
        return super().refuses(other, before)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the layers their models, before optimizers are made and a checkpoint is restored."""
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        check_whole_weights("SyntheticGradients", trainer)
        pl_module.configure_model()  # by Lightning's rule a second call changes nothing
        name, kinds, globs = type(pl_module).__name__, set[str](), self.after
        by, before = None, dict[str, nn.Module]()  # the last layer with weights; those behind the last cut
        if any(map(is_compiled, pl_module.modules())):
            _refuse(f"acts between layers, and {name} is compiled; leave it eager.")
        self._layers, self._before, self._models = {}, {}, {}
        for path, layer in list(pl_module.named_modules())[1:]:
            kind = type(layer)
            kinds.add(kind.__name__)
            width = next((getattr(layer, own) for own in _WIDTHS if hasattr(layer, own)), None)
            # Of its own: a Sequential would call a model as one of its layers.
            if width and (like := next(layer.parameters(is_parametrized(layer)), None)) is not None:
                by, before = (layer, width, like), before | {path: layer}
            fits = kind.__module__ == "torch.nn.modules.activation" and not layer._modules
            if not (fits if globs is None else any(g == kind.__name__ or fnmatchcase(path, g) for g in globs)):
                continue
            if by is None or GRADIENT_MODEL in by[0]._modules:
                why = "no layer with weights stands before it" if by is None else "none stands between it and another"
                _refuse(f"cannot have a model behind {path!r}, as {why}; use `after` to name others.")
            place = path.rpartition(".")[0]  # a teacher may stand behind the net that is trained
            beside = [part for own, part in before.items() if own.rpartition(".")[0] == place and part is not by[0]]
            self._layers[path], self._before[path], before = layer, [*beside, by[0]], {}
            if self.kind != "none":
                seed = derive_seed(self.seed or 0, f"gradient model of {path}")
                model = GradientModel(by[1], self.num_classes or 0, self.hidden, seed).to(by[2])
                self._models[path] = by[0]._modules[GRADIENT_MODEL] = model
        if not self._layers:
            has = f"{name}, which has {few('', sorted(kinds))}"
            _refuse(f"finds no layer for after={globs!r} in {has}; use `after` to name some, or nn.ReLU for F.relu.")
        if not before:
            self.warn_once(f"leaves the loss no layer behind {[*self._layers][-1]!r} to train; use `after` without it.")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See to it that the models are trained, and put them between the layers."""
        super().on_train_start(trainer, pl_module)
        held = {w for optimizer in trainer.optimizers for w in parameters_of(optimizer)}
        learned = {w for model in self._models.values() for w in model.parameters()}
        for path, model in list(self._models.items()):
            # Again, as a training begins with letting go; a teacher's too, as averages walk through both nets.
            self._before[path][-1]._modules[GRADIENT_MODEL] = model
            if held and held.isdisjoint(model.parameters()):
                if any(not held.isdisjoint(part.parameters()) for part in self._before[path]):
                    what = f"has a model behind {path!r} that no optimizer trains, though one trains a layer before"
                    _refuse(f"{what}; let configure_optimizers use the parameters() of the module or net.")
                del self._layers[path], self._models[path]  # of a teacher or an average
        if any(len([*net.parameters()]) != len([*pl_module.parameters()]) for net in averaged_modules(trainer)):
            _refuse("comes behind a callback that averages weights and copied the module before; put it in front.")
        if self.kind != "none":
            self.check_found(trainer, learned, f"layer to learn in {type(pl_module).__name__}")
        for path, layer in self._layers.items():
            # No bound method, which a copy of the module would copy, and the Trainer with it.
            call = lambda part, _, units, of=path: self._between(trainer, pl_module, part, of, units)  # noqa: E731
            self._hooks.append(layer.register_forward_hook(call))
        why = "none of its layers ran in training mode with something to train before it"
        self.at_steps.idle = f"did nothing in a whole epoch: {why}; use `after` to name layers that are called."

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keep the batch, whose labels other methods may still change; begin without gradients where parts step."""
        self._batch, self._ran = batch, set()
        if not self.unlocked or only_gathers_statistics(trainer):
            return
        known = [o for o in trainer.optimizers if calls_its_closure_once(o) and not isinstance(o, torch.optim.LBFGS)]
        clips = type(pl_module).configure_gradient_clipping
        reasons = {  # that a callback may have made so since the last batch
            "float16": scaler_of(trainer) is not None,
            f"{trainer.world_size} processes": trainer.world_size > 1,
            f"accumulate_grad_batches={trainer.accumulate_grad_batches}": trainer.accumulate_grad_batches > 1,
            f"gradient_clip_val={trainer.gradient_clip_val}": bool(trainer.gradient_clip_val),
            clips.__qualname__: not clips.__module__.startswith((pl.__name__, "lightning_regs.")),
            "manual optimization": not pl_module.automatic_optimization,
            "another optimizer than one of torch's without closure": not len(known) == len(trainer.optimizers) == 1,
        }
        for reason in (reason for reason, found in reasons.items() if found):
            _refuse(f"steps each part by itself, which does not go with {reason}; use unlocked=False, else the same.")
        trainer.optimizers[0].zero_grad()

    def _between(self, trainer: pl.Trainer, pl_module: pl.LightningModule, part: Any, path: str, units: Any) -> Any:
        """Return what the rest of the net is given of a layer's output; a forward hook's work."""
        trains = part is self._layers[path] and part.training and torch.is_grad_enabled()  # and is no copy
        if not trains or only_gathers_statistics(trainer) or not getattr(units, "requires_grad", True):
            return None
        if not isinstance(units, Tensor):
            _refuse(f"acts on a tensor, and {path!r} returns {describe(units)}; use `after` to name others.")
        if path in self._ran:
            why = "it has several places, or a checkpoint or closure ran it again; use a layer a place, and run it once"
            _refuse(f"predicts one gradient a batch behind {path!r}, which ran twice: {why}.")
        self._ran.add(path)
        self.at_steps.acted = True
        predicted, send = torch.zeros_like(units), unchecked(synthetic_gradient)
        if (model := self._models.get(path)) is not None:
            more = "" if hasattr(self._before[path][-1], "out_features") else ", ..."  # whose units come last
            if units.shape[1:2] != (model.features,) or (units.ndim > 2 and not more):
                what = f"expects (N, {model.features}{more}) of {path!r}, by the layer before"
                _refuse(f"{what}, got {tuple(units.shape)}; use `after` to name others.")
            predicted = model(units.detach(), self._labels(len(units)) if self.num_classes else None)
        if self.unlocked:
            alone = send(units, predicted.detach())
            with outside_autocast(units):
                torch.autograd.backward(alone, torch.zeros_like(alone))  # what goes on is the predicted gradient
            trainer.optimizers[0].step()
            trainer.optimizers[0].zero_grad()
            units = units.detach()
        return send(units, predicted, scale_of(pl_module, units))

    def _labels(self, number: int) -> Tensor:
        """Return the labels of the batch as probabilities ``(N, K)``."""
        batch = list(self._batch) if isinstance(self._batch, tuple) else self._batch
        y: Tensor = take(batch, find_keys(batch, self.batch, type(self).__name__, "reads the labels of a batch")[1])
        classes = self.num_classes or 0
        if y.is_floating_point() and y.shape == (number, classes):
            return y
        if y.is_floating_point() or y.numel() != number:
            wanted = f"class indices (N,) or probabilities (N, {classes}) of {number} samples"
            _refuse(f"sees {wanted}, and these are {y.dtype} of shape {tuple(y.shape)}; use kind='dni'.")
        check_indices("labels", y.view(-1), classes)
        return as_mixed(y).probabilities(classes).view(number, -1)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the models, by the names of their layers."""
        return {"models": {path: model.layers.state_dict() for path, model in self._models.items()}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` returned."""
        there, here = state_dict["models"], self.state_dict()["models"]
        old, new = ({at: {n: w.shape for n, w in of[at].items()} for at in of} for of in (there, here))
        if old != new:
            what = f"has models behind {[*here]}, and the checkpoint behind {[*there]}, or of other widths"
            _refuse(f"{what}; use `after`, `kind` and `hidden` as they were there.")
        for path, values in there.items():
            self._models[path].layers.load_state_dict(values)

    on_train_end = pl.Callback.on_train_end  # when averages of weights are put into the module as it was in training

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of this training."""
        self.release()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let go of this training, and say what torch cannot know."""
        super().on_exception(trainer, pl_module, exception)
        if self.unlocked and "backward through the graph a second time" in str(exception):
            why = "SyntheticGradients steps each part by itself, and a way leads around one; use unlocked=False"
            exception.args = (f"{why}. ({exception})",)

    def release(self) -> None:
        """Leave the module as it was."""
        super().release()
        for hook in self._hooks:
            hook.remove()
        for *_, layer in self._before.values():
            layer._modules.pop(GRADIENT_MODEL, None)
        self._hooks, self._batch = [], None


def _refuse(why: str) -> NoReturn:
    raise MisconfigurationException(f"SyntheticGradients {why}")
