"""The house style of the book's figures, still (matplotlib) and interactive (Altair).

Colours are Okabe and Ito's, which people with any of the common kinds of colour blindness tell
apart. Figures have no background of their own, and their ink follows the page's text colour, so
that they read in light and in dark mode. `show` asks for a text alternative with every figure.

Functions that draw take arrays and an `Axes` and return the `Axes`.
"""

import hashlib
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

COLORS: dict[str, str] = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "grey": "#8C8C8C",
}
CYCLE = [COLORS[name] for name in ("blue", "red", "green", "purple", "orange", "sky", "grey")]

INK = "#010203"
"""Text and axes of matplotlib figures; `show` turns it into the page's own text colour."""

MUTED = "#8C8C8C"
"""Grid lines and remarks: a grey that reads on white (3.4 : 1) and on black (6.2 : 1)."""

SEQUENTIAL = LinearSegmentedColormap.from_list("casebook", ["#8C8C8C22", "#56B4E9AA", "#0072B2FF"])
"""From almost clear to blue: counts and shares, on light or dark pages."""

DIVERGING = "PuOr"
"""Signed weights around zero: orange below, purple above."""


def use_house_style() -> None:
    """Set matplotlib's defaults and Altair's theme. Call it once, at the top of a chapter."""
    matplotlib.rcParams.update(
        {
            "figure.figsize": (6.8, 3.4),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.facecolor": "none",
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": matplotlib.cycler(color=CYCLE),
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": MUTED,
            "grid.alpha": 0.3,
            "grid.linewidth": 0.6,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "lines.linewidth": 1.8,
            "legend.frameon": False,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 10,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
            "svg.fonttype": "path",  # the same letters on every machine
            "svg.hashsalt": "casebook",  # the same file from the same figure
        }
    )
    _use_altair_theme()


def _use_altair_theme() -> None:
    altair.theme.register("casebook", enable=True)(_altair_theme)
    altair.renderers.enable("html", embed_options={"renderer": "svg", "actions": False})


def _altair_theme() -> altair.theme.ThemeConfig:
    grey = {"labelColor": "#767676", "titleColor": "#767676", "domainColor": MUTED}
    return {
        "config": {
            "background": "transparent",
            "view": {"stroke": "transparent"},
            "range": {"category": CYCLE},
            "font": "system-ui, sans-serif",
            "axis": {
                **grey,
                "tickColor": MUTED,
                "gridColor": MUTED,
                "gridOpacity": 0.25,
                "labelFontSize": 12,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
            },
            "legend": {
                "labelColor": "#767676",
                "titleColor": "#767676",
                "labelFontSize": 12,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
            },
            "header": {"labelColor": "#767676", "titleColor": "#767676"},
            "title": {"color": "#767676", "anchor": "start", "fontWeight": "normal"},
            "text": {"color": "#767676"},
        }
    }


# ---------------------------------------------------------------------------------------------
# Showing


@dataclass(frozen=True)
class Picture:
    """A finished figure: HTML for the page, and its text alternative where there is no HTML."""

    html: str
    alt: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.alt}


def show(figure: Any, *, alt: str) -> Picture:
    """Finish a figure; the value of a cell that ends with it is the picture.

    figure: a matplotlib figure, which is closed, or an Altair chart.
    alt: what the picture shows, in words, for readers who cannot see it.

    Raises ValueError if `alt` has fewer than three words, or for anything but a figure or chart.
    """
    if len(alt.split()) < 3:
        raise ValueError(f"alt is {alt!r}; say in a sentence what the figure shows")
    if isinstance(figure, Figure):
        return Picture(_inline_svg(figure, alt), alt)
    if hasattr(figure, "to_dict") and hasattr(figure, "properties"):
        bundle = figure.properties(description=alt)._repr_mimebundle_()
        return Picture(bundle["text/html"], alt)
    raise ValueError(f"show takes a matplotlib figure or an Altair chart, not {type(figure)}")


def _inline_svg(figure: Figure, alt: str) -> str:
    """The figure as an <svg> element that stands well among others in a page.

    Its ink is the surrounding text's colour, its style sheet, which would hold for the whole page,
    becomes attributes, and its ids get a prefix of their own.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = buffer.getvalue()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(INK, "currentColor", svg, flags=re.IGNORECASE)
    prefix = f"f{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    opening = (
        f'<svg class="casebook-figure" role="img" aria-label="{html.escape(alt)}" '
        'stroke-linejoin="round" stroke-linecap="butt"'
    )
    return svg.replace("<svg", opening, 1)


# ---------------------------------------------------------------------------------------------
# Drawing


def curves(
    axes: Axes,
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
) -> Axes:
    """One line per entry of `series`, over the same `x`.

    A series of shape (n,) is drawn as a line; one of shape (seeds, n) as its mean and a band from
    its lowest to its highest value. `log` makes the vertical axis logarithmic.
    """
    for name, values in series.items():
        values = np.atleast_2d(np.asarray(values, dtype=float))
        (line,) = axes.plot(x, values.mean(0), label=name)
        if len(values) > 1:
            color = line.get_color()
            axes.fill_between(x, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
    if log:
        axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if len(series) > 1:
        axes.legend()
    return axes


def smooth(values: ArrayLike, window: int) -> np.ndarray:
    """Running mean over the last `window` values; the first values average what there is.

    Raises ValueError if `window` is less than 1.
    """
    if window < 1:
        raise ValueError(f"window is {window}; choose 1 or more")
    total = np.cumsum(np.concatenate([[0.0], np.asarray(values, dtype=float)]))
    ends = np.arange(1, len(total))
    starts = np.maximum(ends - window, 0)
    return (total[ends] - total[starts]) / (ends - starts)


def image_grid(
    images: ArrayLike,
    *,
    columns: int = 10,
    titles: Sequence[str] | None = None,
    signed: bool = False,
    cell: float = 0.7,
) -> Figure:
    """Small pictures side by side, row by row.

    images: (n, height, width), or (n, height, width, 3) for colour with values from 0 to 1.
    signed: draw zero in the middle of a diverging scale that is the same for all pictures.
    cell: width and height of one picture in inches.

    Raises ValueError for other shapes, or if there is not one title per image.
    """
    images = np.asarray(images, dtype=float)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3):
        raise ValueError(
            f"images has shape {images.shape}; give (n, height, width) or (n, height, width, 3)"
        )
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} images; give one each")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    tall = cell * (1.35 if titles is not None else 1.0)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * cell, rows * tall), squeeze=False)
    limit = float(np.abs(images).max()) or 1.0
    colors = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit} if signed else {"cmap": "gray"}
    for axis in axes.flat:
        axis.axis("off")
    for index, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        axis.imshow(image, **colors)
        if titles is not None:
            axis.set_title(titles[index], fontsize=8, loc="center", pad=2)
    return figure


def confusion(axes: Axes, counts: ArrayLike, names: Sequence[str]) -> Axes:
    """A confusion matrix: true classes down, predicted classes across, shares of each true class.

    counts: (classes, classes); the numbers are written into the cells, zeros left out. The
    diagonal is not coloured, so that the mistakes can be seen.
    """
    counts = np.asarray(counts)
    mistakes = counts.astype(float)
    np.fill_diagonal(mistakes, 0)
    axes.imshow(mistakes, cmap=SEQUENTIAL)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(False)
    darkest = mistakes.max() or 1.0
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if mistakes[row, column] > 0.7 * darkest else INK
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=color)
    return axes
