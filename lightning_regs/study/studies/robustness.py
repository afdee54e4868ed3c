"""How robust a trained net is to adversarial examples of its own and of another net, as a task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_regs.analysis.robustness import adversarial_logits
from lightning_regs.core import rng
from lightning_regs.core.checks import Count, Positive, checked
from lightning_regs.core.runs import RunContext
from lightning_regs.data.augment import to_unit
from lightning_regs.data.dataset import ImageArrays
from lightning_regs.regularizers.attacks import Bounds
from lightning_regs.study.paper.config import override
from lightning_regs.study.studies.agreement import further
from lightning_regs.training.fit import Trained, fit_stack, shared, stackable
from lightning_regs.training.options import check_config, looks, section


@checked
@dataclass(frozen=True)
class _Options:  # defaults of Zhang et al. 2018, arXiv:1710.09412
    epsilon: Positive = 4 / 255
    steps: Count = 10
    clip: Bounds = (0.0, 1.0)


def _look(config: Mapping[str, Any]) -> None:
    section(config, "attack", _Options)
    check_config(override(config, config.get("crafted_on") or {}))


@looks(_look)
@stackable
def attacked(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train a net, and another one if that is asked for, and measure the one under examples that are made for either.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`; of several, which are replicas of one net, the same.
            ``config["crafted_on"]`` is what the other net, of another seed, changes in it, by dotted path:
            ``{"model.regularizers": []}``. ``config["attack"]`` may have ``epsilon``, in pixels of [0, 1] (default
            4/255), ``steps`` of I-FGSM (default 10) and ``clip``, as options of
            :func:`~lightning_regs.analysis.adversarial_error`.
        runs: The engine's. An interrupted one goes on from its last saved epoch.

    Returns:
        Percentages: ``train_acc`` and ``test_error``; of the test set the ``fgsm_error`` and ``ifgsm_error`` of the net
        under examples that are made for it, ``transfer_fgsm_error`` and ``transfer_ifgsm_error`` under those made for
        the other, ``signs_error`` where each pixel goes up or down by epsilon at random; and ``fgsm_confidence``, the
        mean probability of what it says of examples made for it that it has wrong.

    Raises:
        ValueError: If the two nets do not take the same classes and samples, or an option has no such value.
    """
    config = shared(configs)
    attack, crafted_on = vars(section(config, "attack", _Options)), config.get("crafted_on")
    for run in runs:
        run.parts = 1 if crafted_on is None else 2
    nets, others = fit_stack(config, runs), [None] * len(runs)
    if crafted_on is not None:
        apart = [further(run, 1, at=1) for run in runs]
        others = fit_stack(override(config, crafted_on), apart)  # type: ignore[assignment]
    return [_under(attack, *found) for found in zip(nets, others, (run.seed for run in runs), strict=True)]


def _under(attack: dict[str, Any], trained: Trained, other: Trained | None, seed: int) -> dict[str, float]:
    test, device = trained.data.dataset("test"), trained.trainer.strategy.root_device
    assert isinstance(test, ImageArrays)
    assert isinstance(test.x, Tensor)
    x, y = to_unit(test.x).to(device), test.y.to(device)
    net, transform = trained.network().to(device), trained.data.eval_transform
    row = {"train_acc": trained.metrics["train_acc"], "test_error": 100 - trained.metrics["test_acc"]}

    def error(name: str, logits: Tensor) -> Tensor:
        wrong = logits.argmax(1) != y
        row[f"{name}_error"] = 100 * int(wrong.sum()) / len(y)
        return logits[wrong]

    sources = {"": net} | ({} if other is None else {"transfer_": other.network().to(device)})
    for prefix, source in sources.items():
        for name, options in {"ifgsm": {}, "fgsm": {"steps": 1, "step_size": None}}.items():
            given: dict[str, Any] = attack | options | {"transform": transform, "crafted_on": source}
            mistakes = error(prefix + name, adversarial_logits(net, x, y, **given))
            if source is net:
                sure = mistakes.softmax(1).amax(1)
                row["fgsm_confidence"] = 100 * float(sure.mean()) if len(sure) else math.nan
    signs = torch.randint(2, x.shape, generator=rng.generator(seed, "signs")).to(x) * 2 - 1
    noisy = x + attack["epsilon"] * signs
    with torch.no_grad():
        error("signs", net(transform(noisy if attack["clip"] is None else noisy.clamp(*attack["clip"]))))
    return row
