"""What every answer of simgpu has in common: rows, a DataFrame, a table in a notebook, figures, files.

Figures are made above the answers (`simgpu.study.report.pictures`), which the package says to this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from simgpu.errors import InputError, nearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Tabular:
    """An answer with `rows`: one flat mapping for each thing that it says something of."""

    draw: ClassVar[Callable[[Any], dict[str, Any]] | None] = None
    """The function that draws the figures of an answer; set by `simgpu`."""

    if TYPE_CHECKING:

        @property
        def rows(self) -> Sequence[Mapping[str, Any]]:
            """One flat mapping for each thing that the answer says something of."""
            raise NotImplementedError

    def __repr__(self) -> str:
        """The class and the name of the answer, and how many rows it has."""
        name = getattr(self, "name", None) or getattr(getattr(self, "experiment", None), "name", "")
        return f"{type(self).__name__}({', '.join([*([repr(name)] if name else []), f'{len(self.rows):,} rows'])})"

    if not TYPE_CHECKING:  # a type checker shall find a name that is not there

        def __getattr__(self, name: str) -> NoReturn:
            """Raise `AttributeError` that says the nearest name."""
            known = () if name.startswith("_") else [one for one in dir(self) if not one.startswith("_")]
            raise AttributeError(f"{type(self).__name__} has no '{name}'{nearest(name, known, most=0)}")

    def to_pandas(self) -> Any:
        """A pandas DataFrame of the rows. Raises `InputError` where pandas is missing."""
        return frame(self.rows)

    def figures(self) -> dict[str, Figure]:
        """Matplotlib figures of what a command would draw, by the names of their files; see `simgpu.figures`."""
        return Tabular.draw(self) if Tabular.draw is not None else {}

    def save(self, folder: str | Path, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
        """Write the rows (`rows.csv`) and every figure into `folder`; returns what was written.

        Figures are built first, so that an error leaves no half of an answer behind.
        """
        from simgpu.render.data import print_csv
        from simgpu.render.files import save, written_whole

        figures, place = self.figures(), Path(folder)
        with written_whole(place / "rows.csv") as stream:
            print_csv(self.rows, stream)
        written = [place / "rows.csv"]
        for name, figure in figures.items():
            written += save(figure, *(place / f"{name}.{kind}" for kind in formats))
        return written

    def _repr_html_(self) -> str:
        """The table as notebooks show it."""
        from simgpu.render.html import table_html

        return table_html(self.rows)


def frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A pandas DataFrame of rows. Raises `InputError` where pandas is missing."""
    try:
        import pandas  # type: ignore[import-untyped]
    except ImportError:
        raise InputError("needs pandas: pip install 'simgpu[tables]'", key="to_pandas") from None
    return pandas.DataFrame(list(rows))
