"""How a recommendation is printed and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from simgpu.study.choice.recommending import Recommended


def show(done: Recommended, style: str, out: IO[str]) -> None:
    """Print the ranked table with its notes, or everything as JSON or CSV."""
    from simgpu.render.data import print_csv, print_json

    if style == "json":
        print_json(document(done), out)
    elif style == "csv":
        print_csv(done.rows, out)
    else:
        from simgpu.render.table import print_table

        rows = [{**row, "sure": f"{row['sure']:.0%}" if "sure" in row else ""} for row in done.rows]
        print_table(rows, done.shown, done.title, done.notes, out)


def document(done: Recommended) -> dict[str, object]:
    """The JSON document: machines in order, notes."""
    return {
        "recommend": done.name, "title": done.title, "objective": done.objective, "against": done.against,
        "rows": list(done.rows), "notes": list(done.notes),
    }  # fmt: skip


def write(done: Recommended, folder: Path, plots: bool = True, formats: Sequence[str] = ()) -> list[tuple[str, Path]]:
    """Write data and the picture of the ranked table into `folder`; returns the files. The picture is drawn first."""
    from simgpu.render.cost import ranked_figure
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.files import save, written_whole

    drawn = ranked_figure(done.rows, done.objective, done.against, done.title or done.name) if plots else None
    with written_whole(folder / "recommend.json") as stream:
        print_json(document(done), stream)
    with written_whole(folder / "recommend.csv") as stream:
        print_csv(done.rows, stream)
    written = [("data", folder / "recommend.json"), ("data", folder / "recommend.csv")]
    if drawn is not None:
        kinds = list(dict.fromkeys(formats or ("png", "svg")))
        written += [("plot", file) for file in save(drawn, *(folder / f"ranked.{kind}" for kind in kinds))]
    return written
