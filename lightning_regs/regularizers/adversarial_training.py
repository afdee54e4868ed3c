"""Adversarial training: train on the worst small change of each sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_regs.core.batch import notes, with_notes
from lightning_regs.core.checks import Positive, Seed, Share, Whole
from lightning_regs.core.lightning import MisconfigurationException, pl, replicas_of
from lightning_regs.core.undisturbed import undisturbed
from lightning_regs.regularizers.attacks import Bounds, pgd
from lightning_regs.regularizers.base import Regularizer
from lightning_regs.regularizers.parts.mixing import PairMixing, TargetMixing, Watch
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.regularizers.parts.scaling import scaler_of
from lightning_regs.regularizers.parts.targets import MixedTarget, as_mixed

ModuleLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]
_LOSS_INSTEAD = "pass AdversarialTraining(loss=...), a function (module, x, y) -> scalar"


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
    ``clean_weight`` other than 0.5 it comes after them, as weighted samples cannot be mixed; not twice in an epoch; not
    with FSDP. ``mixed`` doubles the batch and the memory. With several processes each rank attacks its own samples.
    Each net of ``Classifier(replicas=...)`` is attacked by itself, with the loss and the weights of the defaults.

    Args:
        epsilon: Largest change of an entry, above 0.
        steps: Gradient steps K; 1 is FGSM. The paper's PGD on CIFAR-10 takes 7. With 0 it is the random start alone:
            the noise that Goodfellow et al. compare with.
        step_size: Length :math:`\eta` of a step; None takes epsilon for one step, else 2.5 epsilon / K.
        random_start: Start at a uniform draw from the ball; None: with more than one step, and with none. ``"signs"``
            draws a corner of it, each entry by epsilon up or down (Tramer et al. 2018, arXiv:1705.07204).
        mode: ``augment`` or ``mixed``.
        clean_weight: :math:`\alpha` of ``mixed``, in [0, 1]. 0.5 is right for any loss that is a mean over samples;
            other weights need class indices as labels and a cross-entropy of torch.
        clip: ``(low, high)`` of valid entries; None where there is none, as after whitening.
        loss: ``(module, x, y) -> scalar`` that the attack raises; None: ``F.cross_entropy(module(x), y)``, for class
            indices and probabilities ``(N, K)``; a regression or several labels a sample need theirs.

    Raises:
        TypeError: At construction, if ``steps`` is no integer.
        ValueError: At construction, for a value outside its range or an unknown mode, and a ``clean_weight`` without
            ``mixed``; in training, if the loss does not depend on ``x``.
        MisconfigurationException: In training, if the module has no forward and no ``loss`` is given, the samples are
            integers or outside ``clip``, or the labels do not go with the loss.
    """

    epsilon: Positive = 8 / 255
    steps: Whole = 1
    step_size: Positive | None = None
    random_start: bool | Literal["signs"] | None = None
    mode: Literal["augment", "mixed"] = "augment"
    clean_weight: Share = 0.5
    clip: Bounds = None
    loss: ModuleLoss | None = None
    seed: Seed | None = None
    twice = "the second would attack the first one's examples; use one, with more steps"

    def __post_init__(self) -> None:
        """Check what the parameters say together, and fill in those that follow from others."""
        super().__post_init__()
        if self.mode == "augment" and self.clean_weight != 0.5:
            raise ValueError(
                f"clean_weight={self.clean_weight:g} has no meaning with mode='augment'; use mode='mixed'."
            )
        if self.step_size is None:
            self.step_size = self.epsilon if self.steps <= 1 else 2.5 * self.epsilon / self.steps
        if self.random_start is None:
            self.random_start = self.steps != 1
        if not (self.steps or self.random_start):
            raise ValueError("steps=0 and random_start=False change nothing; give one of them another value.")
        self._range = Watch()

    @classmethod
    def variants(cls) -> list[Regularizer]:
        """Return FGSM as augmentation, and PGD as mixed loss of equal and of unequal weights."""
        return [cls(), cls(steps=2, mode="mixed"), cls(steps=2, mode="mixed", clean_weight=0.3)]

    @property
    def weighs_samples(self) -> bool:
        """Whether clean and adversarial samples weigh differently in the loss."""
        return self.mode == "mixed" and self.clean_weight != 0.5

    @property
    def acts_on_replicas(self) -> bool:  # type: ignore[override]
        """Whether it attacks each net by itself: with a loss that it knows, and no weights of samples."""
        return self.loss is None and not self.weighs_samples

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Refuse a second attack, and mixing after the samples were weighed."""
        if before and self.weighs_samples and isinstance(other, PairMixing):
            return (
                f"samples that weigh {self.clean_weight:g} and {1 - self.clean_weight:g} in the loss cannot be mixed; "
                f"put {type(other).__name__} before AdversarialTraining, or use clean_weight=0.5"
            )
        return super().refuses(other, before)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that there is a forward to attack."""
        forward = pl_module.__dict__.get("forward", type(pl_module).forward)
        if self.loss is None and forward in (nn.Module.forward, pl.LightningModule.forward):
            raise MisconfigurationException(
                f"AdversarialTraining attacks F.cross_entropy(module(x), y), and {type(pl_module).__name__} has no "
                f"forward; give it one that returns the logits, or {_LOSS_INSTEAD}."
            )
        self._range, self._odd_rows = Watch(), Watch()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check what the last batches were seen to hold."""
        super().on_train_epoch_end(trainer, pl_module)
        self._range.rest()

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """Attack, and replace or double the batch."""
        if self.weighs_samples:
            self.check_labels(x, y)
        self._check_samples(x)
        adversarial = self.attack(x, y, at)
        of_batch = 1 if replicas_of(at.module) else 0  # the dimension that counts samples
        if self.loss is None and y.is_floating_point():
            remedy = f"{_LOSS_INSTEAD}, such as the module's own loss"
            rows, takes = y.flatten(0, of_batch), "attacks F.cross_entropy(module(x), y) of float labels"
            self.check_probabilities(rows, takes, remedy)
        if self.mode == "augment":
            return adversarial, y
        # Interleaved, so that each even slice of the batch holds as many clean as adversarial samples.
        known = {name: value.repeat_interleave(2, of_batch) for name, value in notes(y).items()}
        both = torch.stack([x, adversarial], of_batch + 1).flatten(of_batch, of_batch + 1)
        return both, with_notes(self._doubled(y, of_batch), known)

    def reproach(self, target: MixedTarget, name: str) -> str | None:
        """Say if a loss lacks the weights of the samples."""
        why = super().reproach(target, name) if self.weighs_samples else None
        return why and f"weighed clean and adversarial samples in vain: it {why}"

    def attack(self, x: Tensor, y: Tensor, at: Moment) -> Tensor:
        """Return the adversarial examples of a batch, of the shape of ``x``."""
        precision, scaler = at.trainer.precision_plugin, scaler_of(at.trainer)
        assert self.step_size is not None
        if isinstance(y, MixedTarget):
            # A target of its own: that the attack asked for the mixture does not mean that the training step does.
            y = MixedTarget(y.components, y.smoothing, y.sample_weights)

        def loss(changed: Tensor) -> Tensor:
            with precision.forward_context():
                value = self._loss(at.module, changed, y)
            # Gradients of samples are small: under fp16 they would vanish unscaled, and their sign with them.
            return value if scaler is None else scaler.scale(value)

        noise = None
        if self.random_start:
            generator = at.stream(device=x.device)
            noise = torch.empty_like(x).uniform_(-self.epsilon, self.epsilon, generator=generator)
            noise = self.epsilon * noise.sign() if self.random_start == "signs" else noise
        with undisturbed(at.module, x):
            return pgd(loss, x, self.epsilon, self.step_size, self.steps, noise, self.clip)

    def _loss(self, module: pl.LightningModule, x: Tensor, y: Tensor) -> Tensor:
        if self.loss is not None:
            return self.loss(module, x, y)
        logits, fits = module(x), False
        if replicas_of(module):
            logits, y = logits.flatten(0, 1), y.flatten(0, 1)
        if isinstance(logits, Tensor) and logits.ndim > 1 and logits.shape[1] > 1:
            wanted = logits.shape if y.is_floating_point() else logits.shape[:1] + logits.shape[2:]
            fits = y.shape == wanted or (not y.is_floating_point() and y.shape == (*wanted[:1], 1, *wanted[1:]))
        if not fits:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise MisconfigurationException(
                "AdversarialTraining attacks F.cross_entropy(module(x), y), which takes logits (N, K, ...) and class "
                f"indices (N, ...) or probabilities (N, K, ...), and {type(module).__name__} returned {found} for "
                f"{y.dtype} labels of shape {tuple(y.shape)}; {_LOSS_INSTEAD}."
            )
        y = y.reshape(wanted)
        return F.cross_entropy(logits, y if y.is_floating_point() else y.long())

    def _doubled(self, y: Tensor, of_batch: int) -> Tensor:
        twice = y.repeat_interleave(2, of_batch)
        if not self.weighs_samples:
            return twice
        if y.is_floating_point():
            raise MisconfigurationException(
                f"AdversarialTraining(clean_weight={self.clean_weight:g}) weighs samples in torch's cross-entropy of "
                f"class indices, and this batch has {y.dtype} labels; give class indices, or use clean_weight=0.5."
            )
        pair = torch.tensor([2 * self.clean_weight, 2 * (1 - self.clean_weight)], pin_memory=y.is_cuda)
        weights = pair.to(y.device, non_blocking=True).repeat(len(y))
        return as_mixed(twice).with_extras(sample_weights=weights.view(-1, *[1] * (y.ndim - 1)).expand_as(twice))

    def _check_samples(self, x: Tensor) -> None:
        if not x.is_floating_point():
            raise MisconfigurationException(
                f"AdversarialTraining needs gradients of the samples, so they have to be floating point, and these are "
                f"{x.dtype}; convert and scale them in the data set's transform or in on_after_batch_transfer."
            )

        def check(low: float, high: float) -> None:
            if max(-low, high) > 1000 * self.epsilon and not self._warned:
                self.warn_once(
                    f"changes samples that reach from {low:.4g} to {high:.4g} by at most {self.epsilon:.4g}, which is "
                    "next to nothing; give epsilon in the unit that the samples have in the training step."
                )
            if self.clip is not None and (low < self.clip[0] or high > self.clip[1]):
                raise MisconfigurationException(
                    f"AdversarialTraining(clip={self.clip}) names the valid range of the samples, and these reach from "
                    f"{low:.4g} to {high:.4g}; give the range that they have after whitening, or leave clip out."
                )

        self._range.see(torch.stack(torch.aminmax(x.detach())), check)
