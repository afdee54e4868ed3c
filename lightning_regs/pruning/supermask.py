"""Supermasks: networks whose weights are never trained, only which of them are there."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lightning_regs.core.checks import Range, checked
from lightning_regs.core.names import uncompiled
from lightning_regs.pruning.layers import Globs, prunable
from lightning_regs.pruning.learned_masks import BernoulliMask, EdgePopup, Evaluation, Supermask
from lightning_regs.pruning.masks import Mask, plain_names

Kind = Literal["bernoulli", "edge_popup"]
Density = Annotated[float, Range(above=0, below=1, why="it is the share of each layer's weights to keep")]
Network = TypeVar("Network", bound=nn.Module)


@checked
def add_supermask(
    network: Network,
    kind: Kind = "bernoulli",
    *,
    weights: Literal["initial", "signed_constant"] = "initial",
    rescale: bool = False,
    initial_logit: float | None = None,
    density: Density | None = None,
    evaluation: Evaluation | None = None,
    layers: Globs | None = None,
    generator: torch.Generator | None = None,
) -> Network:
    r"""Freeze a network and make masks on its weights what is trained.

    Zhou et al., "Deconstructing Lottery Tickets" (1905.01067): ``kind="bernoulli"`` learns with which probability each
    weight is there, :class:`~lightning_regs.pruning.learned_masks.BernoulliMask`. Ramanujan et al., "What's Hidden in a
    Randomly Weighted Neural Network?" (1911.13299): ``kind="edge_popup"`` learns scores and keeps a fixed share of each
    layer, :class:`~lightning_regs.pruning.learned_masks.EdgePopup`.

    Every parameter of the network is frozen, biases and norms included, and each masked weight becomes a
    ``torch.nn.utils.parametrize`` parametrization with one parameter, ``scores``. So it works in any LightningModule:
    call it in ``__init__``, or hand the network to ``Classifier(architecture=network)``. In the ``state_dict`` a
    ``weight`` is then ``parametrizations.weight.original`` and ``parametrizations.weight.0.scores``. Batch norm's
    running statistics are still updated. Gradients of logits are small (:math:`\sigma' \le 1/4`, times a weight): the
    authors take SGD with momentum 0.9 and a learning rate of 100. Draws are those of torch's global generator, which
    ``Classifier`` seeds by epoch; with any other module a resume bit for bit needs that generator's state. An
    evaluation that samples in the middle of an epoch changes the draws of the training after it.

    When it does not help: where weights may be trained, that is more accurate, and narrow networks have too few weights
    to choose from. It does not compose with other parametrizations of the same weight (weight norm), with methods that
    prune weights (``WeightMask``, ``find_ticket``), or with pickling the module (torch refuses parametrized ones, so
    Lightning's ``ddp_spawn`` does too); penalties on parameters would act on the scores.

    Args:
        network: Changed in place; its shapes must be known, so no lazy layers.
        kind: ``"bernoulli"`` or ``"edge_popup"``.
        weights: ``"initial"`` masks the weights that are there, ``"signed_constant"`` replaces each by
            :func:`signed_constants` first.
        rescale: Dynamic weight rescaling, see the two classes. Default False.
        initial_logit: Where logits start, finite; ``"bernoulli"`` only. Default 0: each weight is kept with
            probability 1/2.
        density: Share of each layer's weights to keep, in (0, 1); ``"edge_popup"`` only. Default 0.3.
        evaluation: What validation, test and prediction use, ``"bernoulli"`` only: ``"sample"`` (default) a mask drawn
            for each batch, as the authors do, so that accuracies fluctuate: average several evaluations;
            ``"expected"`` the probabilities; ``"threshold"`` the weights with a probability of at least 1/2.
            :func:`set_evaluation` changes it later.
        layers: Glob or list of globs of parameter or module names to mask; default: all weights of linear and
            convolutional layers. The others stay frozen at their initial values.
        generator: Source of the initial scores of edge-popup, uniform within 1 / sqrt(fan_in) as in the authors'
            code; None takes torch's global one.

    Returns:
        The same network.

    Raises:
        TypeError: If the network is no module.
        ValueError: If a name is unknown, a number out of its range or of the other kind, a glob matches nothing, or
            the network has nothing to mask, a mask already, or a weight that two layers share.
    """
    _check_options(kind, initial_logit, density, evaluation)
    chosen = prunable(network, layers)
    _check_not_shared(network, chosen)
    network.requires_grad_(False)
    for name, weight in chosen.items():
        mask: Supermask
        if kind == "bernoulli":
            mask = BernoulliMask(torch.full_like(weight, initial_logit or 0.0), rescale, evaluation or "sample")
        else:
            scores = nn.init.kaiming_uniform_(torch.empty_like(weight), a=math.sqrt(5), generator=generator)
            mask = EdgePopup(scores, rescale, 0.3 if density is None else density)
        if weights == "signed_constant":
            with torch.no_grad():
                weight.copy_(signed_constants(weight))
        owner, _, attribute = name.rpartition(".")
        # The check that unsafe leaves out would draw a mask, and so move torch's generator.
        parametrize.register_parametrization(network.get_submodule(owner), attribute, mask, unsafe=True)
    return network


@checked
def learned_mask(network: nn.Module) -> dict[str, Tensor]:
    """Return what a network's supermasks have learned.

    Args:
        network: The network that :func:`add_supermask` was given, or a module that contains it.

    Returns:
        The dense network's name of each masked weight -> the probabilities that its entries are kept (float, Bernoulli)
        or whether they are (bool, edge-popup), detached. Of stacked networks ``(R, ...)``, each network's own.

    Raises:
        ValueError: If the network has no supermask.
    """
    return {name: mask.learned() for name, mask in _supermasks(network).items()}


@checked
def set_evaluation(network: nn.Module, evaluation: Evaluation) -> None:
    """Choose what stands for Bernoulli supermasks outside training.

    Args:
        network: The network that :func:`add_supermask` was given, or a module that contains it. Of stacked networks,
            choose before they are stacked.
        evaluation: ``"sample"``, ``"expected"`` or ``"threshold"``; see there.

    Raises:
        ValueError: If the name is unknown, or the network has no Bernoulli supermask.
    """
    masks = [mask for mask in _supermasks(network).values() if isinstance(mask, BernoulliMask)]
    if not masks:
        raise ValueError("edge-popup's masks are not drawn, so there is nothing to choose for the evaluation.")
    for mask in masks:
        mask.evaluation = evaluation


def signed_constants(weight: Tensor) -> Tensor:
    """Return sign(w) times the standard deviation of the layer's weights, w of any shape; 0 where w is 0."""
    return weight.sign() * weight.std(correction=0)


@checked
def apply_supermask(
    weights: Mapping[str, Tensor],
    mask: Mapping[str, Tensor],
    signed_constant: bool = False,
    rescale: bool = False,
) -> dict[str, Tensor]:
    """Put a mask on weights that are not trained.

    Zhou et al., arXiv 1905.01067: the mask of a trained network, most of all that of the criterion
    ``large_final_same_sign``, makes its initial weights far better than chance. ``weights * mask``, with size / number
    of ones as a factor on each layer if ``rescale``. Load the result into the network that the weights are of.

    Args:
        weights: The initial weights by name, usually a ``state_dict``.
        mask: A :class:`~lightning_regs.pruning.masks.Mask`, or what one can be made of: name -> bool, or 0 and 1.
        signed_constant: Whether to replace each masked weight by :func:`signed_constants` first. Default False.
        rescale: Whether to make up for what is pruned. Default False.

    Returns:
        Copies; those without a mask as they are. Pruned entries are exactly +0.0, and all entries of a layer of which
        nothing is kept.

    Raises:
        TypeError: If a mask is no tensor.
        ValueError: If a mask's name is not among the weights, its shape is another or its values are not 0 and 1.
    """
    chosen = mask if isinstance(mask, Mask) else Mask(mask)
    chosen.check(weights)
    result = dict(weights)
    for plain, name in plain_names(weights).items():
        if plain in chosen:
            if signed_constant:
                result[name] = signed_constants(result[name].detach())
            if rescale:
                result[name] = result[name].detach() * (chosen[plain].numel() / max(1, chosen.counts[plain]))
    return chosen.apply(result)


def _supermasks(network: nn.Module) -> dict[str, Supermask]:
    """Return the masks by the dense network's names of what they mask."""
    found = {name: part for name, part in network.named_modules() if isinstance(part, Supermask)}
    if not found:
        raise ValueError(f"{type(network).__name__} has no supermask; make one with add_supermask(network).")
    parametrized = re.compile(r"parametrizations\.(\w+)\.\d+$")
    return {parametrized.sub(r"\1", uncompiled(name)): mask for name, mask in found.items()}


def _check_not_shared(network: nn.Module, chosen: Mapping[str, Tensor]) -> None:
    names: dict[int, list[str]] = {}
    for owner, module in network.named_modules():
        for attribute, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            names.setdefault(id(parameter), []).append(f"{owner}.{attribute}".lstrip("."))
    for weight in chosen.values():
        if len(shared := names[id(weight)]) > 1:
            raise ValueError(
                f"the weight {shared[0]!r} is that of {shared[1]!r} too, and a mask would part them; give each layer a "
                "weight of its own, or leave it out with `layers`."
            )


def _check_options(kind: Kind, initial_logit: float | None, density: float | None, evaluation: str | None) -> None:
    """Refuse what is of the other kind."""
    if kind == "bernoulli" and density is not None:
        raise ValueError(
            f"density={density!r} is of kind='edge_popup'; a Bernoulli mask learns its density, from "
            "sigmoid(initial_logit) on."
        )
    if kind == "edge_popup" and (initial_logit is not None or evaluation is not None):
        raise ValueError(
            "initial_logit and evaluation are of kind='bernoulli'; edge-popup's masks are not drawn, and its scores "
            "start at random: leave them out."
        )
