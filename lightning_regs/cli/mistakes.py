"""A mistake in a configuration, in one sentence: what matters of what jsonargparse says in up to ninety lines."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Collection

from lightning_regs.core.names import did_you_mean

# What a value that may be None, or of a class, could have been instead; never what is wrong.
_BESIDES = ("Expected a <class 'NoneType'>", "Not a valid subclass", "a class path (str)", "a dict with")


def sentence(message: str, known: Collection[str]) -> str:
    """Find the sentence in what jsonargparse says; the known options are such as ``"trainer.max_epochs"``."""
    if found := re.search(r"does not accept option '((model|data)\.(?:class_path|init_args)[^']*)'", message):
        kind, own = {"model": ("Classifier", "LightningModule"), "data": ("ImageDataModule", "DataModule")}[found[2]]
        return (
            f"unknown option {found[1]!r}: {found[2]} is the {kind}, whose arguments stand without a class_path; with "
            f"a {own} of your own use Lightning's LightningCLI, or train from Python."
        )
    if found := re.search(r"does not accept option '([^']+)'", message):
        return f"unknown option {found[1]!r}.{did_you_mean(found[1], known)}"
    if found := re.search(r"unrecognized arguments: (--[^\s=]+)", message):
        return f"unknown option {found[1]!r}.{did_you_mean(found[1], [f'--{name}' for name in known])}"
    key = re.search(r'Parser key "([^"]+)"', message)
    lead = f"{key[1]}: " if key else ""
    if found := re.search(r"Problem with given class_path '([^']+)':\s*(.+)", message):
        return lead + _of_class(found[1], found[2].strip())
    if key and (found := re.search(r"Expected a <class '([^']+)'>\. Got value: (.*)", message)):
        return f"{key[1]} is {found[2]!r}, which is no {found[1]}."
    listed = [line.strip()[2:] for line in message.splitlines() if line.strip().startswith("- ")]
    causes = [cause for cause in listed if not cause.startswith(_BESIDES)]
    wanted = re.match(r"Expected a <class '(.+)'>$", "".join(causes[:1]))
    if key and wanted and (found := re.search(r"Given value: (.*)", message)):
        return f"{key[1]} is {found[1]!r}, which is no {wanted[1]}."
    text = causes[0] if causes else " ".join(message.split()).removeprefix(f'Parser key "{key[1]}": ' if key else "")
    return lead + re.sub(r"<class '([^']+)'>", r"\1", text).rstrip(".") + "."


def _of_class(path: str, why: str) -> str:
    """Say what is wrong with a class, or with one of its arguments."""
    module, _, name = path.rpartition(".")
    if re.match(r"module '.*' has no attribute|No module named", why):
        try:
            options = [f"{module}.{each}" for each in dir(importlib.import_module(module)) if each[:1].isupper()]
        except (ImportError, ValueError):
            where = "a module of your own lies beside the config, or where the command is given"
            return f"there is no {path!r} ({why}); {where}."
        return f"there is no {path!r}.{did_you_mean(path, options)}"
    if found := re.search(r"[Oo]ption '([^']+)' is not accepted", why):
        cls = getattr(importlib.import_module(module), name)
        return f"{path} does not take {found[1]!r}.{did_you_mean(found[1], inspect.signature(cls).parameters)}"
    return f"{path}: {why.rstrip('.')}."
