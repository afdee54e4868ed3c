"""Where papers and configs are found, and how a config is resolved."""

from __future__ import annotations

import copy
import functools
import math
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lightning_regs.core.checks import checked
from lightning_regs.core.identity import plain
from lightning_regs.core.names import unknown_name

PAPERS_ENV = "LIGHTNING_REGS_PAPERS"
_MOST_ENTRIES = 100_000
_PACKAGE = Path(__file__).resolve().parents[2]
_SECTIONS = ("ckpt_path", "data", "lr_scheduler", "model", "optimizer", "seed_everything", "seeds", "trainer")


def checkout() -> Path | None:
    """Return the root of the source checkout that this package runs from, or None when it is installed."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def search_folders(kind: str) -> list[Path]:
    """List the folders of one kind, ``"reproductions"`` or ``"configs"``, that exist, the one that wins first.

    The order is: the environment variable ``LIGHTNING_REGS_PAPERS`` (a folder that holds ``reproductions/``, or that
    folder itself), the working directory, the checkout beside the package, what the wheel carries.

    Raises:
        ValueError: If the environment variable names something that is not a folder.
    """
    folders: list[Path] = []
    if named := os.environ.get(PAPERS_ENV):
        base = Path(named).expanduser()
        if not base.is_dir():
            raise ValueError(f"{PAPERS_ENV} is {named!r}, which is not a folder; correct it or unset it.")
        if kind == "reproductions":
            folders.append(base / kind if (base / kind).is_dir() else base)
        else:
            folders += [base / kind, base.resolve().parent / kind]
    folders.append(Path.cwd() / kind)
    if (root := checkout()) is not None:
        folders.append(root / kind)
    folders.append(_PACKAGE / "_bundled" / kind)
    return list(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))


def find_config(config_path: str | os.PathLike[str]) -> Path:
    """Find a YAML file under one of the ``configs/`` folders; return its absolute path.

    It is named ``"configs/zhang2017/mlp-1x512.yaml"``, the same without ``configs/`` or without the ending, or by any
    path.

    Raises:
        ValueError: If there is no such file; the message suggests the nearest name.
    """
    path = Path(config_path)
    relative = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    folders = search_folders("configs")
    if not path.is_absolute():
        for folder in folders:
            for name in (relative, f"{relative}.yaml"):
                if (folder / name).is_file():
                    return folder / name
    if path.is_file():
        return path.resolve()
    known = {"configs/" + file.relative_to(folder).as_posix() for folder in folders for file in folder.rglob("*.yaml")}
    raise unknown_name("config", str(config_path), known)


@checked
def resolve(
    config_path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None, own: Collection[str] = ()
) -> dict[str, Any]:
    """Load a config and apply overrides to it.

    An override may add a key that the file leaves to its default; whether the key means anything is decided where the
    object is built. A section that neither the file nor LightningCLI knows is refused, since it would be ignored; a
    single value beside the sections is a setting of the task's own.

    Args:
        config_path: Where the YAML is, as :func:`find_config` takes it.
        overrides: Dotted paths and their values: ``{"trainer.max_epochs": 3}``. A mapping is merged into the mapping
            that is there; anything else replaces what is there, and so does a mapping that names another class
            (``name`` or ``class_path``), which does not take the options of the first.
        own: Names of sections that a task reads beside those of LightningCLI.

    Returns:
        Plain data of its own: nothing in it is shared with another call or with the overrides.

    Raises:
        ValueError: For an unknown config, a file that is not a YAML mapping, an unknown section, or a path that goes
            through a value that is not a mapping.
        TypeError: If an override is not plain data.
    """
    path = find_config(config_path)
    return override(_load(path, path.stat().st_mtime_ns), overrides or {}, own)


@checked
def override(config: Mapping[str, Any], overrides: Mapping[str, Any], own: Collection[str] = ()) -> dict[str, Any]:
    """Return a copy of a resolved configuration with overrides; errors are those of :func:`resolve`."""
    changed: dict[str, Any] = copy.deepcopy(dict(config))
    for dotted, value in overrides.items():
        _override(changed, dotted, copy.deepcopy(plain(value, dotted)), {*changed, *_SECTIONS, *own})
    return changed


def _override(config: dict[str, Any], dotted: str, value: Any, sections: Collection[str]) -> None:
    keys = dotted.split(".")
    if not all(keys):
        raise ValueError(f"override {dotted!r} has an empty part; write it as 'section.key'.")
    is_section = len(keys) > 1 or isinstance(value, dict)
    if is_section and keys[0] not in sections:
        raise unknown_name("config section", keys[0], sections)
    node = config
    for depth, key in enumerate(keys[:-1], start=1):
        if node.get(key) is None:
            node[key] = {}
        if not isinstance(node[key], dict):
            at = ".".join(keys[:depth])
            raise ValueError(f"override {dotted!r} goes through {at!r}, which is {node[key]!r} and has no keys.")
        node = node[key]
    _merge(node, keys[-1], value)


def _merge(node: dict[str, Any], key: str, value: Any) -> None:
    pair = [each for each in (node.get(key), value) if isinstance(each, dict)]
    names = [each.get("class_path", each.get("name")) for each in pair]
    if len(pair) == 2 and names[1] in (None, names[0]):
        for inner, item in value.items():
            _merge(node[key], inner, item)
    else:
        node[key] = value


def read_yaml(source: Path | str, name: str) -> Any:
    """Return what a file or a text of YAML holds; ``name`` is what a message calls it.

    Raises:
        ValueError: If it is no YAML, or if its aliases unfold to more than 100,000 entries, as those of a mapping that
            holds itself do.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    # YAML 1.1 reads `5e-4` as text; YAML 1.2 and jsonargparse, which reads the same files, take it as a number.
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$|^[-+]?\.\d[\d_]*([eE][-+]?\d+)?$"),
        list("-+.0123456789"),
    )
    try:
        loader = Loader(source if isinstance(source, str) else source.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        _check_ends(name, node)
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{name} is no YAML: {' '.join(str(error).split())}.") from error


def _check_ends(name: str, node: Any) -> None:
    """Refuse what its aliases unfold to more than anybody writes."""
    sizes: dict[int, float] = {}

    def size(node: Any) -> float:
        if id(node) not in sizes:
            sizes[id(node)] = math.inf  # it holds itself, if it is asked for before it is known
            below = [] if isinstance(node.value, str) else node.value
            sizes[id(node)] = 1 + sum(sum(map(size, p)) if isinstance(p, tuple) else size(p) for p in below)
        return sizes[id(node)]

    if node is not None and size(node) > _MOST_ENTRIES:
        ends = f"to {sizes[id(node)]:.3g} entries" if sizes[id(node)] < math.inf else "without end"
        raise ValueError(
            f"{name} unfolds {ends} by its aliases (*name), and {_MOST_ENTRIES} are allowed; write out what it needs."
        )


@functools.lru_cache(maxsize=256)
def _load(path: Path, _modified: int) -> dict[str, Any]:
    data = read_yaml(path, f"config {path}")
    if not isinstance(data, dict):
        raise ValueError(
            f"config {path} holds {type(data).__name__}, not a mapping of sections such as model and data."
        )
    result: dict[str, Any] = plain(data, str(path))
    return result
