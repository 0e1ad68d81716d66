"""One look for every picture: colours that colour-blind readers can tell apart, text that reads on a slide."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

# Okabe and Ito, "Color Universal Design", 2008; the yellow is left out: too pale on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COMPUTE, COMMUNICATION = "#0072B2", "#D55E00"
INK, FAINT = "#222222", "#D8D8D8"
SLIDE = 13.3
"""Width of a slide of 16 : 9, inches: what is drawn wider is read smaller."""
FORMATS = ("png", "svg", "pdf")
"""Kinds of files that a picture can be written to."""

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.titlesize": 14,
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "figure.constrained_layout.w_pad": 0.09,  # inches: no letter touches the edge
    "figure.constrained_layout.h_pad": 0.06,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "lines.linewidth": 2.2,
    "lines.markersize": 7,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "svg.hashsalt": "simgpu",
    "savefig.dpi": 160,
}


@contextmanager
def style() -> Iterator[None]:
    """A context with the project's look, in which a figure is built or written."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def readable_on(fill: tuple[float, ...]) -> str:
    """White or ink, whichever is read more easily on a colour (relative luminance of WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in fill[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if luminance < 0.3 else INK
