"""One look for all figures, and their way into a page: SVG whose text is text and whose colours follow the theme.

Rings are the paper's figures, dots are ours: where they agree, the dot sits in the ring.
"""

from __future__ import annotations

import hashlib
import html
import io
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1c2126"
MUTED = "#5b646d"
FAINT = "#d5d9dd"
# Told apart under the common kinds of colour blindness, and at least 4.5:1 on white; the page swaps in lighter ones on
# a dark ground. Order: blue, vermilion, green, mauve, ochre, slate.
SERIES = ("#0b62a4", "#bd4400", "#00755a", "#9b3d86", "#7d6000", "#56606b")
_DARK = ("#6db5f2", "#ff9159", "#41c9a0", "#e79ad4", "#dcb446", "#a9b4bf")

# Of verdicts, and of the ground on which a claim holds: the page's own colours.
HOLDS = "#c3dfcb"
VERDICTS = {"reproduced": "#19683a", "not reproduced": "#ad2a1c", "not decided": "#775900", "invalid": "#7b2d8b",
            "not at this scale": MUTED, "out of reach": MUTED}  # fmt: skip

# Concrete colour in the drawing -> the page's custom property, for the theme to set.
_THEME = {INK: "--fig-ink", MUTED: "--fig-muted", FAINT: "--fig-faint"} | {
    color: f"--fig-{index}" for index, color in enumerate(SERIES, 1)
}
_THEME |= {HOLDS: "--holds"} | dict(zip(VERDICTS.values(), ("--good", "--bad", "--open", "--void"), strict=False))
DARK = {"--fig-ink": "#e8eaec", "--fig-muted": "#a7afb7", "--fig-faint": "#3a4149"} | {
    f"--fig-{index}": color for index, color in enumerate(_DARK, 1)
}
# Margin of the white card around a figure that is a file, in points.
_EDGE = 8
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"

_STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    # At 400 px a figure of 4.8 inches is shown at 1.06 px a point: nothing in it falls below 9 px.
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.6,
    "legend.labelspacing": 0.35,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.transparent": True,
    "svg.fonttype": "none",
}


@contextmanager
def style() -> Iterator[None]:
    """Use the project's look for everything drawn inside, whatever the user's own matplotlib settings."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type]  # the stubs ask for literal keys
        yield


def stack(count: int, width: float = 4.3, height: float = 2.7) -> tuple[Figure, list[Axes]]:
    """Make an empty figure with several pairs of axes below each other, each of the given size in inches.

    A width of five or less keeps the text readable when the page is 400 px wide.
    """
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(width, height * count), layout="constrained")
    return figure, list(figure.subplots(count, squeeze=False)[:, 0])


def power(base: int, exponent: int) -> str:
    """Write a power with its exponent raised: 2⁻³."""
    return f"{base}{str(exponent).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def log_axis(axes: Axes, which: Literal["x", "y"], base: int) -> None:
    """Make an axis logarithmic, with its ticks written as powers of the base."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log", base=base)
    # matplotlib's own labels are in its mathematical markup, which is switched off so that all text stays text.
    axis.set_major_formatter(FuncFormatter(lambda value, _: power(base, round(math.log(value, base)))))
    axis.set_minor_formatter(NullFormatter())


def note(figure: Figure, *texts: str) -> None:
    """Add sentences, each once, that the page prints under the figure: what is missing, which model was drawn."""
    setattr(figure, "_study_notes", list(dict.fromkeys([*notes(figure), *texts])))  # noqa: B010  # matplotlib's class declares no such attribute


def notes(figure: Figure) -> list[str]:
    """Return the sentences of :func:`note`."""
    return list(getattr(figure, "_study_notes", []))


def crop(axes: Axes, found: Mapping[str, Sequence[float]], figure: Figure) -> None:
    """Leave out what is far from all else (Tukey's outer fences), beside which the rest would lie on one line."""
    means = {name: statistics.fmean(numbers) for name, numbers in found.items()}
    low, _, high = statistics.quantiles(means.values(), n=4, method="inclusive")
    far = {name: mean for name, mean in means.items() if not 4 * low - 3 * high <= mean <= 4 * high - 3 * low}
    seen = {number for name, numbers in found.items() for number in numbers if name not in far}
    if far and len(seen) > 1:
        axes.set_ylim(1.05 * min(seen) - 0.05 * max(seen), 1.05 * max(seen) - 0.05 * min(seen))
        for line in axes.lines:
            line.set_clip_on(True)
        note(figure, f"Outside the axes: {', '.join(f'{name} ({mean:.3g})' for name, mean in far.items())}.")


def describe(figure: Figure, text: str) -> None:
    """Set what someone who cannot see the figure is told: its message and main numbers, in sentences."""
    setattr(figure, "_study_description", text[:1].upper() + text[1:])  # noqa: B010  # as in note()


def description(figure: Figure) -> str:
    """Return the text of :func:`describe`, empty when there is none."""
    return str(getattr(figure, "_study_description", ""))


def fingerprint(figure: Figure) -> str:
    """Hash what a figure shows: its points, names and limits, but not how this version of matplotlib lays them out."""
    shown: list[Any] = [description(figure), *notes(figure)]
    for axes in figure.axes:
        shown += [axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left"), axes.get_xlim(), axes.get_ylim()]
        shown += [(line.get_xydata(), line.get_label(), line.get_color()) for line in axes.lines]
        shown += [path.vertices for area in axes.collections for path in area.get_paths()]
        shown += [(text.get_text(), text.get_position()) for text in axes.texts]
    return hashlib.sha256("\n".join(map(_plain, shown)).encode()).hexdigest()[:16]


def _plain(value: Any) -> str:
    """Write numbers to six digits, so that the last bits of a sum, which depend on the machine, do not count."""
    if isinstance(value, str):
        return value
    if hasattr(value, "tolist"):
        value = value.tolist()
    return f"{value:.6g}" if isinstance(value, int | float) else ",".join(map(_plain, value))


def to_svg(figure: Figure, name: str, *, inline: bool, title: str = "") -> str:
    """Write a figure as SVG; equal figures give equal text. It is drawn inside :func:`style`, as must this call be.

    Args:
        figure: The figure.
        name: Unique on the page; keeps the identifiers of several inline figures apart.
        inline: For a page: no background, colours as custom properties, size from the page; else on a white card.
        title: Accessible name, together with the figure's description.
    """
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _clean(out.getvalue(), re.sub(r"[^A-Za-z0-9]+", "-", name), inline, title, description(figure))


def _clean(svg: str, prefix: str, inline: bool, title: str, text: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style[^>]*>.*?</style>", "", svg, flags=re.S)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r"<[^>]+>", lambda m: _clean_tag(m[0], prefix, used, inline), svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    svg = re.sub(r"<g/>\n|<defs>\n</defs>\n", "", svg)
    label = html.escape(" ".join(part for part in (title, text) if part))
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box, "matplotlib always writes a view box that starts at the origin"
    width, height = map(float, box.groups())
    edge = 0 if inline else _EDGE
    view = f"{-edge:g} {-edge:g} {width + 2 * edge:g} {height + 2 * edge:g}"
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {names} viewBox="{view}" role="img" aria-label="{label}" stroke-linejoin="round"'
    body = svg[svg.index(">") + 1 :].strip()
    if inline:
        return f"{head}>\n{body}"
    size = f'width="{width + 2 * edge:g}" height="{height + 2 * edge:g}"'
    card = f'<rect x="{-edge}" y="{-edge}" {size} rx="6" fill="#ffffff"/>'
    return f'{head} font-family="{_FONT}" {size}>\n{card}\n{body}\n'


def _clean_tag(tag: str, prefix: str, used: set[str], inline: bool) -> str:
    tag = re.sub(r'\bid="([^"]+)"', lambda m: f'id="{prefix}-{m[1]}"' if m[1] in used else "", tag)
    tag = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", tag)
    tag = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    # Laid out with a wide font and shown in the reader's own: text can only get narrower.
    tag = re.sub(r"font: [^;\"]*?([\d.]+px) [^;\"]+", r"font-size: \g<1>", tag)
    tag = re.sub(r"font-family: [^;\"]+; ?", "", tag)
    if inline:
        for color, prop in _THEME.items():
            tag = re.sub(color, f"var({prop}, {color})", tag, flags=re.I)
    return re.sub(r"\s*\n\s*", " ", tag).replace(" >", ">").replace("<g >", "<g>")
