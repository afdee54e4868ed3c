"""The pages that nobody writes: one a method, one a room of the package, the cards of papers. Imports no Sphinx."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import itertools
import os
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from generated import HEADINGS, methods, methods_table, rows

import lightning_regs
from lightning_regs import functional, models
from lightning_regs.core import registry
from lightning_regs.optim import build
from lightning_regs.regularizers import Acts
from lightning_regs.study.report.specification import slug

DOCS = Path(__file__).parent
ROOT = DOCS.parent
DEVICES = [report.stem for report in sorted((ROOT / "tests/benchmarks/devices").glob("*.md"))]
PAPERS = [card.parent.name for card in sorted((ROOT / "reproductions").glob("*/README.md"))]
WRITTEN = {*DOCS.glob("*.md"), *DOCS.glob("howto/*.md")}
# File of the repository -> the page that shows it.
COPIES = {f"reproductions/{paper}/README.md": f"papers/{paper}" for paper in PAPERS} | {
    **{f"tests/benchmarks/devices/{device}.md": f"project/device-{device}" for device in DEVICES},
    "ARCHITECTURE.md": "project/architecture",
    "CONTRIBUTING.md": "project/contributing",
    "CHANGELOG.md": "project/changelog",
    "tests/benchmarks/results.md": "project/speed",
    "tests/benchmarks/profile.md": "project/penalty-time",
    "tests/benchmarks/replicas.md": "project/replicas",
}
_TITLES = {
    "project/speed": "Speed",
    "project/penalty-time": "Where the time of the gradient penalty goes",
    "project/replicas": "The speed of replicas",
}
# What docstrings of public names lead to, though it is not public in a room of its own.
_ALSO = {
    "core": "batch.notes rng.derive_seed",
    "models": "layers.ACTIVATIONS layers.ConvNet densenet.DenseLayer preact.PreActBlock resnet.PaddedShortcut "
    "resnet.ResNet vgg.SmallVGG vgg.VGG",
    "procedures": "diagnosis.findings.Finding diagnosis.diagnose.Diagnosis plan.Control "
    "range_test.range_test.RangeTest results.Tickets results.Level stopping.criteria.stops",
    "pruning": "learned_masks.BernoulliMask learned_masks.EdgePopup supermask.signed_constants",
    "training": "fit.fit fit.Trained replicas.Replicated",
}
# Names of ours in pages that were written by hand lead to their pages.
_NAME = re.compile(r"(?<![\[`\w])`(lightning_regs(?:\.\w+)+|[A-Za-z_]\w+)`(?![`\]])")
_PART = re.compile(r"<!-- show (?P<file>\S+) (?P<name>\S+) -->")
_LINK = re.compile(r'(?P<open>!?\[(?P<text>[^\]]*)\]\(|<img src=")(?P<target>[^)#\s":]+)(?P<rest>(?:#[\w-]+)?(?:\)|"))')


def made() -> dict[str, str]:
    """Return each generated page, by its name without ``.md``, and its text."""
    found = {page: _copy(file, page) for file, page in COPIES.items()}
    found["papers/index"] = f"# Papers\n\n<!-- show README.md gallery -->\n\n{_toc(PAPERS)}"
    table = re.sub(r"^\| `(\w+)`", r"| [\1](\1.md)", methods_table(), flags=re.M)
    intro = "Each is a callback for any LightningModule; what it computes is a pure function."
    names = [cls.__name__ for cls in methods()]
    found["methods/index"] = f"# Methods\n\n{intro}\n\n{table}\n\n{_toc(names)}"
    found |= {f"methods/{cls.__name__}": _method(cls) for cls in methods()}
    shown = {f"lightning_regs.{name}" for name in names} | {f for f in map(_function, methods()) if f}
    places = {id(_find(name)): name for name in shown}
    rooms = list(_rooms())
    found |= {f"api/{room}": _room(room, places, shown) for room in rooms}
    lines = "\n".join(f"| [`{room}`]({room}.md) | {_first(room)} |" for room in rooms)
    found["api/index"] = f"# API reference\n\n| room | what is in it |\n| --- | --- |\n{lines}\n\n{_toc(rooms)}"
    return found


def write(texts: dict[str, str]) -> None:
    """Write pages where Sphinx finds them, and remove those of methods and papers that are gone."""
    for folder in {page.partition("/")[0] for page in texts}:
        for old in (DOCS / folder).glob("*.md"):
            if f"{folder}/{old.stem}" not in texts:
                old.unlink()
    for page, text in texts.items():
        file = DOCS / f"{page}.md"
        file.parent.mkdir(exist_ok=True)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def linked(text: str, page: str) -> str:
    """Fill in parts of cards, and turn links that hold in the repository into links that hold on the site."""
    here = (DOCS / page).parent
    source = {shown: (ROOT / file).parent for file, shown in COPIES.items()}.get(page, here)

    def part(match: re.Match[str]) -> str:
        card = ROOT / match["file"]
        begun = card.read_text(encoding="utf-8").partition(f"<!-- begin:{match['name']} -->\n")[2]
        if not begun:
            raise ValueError(f"docs/{page} shows {match['name']!r}, and {match['file']} has no such part.")
        return _links(begun.partition("<!-- end:")[0], card.parent, here)

    def name(match: re.Match[str]) -> str:
        ours = match[1] in lightning_regs.__all__ and f"~lightning_regs.{match[1]}"
        return f"{{py:obj}}`{ours or match[1]}`" if ours or "." in match[1] else match[0]

    by_hand = (here / f"{Path(page).name}.md") in WRITTEN
    return _PART.sub(part, _links(_NAME.sub(name, text) if by_hand else text, source, here))


def _links(text: str, base: Path, here: Path) -> str:
    def renewed(match: re.Match[str]) -> str:
        file = (base / match["target"]).resolve()
        if file.is_dir():
            return f"`{match['text'].strip('`')}`"
        shown = "methods/index" if file == ROOT / "README.md" else COPIES.get(os.path.relpath(file, ROOT))
        target = os.path.relpath(DOCS / f"{shown}.md" if shown else file, here)
        return f"{match['open']}{target}{match['rest']}" if file.exists() else match[0]

    return _LINK.sub(renewed, text)


def _copy(file: str, page: str) -> str:
    text = (ROOT / file).read_text(encoding="utf-8").replace("```mermaid", "```text")
    if page in _TITLES:
        return f"# {_TITLES[page]}\n\n{text}"
    if page.startswith("papers/"):
        title, _, rest = text.partition("\n")
        href = f"../results/{slug(page.removeprefix('papers/'))}.html"
        return f'{title}\n\n<p class="results"><a href="{href}">Every claim, cell and run on one page</a></p>\n{rest}'
    return text


def _toc(names: Iterable[str]) -> str:
    return "```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"


def _rst(text: str) -> str:
    return f"```{{eval-rst}}\n{text}\n```"


# -- a page a method -----------------------------------------------------------------------------------------------


def _method(cls: type[Any]) -> str:
    name, function = cls.__name__, _function(cls)
    what = _first(cls.__module__).partition(": ")[2]
    parts = [
        f"# {name}\n\n{what[:1].upper()}{what[1:]}",
        f"```{{image}} {name}.svg\n:alt: {_caption(cls)}\n```\n\n{_caption(cls)}",
        _rst(f".. autoclass:: lightning_regs.{name}"),
        f"## In a training\n\n```python\n{example(cls)}```",
        f"## The pure function\n\n{_rst(f'.. autofunction:: {function}')}" if function else "",
        f"## What it costs\n\n{_cost(name)}",
        f"## On which modules it acts\n\n{_contract(name)}",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def example(cls: type[Any]) -> str:
    """Return a training with a method, with the arguments that its contract tests run first."""
    return (
        "import pytorch_lightning as pl\n"
        f"from lightning_regs import Classifier, ImageDataModule, {cls.__name__}\n\n"
        'model = Classifier("mlp", {"hidden": [64]}, optimizer={"name": "SGD", "lr": 0.1})\n'
        f"method = {_call(cls)}\n"
        "trainer = pl.Trainer(max_epochs=5, callbacks=[method])\n"
        'trainer.fit(model, datamodule=ImageDataModule("digits"))\n'
    )


def _call(cls: type[Any]) -> str:
    method = cls.variants()[0]
    default = {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
    given = {name: getattr(method, name) for name in default if name != "seed" and hasattr(method, name)}
    words = [f"{name}={value!r}" for name, value in given.items() if value != default[name]]
    return f"{cls.__name__}({', '.join(words)})"


def _caption(cls: type[Any]) -> str:
    if cls.acts is Acts.BATCH:
        return f"Six digits with their targets, as they are and with `{_call(cls)}`, in the last of seven epochs."
    return f"Weights of a small net's first layer after seven epochs on digits, without and with `{_call(cls)}`."


def _function(cls: type[Any]) -> str:
    """Return the pure function that is named as the method is; empty where there is none."""
    names = (name for name in functional.__all__ if registry.plain(name) == registry.plain(cls.__name__))
    return next((f"lightning_regs.functional.{name}" for name in names), "")


def _cost(name: str) -> str:
    text = (ROOT / "tests/benchmarks/results.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if re.search(rf": {name}\b.* / plain", line)]
    if not lines:
        return "`make bench` does not measure this method."
    told = "Time of a training step with the method over that of a plain step ([all](../project/speed.md))."
    return "\n".join([told, "", "| measured | ratio | goal | met |", "| --- | ---: | ---: | --- |", *lines])


def _contract(name: str) -> str:
    found = [row for row in rows() if row.method == name]
    works = "; ".join(row.module for row in found if row.outcome == "W")
    others = [f"| {row.module} | {HEADINGS[row.outcome]} | {row.sentence} |" for row in found if row.outcome != "W"]
    head = ["It says so on the others:", "", "| module | it | by this sentence |", "| --- | --- | --- |"]
    told = f"It does what a loop by hand would do ([all methods](../contract.md)) on modules with: {works}."
    return "\n".join([told, "", *(head if others else ()), *others])


# -- a page a room -------------------------------------------------------------------------------------------------


def _rooms() -> Iterator[str]:
    """Return the packages that say what is public, the package itself first."""
    yield "lightning_regs"
    for found in pkgutil.iter_modules(lightning_regs.__path__):
        module = importlib.import_module(f"lightning_regs.{found.name}") if found.ispkg else None
        if found.name == "functional" or found.name in _ALSO or (found.name != "cli" and hasattr(module, "__all__")):
            yield f"lightning_regs.{found.name}"


def _room(room: str, places: dict[int, str], shown: set[str]) -> str:
    """Write a room's page: what it says of itself, and its public names by the file that defines them.

    ``places`` has the one place where each object is shown, ``shown`` what is on pages of methods.
    """
    module, others = importlib.import_module(room), []
    groups: dict[str, list[str]] = {}
    for name in getattr(module, "__all__", ()):
        full, found = f"{room}.{name}", getattr(module, name)
        place = places.setdefault(id(found), full) if callable(found) else full
        if place != full or place in shown:
            others.append(f"{{py:obj}}`~{place}`")
        elif not name.startswith("__"):
            groups.setdefault(getattr(found, "__module__", room), []).append(full)
    also = [f"{room}.{name}" for name in _ALSO.get(room.rpartition(".")[2], "").split()]
    also += [place.replace(":", ".") for place in models.MODELS.values()] if module is models else []
    named = {**build.optimizers(), **build.schedules()} if room == build.__package__ else {}  # by a configuration
    own = [name for name, cls in named.items() if cls.__module__.startswith(room) and name not in module.__all__]
    also += [f"{named[name].__module__}.{name}" for name in own]
    for full in also:
        groups.setdefault(full.rpartition(".")[0], []).append(full)
    parts = [f"# {room}", _rst(f".. automodule:: {room}")]
    parts += [f"On other pages: {', '.join(others)}."] if others else []
    for home, names in groups.items():
        parts += [] if home == room or len(groups) == 1 else [f"## {_first(home).partition(':')[0].rstrip('.')}"]
        parts.append(_rst("\n".join(map(_directive, names))))
    return "\n\n".join(parts) + "\n"


def _directive(name: str) -> str:
    found = _find(name)
    if not callable(found):
        return f".. py:data:: {name}\n\n   {_said(name)}\n"
    if not found.__doc__ or found.__doc__.startswith(f"{found.__name__}("):
        raise ValueError(f"{name} is public and has no docstring; write one.")
    if not isinstance(found, type):
        return f".. autofunction:: {name}\n"
    return f".. auto{'exception' if issubclass(found, Exception) else 'class'}:: {name}\n   :members:\n"


def _said(name: str) -> str:
    """Return the string below a public constant, wherever in its room it is defined."""
    room, _, last = name.rpartition(".")
    for file in sorted(Path(inspect.getfile(importlib.import_module(room))).parent.rglob("*.py")):
        for here, after in itertools.pairwise(ast.parse(file.read_text(encoding="utf-8")).body):
            targets = here.targets if isinstance(here, ast.Assign) else [getattr(here, "target", None)]
            if isinstance(after, ast.Expr) and any(getattr(target, "id", "") == last for target in targets):
                return " ".join(str(ast.literal_eval(after.value)).split())
    raise ValueError(f"{name} is public and no string below it says what it is; write one.")


def exists(name: str) -> bool:
    """Tell whether a name that a docstring refers to is Python's, a library's, or defined in our source."""
    first, _, last = name.partition("[")[0].rpartition(".")
    if hasattr(builtins, last) or (first and not first.startswith("lightning_regs")):
        return True
    own = re.escape(last)
    return bool(re.search(rf"^ *((class|def) {own}\b|{own}\b.*=|from .*\b{own}\b)", _source(), re.M))


@cache
def _source() -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "lightning_regs").rglob("*.py"))


def _find(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def _first(module: str) -> str:
    importlib.import_module(module)
    return str(sys.modules[module].__doc__).partition("\n")[0]
