"""The error of a classifier under adversarial examples, of its own or of another net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_regs.core.checks import Count, Positive, Shape, checked, nonempty, warn
from lightning_regs.core.undisturbed import undisturbed
from lightning_regs.regularizers.attacks import Bounds, pgd

# How far beyond the bounds arithmetic may have put an entry.
_ROUNDING = 1e-3
Samples = Annotated[Tensor, Shape("N ...", "floating-point", "divide bytes by 255"), nonempty]
Labels = Annotated[Tensor, Shape("N", "integer")]


@checked
def adversarial_error(
    module: nn.Module,
    x: Samples,
    y: Labels,
    epsilon: Positive,
    steps: Count = 1,
    step_size: Positive | None = None,
    clip: Bounds = (0.0, 1.0),
    transform: Callable[[Tensor], Tensor] | None = None,
    crafted_on: nn.Module | None = None,
    batch_size: Count = 500,
) -> float:
    r"""Return the share of samples, in [0, 1], that a net gets wrong after each was changed to raise its loss.

    One step is FGSM, :math:`x + \epsilon \, sign(\nabla_x J)` (Goodfellow et al. 2015, arXiv:1412.6572), several are
    I-FGSM, steps of :math:`\eta` that never leave the box of :math:`\epsilon` (Kurakin et al. 2017, arXiv:1607.02533).
    J is the cross-entropy with the true label. With ``crafted_on`` the gradients are that net's, a black-box attack by
    transfer; else the net's own, a white-box one. Zhang et al. 2018, arXiv:1710.09412, take
    :math:`\epsilon = 4/255` and 10 steps.

    All nets are evaluated in evaluation mode and left as they were, with the gradients of their parameters and torch's
    random streams. A low error under one step proves little: a net whose gradients vanish, because it is very sure of
    itself, withstands it without being robust; measure I-FGSM and transfer too.

    Args:
        module: Maps what ``transform`` gives to logits ``(N, K)``.
        x: Samples ``(N, ...)`` in the unit of ``epsilon`` and ``clip``: pixels in [0, 1].
        y: Their classes ``(N,)``.
        epsilon: Largest change of an entry, above 0.
        steps: Number of gradient steps, at least 1.
        step_size: Length of one; None takes epsilon for one step, else 2.5 epsilon / steps, which is 1/255 for the
            paper's ten.
        clip: ``(low, high)`` of valid entries; None for no bounds.
        transform: From samples to what the nets take, differentiable: a normalization, or
            :meth:`~lightning_regs.ImageDataModule.eval_transform`. None: as they are.
        crafted_on: The net that the examples are made for; default: ``module``.
        batch_size: Samples that are attacked at a time; the result does not depend on it.

    Raises:
        TypeError: If the samples are integers, or a net does not give logits.
        ValueError: If a number is outside its range, ``x`` outside ``clip``, or a label none of the classes; if shapes
            differ, or the logits do not depend on ``x``.

    Example:
        >>> net = nn.Linear(1, 2)
        >>> _ = net.load_state_dict({"weight": torch.tensor([[-1.0], [1.0]]), "bias": torch.tensor([0.5, -0.5])})
        >>> adversarial_error(net, torch.tensor([[0.4], [0.1]]), torch.tensor([0, 0]), epsilon=0.2)
        0.5
    """
    options = (epsilon, steps, step_size, clip, transform, crafted_on, batch_size)
    return int((adversarial_logits(module, x, y, *options).argmax(1) != y).sum()) / len(x)


@checked
def adversarial_logits(
    module: nn.Module,
    x: Samples,
    y: Labels,
    epsilon: Positive,
    steps: Count = 1,
    step_size: Positive | None = None,
    clip: Bounds = (0.0, 1.0),
    transform: Callable[[Tensor], Tensor] | None = None,
    crafted_on: nn.Module | None = None,
    batch_size: Count = 500,
) -> Tensor:
    """Return what a net says of samples, each of which was changed to raise its loss: logits ``(N, K)``.

    Arguments, errors and what is left as it was are those of :func:`adversarial_error`, which counts the wrong ones.
    Their largest probability is how confident the net is (Goodfellow et al. 2015, arXiv:1412.6572, section 4).
    """
    source = module if crafted_on is None else crafted_on
    if step_size is None:
        step_size = epsilon if steps == 1 else 2.5 * epsilon / steps

    def logits(net: nn.Module, samples: Tensor) -> Tensor:
        found: Tensor = net(samples if transform is None else transform(samples))
        return found

    if clip is not None and not ((x >= clip[0] - _ROUNDING) & (x <= clip[1] + _ROUNDING)).all():
        raise ValueError(
            f"x reaches from {x.min():.4g} to {x.max():.4g}, and clip={clip} bounds an attack; give pixels in that "
            "range, with their normalization as transform=, or other bounds or clip=None."
        )
    with torch.inference_mode(False), undisturbed(module, x), undisturbed(source, x), torch.no_grad():
        moved, found = torch.zeros(1, dtype=torch.long, device=x.device), []
        x, y = (t.clone() if t.is_inference() else t for t in (x, y))
        for net in dict.fromkeys((module, source)):
            _check_logits(net, logits(net, x[:1]), y)
        for part, labels in zip(torch.split(x, batch_size), torch.split(y.long(), batch_size), strict=True):

            def loss(changed: Tensor, labels: Tensor = labels) -> Tensor:
                return F.cross_entropy(logits(source, changed), labels, reduction="sum")

            changed = pgd(loss, part, epsilon, step_size, steps, None, clip)
            found.append(logits(module, changed))
            moved += (changed != part).sum()
    if not moved:
        warn(
            "no entry of x was changed, and this is the error without an attack: the gradient is 0 everywhere, as "
            f"behind a transform that rounds, or epsilon={epsilon} is below the precision of {x.dtype}."
        )
    return torch.cat(found)


def _check_logits(net: nn.Module, found: object, y: Tensor) -> None:
    name = type(net).__name__
    if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[1] < 2:
        shape = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise TypeError(f"{name} gives {shape}, and an attack needs logits (N, K) of at least 2 classes.")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= found.shape[1]:
        raise ValueError(
            f"y has labels from {low} to {high}, and {name} gives logits of {found.shape[1]} classes; labels are from "
            f"0 to {found.shape[1] - 1}, so leave out samples without one."
        )
