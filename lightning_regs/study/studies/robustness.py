"""How robust a trained net is to adversarial examples of its own and of another net, as a task."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_regs.analysis.robustness import adversarial_error
from lightning_regs.core.runs import RunContext
from lightning_regs.data.augment import to_unit
from lightning_regs.data.dataset import ImageArrays
from lightning_regs.study.paper.config import override
from lightning_regs.study.studies.agreement import further
from lightning_regs.training.fit import fit

# Zhang et al. 2018, arXiv:1710.09412.
EPSILON, STEPS = 4 / 255, 10


def attacked(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Train a net and another one, and measure the one under adversarial examples that are made for either.

    Args:
        config: That of :func:`~lightning_regs.training.fit.fit`; ``config["crafted_on"]`` is what the other net, of
            another seed, changes in it, by dotted path: ``{"model.regularizers": []}``. ``config["attack"]`` may have
            ``epsilon``, in pixels of [0, 1] (default 4/255), and ``steps`` of I-FGSM (default 10), as options of
            :func:`~lightning_regs.analysis.adversarial_error`.
        run: The engine's run. An interrupted one goes on from its last saved epoch.

    Returns:
        Errors on the test set in percent: ``test_error``, ``fgsm_error`` and ``ifgsm_error`` of the net under examples
        that are made for it, ``transfer_fgsm_error`` and ``transfer_ifgsm_error`` under those made for the other.

    Raises:
        ValueError: If the two nets do not take the same classes and samples, or an option has no such value.
    """
    config = dict(config)
    attack = {"epsilon": EPSILON, "steps": STEPS} | config.pop("attack", {})
    other = override(config, config.pop("crafted_on", {}))
    trained, source = fit(config, run), fit(other, further(run, 1))
    test, device = trained.data.dataset("test"), trained.trainer.strategy.root_device
    assert isinstance(test, ImageArrays)
    assert isinstance(test.x, Tensor)
    x, y = to_unit(test.x).to(device), test.y.to(device)
    net, nets = trained.network().to(device), {"": None, "transfer_": source.network().to(device)}
    row = {"test_error": 100 - trained.metrics["test_acc"]}
    for prefix, crafted_on in nets.items():
        for name, options in {"fgsm": attack | {"steps": 1, "step_size": None}, "ifgsm": attack}.items():
            error = adversarial_error(
                net, x, y, **options, transform=trained.data.eval_transform, crafted_on=crafted_on
            )  # fmt: skip
            row[f"{prefix}{name}_error"] = 100 * error
    return row
