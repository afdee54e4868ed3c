from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from lightning_regs.study.report import plots

STYLESHEET = (Path(plots.__file__).parent / "templates" / "style.css.j2").read_text(encoding="utf-8")
LIGHT, DARK = re.findall(r"--bg: (#[0-9a-f]{6}); --panel: (#[0-9a-f]{6})", STYLESHEET)
SVG = "{http://www.w3.org/2000/svg}"
# Machado, Oliveira and Fernandes (2009), severity 1.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(color):
    share = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    dark, light = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) for color in (a, b))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    x, y, z = np.cbrt(np.clip(xyz / [0.9505, 1.0, 1.089], 1e-6, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def drawn(width=4.8):
    with plots.style():
        figure, [axes] = plots.stack(1, width=width)
        for number, color in enumerate(plots.SERIES):
            axes.plot([0, 1], [number, number + 1], color=color, label=f"line {number} $1 <b>")
        axes.legend()
        axes.set_xlabel("steps")
        axes.set_title("a net", loc="left", color=plots.MUTED)
        return plots.to_svg(figure, "a b", inline=True, title="A figure.")


@pytest.mark.parametrize(
    ("colors", "grounds"), [((plots.INK, plots.MUTED, *plots.SERIES), LIGHT), (tuple(plots.DARK.values()), DARK)]
)
def test_every_colour_but_that_of_the_grid_can_be_read_on_the_page(colors, grounds):
    for color, ground in itertools.product(colors, grounds):
        assert contrast(color, ground) >= 4.5 or color == plots.DARK["--fig-faint"], (color, ground)


@pytest.mark.parametrize("kind", [None, *BLINDNESS])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_lines_of_a_figure_are_told_apart_without_full_colour_vision(theme, kind):
    chosen = plots.SERIES if theme == "light" else [plots.DARK[f"--fig-{n}"] for n in range(1, 7)]
    seen = [linear(color) if kind is None else np.clip(BLINDNESS[kind] @ linear(color), 0, 1) for color in chosen[:4]]
    for a, b in itertools.combinations(map(lab, seen), 2):
        assert np.linalg.norm(a - b) > 10


def test_nothing_in_a_figure_of_full_width_is_smaller_than_9_pixels_on_a_narrow_page():
    svg = drawn()
    root = ElementTree.fromstring(svg)
    scale = (400 - 2 * 16) / float(root.attrib["viewBox"].split()[2])
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]
    assert len(sizes) >= 12
    assert min(sizes) * scale >= 9


def test_text_of_a_figure_is_text_and_its_colours_are_the_themes():
    svg = drawn()
    root = ElementTree.fromstring(svg)
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert {"steps", "a net", "line 3 $1 <b>"} <= set(texts)
    assert re.findall(r"(?<!, )#[0-9a-f]{6}", re.sub(r"url\(#.*?\)|href=\"#.*?\"", "", svg)) == []
    assert set(re.findall(r"var\((--[a-z0-9-]+)", svg)) <= set(plots.DARK)
    assert not re.search(r"<style|<script|font-family|<!--|metadata", svg)


def test_figures_on_one_page_share_no_identifier():
    with plots.style():
        figure, [axes] = plots.stack(1)
        axes.plot([0, 1], [0, 1], marker="o")
        both = [plots.to_svg(figure, name, inline=True) for name in ("one", "two")]
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in both]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip(both, ids, strict=True):
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) <= own


def test_what_a_figure_shows_has_a_mark_that_layout_does_not_change():
    def mark(width, top):
        with plots.style():
            figure, [axes] = plots.stack(1, width=width)
            axes.plot([0, 1], [0, top])
            return plots.fingerprint(figure)

    assert mark(4, 1) == mark(8, 1) != mark(4, 2)
