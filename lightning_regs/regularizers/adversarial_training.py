"""Adversarial training: train on the worst small change of each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_regs.core import rng
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.core.names import unknown_name
from lightning_regs.regularizers.attacks import Clip, check_clip, check_steps, fgsm, pgd
from lightning_regs.regularizers.base import Regularizer, check_number
from lightning_regs.regularizers.mixing import PairMixing, TargetMixing, change_corrupted
from lightning_regs.regularizers.targets import MixedTarget, as_mixed

ModuleLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]


class AdversarialTraining(TargetMixing):
    r"""Adversarial training by FGSM (Goodfellow et al. 2015, arXiv:1412.6572) or PGD (Madry et al. 2018, 1706.06083).

    Before each training step the samples ``x`` are changed so that the loss J grows, by at most :math:`\epsilon` each
    entry: :math:`x' = x + \epsilon \, sign(\nabla_x J)` in one step, or K steps of
    :math:`\Pi_{|\delta| \le \epsilon}(x_k + \eta \, sign(\nabla_x J(x_k)))`. ``augment`` trains on :math:`J(x')`
    (Madry), ``mixed`` on :math:`\alpha J(x) + (1 - \alpha) J(x')` (Goodfellow), by a batch of twice the size in which
    each sample is followed by its adversarial one. The attack sees the module in eval mode (no dropout, running
    statistics of batch norms) under the Trainer's precision, changes no gradient, metric, statistic or random stream,
    and costs one forward and backward pass each step.

    :math:`\epsilon` is in units of ``x`` as it reaches the training step: 8/255 is for pixels in [0, 1]; where images
    are divided by a standard deviation, divide it too.

    Does not help: accuracy on clean data mostly falls. One step without a random start can be overfitted, so that PGD
    breaks the network again ("catastrophic overfitting"); measure by an attack stronger than the one trained on. In
    ``mixed``, batch norms see clean and adversarial samples in one batch.

    Composes with the others, in the order of the list: after :class:`Mixup` it attacks the mixture. With a
    ``clean_weight`` other than 0.5 it comes after them, as weighted samples cannot be mixed; not twice; not with FSDP.
    ``mixed`` doubles the batch and the memory. With several processes each rank attacks its own samples.

    Args:
        epsilon: Largest change of an entry, above 0.
        steps: Gradient steps K; 1 is FGSM. The paper's PGD on CIFAR-10 takes 7.
        step_size: Length :math:`\eta` of a step; None takes epsilon for one step, else 2.5 epsilon / K.
        random_start: Start at a uniform draw from the ball; None: with more than one step.
        mode: ``augment`` or ``mixed``.
        clean_weight: :math:`\alpha` of ``mixed``, in [0, 1]. 0.5 is right for any loss that is a mean over samples;
            other weights need class indices as labels and a cross-entropy of torch.
        clip: ``(low, high)`` of valid entries; None where there is none, as after whitening.
        loss: ``(module, x, y) -> scalar`` that the attack raises; None: ``F.cross_entropy(module(x), y)``, for class
            indices and probabilities ``(N, K)``.
        seed: Seed of its draws; default: what ``seed_everything`` was given, else 0.

    Raises:
        TypeError: At construction, if ``steps`` is no integer.
        ValueError: At construction, for a value outside its range or an unknown mode, and a ``clean_weight`` without
            ``mixed``; in training, if the loss does not depend on ``x``.
        MisconfigurationException: In training, if the module has no forward and no ``loss`` is given, the samples are
            integers or outside ``clip``, or the labels do not go with the loss.
    """

    def __init__(
        self,
        epsilon: float = 8 / 255,
        steps: int = 1,
        step_size: float | None = None,
        random_start: bool | None = None,
        mode: Literal["augment", "mixed"] = "augment",
        clean_weight: float = 0.5,
        clip: Clip | None = None,
        loss: ModuleLoss | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.epsilon = check_number("epsilon", epsilon, open_low=True)
        self.steps = check_steps(steps)
        if step_size is None:
            step_size = self.epsilon if steps == 1 else 2.5 * self.epsilon / steps
        self.step_size = check_number("step_size", step_size, open_low=True)
        self.random_start = steps > 1 if random_start is None else random_start
        if mode not in ("augment", "mixed"):
            raise unknown_name("mode", mode, ("augment", "mixed"))
        self.mode = mode
        self.clean_weight = check_number("clean_weight", clean_weight, high=1.0)
        if mode == "augment" and clean_weight != 0.5:
            raise ValueError(f"clean_weight={clean_weight:g} has no meaning with mode='augment'; use mode='mixed'.")
        self.clip = check_clip(clip)
        self.loss = loss
        self._checked_clip = False

    @classmethod
    def variants(cls) -> list[Regularizer]:
        """Return FGSM as augmentation, and PGD as mixed loss of equal and of unequal weights."""
        return [cls(), cls(steps=2, mode="mixed"), cls(steps=2, mode="mixed", clean_weight=0.3)]

    in_vain = "weighed clean and adversarial samples in vain"

    @property
    def weighs_samples(self) -> bool:
        """Whether clean and adversarial samples weigh differently in the loss."""
        return self.mode == "mixed" and self.clean_weight != 0.5

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Refuse a second attack, and mixing after the samples were weighed."""
        if isinstance(other, AdversarialTraining):
            return "the second would attack the first one's examples; use one, with more steps"
        if before and self.weighs_samples and isinstance(other, PairMixing):
            return (
                f"samples that weigh {self.clean_weight:g} and {1 - self.clean_weight:g} in the loss cannot be mixed; "
                f"put {type(other).__name__} before AdversarialTraining, or use clean_weight=0.5"
            )
        return None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that there is a forward to attack."""
        forward = pl_module.__dict__.get("forward", type(pl_module).forward)
        if self.loss is None and forward in (nn.Module.forward, pl.LightningModule.forward):
            raise MisconfigurationException(
                f"AdversarialTraining attacks F.cross_entropy(module(x), y), and {type(pl_module).__name__} has no "
                "forward; give it one that returns the logits, or pass AdversarialTraining(loss=...), a function "
                "(module, x, y) -> scalar."
            )
        self._checked_clip = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Attack, and replace or double the batch."""
        x, y = self.labelled(batch) if self.weighs_samples else self.pair(batch)
        self._check_samples(x)
        adversarial = self.attack(trainer, pl_module, x, y, batch_idx)
        if self.mode == "augment":
            batch[0] = adversarial
            return
        # Interleaved, so that each even slice of the batch holds as many clean as adversarial samples.
        batch[0] = torch.stack([x, adversarial], 1).flatten(0, 1)
        batch[1] = self._doubled(y)
        change_corrupted(trainer, lambda mask: mask.repeat_interleave(2))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Warn, once, if the weights of the samples reached no loss."""
        if self.weighs_samples:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def attack(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, x: Tensor, y: Tensor, batch_idx: int
    ) -> Tensor:
        """Return the adversarial examples of a batch, of the shape of ``x``."""
        precision = trainer.precision_plugin
        scaler: torch.amp.GradScaler | None = getattr(precision, "scaler", None)
        if isinstance(y, MixedTarget):
            # A target of its own: that the attack asked for the mixture does not mean that the training step does.
            y = MixedTarget(y.components, y.smoothing, y.sample_weights)

        def loss(changed: Tensor) -> Tensor:
            with precision.forward_context():
                value = self._loss(pl_module, changed, y)
            # Gradients of samples are small: under fp16 they would vanish unscaled, and their sign with them.
            return value if scaler is None else scaler.scale(value)

        noise = None
        if self.random_start:
            place = self.position(trainer, batch_idx)
            generator = rng.generator(self.seed, type(self).__name__, *place, device=x.device)
            noise = torch.empty_like(x).uniform_(-self.epsilon, self.epsilon, generator=generator)
        with _evaluating(pl_module), _random_streams_kept(x.device):
            if self.steps == 1 and noise is None and self.step_size == self.epsilon:
                return fgsm(loss, x, self.epsilon, self.clip)
            return pgd(loss, x, self.epsilon, self.step_size, self.steps, noise, self.clip)

    def _loss(self, module: pl.LightningModule, x: Tensor, y: Tensor) -> Tensor:
        if self.loss is not None:
            return self.loss(module, x, y)
        logits = module(x)
        probabilities = y.is_floating_point()
        fits = isinstance(logits, Tensor) and logits.ndim > 1 and (not probabilities or y.shape == logits.shape)
        if not fits or logits.shape[1] < 2:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise MisconfigurationException(
                "AdversarialTraining attacks F.cross_entropy(module(x), y), which takes logits (N, K) and class indices"
                f" or probabilities (N, K), and {type(module).__name__} returned {found} for {y.dtype} labels of shape "
                f"{tuple(y.shape)}; pass AdversarialTraining(loss=...), a function (module, x, y) -> scalar."
            )
        return F.cross_entropy(logits, y)

    def _doubled(self, y: Tensor) -> Tensor:
        twice = y.repeat_interleave(2, 0)
        if not self.weighs_samples:
            return twice
        if y.is_floating_point():
            raise MisconfigurationException(
                f"AdversarialTraining(clean_weight={self.clean_weight:g}) weighs samples in torch's cross-entropy of "
                f"class indices, and this batch has {y.dtype} labels; give class indices, or use clean_weight=0.5."
            )
        target = as_mixed(twice)
        pair = torch.tensor([2 * self.clean_weight, 2 * (1 - self.clean_weight)], pin_memory=y.is_cuda)
        weights = pair.to(y.device, non_blocking=True).repeat(len(y))
        return MixedTarget(target.components, target.smoothing, weights)

    def _check_samples(self, x: Tensor) -> None:
        if not x.is_floating_point():
            raise MisconfigurationException(
                f"AdversarialTraining needs gradients of the samples, so they have to be floating point, and these are "
                f"{x.dtype}; convert and scale them in the data set's transform or in on_after_batch_transfer."
            )
        if self._checked_clip:
            return
        self._checked_clip = True
        low, high = (float(v) for v in torch.aminmax(x.detach()))
        if max(-low, high) > 1000 * self.epsilon:
            self.warn_once(
                f"changes samples that reach from {low:.4g} to {high:.4g} by at most {self.epsilon:.4g}, which is next "
                "to nothing; give epsilon in the unit that the samples have in the training step."
            )
        if self.clip is not None and (low < self.clip[0] or high > self.clip[1]):
            raise MisconfigurationException(
                f"AdversarialTraining(clip={self.clip}) names the valid range of the samples, and these reach from "
                f"{low:.4g} to {high:.4g}; give the range that they have after whitening, or leave clip out."
            )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    # By flag, not by eval(): a module that overrides train() would not come back as it was.
    training = [m for m in module.modules() if m.training]
    try:
        for m in training:
            m.training = False
        yield
    finally:
        for m in training:
            m.training = True


@contextmanager
def _random_streams_kept(device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
