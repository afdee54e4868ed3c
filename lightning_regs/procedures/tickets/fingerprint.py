"""What determines a level, as plain types."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from lightning_regs.core.lightning import pl
from lightning_regs.procedures.tickets.plain import digest, layers_of, name_of, plain
from lightning_regs.procedures.tickets.randomness import isolated, seed_all

# Options of a Trainer that change what is shown or kept, not what is trained.
_SHOW = {
    "barebones",
    "default_root_dir",
    "detect_anomaly",
    "enable_autolog_hparams",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "log_every_n_steps",
    "num_sanity_val_steps",
    "profiler",
}
# What a sampler has of other things: the data, its process, and how far it is.
_NOT_THE_SAMPLERS = ("data_source", "dataset", "sampler", "rank", "epoch", "generator")
_SAMPLES = 16
_WRAPPED = 5  # data sets around data sets


def of_module(factory: Callable[..., Any], module: pl.LightningModule) -> dict[str, Any]:
    """Describe a module as its factory made it: layers, initial weights, hyper-parameters, arguments it keeps.

    Layers and weights that a module makes only when the Trainer starts are not seen; its hyper-parameters are.
    """
    return {
        "factory": name_of(factory),
        "layers": layers_of(module),
        "initial weights": digest(module.state_dict()),
        "hyper-parameters": plain(dict(module.hparams)),
        "attributes": _attributes(module),
    }


def of_data(data: Any) -> dict[str, Any]:
    """Describe a DataModule or loaders: class, hyper-parameters, arguments it keeps; of loaders the data as well."""
    if isinstance(data, pl.LightningDataModule):
        return {
            "class": name_of(type(data)),
            "hyper-parameters": plain(dict(data.hparams)),
            "attributes": _attributes(data),
        }
    if isinstance(data, (list, tuple)):
        return {f"loader {number}": of_data(loader) for number, loader in enumerate(data)}
    if isinstance(data, Mapping):
        return {f"loader {name}": of_data(loader) for name, loader in data.items()}
    described: dict[str, Any] = {"class": name_of(type(data)), "batch_size": plain(getattr(data, "batch_size", None))}
    try:
        described["batches"] = len(data)
    except (TypeError, NotImplementedError):
        described["batches"] = None
    for name in ("drop_last", "sampler", "batch_sampler"):
        described[name] = plain(getattr(data, name, None), _NOT_THE_SAMPLERS)
    if isinstance(dataset := getattr(data, "dataset", None), Dataset):
        described["dataset"] = _of_dataset(dataset)
    return described


def of_trainer(options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the options of a Trainer that determine the training."""
    return {name: plain(value) for name, value in sorted(options.items()) if name not in _SHOW}


def _attributes(thing: Any) -> dict[str, Any]:
    """Return the constructor's arguments that are kept as attributes, such as a learning rate."""
    # Others come and go: a DataModule that has been used has more than one that has not.
    names = [name for name in inspect.signature(type(thing).__init__).parameters if name in vars(thing)]
    return {name: plain(vars(thing)[name]) for name in names}


def _of_dataset(dataset: Dataset[Any], depth: int = 0) -> dict[str, Any]:
    """Describe data by the tensors and arrays they hold, and by some samples; no loader is started."""
    described: dict[str, Any] = {"class": name_of(type(dataset))}
    try:
        size: int | None = len(dataset)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        size = None
    for name, value in vars(dataset).items():
        if isinstance(value, Dataset):
            described[name] = _of_dataset(value, depth + 1) if depth < _WRAPPED else name_of(type(value))
        elif _holds_samples(value, size):
            described[name] = plain(value)
    if size:
        described["samples"] = _samples(dataset, size)
    return described


def _holds_samples(value: Any, size: int | None) -> bool:
    """Whether these are data: what else a data set has, such as a cache, may change while it is used."""
    if isinstance(value, (Tensor, np.ndarray)):
        return True
    if isinstance(value, tuple):
        return bool(value) and all(isinstance(part, (Tensor, np.ndarray)) for part in value)
    return isinstance(value, (list, range)) and len(value) == size and all(isinstance(p, (int, float)) for p in value)


def _samples(dataset: Dataset[Any], size: int) -> Any:
    """Return the digest of samples throughout the data; None where they are another each time, or not to be had."""
    number = min(size, _SAMPLES)
    positions = [i * (size - 1) // max(number - 1, 1) for i in range(number)]
    found = []
    with isolated():
        for _ in range(2):
            seed_all(0)
            try:
                found.append(plain([dataset[position] for position in positions]))
            except Exception:  # keys of another kind, a sampler that leaves broken samples out: any data set's own
                return None
    return found[0] if found[0] == found[1] else None
