"""Whether there is a login to Weights & Biases, and the environment of the processes that use it."""

from __future__ import annotations

import configparser
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from lightning_regs.study.config import checkout

Mode = Literal["offline", "online", "off"]
MODES: tuple[Mode, ...] = get_args(Mode)
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
    found = known.authenticators(urlsplit(server()).netloc)
    return bool(found and found[2])


def server() -> str:
    """Return the address of the W&B server."""
    return (os.environ.get("WANDB_BASE_URL") or settings().get("base_url") or _SERVER).rstrip("/")


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
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "_WANDB"))}
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
        # The working directory may hold a folder `wandb`, or any other name that is imported.
        "PYTHONSAFEPATH": "1",
    }
    if online:
        kept = {name: os.environ[name] for name in (f"WANDB_{part}" for part in _CONNECTION) if name in os.environ}
        said = settings()
        stored = {f"WANDB_{key.upper()}": said[key] for key in ("base_url", "api_key") if said.get(key)}
        made = stored | kept | made
    else:
        made["WANDB_CONFIG_DIR"] = str(folder / "config")
    return inherited | made | _import_path(inherited)


def _import_path(inherited: Mapping[str, str]) -> dict[str, str]:
    root = checkout()
    if root is None:
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, (inherited.get("PYTHONPATH"), str(root))))}


def _netrc() -> Path:
    if named := os.environ.get("NETRC"):
        return Path(named).expanduser()
    unix, windows = Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()
    return windows if windows.exists() and not unix.exists() else unix
