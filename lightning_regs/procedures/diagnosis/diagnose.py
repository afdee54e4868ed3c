"""Checks of a LightningModule and its data, before a training is trusted: what is wrong, and what to do about it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lightning_regs.core import rng
from lightning_regs.core.checks import Seed, checked
from lightning_regs.core.lightning import MisconfigurationException, pl, takes_its_batches
from lightning_regs.core.names import unknown_name
from lightning_regs.procedures.copies import copies
from lightning_regs.procedures.diagnosis.case import BATCHES, Case, collect
from lightning_regs.procedures.diagnosis.checks import CHECKS
from lightning_regs.procedures.diagnosis.findings import Finding
from lightning_regs.procedures.driver import Options, Source
from lightning_regs.training.fit import quiet


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` found; ``print`` shows it, ``lightning-regs doctor`` makes a page of it.

    Attributes:
        name: The module's class.
        findings: One of each check, in their order.
    """

    name: str
    findings: tuple[Finding, ...]

    @property
    def cried(self) -> tuple[Finding, ...]:
        """What is wrong."""
        return tuple(finding for finding in self.findings if finding.verdict == "cry")

    @property
    def summary(self) -> str:
        """How many checks cried, which, and which were skipped."""
        names, skipped = [f.name for f in self.cried], [f.name for f in self.findings if f.verdict == "skipped"]
        told = f"{len(names)} of {len(self.findings)} checks cried{': ' * bool(names)}{', '.join(names)}"
        return f"{told}; skipped: {', '.join(skipped)}." if skipped else f"{told}."

    def __getitem__(self, check: str) -> Finding:
        """Return the finding of a check, such as ``"sample_leak"``."""
        found = {finding.name: finding for finding in self.findings}
        if check not in found:
            raise unknown_name("check", check, found)
        return found[check]

    def __str__(self) -> str:
        lines = (f"{f.verdict:8}{f.name:20}{f.sentence}{f' {f.remedy}' if f.remedy else ''}" for f in self.findings)
        return "\n".join(lines)


@checked
def diagnose(
    module: pl.LightningModule,
    data: Source = None,
    *,
    skip: Sequence[str] = (),
    trainer: Options | None = None,
    seed: Seed | None = None,
) -> Diagnosis:
    """Find the usual mistakes in a module and its data by short checks, and say what to do about each.

    The recipe of Karpathy, "A Recipe for Training Neural Networks" (2019), and Tobin, "Troubleshooting Deep Neural
    Networks" (2019): order and scale of the data, loss at start against ln K, what the loss is given, gradients against
    differences in float64, training against evaluation mode, gradients of one sample's output by another sample, dead
    units, one batch learned by heart, with its inputs and with zeros, how far steps move weights, labels against
    shuffled ones on held-out samples, and the learning rate against a range test. Each threshold has its
    reason beside it, in ``checks.py``.

    They look at up to 20 batches, of up to 32 samples each, and take about a thousand steps on copies. The module, its
    weights, buffers, modes and optimizer, the data and their order, and the global random streams stay as they are, bit
    for bit. A check that cannot be made of this module says why: with manual optimization or several optimizers, steps
    are the module's own, and only what the data, ``forward`` and its weights show is looked at.

    Does not help: to find what is wrong only late in a training. What is meant, such as frozen layers, cries too: skip
    that check.

    Args:
        module: Any LightningModule, trained or not, whose batches its ``training_step`` is given.
        data: A LightningDataModule, a training loader, or a function that makes one; None if the module has a loader.
        skip: Names of checks to leave out, such as ``["update_ratio"]``.
        trainer: Further options of the Trainer, such as ``{"accelerator": "gpu", "precision": "bf16-mixed"}``.
        seed: Of all that is drawn; default: what ``seed_everything`` was given, else 0.

    Returns:
        The findings, a :class:`~lightning_regs.procedures.diagnosis.diagnose.Diagnosis`, whose ``cried`` are the wrong.

    Raises:
        TypeError: If an argument is of another type, or cannot be copied.
        ValueError: If there is no such check, the data give no batch, weights of lazy layers have no shape, or
            ``trainer`` has several devices.
        MisconfigurationException: If ``training_step`` fetches its batches by itself.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> class Net(pl.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(4, 2)
        ...     def training_step(self, batch, batch_idx):
        ...         return torch.nn.functional.cross_entropy(self.layer(batch[0]).softmax(1), batch[1])
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        >>> loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=16, shuffle=True)
        >>> print(diagnose(Net(), loader)["loss_inputs"].sentence)
        cross_entropy is given probabilities, after a softmax.
    """
    for name in skip:
        if name not in CHECKS:
            raise unknown_name("check", name, CHECKS)
    if takes_its_batches(module):
        raise MisconfigurationException(
            f"training_step of {type(module).__name__} fetches its batches from dataloader_iter, so that no check has "
            "one; write training_step(self, batch, batch_idx) for the diagnosis."
        )
    found: list[Finding] = []
    own = rng.run_seed(seed)

    def look(of: pl.Trainer, start: pl.LightningModule, batches: list[Any]) -> None:
        case = Case(start, batches, of, made, own)
        if any(map(nn.parameter.is_lazy, start.parameters())):
            raise ValueError(
                f"{case.name} has lazy layers, whose weights have no shape yet; let a batch pass through it, "
                "module(x), before diagnose."
            )
        for name, check in CHECKS.items() if batches else ():
            torch.manual_seed(own)
            made_of = Finding("skipped", "Left out as asked.") if name in skip else check.finding(case)
            found.append(replace(made_of, name=name))

    with copies("diagnose", module, data, trainer) as made, quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong is a finding
        with torch.compiler.set_stance("force_eager"):  # kernels that were compiled would not show what happens in them
            collect(made, own, BATCHES, look)
    if not found:
        raise ValueError("the data of diagnose gave no batch; give a loader that is not empty.")
    return Diagnosis(type(module).__name__, tuple(found))
