"""One look for every picture: colours that colour-blind readers can tell apart, text that reads on a slide."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simgpu.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design", 2008; the yellow is left out: too pale on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COMPUTE, COMMUNICATION = "#0072B2", "#D55E00"
INK, FAINT = "#222222", "#D8D8D8"

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
    """The project's look while a figure is built or written."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def save(figure: Figure, *files: Path) -> list[Path]:
    """Write a figure to each file, in the format of its ending; a file is there whole or not at all."""
    from simgpu.render.files import written_whole

    for file in files:
        kind = file.suffix.lstrip(".").lower()
        if kind not in ("png", "svg", "pdf"):
            raise InputError(
                f"'{file.suffix}' is not a picture simgpu can write; expected .png, .svg or .pdf", file=file
            )
        with written_whole(file, binary=True) as stream, style(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # drawn as a box; nobody can act on it
            metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
            figure.savefig(stream, format=kind, metadata=metadata)
    return list(files)
