"""Lookahead: slow weights that follow an optimizer's fast ones, and that are what is evaluated."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from lightning_regs.core.checks import Count, NotNegative, Share, checked, warn
from lightning_regs.core.lightning import Callback, MisconfigurationException, pl
from lightning_regs.optim.around import Around
from lightning_regs.optim.build import make_optimizer


class Lookahead(Around):
    r"""Let slow weights follow the fast weights of another optimizer: after k steps a share of the way, then both meet.

    Zhang, Lucas, Hinton & Ba 2019, arXiv:1907.08610, Algorithm 1: after each k steps of the base,
    :math:`\phi \leftarrow \phi + \alpha (\theta - \phi)` and :math:`\theta \leftarrow \phi`. The slow weights start
    where the fast ones do, and the base keeps its momentum, as by default in the authors' code. They are evaluated at
    the slow weights: :meth:`eval` puts them in the place of the parameters, :meth:`train` takes them out again, before
    which a step is a ``RuntimeError``, and :class:`SlowWeights` does so in Lightning. Statistics of batch norm are the
    fast weights'.

    When it does not help: the paper's gain over a tuned SGD is within its spread, and two independent repetitions found
    lower accuracies. It costs a copy of the weights.

    Args:
        params: The parameters, as torch takes them.
        base: Configuration of the optimizer of the fast weights, ``{"name": "SGD", "lr": 0.1}``.
        k: Steps of the base between two of the slow weights, at least 1.
        alpha: Share of the way, in [0, 1]; 1 is the base alone.

    Raises:
        ValueError: If an argument is outside its range, or the base is LBFGS, which needs its closure several times, or
            another Lookahead.

    Example:
        >>> optimizer = Lookahead(torch.nn.Linear(2, 1).parameters(), {"name": "SGD", "lr": 0.1}, k=5, alpha=0.8)
    """

    @checked
    def __init__(self, params: Any, base: Mapping[str, Any] | None = None, k: Count = 5, alpha: Share = 0.5) -> None:
        if base is None or isinstance(params, torch.optim.Optimizer):
            raise ValueError(
                "Lookahead makes its optimizer itself, of the parameters and a configuration: "
                f'Lookahead(net.parameters(), base={{"name": "SGD", "lr": 0.1}}), got {type(params).__name__}.'
            )
        inner = make_optimizer(params, base)
        if isinstance(inner, (torch.optim.LBFGS, Lookahead)):
            raise ValueError(
                f"Lookahead cannot step {type(inner).__name__}: it needs an optimizer that takes one step from one "
                "gradient; use another base, such as SGD or Adam."
            )
        inner.defaults |= {"k": k, "alpha": alpha, "since": 0}
        super().__init__(inner)

    def _advance(self) -> None:
        """Take one step of the base, and of the slow weights where it is their turn."""
        if self.evaluating:
            raise RuntimeError(
                "Lookahead is asked for a step while its slow weights are in the place of the parameters; call its "
                "train() before the gradient is computed, or give the Trainer the callback SlowWeights()."
            )
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        # Not in the state yet, which the base fills where it is empty.
        starts = {p: p.clone() for p in moved if "slow" not in self.state.get(p, ())}
        self._prepare()
        self.base.step()
        for p, start in starts.items():
            self.state[p]["slow"] = start
        for group in self.param_groups:
            group["since"] = (group["since"] + 1) % group["k"]
            for p in group["params"] if group["since"] == 0 else ():
                if "slow" in self.state.get(p, ()):
                    p.copy_(self.state[p]["slow"].lerp_(p, group["alpha"]))

    def state_dict(self) -> dict[str, Any]:
        """Return what torch does, and whose it is."""
        return super().state_dict() | {"optimizer": self._name}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what ``state_dict`` returned, or raise a ``ValueError`` where it is another optimizer's."""
        # States of earlier versions do not say whose they are.
        ours = all("since" in group for group in state_dict["param_groups"])
        of = state_dict.get("optimizer", self._name if ours else "an optimizer that is no Lookahead")
        if of != self._name:
            raise ValueError(
                f"the state is one of {of}, and this is {self._name}; go on with the optimizer that the training began "
                "with, or load the weights alone."
            )
        super().load_state_dict(state_dict)

    @property
    def _name(self) -> str:
        return f"{type(self).__name__} around {type(getattr(self.base, 'base', self.base)).__name__}"

    def _prepare(self) -> None:
        """Do what comes before a step of the base."""

    @property
    def evaluating(self) -> bool:
        """Whether the slow weights are in the place of the parameters."""
        return any("fast" in own for own in self.state.values())

    def eval(self) -> None:
        """Put the slow weights in the place of the parameters."""
        self._exchange("slow", "fast")

    def train(self) -> None:
        """Put the fast weights in the place of the parameters."""
        self._exchange("fast", "slow")

    @torch.no_grad()
    def _exchange(self, taken: str, kept: str) -> None:
        for p, own in self.state.items():
            if taken in own:
                own[kept] = p.clone()
                p.copy_(own.pop(taken))


class Ranger(Lookahead):
    """Lookahead around RAdam with centralized gradients and decoupled weight decay.

    Wright 2019, github.com/lessw2020/Ranger-Deep-Learning-Optimizer, with its defaults. RAdam is Liu et al. 2020,
    arXiv:1908.03265; of gradients with two dimensions or more the mean over all but the first is taken out, Yong et al.
    2020, arXiv:2004.01461. The gradient is changed in place, as there. Its schedule is no part of it: a constant rate
    for three quarters of the training, then a fall to zero.

    When it does not help: RAdam's gain is one of large learning rates without a warm-up.

    Args:
        params: The parameters, as torch takes them.
        lr: Learning rate.
        betas: Decay of the two averages of RAdam, in [0, 1).
        eps: Added to the denominator.
        weight_decay: Decoupled: each step takes lr times as much of the weights away.
        k: As of :class:`Lookahead`.
        alpha: As of :class:`Lookahead`.
        centralize: Whether gradients are centralized.

    Raises:
        ValueError: If an argument is outside its range.
    """

    @checked
    def __init__(
        self,
        params: Any,
        lr: NotNegative = 1e-3,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: NotNegative = 1e-5,
        weight_decay: NotNegative = 0.0,
        k: Count = 6,
        alpha: Share = 0.5,
        centralize: bool = True,
    ) -> None:
        radam = {"name": "RAdam", "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, radam | {"decoupled_weight_decay": True}, k=k, alpha=alpha)
        for group in self.param_groups:
            group.setdefault("centralize", centralize)

    def _prepare(self) -> None:
        for group in self.param_groups:
            for p in group["params"] if group["centralize"] else ():
                if p.grad is not None and p.grad.ndim > 1:
                    p.grad -= p.grad.mean(dim=tuple(range(1, p.grad.ndim)), keepdim=True)


class SlowWeights(Callback):
    """Evaluate a training with :class:`Lookahead` at its slow weights, and keep these in its checkpoints.

    Validation and test see the slow weights, training goes on with the fast ones as if it had not been interrupted.
    The weights of a checkpoint, and those after the training, are the slow ones; the fast ones are in the optimizer's
    state, from which a training resumes exactly. The Classifier brings this callback where its optimizer needs it.

    A file of ``ModelCheckpoint(save_weights_only=True)`` has the fast weights: of such Lightning tells no callback. It
    warns.

    Raises:
        MisconfigurationException: When the training starts, if no optimizer is a Lookahead.
    """

    def __init__(self) -> None:
        self._turned: list[Lookahead] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train the fast weights, also of a checkpoint."""
        if not _lookaheads(trainer):
            raise MisconfigurationException(
                "SlowWeights() is for training with Lookahead, and no optimizer is one; leave the callback out, or "
                'use an optimizer such as Lookahead(parameters, {"name": "SGD", "lr": 0.1}).'
            )
        for optimizer in _lookaheads(trainer):
            optimizer.train()
        if any(getattr(callback, "save_weights_only", False) for callback in trainer.checkpoint_callbacks):
            warn(
                "ModelCheckpoint(save_weights_only=True) writes the fast weights of Lookahead, not the slow ones that "
                "are evaluated; let it write whole checkpoints."
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the slow weights."""
        for optimizer in _lookaheads(trainer):
            optimizer.eval()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the slow weights in."""
        self._turned = _turn(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take them out again, where the fast ones were in."""
        while self._turned:
            self._turned.pop().train()

    on_test_start, on_test_end = on_validation_start, on_validation_end
    on_predict_start, on_predict_end = on_validation_start, on_validation_end

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have the slow weights written as the weights."""
        turned = _turn(trainer)
        if turned:
            checkpoint["state_dict"] |= copy.deepcopy(trainer.strategy.lightning_module_state_dict())
            states = [copy.deepcopy(trainer.strategy.optimizer_state(o)) for o in trainer.optimizers]
            checkpoint["optimizer_states"] = states
        for optimizer in turned:
            optimizer.train()


def _turn(trainer: pl.Trainer) -> list[Lookahead]:
    """Put the slow weights in the place of the parameters where they are not yet; say for which optimizers."""
    turned = [optimizer for optimizer in _lookaheads(trainer) if not optimizer.evaluating]
    for optimizer in turned:
        optimizer.eval()
    return turned


def _lookaheads(trainer: pl.Trainer) -> list[Lookahead]:
    return [optimizer for optimizer in trainer.optimizers if isinstance(optimizer, Lookahead)]
