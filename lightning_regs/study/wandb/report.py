"""A paper's report in Weights & Biases, or as a JSON file that needs neither account nor server."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from lightning_regs.core.files import atomic_write
from lightning_regs.study.report.specification import Specification
from lightning_regs.study.wandb.blocks import blocks
from lightning_regs.study.wandb.target import Target, log_in, one_line

_DRY_RUN = "write the report to a file with --dry-run"


def write_json(specification: Specification, target: Target | None, path: str | Path) -> Path:
    """Write the report and the specification that it is made from to a JSON file; needs no extra and no server.

    Without a target it is open where the runs are. Folders that are missing are made.
    """
    file = Path(path)
    report = blocks(specification, target) | {"specification": specification.as_dict()}
    try:
        if file.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        atomic_write(file, json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise ValueError(f"the report cannot be written to {file} ({error.strerror}); choose another file.") from error
    return file


def build(specification: Specification, target: Target) -> Any:
    """Build a ``wandb_workspaces.reports.v2.Report`` that goes to a target, without a server; it is not saved yet."""
    try:
        library = importlib.import_module("wandb_workspaces.reports.v2")
    except ImportError as error:
        raise ValueError(
            "a report in Weights & Biases needs wandb-workspaces; install it with "
            f'`pip install "lightning-regs[reports]"`, or {_DRY_RUN}.'
        ) from error
    return _build(library, blocks(specification, target))


def _build(library: Any, plain: Any) -> Any:
    if isinstance(plain, list):
        return [_build(library, each) for each in plain]
    if not isinstance(plain, dict):
        return plain
    arguments = {name: _build(library, value) for name, value in plain.items() if name != "type"}
    return getattr(library, plain["type"])(**arguments)


def publish(specification: Specification, target: Target) -> str:
    """Save the report where its runs are, in place of the one that was published for the same paper.

    Returns:
        Its address.
    """
    report = build(specification, target)
    try:
        log_in()
    except ValueError as error:
        raise ValueError(f"{error}, or {_DRY_RUN}.") from error
    import wandb

    try:
        reports = wandb.Api().reports(str(target))
        report.id = next((str(found.id) for found in reports if found.display_name == report.title), "")
        report.save()
        address = urlsplit(report.url)
    except Exception as error:  # whatever wandb, its service process and the network raise: most types are not public
        raise ValueError(
            f"Weights & Biases did not take the report for {target} ({one_line(error)}); check the network, the login "
            f"and your rights there, upload runs to a new project with `lightning-regs sync` first, or {_DRY_RUN}."
        ) from error
    # The library's own address breaks off at a '?' or '#' in the title.
    name = quote(re.sub(r"\W+", "-", report.title).strip("-"))
    return f"{address.scheme}://{address.netloc}/{target}/reports/{name}--{report.id.rstrip('=')}"
