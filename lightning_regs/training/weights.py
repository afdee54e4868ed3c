"""Trained weights as a file that other programs read, and the network that they belong to made again from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lightning_regs.core.files import whole
from lightning_regs.training.classifier import Classifier

_BUILT_BY = ("architecture", "architecture_args", "layers")


def save_weights(
    file: Path, network: nn.Module, model: Mapping[str, Any], shape: tuple[int, ...], classes: int, **facts: str
) -> None:
    """Write the parameters and buffers of a Classifier's network as a safetensors file.

    It says of itself how the network is built, by the Classifier's arguments ``model``, the shape of a sample and the
    number of classes, and the facts. A network that these do not build, so that nobody could load it, is refused.
    """
    from safetensors.torch import save_model

    built = {name: model[name] for name in _BUILT_BY if model.get(name)}
    made = json.dumps({**built, "input_shape": list(shape), "num_classes": classes}, sort_keys=True)
    if _built(made).state_dict().keys() != network.state_dict().keys():
        raise ValueError(
            f"a {type(network).__name__} with other parts than {built} builds (a supermask, say) could not be loaded "
            "again; save its state_dict by torch.save."
        )
    with whole(file) as part:
        save_model(network, str(part), {"format": "pt", "classifier": made, **facts})
        part.chmod(0o644)  # safetensors makes files for their owner alone, which are to be passed on


def load_weights(file: str | Path) -> nn.Module:
    """Make the network of a file that ``lightning-regs export`` wrote: images as the data module gives them, to logits.

    It is in evaluation mode, on the CPU: ``network = load_weights("model.safetensors")``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no safetensors file, or does not say how its network is built.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_model

    try:
        with safe_open(str(file), framework="pt") as opened:
            made = (opened.metadata() or {}).get("classifier")
    except SafetensorError as error:
        raise ValueError(f"{file} is no whole safetensors file ({error}); export it again.") from error
    if made is None:
        raise ValueError(
            f"{file} does not say how its network is built; give a file that `lightning-regs export` wrote."
        )
    network = _built(made)
    load_model(network, str(file))
    return network.eval()


def _built(made: str) -> nn.Module:
    network = Classifier(**json.loads(made), seed=0).network
    assert network is not None  # it is built at once, as shape and classes are known
    return network
