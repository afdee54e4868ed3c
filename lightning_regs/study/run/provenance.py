"""Where a row comes from: commit, versions, and how many cores there are."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from lightning_regs.study.paper.config import checkout


def commit() -> str:
    """Return the commit of the checkout, with ``+dirty`` when code or configs differ from it.

    Where git knows of none, it is what ``LIGHTNING_REGS_COMMIT`` says, such as of a copy without its history; else the
    version.
    """
    root, said = checkout(), os.environ.get("LIGHTNING_REGS_COMMIT")

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()  # noqa: S603

    try:
        if root is None or Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return said or f"v{metadata.version('lightning-regs')}"
        head = git("rev-parse", "--short", "HEAD")
        code = ["lightning_regs", "reproductions", "configs", ":(exclude)reproductions/*/results/*"]
        return head + ("+dirty" if git("status", "--porcelain", "--", *code) else "")
    except (OSError, subprocess.SubprocessError, metadata.PackageNotFoundError):
        return said or "unknown"


def versions() -> str:
    """Return the versions that results depend on, read without importing the packages."""
    found = []
    for name in ("torch", "pytorch-lightning", "torchvision"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join([*found, f"python {platform.python_version()}"])


@cache
def processor() -> str:
    """Return the model of the processor as the system names it, without commas, which separate a row's facts."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return " ".join(next(named, platform.processor() or platform.machine()).replace(",", " ").split())


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
