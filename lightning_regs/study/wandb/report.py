"""A paper's report in Weights & Biases, or as a JSON file that needs neither account nor server."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from lightning_regs.core.files import atomic_write
from lightning_regs.study.wandb.blocks import Block, Span, blocks
from lightning_regs.study.wandb.login import LOGIN, has_login, server, unreachable
from lightning_regs.study.wandb.target import Target

if TYPE_CHECKING:
    from lightning_regs.study.report.specification import Specification

__all__ = ["Target", "build", "filter_text", "publish", "write_json"]

_DRY_RUN = "write the report to a file with --dry-run"


def write_json(specification: Specification, target: Target | None, path: str | Path) -> Path:
    """Write the report and the specification that it is made from to a JSON file; needs no extra and no server.

    Args:
        specification: What the report says.
        target: Where the runs are; None leaves it open.
        path: The file. Folders that are missing are made.

    Returns:
        The file.

    Raises:
        ValueError: If it cannot be written.
    """
    file = Path(path)
    report = blocks(specification, target) | {"specification": specification.as_dict()}
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        if file.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, text)
    except OSError as error:
        raise ValueError(f"the report cannot be written to {file} ({error.strerror}); choose another file.") from error
    return file


def build(specification: Specification, target: Target) -> Any:
    """Build the report block by block, without a server.

    Args:
        specification: What it says.
        target: Where it goes.

    Returns:
        A ``wandb_workspaces.reports.v2.Report`` that is not saved yet.

    Raises:
        ValueError: If wandb-workspaces is not installed.
    """
    wr = _library()
    plain = blocks(specification, target)
    return wr.Report(
        project=target.project,
        entity=target.entity,
        title=plain["title"],
        description=plain["description"],
        blocks=[_block(wr, block) for block in plain["blocks"]],
        width="fixed",
    )


def publish(specification: Specification, target: Target) -> str:
    """Save the report in Weights & Biases, in place of the one that was published for the same paper.

    Args:
        specification: What it says.
        target: Where its runs are, and where it goes.

    Returns:
        Its address.

    Raises:
        ValueError: If wandb-workspaces or a login is missing, or the server cannot be reached or refuses.
    """
    _library()
    if not has_login():
        raise ValueError(f"Weights & Biases has no login here; {LOGIN}, or {_DRY_RUN}.")
    if why := unreachable():
        raise ValueError(f"{server()} cannot be reached ({why}); repeat the command later, or {_DRY_RUN}.")
    report = build(specification, target)
    import wandb

    try:
        with _quiet():
            reports = wandb.Api().reports(str(target))
            report.id = next((str(found.id) for found in reports if found.display_name == report.title), "")
            report.save()
            address = urlsplit(report.url)
    except Exception as error:  # whatever wandb, its service process and the network raise: most types are not public
        why = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"Weights & Biases did not take the report for {target} ({type(error).__name__}: {why}); check the "
            "network, the login and your rights there, upload runs to a new project with `lightning-regs sync` first, "
            f"or {_DRY_RUN}."
        ) from error
    # The library's own address breaks off at a '?' or '#' in the title.
    name = quote(re.sub(r"\W+", "-", report.title).strip("-"))
    return f"{address.scheme}://{address.netloc}/{target}/reports/{name}--{report.id.rstrip('=')}"


def filter_text(filters: list[dict[str, Any]]) -> str:
    """Write a run set's conditions in wandb-workspaces' filter language.

    The library replaces ``=``, ``<`` and ``>`` in the whole text, names included, before it parses it as Python, and
    puts quotes around names without escaping them: every character that could matter is written as an escape.

    Args:
        filters: Conditions that all hold: ``section`` (``"config"`` or ``"run"``), ``name``, ``op`` (``"=="`` or
            ``"in"``) and ``value``.
    """
    sections = {"config": "Config", "run": "Metric"}
    return " and ".join(
        f"{sections[each['section']]}({_literal(each['name'])}) {each['op']} {_literal(each['value'])}"
        for each in filters
    )


def _literal(value: str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return "'" + re.sub(r"[^A-Za-z0-9_/.+^-]", lambda match: f"\\U{ord(match[0]):08x}", value) + "'"


def _library() -> Any:
    try:
        return importlib.import_module("wandb_workspaces.reports.v2")
    except ImportError as error:
        raise ValueError(
            "a report in Weights & Biases needs wandb-workspaces; install it with "
            f'`pip install "lightning-regs[reports]"`, or {_DRY_RUN}.'
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep wandb, and the service process that it starts, off standard error: what matters there is raised as well."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _block(wr: Any, block: Block) -> Any:
    kind = block["kind"]
    if kind == "heading":
        collapsed = [_block(wr, each) for each in block["collapsed"]] if "collapsed" in block else None
        return {1: wr.H1, 2: wr.H2, 3: wr.H3}[block["level"]](block["text"], collapsed_blocks=collapsed)
    if kind == "paragraph":
        return wr.P(_text(wr, block["spans"]))
    if kind == "list":
        return wr.UnorderedList([_text(wr, item) for item in block["items"]])
    if kind == "callout":
        return wr.CalloutBlock(block["text"])
    if kind == "code":
        return wr.CodeBlock(block["text"], language="markdown")
    if kind == "markdown":
        return wr.MarkdownBlock(block["text"])
    if kind == "contents":
        return wr.TableOfContents()
    return wr.PanelGrid(
        runsets=[
            wr.Runset(runs["entity"], runs["project"], runs["name"], filters=filter_text(runs["filters"]))
            for runs in block["runsets"]
        ],
        panels=[_panel(wr, panel) for panel in block["panels"]],
        hide_run_sets=True,
    )


def _panel(wr: Any, panel: Block) -> Any:
    shared = {"title": panel["title"], "layout": wr.Layout(**panel["layout"])}
    if panel["kind"] == "image":
        return wr.MediaBrowser(media_keys=panel["media"], num_columns=1, **shared)
    shared |= {
        "groupby": wr.Config(panel["group_by"]),
        "groupby_aggfunc": panel["line"],
        "groupby_rangefunc": panel["band"],
        "max_runs_to_show": panel["max_runs"],
    }
    if panel["kind"] == "curve":
        return wr.LinePlot(x=panel["x"], y=panel["metrics"], **shared)
    return wr.BarPlot(metrics=panel["metrics"], max_bars_to_show=panel["max_bars"], **shared)


def _text(wr: Any, spans: list[Span]) -> list[Any]:
    return [_span(wr, span) for span in spans]


def _span(wr: Any, span: Span) -> Any:
    if isinstance(span, str):
        return span
    return wr.Link(span["text"], span["link"]) if "link" in span else wr.InlineCode(span["code"])
