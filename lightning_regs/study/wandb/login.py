"""Whether there is a login to Weights & Biases, and the environment of the processes that use it."""

from __future__ import annotations

import ast
import configparser
import contextlib
import importlib.util
import netrc
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from lightning_regs.study.paper.config import checkout

Mode = Literal["offline", "online", "off"]
MODES: tuple[Mode, ...] = get_args(Mode)
# The default of versions of wandb that do not say theirs where it is looked for.
_SERVER = "https://api.wandb.ai"
# What of the user's environment says how to reach the server; everything else of wandb's (WANDB_RUN_ID, WANDB_NAME,
# WANDB_SERVICE, ...) speaks of a run that is not ours.
_CONNECTION = (
    "API_KEY",
    "APP_URL",
    "BASE_URL",
    "CONFIG_DIR",
    "CREDENTIALS_FILE",
    "HTTP_PROXY",
    "HTTP_TIMEOUT",
    "HTTPS_PROXY",
    "IDENTITY_TOKEN_FILE",
    "INSECURE_DISABLE_SSL",
    "X_EXTRA_HTTP_HEADERS",
)
# Paths that may be relative to the working directory, which is another one for these processes.
_PATHS = ("NETRC", "WANDB_CONFIG_DIR", "WANDB_CREDENTIALS_FILE", "WANDB_IDENTITY_TOKEN_FILE")
LOGIN = "log in with `wandb login`, or set WANDB_API_KEY"


def default_mode() -> Mode:
    """Choose how to log when nobody says: ``"online"`` with a login, ``"offline"`` without.

    ``WANDB_MODE``, and what ``wandb offline`` and ``wandb disabled`` have left in wandb's settings, are honoured.
    Reads files and variables only: wandb is not imported and nobody is asked.
    """
    mode = (os.environ.get("WANDB_MODE") or settings().get("mode") or "").lower()
    if mode == "disabled":
        return "off"
    if mode in ("offline", "dryrun") or not has_login():
        return "offline"
    return "online"


def has_login() -> bool:
    """Tell whether wandb would find credentials for its server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or settings().get("api_key"):
        return True
    try:
        known = netrc.netrc(_netrc())
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return False
    # wandb takes the first entry there is, with or without a password in it.
    found = next(filter(None, map(known.authenticators, _hosts(server()))), None)
    return bool(found and found[2])


def server() -> str:
    """Return the address of the W&B server."""
    said = os.environ.get("WANDB_BASE_URL") or settings().get("base_url") or _constants().get("DEFAULT_BASE_URL")
    return str(said or _SERVER).rstrip("/")


def _hosts(address: str) -> list[str]:
    """List the hosts whose login wandb uses for a server: its own, then the one that it passes requests on to."""
    parts = urlsplit(address)
    behind = _constants().get("FORGE_HOSTS")
    upstream = {f"api.{front}": api for front, api in behind.items()} if isinstance(behind, dict) else {}
    return [parts.netloc, *filter(None, [upstream.get(parts.hostname or "")])]


@cache
def _constants() -> dict[str, Any]:
    """Return the constants of the installed wandb that speak of servers, without importing it."""
    try:
        found = importlib.util.find_spec("wandb")
        folders = (found and found.submodule_search_locations) or []
        return _read_constants(Path(next(iter(folders))) / "sdk" / "lib" / "urls.py")
    except (ImportError, StopIteration, ValueError):  # ValueError: a module that something has put in its place
        return {}


def _read_constants(path: Path) -> dict[str, Any]:
    """Return the constants that a Python file defines; nothing when it is missing or not Python."""
    try:
        lines = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return {}
    made: dict[str, Any] = {}
    for line in lines:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            with contextlib.suppress(ValueError):
                made[line.targets[0].id] = ast.literal_eval(line.value)
    return made


def unreachable(timeout: float = 10.0) -> str | None:
    """Say why the W&B server cannot be reached; None when it answers, whatever it answers.

    Args:
        timeout: Seconds to wait for it.
    """
    import ssl
    import urllib.error
    import urllib.request

    if any(os.environ.get(f"WANDB_{name}") or settings().get(name.lower()) for name in ("HTTP_PROXY", "HTTPS_PROXY")):
        return None  # wandb knows a way that is its own
    try:
        urllib.request.urlopen(server(), timeout=timeout).close()  # noqa: S310 (the user's own setting)
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        # wandb's service trusts certificates of its own choice.
        return None if isinstance(reason, ssl.SSLError) else " ".join(str(reason).split())
    return None


def settings() -> dict[str, str]:
    """Return what wandb's settings files say: the user's own, and that of the working directory, which wins."""
    home = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    found: dict[str, str] = {}
    for path in (home / "settings", Path(os.environ.get("WANDB_DIR") or ".") / "wandb" / "settings"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
            found |= dict(parser.items("default"))
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
    return found


def environment(store: Path, online: bool) -> dict[str, str]:
    """Make the environment of a process that uses wandb: all of its files inside the store, and nothing asked.

    Args:
        store: The run store; ``store/wandb`` holds what belongs to no single run.
        online: Whether it may talk to the server; otherwise it gets no credentials either.
    """
    paths = {name: str(Path(path).expanduser().absolute()) for name in _PATHS if (path := os.environ.get(name))}
    said_here = dict(os.environ) | paths
    inherited = {name: value for name, value in said_here.items() if not name.startswith(("WANDB_", "_WANDB"))}
    folder = store / "wandb"
    made = {
        "WANDB_MODE": "online" if online else "offline",
        "WANDB_DIR": str(store),
        "WANDB_DATA_DIR": str(folder / "staging"),
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_ARTIFACT_DIR": str(folder / "artifacts"),
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        # numpy, which wandb imports, would start a thread a core.
        "OPENBLAS_NUM_THREADS": "1",
        # A working directory may hold a module of any name; Python 3.10 knows no such variable, and is
        # to be started in a folder of the store.
        "PYTHONSAFEPATH": "1",
    }
    if online:
        kept = {name: said_here[name] for name in (f"WANDB_{part}" for part in _CONNECTION) if name in said_here}
        said = settings()
        stored = {f"WANDB_{key.upper()}": said[key] for key in ("base_url", "api_key") if said.get(key)}
        made = stored | kept | made
    else:
        made["WANDB_CONFIG_DIR"] = str(folder / "config")
    return inherited | made | _import_path(inherited)


def _import_path(inherited: Mapping[str, str]) -> dict[str, str]:
    path = [Path(part).absolute() for part in inherited.get("PYTHONPATH", "").split(os.pathsep) if part]
    if (root := checkout()) is not None:
        path.append(root)
    return {"PYTHONPATH": os.pathsep.join(map(str, path))}


def _netrc() -> Path:
    if named := os.environ.get("NETRC"):
        return Path(named).expanduser()
    unix, windows = Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()
    return windows if windows.exists() and not unix.exists() else unix
