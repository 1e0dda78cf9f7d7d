"""Inline SVG: pictures of matplotlib as elements of an HTML page, in the page's own font and ink."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup, escape

# Inks that the page replaces by its own, so that a picture is readable on a dark page too.
INK, DIM, PAPER = "#010203", "#040506", "#fefdfc"
# Okabe and Ito's colours that stand out on white and on black.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
PAGE_INKS = {
    INK: "currentColor",
    DIM: "var(--dim)",
    PAPER: "var(--page)",
    BLUE: "var(--series-blue)",
    VERMILION: "var(--series-red)",
}
WIDTH = 4.6  # inches: about a phone's width at the size of letters below
STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.labelsize": 10.0,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": DIM,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "grid.color": DIM,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": DIM,
    "ytick.color": DIM,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def inline_svg(draw: Callable[[Any], None], name: str, description: str, height: float) -> Markup:
    """Picture as an `<svg>` element that is part of a page: without ids that another picture might have, namespaces,
    or anything to be loaded.

    Args:
        draw: draws into the `matplotlib.figure.Figure` that it is called with.
        name: of the picture, one word; its ids begin with it.
        description: for those who cannot see it.
        height: in inches, at a width of 4.6.

    Raises:
        ImportError: without matplotlib.
    """
    import io

    from matplotlib.figure import Figure

    file = io.StringIO()
    with _style(name):
        figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=150)
        draw(figure)
        figure.savefig(file, format="svg", metadata={"Date": None})
    return Markup(_embedded(file.getvalue(), name, description))


@contextmanager
def _style(name: str) -> Iterator[None]:
    """Settings of matplotlib while a picture is made. Letters that its font lacks are drawn by the page's."""
    import logging
    import warnings

    import matplotlib

    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    with warnings.catch_warnings(), matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        fonts.setLevel(logging.ERROR)
        try:
            yield
        finally:
            fonts.setLevel(level)


def _embedded(svg: str, name: str, description: str) -> str:
    """Text of a file of SVG as an element of HTML."""
    svg = svg[svg.index("<svg") :]
    for pattern in ("<!--.*?-->", "<metadata>.*?</metadata>", "<style.*?</style>"):
        svg = re.sub(pattern, "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', svg)
    head = f'<svg {box[0] if box else ""} role="img" aria-label="{escape(description)}">'
    body = svg[svg.index(">") + 1 :]
    # Ids stand inside tags; what stands between tags is text of others.
    body = re.sub(r"<[^>]*>", lambda tag: _own_ids(tag[0], name), body)
    return head + re.sub(r"\n\s*", "\n", body).strip()


def _own_ids(tag: str, name: str) -> str:
    tag = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    for ink, replacement in PAGE_INKS.items():
        tag = tag.replace(ink, replacement)
    return tag
