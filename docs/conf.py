"""How the site is built: ``make docs``. ``pages.py`` and ``pictures.py`` make what nobody writes."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from nbclient import NotebookClient
from sphinx.application import Sphinx
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "tests"))  # generated.py, which pages ask
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small nets, here and in notebooks, are slowed by more

import pages
import pictures

import lightning_regs

project, author, release = "lightning-regs", "the lightning-regs authors", lightning_regs.__version__
copyright = "2026, Apache-2.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
html_theme, html_title, html_static_path, html_css_files = "furo", "lightning-regs", ["_static"], ["site.css"]
html_show_sourcelink = html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text, copybutton_only_copy_prompt_lines = "$ ", True
myst_enable_extensions = ["dollarmath", "deflist", "html_image"]
myst_heading_anchors = 4
nitpicky = True
nb_execution_mode, nb_execution_timeout, nb_execution_raise_on_error = "force", 600, True
nb_execution_show_tb = True
autodoc_typehints_format, autodoc_member_order, autodoc_preserve_defaults = "short", "bysource", True
python_maximum_signature_line_length, python_use_unqualified_type_names = 88, True
napoleon_use_rtype, napoleon_use_ivar, add_module_names, toc_object_entries = False, True, False, False

_SOCKETS = tempfile.TemporaryDirectory()
_ANNOTATED = re.compile(r"[~\w.]*\bAnnotated\[")
_ROLES = {
    'role="heading"': 'role="heading" aria-level="2"',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
    '<div class="highlight"><pre>': '<div class="highlight"><pre tabindex="0">',
    "<dl>\n<dd>": '<dl role="presentation">\n<dd>',
}
_DOES_NOT_HELP = re.compile(r"((When it does|Does) not help: |It does not help )")


def write_pages(app: Sphinx) -> None:
    """Write what is generated into the source folder, where git ignores it, before Sphinx reads it."""
    pages.write(pages.made())
    pictures.write(pages.DOCS / "methods")


def read_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fill in parts of cards, and let links lead from where the text comes from."""
    source[0] = pages.linked(source[0], docname)


def find_reference(app: Sphinx, env: Any, node: Any, contnode: nodes.Element) -> nodes.Node | None:
    """Find our objects by their last name, wherever they are defined; what is on no page is text without a link."""
    last = node["reftarget"].rpartition(".")[2]
    known = env.get_domain("py").objects.items()
    places = {(at.docname, at.node_id) for name, at in known if name.rpartition(".")[2] == last}
    if len(places) == 1:
        page, anchor = places.pop()
        uri = f"{app.builder.get_relative_uri(node['refdoc'], page)}#{anchor}"
        return nodes.reference("", "", contnode, internal=True, refuri=uri)
    return contnode if pages.exists(node["reftarget"]) else None


def mark_limits(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Set off the paragraph of a docstring that says when something does not help."""
    for i, line in enumerate(lines):
        if what in ("class", "function") and (start := _DOES_NOT_HELP.match(line)):
            end = next((j for j in range(i, len(lines)) if not lines[j].strip()), len(lines))
            first = line.removeprefix(start[0])
            first = line if start[0].startswith("It") else first[:1].upper() + first[1:]
            body = [first, *lines[i + 1 : end]]
            lines[i:end] = [".. admonition:: When it does not help", "", *(f"   {each}" for each in body)]
            return


def plain_signature(app: Sphinx, what: str, name: str, obj: Any, options: Any, text: str, returned: str) -> Any:
    """Show ``Annotated[float, check]`` as ``float``, and ``<factory>``, a data class's default, as Python."""
    while text and (found := _ANNOTATED.search(text)):
        depth, comma, end = 0, 0, found.end() - 1
        for end in range(found.end() - 1, len(text)):
            depth += (text[end] in "[(") - (text[end] in "])")
            comma = comma or (end if depth == 1 and text[end] == "," else 0)
            if not depth:
                break
        text = text[: found.start()] + text[found.end() : comma] + text[end + 1 :]
    return text and text.replace("<factory>", "..."), returned


def mark_roles(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Add what screen readers and keyboards need, and neither Sphinx nor the theme writes."""
    for part in ("body", "furo_navigation_tree"):
        for old, new in _ROLES.items():
            context[part] = (context.get(part) or "").replace(old, new)


def write_math(self: Any, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers draw without a script."""
    block = isinstance(node, nodes.math_block)
    try:
        drawn = tex2mathml(node.astext(), as_block=block)
    except Exception as error:
        logging.getLogger(__name__).warning("formula %r: %s", node.astext(), error, location=node)
        drawn = node.astext()
    self.body.append(f'<div class="math">{drawn}</div>' if block else drawn)
    raise nodes.SkipNode


def make_kernel(self: NotebookClient, make: Any = NotebookClient.create_kernel_manager) -> Any:
    """Reach the kernel of a notebook by socket files, which no other user can read, and not over a network."""
    manager = make(self)
    self.log.setLevel("WARNING")  # a style of the theme's sets all loggers to INFO
    manager.transport, manager.ip = "ipc", f"{_SOCKETS.name}/kernel"
    return manager


def setup(app: Sphinx) -> None:
    """Say when each of these acts."""
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
    app.config.html_math_renderer = "mathml"
    NotebookClient.create_kernel_manager = make_kernel
    app.connect("builder-inited", write_pages)
    app.connect("source-read", read_page)
    app.connect("missing-reference", find_reference)
    app.connect("autodoc-process-docstring", mark_limits)
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("html-page-context", mark_roles, priority=900)  # after the theme's own
